"""Recurrent networks, LSTM and GRU, under the protocol of the Transformer. [models]

Shape letters: B rows, T tokens, M texts that an encoder read, S their tokens, D width, V vocabulary.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langmill.core.errors import CheckpointError, ConfigError
from langmill.models.cache import remaining_texts
from langmill.models.protocol import STATES_ONLY, score_texts
from langmill.models.recurrent_layers import (
    GATES,
    Drawn,
    Memory,
    RecurrentStack,
    Sequences,
    States,
    TextAttention,
    extents,
    keep_where,
)


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """What a recurrent network is made of; all dropout is that of Merity et al. 2017 (arXiv:1708.02182)."""

    vocabulary: int
    kind: Literal["lstm", "gru"] = "lstm"
    role: Literal["decoder", "encoder", "pair"] = "decoder"
    """A pair is an encoder and a decoder of the same sizes; encoders read in both directions."""
    attention: Literal["luong", "bahdanau"] = "luong"
    """How a pair's decoder looks at the encoder's states; see `Recurrent`."""
    layers: int
    width: int
    """Channels of the embeddings and of the last layer."""
    hidden: int = 0
    """Channels of the layers before the last; 0: as many as `width`."""
    dropout: float = 0.0
    """Of the channels between layers, the same ones at every token of a text."""
    embed_dropout: float = 0.0
    """Of the vocabulary: a word dropped is dropped wherever it stands; each side of a pair drops its own."""
    weight_drop: float = 0.0
    """Of the weights from one token's state to the next one's."""
    tie_output: bool = True
    """The output layer's weight is the token embedding (Press and Wolf 2017)."""
    max_positions: int = 512
    """Tokens of a row in training; nothing limits a text afterwards."""
    has_output: bool = True
    """False: the network gives states only."""

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
        for name in ("width", "hidden") if self.encoder else ():
            if getattr(self, name) % 2:
                raise ConfigError(
                    f"model.{name}: {getattr(self, name)} is not allowed; half of an encoder's channels read"
                    " forwards and half backwards, so it must be even"
                )

    @property
    def encoder(self) -> RecurrentConfig | None:
        """What the encoder is made of, if there is one."""
        return None if self.role == "decoder" else self

    @property
    def decoder(self) -> RecurrentConfig | None:
        """What the decoder is made of, if there is one."""
        return None if self.role == "encoder" else self

    @property
    def output_stack(self) -> RecurrentConfig:
        """What the stack whose states are scored is made of."""
        return self

    heads = kv_heads = 1
    """It has none, which counts as one wherever sizes are compared."""
    segments = 0
    """Kinds of segment that it tells apart."""
    positions = "relative"
    """A token's place shows in what was read before it, so no table limits a text."""


class RecurrentState:
    """What each layer has kept of the tokens read so far, and what an encoder read."""

    def __init__(self, states: States, slots: int, memory: Memory | None = None) -> None:
        self.states, self.memory = states, memory
        self.length = 0
        """Tokens read, the same for every row; shorter rows are padded on the left."""
        self.slots = slots
        """Tokens that were announced; no memory depends on them."""

    def _each(self, change) -> None:
        self.states = [tuple(change(part) for part in layer) for layer in self.states]

    def repeat(self, times: int) -> None:
        """Put `times` copies of every row side by side; they share their row of `memory`."""
        self._each(lambda part: part.repeat_interleave(times, 1))

    def reorder(self, rows: Tensor) -> None:
        """Keep rows[i] as row i, as beam search and finished sequences need; see `remaining_texts`."""
        if self.memory is not None:
            before = self.states[0][0].shape[1]
            texts = remaining_texts(rows, before, len(self.memory.keys))
            self.memory = self.memory if texts is None else self.memory.keep(texts)
        self._each(lambda part: part[:, rows])


def layer_sizes(config: RecurrentConfig) -> list[tuple[int, int]]:
    """Return (channels in, channels out) of every layer: from `width` by way of `hidden` back to `width`."""
    ends = [config.width, *[config.hidden] * (config.layers - 1), config.width]
    return list(itertools.pairwise(ends))


class Recurrent(nn.Module):
    """Embedding, layers and the layer that scores the vocabulary. Gives states and scores, never losses.

    A pair's decoder begins with what the encoder ended with (`begin`). How it looks at the encoder's states:

    "luong"     The states h of whole rows are computed first, then look: tanh(W [c; h]), c being what h finds
                (Luong et al. 2015, arXiv:1508.04025, section 3.1, without input feeding).
    "bahdanau"  The state s before a token looks, and what it finds is read with the token, so that attention
                knows where it looked before: c from s, the next s from s and [e; c], then tanh(W [c; s; e])
                (Bahdanau et al. 2015, arXiv:1409.0473, section 3; their last layer is a maxout). Tokens are
                read one by one in training too, which takes several times as long.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        sizes = layer_sizes(config)
        pair = config.role == "pair"
        self.feeding = pair and config.attention == "bahdanau"
        self.encoder = self._stack(sizes, two_way=True) if config.encoder else None
        if self.feeding:
            sizes = [(2 * config.width, sizes[0][1]), *sizes[1:]]
        self.decoder = self._stack(sizes) if config.decoder else None
        self.attention = TextAttention(config.attention, config.width) if pair else None
        self.bridge = nn.Linear(config.width, sum(size for _, size in sizes)) if pair else None
        if config.has_output:
            self.output = nn.Linear(config.width, config.vocabulary)
            if config.tie_output:
                self.output.weight = self.embed.weight

    def _stack(self, sizes: list[tuple[int, int]], *, two_way: bool = False) -> RecurrentStack:
        config = self.config
        return RecurrentStack(
            config.kind, sizes, dropout=config.dropout, weight_drop=config.weight_drop, two_way=two_way
        )

    @property
    def output_embed(self) -> nn.Embedding:
        """The token embedding."""
        return self.embed

    def encode(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Return the encoder's states (B, T, D) for token ids (B, T), 0 at padding; see `decode`."""
        assert self.encoder is not None, "this model has no encoder"
        assert segments is None, "recurrent networks tell no segments apart"
        return self.encoder(self.embedded(ids), texts=Sequences.of(valid, starts, ids.shape))[0]

    def decode(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        memory: Tensor | None = None,
        memory_valid: Tensor | None = None,
        cache: RecurrentState | None = None,
    ) -> Tensor:
        """Return the decoder's states (B, T, D) for token ids (B, T); see `protocol.LanguageModel`.

        memory: an encoder's states (B, S, D), memory_valid: (B, S), False at their padding; a cache has been
        given them already (`new_cache`). The states of padding mean nothing.
        """
        assert self.decoder is not None, "this model has no decoder"
        assert starts is None or (valid is None and cache is None and self.attention is None), (
            "packed rows are neither padded nor cached, and read no memory"
        )
        texts = None if self.feeding else Sequences.of(valid, starts, ids.shape)
        x = self.embedded(ids)  # (B, T, D)
        count = len(ids) if texts is None else len(texts.order)
        past = cache or self.new_cache(count, 0, memory=memory, memory_valid=memory_valid)
        past.length += ids.shape[1]
        drawn = self.decoder.draw(count)
        if self.feeding:
            return self.fed(x, valid, past, drawn)
        states, past.states = self.decoder(x, past.states, texts=texts, drawn=drawn)
        if self.attention is None:
            return states
        assert past.memory is not None, "a decoder that looks at an encoder's states needs `memory`"
        return self.attention(self.attention.find(states, past.memory), states)

    def fed(self, x: Tensor, valid: Tensor | None, past: RecurrentState, drawn: Drawn) -> Tensor:
        """Return the states (B, T, D) for embeddings x (B, T, D), each token read with what attention found."""
        attention, decoder = self.attention, self.decoder
        assert attention is not None and decoder is not None
        assert past.memory is not None, "a decoder that looks at an encoder's states needs `memory`"
        found, states = [], []
        for place in range(x.shape[1]):
            before = past.states[-1][0].transpose(0, 1)  # (B, 1, D)
            found.append(attention.find(before, past.memory))
            read = torch.cat([x[:, place : place + 1], found[-1]], -1)  # (B, 1, 2 D)
            state, after = decoder(read, past.states, drawn=drawn)
            past.states = after if valid is None else keep_where(valid[:, place], after, past.states)
            states.append(state)
        return attention(torch.cat(found, 1), torch.cat(states, 1), x)

    def embedded(self, ids: Tensor) -> Tensor:
        """Return the embeddings (B, T, D), in training without the words that are dropped."""
        rate = self.config.embed_dropout
        if not (self.training and rate):
            return self.embed(ids)
        kept = F.dropout(self.embed.weight.new_ones(self.config.vocabulary, 1), rate)
        return self.embed(ids) * kept[ids]

    def begin(self, memory: Tensor, valid: Tensor | None) -> States:
        """Return the states from which a decoder reads on, for an encoder's states (M, S, D).

        They are tanh(W e), and an LSTM's cells W e, where e is the encoder's state forwards at the last token
        beside that backwards at the first (Bahdanau et al. 2015, appendix A.2.2, have the latter alone).
        """
        assert self.bridge is not None
        forwards, backwards = memory.chunk(2, -1)  # (M, S, D / 2)
        if valid is None:
            ends = torch.cat([forwards[:, -1], backwards[:, 0]], -1)
        else:
            first, length = extents(valid)
            rows = torch.arange(len(memory), device=memory.device)
            ends = torch.cat([forwards[rows, first + length - 1], backwards[rows, first]], -1)
        cells = self.bridge(ends)[None].split([size for _, size in layer_sizes(self.config)], -1)
        return [(cell.tanh(), cell) if self.config.kind == "lstm" else (cell.tanh(),) for cell in cells]

    def before_output(self, states: Tensor) -> Tensor:
        """Return the states."""
        if not self.config.has_output:
            raise CheckpointError(STATES_ONLY)
        return states

    def score(self, states: Tensor) -> Tensor:
        """Return logits (..., V) for states (..., D)."""
        ready = self.before_output(states)  # first: it says so where there is no output layer
        return self.output(ready)

    def new_cache(
        self, batch: int, slots: int, *, memory: Tensor | None = None, memory_valid: Tensor | None = None
    ) -> RecurrentState:
        """Return the state before the first token of `batch` rows; see `Transformer.new_cache`."""
        assert self.decoder is not None, "this model has no decoder"
        if memory is None or self.attention is None:
            return RecurrentState(self.decoder.zeros(batch, self.embed.weight), slots)
        past = RecurrentState(
            self.begin(memory, memory_valid), slots, self.attention.memory(memory, memory_valid)
        )
        past.repeat(batch // len(memory))
        return past

    def forward(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        decoder_ids: Tensor | None = None,
        decoder_valid: Tensor | None = None,
    ) -> Tensor:
        """Return logits (B, T, V); see `protocol.score_texts`."""
        read = self.encode(ids, valid=valid, starts=starts) if self.encoder else None
        return score_texts(
            self, ids, read, valid=valid, starts=starts, decoder_ids=decoder_ids, decoder_valid=decoder_valid
        )
