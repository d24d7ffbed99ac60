"""What the tokens of one pass through a stack may look at, and which of them are worked on. [models]

Shape letters: B rows, T query positions, S key positions, H heads, C head width, D width, P kept tokens,
M texts that an encoder read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from langmill.models.cache import Cache

KEPT_ROUND = 128
"""The number of kept tokens is a multiple of this: libraries prepare their products for each new shape."""


@dataclass(frozen=True)
class Kept:
    """Which tokens of a padded batch are worked on: all layers but attention take each token by itself."""

    places: Tensor
    """(P,), indices into B · T."""
    shape: torch.Size
    """(B, T)."""

    @classmethod
    def of(cls, valid: Tensor) -> Kept | None:
        """Return the places of the tokens of rows (B, T) that are no padding; None if dropping the rest gains nothing.

        Padding fills their number up to a multiple of KEPT_ROUND. On a GPU this waits for the device.
        """
        count = -(-int(valid.sum()) // KEPT_ROUND) * KEPT_ROUND
        if count >= valid.numel():
            return None
        return cls((~valid).flatten().int().argsort(stable=True)[:count], valid.shape)

    def take(self, x: Tensor) -> Tensor:
        """Return the kept tokens (1, P, …) of x (B, T, …)."""
        return x.flatten(0, 1)[self.places][None]

    def put(self, x: Tensor) -> Tensor:
        """Return x (1, P, …) in its places of (B, T, …), with zeros elsewhere."""
        out = x.new_zeros(self.shape.numel(), *x.shape[2:])
        return out.index_copy(0, self.places, x[0]).unflatten(0, self.shape)


@dataclass(frozen=True)
class View:
    """What the tokens of one pass may look at."""

    mask: Tensor | None
    """Broadcast to (B, H, T, S): True where a query may look, or numbers to add to the scores."""
    causal: bool
    """Without a mask: a query sees what stands at or before its own place."""
    rotary: tuple[Tensor, Tensor] | None = None
    cache: Cache | None = None
    memory: Tensor | None = None
    """An encoder's states (M, S, D); a cache has their keys and values instead."""
    memory_mask: Tensor | None = None
    """(M, 1, 1, S), False at the padding of `memory`."""
    kept: Kept | None = None
