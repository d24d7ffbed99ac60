"""What every language model offers to objectives, generation and evaluation. [models]

Three kinds exist: the Transformer, recurrent networks and n-gram models. Nothing outside `models` and
`checkpoint` asks which of them it holds; they share these methods, not a class.

Shape letters: B batch, T new tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from langmill.core.errors import ConfigError

STATES_ONLY = "this checkpoint gives states, not scores: it has no output layer"


class Layerless:
    """What the config of a model that is fitted in one go answers where a stack of layers is asked for."""

    @property
    def encoder(self) -> None:
        """Nothing."""

    @property
    def decoder(self) -> Any:
        """Nothing."""

    @property
    def output_stack(self) -> Any:
        """What the stack whose states are scored is made of."""
        return self

    has_output = True
    layers = heads = kv_heads = width = segments = 0
    positions = "relative"
    max_positions = 1 << 20
    """Nothing limits a text; so many tokens are more than any has."""


@runtime_checkable
class PastState(Protocol):
    """What a model keeps of the tokens it has read: keys and values, or a recurrent state."""

    length: int
    """Slots filled so far, the same for every row; shorter rows are padded on the left."""

    @property
    def slots(self) -> int:
        """How many tokens a row has room for."""

    def repeat(self, times: int) -> None:
        """Put `times` copies of every row side by side."""

    def reorder(self, rows: Tensor) -> None:
        """Keep rows[i] as row i, as beam search and finished sequences need."""


@runtime_checkable
class LanguageModel(Protocol):
    """A model that predicts the next token. It returns states and scores, never losses.

    `decode` and `score` are apart so that an objective can score a long row in chunks and a
    generator only the last position.
    """

    output: nn.Linear | None
    """The layer that scores the vocabulary, weight (V, D); None: the model does so in a way of its own, and has
    `chosen_logprobs(states, ids)` beside `score`."""

    def decode(
        self, ids: Tensor, *, valid: Tensor | None = None, starts: Tensor | None = None, cache: Any = None
    ) -> Tensor:
        """Return states (B, T, D) for token ids (B, T).

        valid: (B, T), False at padding; where there is a cache, padding stands on the left.
        starts: (B, T), for packed rows, the index in the row at which each token's document begins;
        never together with `valid` or `cache`. cache: from `new_cache` of the same model; the new
        tokens join it.
        """

    def before_output(self, states: Tensor) -> Tensor:
        """Return what `output` reads, (..., D), for states (..., D)."""

    def score(self, states: Tensor) -> Tensor:
        """Return logits (..., V) for states (..., D)."""

    def new_cache(self, batch: int, slots: int) -> Any:
        """Return an empty `PastState` for `batch` rows of up to `slots` tokens."""


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's parameters lie."""
    return next(model.parameters()).device


@runtime_checkable
class Encoder(Protocol):
    """A model that reads a whole text before anything is predicted."""

    def encode(self, ids: Tensor, *, valid: Tensor | None = None) -> Tensor:
        """Return states (B, T, D) for token ids (B, T); valid: (B, T), False at padding."""


def score_texts(
    model: Any,
    ids: Tensor,
    memory: Tensor | None,
    *,
    valid: Tensor | None,
    starts: Tensor | None,
    decoder_ids: Tensor | None,
    decoder_valid: Tensor | None,
) -> Tensor:
    """Return logits (B, T, V): of `decoder_ids` given the text `ids`, or of `ids` in a lone stack.

    memory: what the encoder made of `ids`; None: there is no encoder.
    """
    if memory is None:
        return model.score(model.decode(ids, valid=valid, starts=starts))
    if model.decoder is None:
        return model.score(memory)
    if decoder_ids is None:
        raise ConfigError("an encoder-decoder scores `decoder_ids`, given the text in `ids`: pass both")
    states = model.decode(decoder_ids, valid=decoder_valid, memory=memory, memory_valid=valid)
    return model.score(states)
