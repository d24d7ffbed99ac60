"""What one step of training sees. [batches]"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenBatch:
    """Packed rows of tokens. B rows of T tokens."""

    ids: Tensor
    """(B, T), what the model reads."""
    targets: Tensor
    """(B, T), what it should say at each place; IGNORED (-100) where nothing is asked."""
    starts: Tensor | None = None
    """(B, T), where in its row each token's document begins; None where every row is one text."""
    segments: Tensor | None = None
    """(B, T), each token's kind of segment; None where there is one kind."""

    def to(self, device: torch.device) -> TokenBatch:
        """Return the batch on `device`."""
        return self._each(lambda x: x.to(device, non_blocking=True))

    def split(self, rows: int) -> list[TokenBatch]:
        """Return the batch in parts of at most `rows` rows, in order."""
        if rows >= len(self.ids):
            return [self]
        begins = range(0, len(self.ids), rows)
        return [self._each(lambda x, i=i: x[i : i + rows]) for i in begins]  # type: ignore[misc]

    def _each(self, change: Callable[[Tensor], Tensor]) -> TokenBatch:
        """Return the batch with `change` done to everything in it."""
        parts = (self.ids, self.targets, self.starts, self.segments)
        return TokenBatch(*(None if part is None else change(part) for part in parts))  # type: ignore[arg-type]

    @property
    def tokens(self) -> int:
        """Places in the batch."""
        return self.ids.numel()
