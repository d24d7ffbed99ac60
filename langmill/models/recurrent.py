"""Recurrent language models, LSTM and GRU, under the protocol of the Transformer. [models]

Shape letters: B rows, T tokens, N sequences (rows, or the documents and unpadded parts of rows), P their tokens
in all, D width, H hidden width of a layer, V vocabulary.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from langmill.core.errors import ConfigError

GATES = {"lstm": 4, "gru": 3}


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """What a recurrent language model is made of; all dropout is that of Merity et al. 2017 (arXiv:1708.02182)."""

    vocabulary: int
    kind: Literal["lstm", "gru"] = "lstm"
    layers: int
    width: int
    """Channels of the embeddings and of the last layer."""
    hidden: int = 0
    """Channels of the layers before the last; 0: as many as `width`."""
    dropout: float = 0.0
    """Of the channels between layers, the same ones at every token of a text."""
    embed_dropout: float = 0.0
    """Of the vocabulary: a word dropped is dropped wherever it stands."""
    weight_drop: float = 0.0
    """Of the weights from one token's state to the next one's."""
    tie_output: bool = True
    """The output layer's weight is the token embedding (Press and Wolf 2017)."""
    max_positions: int = 512
    """Tokens of a row in training; nothing limits a text afterwards."""

    def __post_init__(self) -> None:
        for name in ("vocabulary", "layers", "width", "max_positions"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"model.{name}: {getattr(self, name)} is not allowed; it must be at least 1"
                )
        object.__setattr__(self, "hidden", self.hidden or self.width)
        if self.kind not in GATES:
            raise ConfigError(f"a recurrent model is one of {', '.join(GATES)}, not {self.kind!r}")
        for name in ("dropout", "embed_dropout", "weight_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"model.{name}: {getattr(self, name)} is not allowed; it must be in [0, 1)")

    @property
    def encoder(self) -> None:
        """There is none."""

    @property
    def decoder(self) -> RecurrentConfig:
        """The network itself is its only stack."""
        return self

    output_stack = decoder
    has_output = True
    heads = kv_heads = 1
    """It has none, which counts as one wherever sizes are compared."""


class RecurrentState:
    """What each layer has kept of the tokens read so far."""

    def __init__(self, config: RecurrentConfig, batch: int, slots: int, *, device=None, dtype=None) -> None:
        sizes = layer_sizes(config)
        count = 2 if config.kind == "lstm" else 1  # state and cell, or the state alone
        self.states = [
            tuple(torch.zeros(1, batch, size, device=device, dtype=dtype) for _ in range(count))
            for _, size in sizes
        ]
        self.length = 0
        """Tokens read, the same for every row; shorter rows are padded on the left."""
        self.slots = slots
        """Tokens that were announced; no memory depends on them."""

    def _each(self, change) -> None:
        self.states = [tuple(change(part) for part in layer) for layer in self.states]

    def repeat(self, times: int) -> None:
        """Put `times` copies of every row side by side."""
        self._each(lambda part: part.repeat_interleave(times, 1))

    def reorder(self, rows: Tensor) -> None:
        """Keep rows[i] as row i, as beam search and finished sequences need."""
        self._each(lambda part: part[:, rows])


def layer_sizes(config: RecurrentConfig) -> list[tuple[int, int]]:
    """Return (channels in, channels out) of every layer: from `width` by way of `hidden` back to `width`."""
    ends = [config.width, *[config.hidden] * (config.layers - 1), config.width]
    return list(itertools.pairwise(ends))


class Sequences:
    """Where the texts of a batch lie: the places of `flat` rows (B * T) that make each of N sequences."""

    def __init__(self, places: Tensor, lengths: Tensor) -> None:
        """places: (N, longest), indices of B * T. lengths: (N,), on the CPU."""
        packed = pack_padded_sequence(places, lengths, batch_first=True, enforce_sorted=False)
        self.places, self.sizes = packed.data, packed.batch_sizes  # (P,)
        assert packed.sorted_indices is not None and packed.unsorted_indices is not None
        self.order, self.back = packed.sorted_indices, packed.unsorted_indices  # (N,)
        self.owner = torch.cat([torch.arange(int(size)) for size in self.sizes]).to(places.device)
        """Of each of the P tokens, the sequence, in the order of their lengths."""

    @classmethod
    def of(cls, valid: Tensor | None, starts: Tensor | None, shape: torch.Size) -> Sequences | None:
        """Return the documents of packed rows, or the rows without their padding; None for plain rows (B, T)."""
        rows, tokens = shape
        if starts is not None:
            places = torch.arange(tokens, device=starts.device)
            row, begin = (starts == places).nonzero(as_tuple=True)
            flat = row * tokens + begin
            ends = torch.cat([flat[1:], flat.new_tensor([rows * tokens])])
        elif valid is not None:
            counts = valid.sum(1)
            ends = torch.arange(1, rows + 1, device=valid.device) * tokens
            flat = ends - counts.clamp(min=1)  # a row of padding alone reads one token of it
        else:
            return None
        lengths = ends - flat
        longest = torch.arange(int(lengths.max()), device=flat.device)
        return cls((flat[:, None] + longest).clamp(max=rows * tokens - 1), lengths.cpu())


class RecurrentLayer(nn.Module):
    """One layer over whole texts."""

    def __init__(self, kind: str, inputs: int, outputs: int, weight_drop: float) -> None:
        super().__init__()
        self.kind, self.weight_drop = kind, weight_drop
        gates = GATES[kind] * outputs
        self.weight_input = nn.Parameter(torch.empty(gates, inputs))
        self.weight_hidden = nn.Parameter(torch.empty(gates, outputs))
        self.bias_input = nn.Parameter(torch.empty(gates))
        self.bias_hidden = nn.Parameter(torch.empty(gates))

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...], sizes: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return outputs and the state after the last token.

        x: (B, T, inputs), or (P, inputs) with `sizes`, how many sequences have a first, a second … token.
        state: (1, N, outputs) each.
        """
        recurrent = F.dropout(self.weight_hidden, self.weight_drop, self.training)
        weights = [self.weight_input, recurrent, self.bias_input, self.bias_hidden]
        run: Any = torch.lstm if self.kind == "lstm" else torch.gru
        before = state if self.kind == "lstm" else state[0]
        if sizes is None:
            out, *after = run(x, before, weights, True, 1, 0.0, self.training, False, True)
        else:
            out, *after = run(x, sizes, before, weights, True, 1, 0.0, self.training, False)
        return out, tuple(after)


class Recurrent(nn.Module):
    """Embedding, layers and the layer that scores the vocabulary. Gives states and scores, never losses."""

    encoder = decoder = None

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(
            RecurrentLayer(config.kind, *sizes, config.weight_drop) for sizes in layer_sizes(config)
        )
        self.output = nn.Linear(config.width, config.vocabulary)
        if config.tie_output:
            self.output.weight = self.embed.weight

    @property
    def output_embed(self) -> nn.Embedding:
        """The token embedding."""
        return self.embed

    def decode(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        cache: RecurrentState | None = None,
    ) -> Tensor:
        """Return states (B, T, D) for token ids (B, T); see `protocol.LanguageModel`. Those of padding are 0."""
        assert starts is None or (valid is None and cache is None), (
            "packed rows are neither padded nor cached"
        )
        texts = Sequences.of(valid, starts, ids.shape)
        x = self.embedded(ids)  # (B, T, D)
        count = len(ids) if texts is None else len(texts.order)
        past = cache or self.new_cache(count, 0)
        if cache is not None:
            cache.length += ids.shape[1]
        if texts is not None:
            x = x.flatten(0, 1)[texts.places]  # (P, D)
        states = []
        for number, (layer, state) in enumerate(zip(self.layers, past.states)):
            if texts is not None:
                state = tuple(part[:, texts.order] for part in state)
            x, after = layer(x, state, None if texts is None else texts.sizes)
            states.append(after if texts is None else tuple(part[:, texts.back] for part in after))
            if number + 1 < len(self.layers):
                x = self.locked(x, texts)
        past.states = states
        x = self.locked(x, texts)
        if texts is None:
            return x
        return x.new_zeros(ids.numel(), x.shape[-1]).index_copy(0, texts.places, x).unflatten(0, ids.shape)

    def embedded(self, ids: Tensor) -> Tensor:
        """Return the embeddings (B, T, D), in training without the words that are dropped."""
        rate = self.config.embed_dropout
        if not (self.training and rate):
            return self.embed(ids)
        kept = F.dropout(self.embed.weight.new_ones(self.config.vocabulary, 1), rate)
        return self.embed(ids) * kept[ids]

    def locked(self, x: Tensor, texts: Sequences | None) -> Tensor:
        """Drop channels of (B, T, D) or (P, D), the same at all tokens of a sequence (Gal and Ghahramani 2016)."""
        rate = self.config.dropout
        if not (self.training and rate):
            return x
        count = len(x) if texts is None else len(texts.order)
        mask = F.dropout(x.new_ones(count, x.shape[-1]), rate)  # (N, D)
        return x * (mask[:, None] if texts is None else mask[texts.owner])

    def before_output(self, states: Tensor) -> Tensor:
        """Return the states."""
        return states

    def score(self, states: Tensor) -> Tensor:
        """Return logits (..., V) for states (..., D)."""
        return self.output(states)

    def new_cache(self, batch: int, slots: int) -> RecurrentState:
        """Return the state before the first token of `batch` rows."""
        weight = self.embed.weight
        return RecurrentState(self.config, batch, slots, device=weight.device, dtype=weight.dtype)

    def forward(self, ids: Tensor, *, valid: Tensor | None = None, starts: Tensor | None = None) -> Tensor:
        """Return logits (B, T, V)."""
        return self.score(self.decode(ids, valid=valid, starts=starts))
