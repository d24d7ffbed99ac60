"""One token further for every row of a batch: the interface, and the way that always works. [generation]

Shape letters: B rows of the batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from langmill.models.cache import Cache
from langmill.models.protocol import device_of
from langmill.models.transformer import Transformer


@dataclass(frozen=True)
class Scores:
    """What the model says about the next token of every row; a decoder may overwrite it at its next step."""

    logits: Tensor
    """(B, V) float32."""
    best: Tensor
    """(B,), the index of each row's largest logit."""
    log_total: Tensor
    """(B,), log of the sum of exp(logits): logits - log_total are log-probabilities."""

    @classmethod
    def of(cls, logits: Tensor) -> Scores:
        """Summarise logits (B, V) of any float type."""
        logits = logits.float()
        return cls(logits, logits.argmax(-1), logits.logsumexp(-1))


class Decoder(Protocol):
    """Feeds one token a row to a model and tells what may come next."""

    def step(self, ids: Sequence[int], cache: Cache) -> Scores:
        """Append ids (B,) to the cache and score what follows them."""

    def close(self) -> None:
        """Give back threads and buffers."""


class TorchDecoder:
    """The model itself, in plain torch: any device, precision and batch."""

    def __init__(self, model: Transformer) -> None:
        self.model = model

    def step(self, ids: Sequence[int], cache: Cache) -> Scores:
        tokens = torch.tensor(ids, device=device_of(self.model))[:, None]
        return Scores.of(self.model.score(self.model.decode(tokens, cache=cache)[:, -1]))

    def close(self) -> None:
        """Nothing is held."""


def choose_decoder(model: Transformer, rows: int) -> Decoder:
    """Return the fastest decoder for `rows` rows: numba's on a CPU where it applies, else torch's."""
    from langmill.generation.fast import FastDecoder, obstacle

    return TorchDecoder(model) if obstacle(model, rows) else FastDecoder(model, rows)
