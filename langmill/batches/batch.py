"""What one step of training sees. [batches]"""

from __future__ import annotations

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

    def to(self, device: torch.device) -> TokenBatch:
        """Return the batch on `device`."""
        starts = None if self.starts is None else self.starts.to(device, non_blocking=True)
        ids, targets = (x.to(device, non_blocking=True) for x in (self.ids, self.targets))
        return TokenBatch(ids, targets, starts)

    def split(self, rows: int) -> list[TokenBatch]:
        """Return the batch in parts of at most `rows` rows, in order."""
        if rows >= len(self.ids):
            return [self]
        return [
            TokenBatch(
                self.ids[i : i + rows],
                self.targets[i : i + rows],
                None if self.starts is None else self.starts[i : i + rows],
            )
            for i in range(0, len(self.ids), rows)
        ]

    @property
    def tokens(self) -> int:
        """Places in the batch."""
        return self.ids.numel()
