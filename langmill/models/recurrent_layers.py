"""What recurrent networks are made of: layers over texts of any length, and attention to a text read before. [models]

Shape letters: B rows, T tokens, N sequences (rows, or the documents and unpadded parts of rows), P their tokens
in all, M texts that an encoder read, S their tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

GATES = {"lstm": 4, "gru": 3}
States = list[tuple[Tensor, ...]]
"""For each layer (state, cell) of an LSTM or (state,) of a GRU, each (directions, N, channels a direction)."""


def extents(valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return where in its row each text begins and how many tokens it has, (B,) each.

    valid: (B, T), False at padding, on either side of the text.
    """
    return valid.int().argmax(1), valid.sum(1)


def keep_where(rows: Tensor, new: States, old: States) -> States:
    """Return the new states of the rows that `rows` (N,) says, the old ones of the others."""
    return [
        tuple(torch.where(rows[:, None], a, b) for a, b in zip(*layer))
        for layer in zip(new, old, strict=True)
    ]


class Sequences:
    """Where the texts of a batch lie: the places of `flat` rows (B * T) that make each of N sequences."""

    def __init__(self, places: Tensor, lengths: Tensor) -> None:
        """places: (N, longest), indices of B * T. lengths: (N,), on the CPU."""
        # A row of padding alone reads one token of it, which `filled` tells from a text of one.
        packed = pack_padded_sequence(places, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
        self.places, self.sizes = packed.data, packed.batch_sizes  # (P,)
        assert packed.sorted_indices is not None and packed.unsorted_indices is not None
        self.order, self.back = packed.sorted_indices, packed.unsorted_indices  # (N,)
        self.owner = torch.cat([torch.arange(int(size)) for size in self.sizes]).to(places.device)
        """Of each of the P tokens, the sequence, in the order of their lengths."""
        self.filled = None if bool((lengths > 0).all()) else (lengths > 0).to(places.device)
        """(N,), False for sequences without a token; None: all have some."""

    @classmethod
    def of(cls, valid: Tensor | None, starts: Tensor | None, shape: torch.Size) -> Sequences | None:
        """Return the documents of packed rows, or the rows without their padding; None for plain rows (B, T)."""
        rows, tokens = shape
        if starts is not None:
            places = torch.arange(tokens, device=starts.device)
            row, begin = (starts == places).nonzero(as_tuple=True)
            flat = row * tokens + begin
            lengths = torch.cat([flat[1:], flat.new_tensor([rows * tokens])]) - flat
        elif valid is not None:
            begin, lengths = extents(valid)
            flat = begin + torch.arange(rows, device=valid.device) * tokens
        else:
            return None
        longest = torch.arange(max(1, int(lengths.max())), device=flat.device)
        return cls((flat[:, None] + longest).clamp(max=rows * tokens - 1), lengths.cpu())


class RecurrentLayer(nn.Module):
    """The weights of one layer that reads forwards."""

    directions = 1

    def __init__(self, kind: str, inputs: int, outputs: int, weight_drop: float) -> None:
        super().__init__()
        self.kind, self.outputs, self.weight_drop = kind, outputs, weight_drop
        gates = GATES[kind] * outputs
        self.weight_input = nn.Parameter(torch.empty(gates, inputs))
        self.weight_hidden = nn.Parameter(torch.empty(gates, outputs))
        self.bias_input = nn.Parameter(torch.empty(gates))
        self.bias_hidden = nn.Parameter(torch.empty(gates))

    def weights(self) -> list[Tensor]:
        """Return the weights as PyTorch's functions take them, in training without those that are dropped."""
        recurrent = F.dropout(self.weight_hidden, self.weight_drop, self.training)
        return [self.weight_input, recurrent, self.bias_input, self.bias_hidden]


class TwoWayLayer(nn.Module):
    """The weights of one layer that reads forwards and backwards, half of the channels each.

    Schuster and Paliwal 1997; the two directions' states stand side by side.
    """

    directions = 2

    def __init__(self, kind: str, inputs: int, outputs: int, weight_drop: float) -> None:
        super().__init__()
        self.outputs = outputs
        self.forwards = RecurrentLayer(kind, inputs, outputs // 2, weight_drop)
        self.backwards = RecurrentLayer(kind, inputs, outputs // 2, weight_drop)

    def weights(self) -> list[Tensor]:
        """Return the weights of both directions."""
        return self.forwards.weights() + self.backwards.weights()


def run_layer(
    kind: str,
    x: Tensor,
    state: tuple[Tensor, ...],
    weights: list[Tensor],
    *,
    sizes: Tensor | None,
    training: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return outputs and the state after the last token, with the weights of one direction or of two.

    x: (B, T, inputs), or (P, inputs) with `sizes`, how many sequences have a first, a second … token.
    """
    lstm = kind == "lstm"
    if sizes is None and x.shape[1] == 1 and len(weights) == 4:
        # For a single token the functions for whole texts spend most of their time on preparations.
        step: Any = torch.lstm_cell if lstm else torch.gru_cell
        now = [part[0] for part in state]
        new = step(x[:, 0], now, *weights) if lstm else (step(x[:, 0], now[0], *weights),)
        return new[0][:, None], tuple(part[None] for part in new)
    run: Any = torch.lstm if lstm else torch.gru
    before = state if lstm else state[0]
    settings = weights, True, 1, 0.0, training, len(weights) == 8
    out, *after = run(x, before, *settings, True) if sizes is None else run(x, sizes, before, *settings)
    return out, tuple(after)


Drawn = list[tuple[list[Tensor], Tensor | None]]
"""For each layer its weights in one pass, and the factors (N, outputs) of its channels; None: all are 1."""


class RecurrentStack(nn.Module):
    """Layers one above the other, with the dropout of Merity et al. 2017 (arXiv:1708.02182)."""

    def __init__(
        self,
        kind: str,
        sizes: Sequence[tuple[int, int]],
        *,
        dropout: float,
        weight_drop: float,
        two_way: bool = False,
    ) -> None:
        """sizes: (channels in, channels out) of every layer."""
        super().__init__()
        self.kind, self.rate = kind, dropout
        make = TwoWayLayer if two_way else RecurrentLayer
        self.layers = nn.ModuleList(make(kind, *size, weight_drop) for size in sizes)

    def compile(self, *arguments: Any, **settings: Any) -> None:
        """Do nothing: the layers are the library's own functions, and every batch of texts has another shape."""

    def zeros(self, count: int, like: Tensor) -> States:
        """Return the states before the first token of `count` sequences, of the kind of `like`."""
        parts = 2 if self.kind == "lstm" else 1
        sizes: list[Any] = list(self.layers)
        return [
            (like.new_zeros(each.directions, count, each.outputs // each.directions),) * parts
            for each in sizes
        ]

    def draw(self, count: int) -> Drawn:
        """Return what chance decides for a pass over `count` sequences.

        A channel that is dropped is dropped at all tokens of a sequence (Gal and Ghahramani 2016).
        """
        drawn: Drawn = []
        layers: list[Any] = list(self.layers)
        for layer in layers:
            weights, factors = layer.weights(), None
            if self.training and self.rate:
                factors = F.dropout(weights[0].new_ones(count, layer.outputs), self.rate)
            drawn.append((weights, factors))
        return drawn

    def forward(
        self,
        x: Tensor,
        states: States | None = None,
        *,
        texts: Sequences | None = None,
        drawn: Drawn | None = None,
    ) -> tuple[Tensor, States]:
        """Return outputs (B, T, outputs), 0 at padding, and the states after the last tokens.

        x: (B, T, inputs). states: before the first tokens; None: zeros. texts: the sequences in x; None: its
        rows. drawn: from `draw`, where several calls make one pass.
        """
        count = len(x) if texts is None else len(texts.order)
        before = self.zeros(count, x) if states is None else states
        drawn = self.draw(count) if drawn is None else drawn
        y = x if texts is None else x.flatten(0, 1)[texts.places]  # (P, inputs)
        after: States = []
        for state, (weights, factors) in zip(before, drawn, strict=True):
            if texts is not None:
                state = tuple(part[:, texts.order] for part in state)
            sizes = None if texts is None else texts.sizes
            y, state = run_layer(self.kind, y, state, weights, sizes=sizes, training=self.training)
            if factors is not None:
                y = y * (factors[:, None] if texts is None else factors[texts.owner]).to(y.dtype)
            after.append(state if texts is None else tuple(part[:, texts.back] for part in state))
        if texts is None:
            return y, after
        if texts.filled is not None:
            after = keep_where(texts.filled, after, before)
        out = y.new_zeros(x.shape[0] * x.shape[1], y.shape[-1]).index_copy(0, texts.places, y)
        return out.unflatten(0, x.shape[:2]), after


@dataclass(frozen=True)
class Memory:
    """What a decoder looks at: the states of an encoder."""

    states: Tensor
    """(M, S, D)."""
    keys: Tensor
    """(M, S, D), the states as `TextAttention` compares them."""
    mask: Tensor | None
    """(M, 1, S), False at padding; None: there is none."""

    def keep(self, texts: Tensor) -> Memory:
        """Return the memory of some of the texts."""
        mask = None if self.mask is None else self.mask[texts]
        return Memory(self.states[texts], self.keys[texts], mask)


class TextAttention(nn.Module):
    """What the states of a decoder find in those of an encoder. A state h gives a state m the score

    "luong"     h · W m, the "general" score of Luong et al. 2015 (arXiv:1508.04025), section 3.1
    "bahdanau"  v · tanh(W h + U m), Bahdanau et al. 2015 (arXiv:1409.0473), appendix A.1.2

    and finds the mean of all m, weighted by the softmax of their scores.
    """

    def __init__(self, kind: Literal["luong", "bahdanau"], width: int) -> None:
        super().__init__()
        self.additive = kind == "bahdanau"
        self.key = nn.Linear(width, width, bias=False)
        if self.additive:
            self.query = nn.Linear(width, width, bias=False)
            self.energy = nn.Parameter(torch.empty(width))
        self.combine = nn.Linear((3 if self.additive else 2) * width, width, bias=False)

    def memory(self, states: Tensor, valid: Tensor | None) -> Memory:
        """Return the memory of an encoder's states (M, S, D); valid: (M, S), False at padding."""
        return Memory(states, self.key(states), None if valid is None else valid[:, None])

    def weights(self, queries: Tensor, memory: Memory) -> Tensor:
        """Return how much queries (B, T, D) look at each state, (B, T, S). B / M rows, side by side, share a text."""
        keys = memory.keys
        grouped = queries.unflatten(0, (len(keys), -1)).flatten(1, 2)  # (M, B / M · T, D)
        if self.additive:
            scores = torch.tanh(self.query(grouped)[:, :, None] + keys[:, None]) @ self.energy
        else:
            scores = grouped @ keys.mT  # (M, B / M · T, S)
        if memory.mask is not None:
            scores = scores.masked_fill(~memory.mask, -torch.inf)
        return scores.softmax(-1).reshape(*queries.shape[:2], -1)

    def find(self, queries: Tensor, memory: Memory) -> Tensor:
        """Return the mean state (B, T, D) that each of the queries (B, T, D) finds."""
        weights = self.weights(queries, memory)
        grouped = weights.unflatten(0, (len(memory.keys), -1)).flatten(1, 2)
        return (grouped @ memory.states).reshape(queries.shape)

    def forward(self, *parts: Tensor) -> Tensor:
        """Return tanh(W [parts]), (B, T, D): what was found and the state that looked, side by side."""
        return torch.tanh(self.combine(torch.cat(parts, -1)))
