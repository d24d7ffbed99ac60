"""Packed rows of tokens in an order that a seed fixes and a resumed run continues. [batches]"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from langmill.batches.batch import TokenBatch
from langmill.batches.shards import Part
from langmill.core.errors import DataError


@dataclass
class LoaderState:
    """Where a loader stands; two integers are all there is to say."""

    epoch: int = 0
    rows: int = 0
    """Rows of this epoch already given, over all processes."""


class PackedLoader:
    """Rows of `context` tokens cut from the corpus, in a new shuffled order each epoch.

    An epoch shifts the cuts by a random offset and permutes the rows, both drawn from (seed, epoch)
    alone, so `state` is two integers and resuming costs nothing. A row may hold several documents:
    `TokenBatch.starts` keeps them from seeing each other. With several processes each takes every
    size-th row of the same order.
    """

    def __init__(
        self,
        part: Part,
        *,
        context: int,
        rows: int,
        seed: int,
        rank: int = 0,
        size: int = 1,
        repeat: bool = True,
    ) -> None:
        """rows: how many rows a batch of this process has. repeat: False ends after one epoch."""
        if len(part.tokens) < context + 1:
            raise DataError(
                f"the corpus has {len(part.tokens)} tokens, fewer than one row of {context} and its target;"
                f" add text or use a shorter --model.context (at most {max(1, len(part.tokens) - 1)})"
            )
        self.part, self.context, self.rows, self.seed = part, context, rows, seed
        self.rank, self.size, self.repeat = rank, size, repeat
        self.state = LoaderState()
        self._order: tuple[int, np.ndarray, int] | None = None

    @property
    def epoch_rows(self) -> int:
        """Rows in an epoch."""
        return max(1, (len(self.part.tokens) - 1) // self.context)

    def _epoch(self) -> tuple[np.ndarray, int]:
        """Return this epoch's order of rows and the offset of the first cut."""
        if self._order is None or self._order[0] != self.state.epoch:
            generator = np.random.default_rng([self.seed, self.state.epoch])
            slack = len(self.part.tokens) - 1 - self.epoch_rows * self.context
            rows, offset = self.epoch_rows, int(generator.integers(0, slack + 1))
            if rows > 1 and self.state.epoch:
                # Cut at other places than the last epoch did, at the price of one row.
                rows, offset = rows - 1, int(generator.integers(0, self.context))
            self._order = self.state.epoch, generator.permutation(rows), offset
        return self._order[1], self._order[2]

    def take(self) -> TokenBatch | None:
        """Return the next batch; None when a loader that does not repeat has come to its end."""
        starts: list[int] = []
        while len(starts) < self.rows * self.size:
            order, offset = self._epoch()
            if self.state.rows >= len(order):
                if not self.repeat:
                    break
                self.state = LoaderState(self.state.epoch + 1, 0)
                continue
            wanted = self.rows * self.size - len(starts)
            chosen = order[self.state.rows : self.state.rows + wanted]
            starts.extend(int(row) * self.context + offset for row in chosen)
            self.state.rows += len(chosen)
        mine = starts[self.rank :: self.size]
        return self.cut(mine) if mine else None

    def cut(self, begins: list[int]) -> TokenBatch:
        """Return the rows that begin at these indices of the corpus."""
        index = np.asarray(begins)[:, None] + np.arange(self.context + 1)  # (B, T + 1)
        rows = torch.from_numpy(self.part.tokens[index].astype(np.int64))
        return TokenBatch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), self._document_starts(index))

    def _document_starts(self, index: np.ndarray) -> torch.Tensor | None:
        """Return where in its row each token's document begins (B, T); None if no row holds two."""
        documents = self.part.documents
        first = np.searchsorted(documents, index[:, 0], side="right")
        last = np.searchsorted(documents, index[:, -2], side="right")
        if np.array_equal(first, last):
            return None
        owner = np.searchsorted(documents, index[:, :-1], side="right") - 1  # (B, T)
        return torch.from_numpy(np.maximum(documents[owner] - index[:, :1], 0))
