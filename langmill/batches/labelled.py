"""Texts with answers, in batches of similar length, in an order that a seed fixes. [batches]

Shape letters: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langmill.batches.packing import LoaderState

POOL_BATCHES = 50
"""Batches whose rows are sorted by length together. More would pad less, and shuffle less."""
TOKEN_FILL = -100
"""What stands in targets of tokens behind a row's end: nothing is asked there."""


@dataclass(frozen=True)
class LabelledRow:
    """A text as a model reads it, and what it should answer."""

    ids: NDArray[np.int32]
    """(T,)."""
    target: NDArray[np.int64]
    """One answer a text (), several (L,), the extent of an answer (2,), or one a token (T,)."""
    segments: NDArray[np.int8] | None = None
    """(T,), each token's kind of segment; None: all are 0."""
    teacher: NDArray[np.float32] | None = None
    """(L,), the scores that another model gives its labels; None: there is none."""

    @property
    def tokens(self) -> int:
        """How long it is."""
        return len(self.ids)


@dataclass(frozen=True)
class LabelledBatch:
    """Rows of tokens, padded on the right."""

    ids: Tensor
    """(B, T)."""
    valid: Tensor
    """(B, T), False at padding."""
    targets: Tensor
    """(B,), (B, L), (B, 2) or (B, T)."""
    segments: Tensor | None
    micro_tokens: int
    """Places in one forward pass, padding included."""
    by_token: bool = False
    """Whether there is a target for each token."""
    teacher: Tensor | None = None
    """(B, L)."""

    def to(self, device: torch.device) -> LabelledBatch:
        """Return the batch on `device`."""
        tensors = {name: part for name, part in vars(self).items() if isinstance(part, Tensor)}
        moved: dict[str, Any] = {name: part.to(device, non_blocking=True) for name, part in tensors.items()}
        return replace(self, **moved)

    def split(self, rows: int) -> list[LabelledBatch]:
        """Return the batch in parts of at most `rows` rows and `micro_tokens` places, as short as their rows are."""
        lengths = self.valid.sum(1).tolist()
        parts, begin, longest = [], 0, 0
        for row, length in enumerate(lengths):
            longest = max(longest, length)
            if row > begin and (row - begin >= rows or (row - begin + 1) * longest > self.micro_tokens):
                parts.append(self._part(begin, row, lengths))
                begin, longest = row, length
        return [*parts, self._part(begin, len(lengths), lengths)]

    def _part(self, begin: int, end: int, lengths: list[int]) -> LabelledBatch:
        longest = max(lengths[begin:end])
        return LabelledBatch(
            self.ids[begin:end, :longest],
            self.valid[begin:end, :longest],
            self.targets[begin:end, :longest] if self.by_token else self.targets[begin:end],
            None if self.segments is None else self.segments[begin:end, :longest],
            self.micro_tokens,
            self.by_token,
            None if self.teacher is None else self.teacher[begin:end],
        )

    @property
    def tokens(self) -> int:
        """Tokens in the batch, padding left out: no work is done there."""
        return int(self.valid.sum())


def collate(rows: Sequence[LabelledRow], *, micro_tokens: int, by_token: bool = False) -> LabelledBatch:
    """Return rows as a batch. by_token: targets are one a token."""
    longest = max(len(row.ids) for row in rows)

    def padded(parts: Sequence[NDArray[np.integer]], fill: int) -> Tensor:
        table = np.full((len(rows), longest), fill, np.int64)
        for place, part in zip(table, parts):
            place[: len(part)] = part
        return torch.from_numpy(table)

    lengths = torch.tensor([len(row.ids) for row in rows])
    segments = [row.segments for row in rows if row.segments is not None]
    assert len(segments) in (0, len(rows)), "all rows or none have segments"
    teachers = [row.teacher for row in rows if row.teacher is not None]
    assert len(teachers) in (0, len(rows)), "all rows or none have a teacher's scores"
    targets = [row.target for row in rows]
    return LabelledBatch(
        padded([row.ids for row in rows], 0),
        torch.arange(longest)[None] < lengths[:, None],
        padded(targets, TOKEN_FILL) if by_token else torch.from_numpy(np.stack(targets)),
        padded(segments, 0) if segments else None,
        micro_tokens,
        by_token,
        torch.from_numpy(np.stack(teachers)) if teachers else None,
    )


def by_length(rows: Sequence[LabelledRow], *, micro_tokens: int) -> list[list[int]]:
    """Return all rows' numbers, the shortest first, in groups of at most `micro_tokens` places.

    >>> by_length([LabelledRow(np.zeros(n), np.zeros(())) for n in (5, 1, 2)], micro_tokens=4)
    [[1, 2], [0]]
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(rows)), key=lambda number: len(rows[number].ids)):
        if not groups or (len(groups[-1]) + 1) * len(rows[row].ids) > micro_tokens:
            groups.append([])
        groups[-1].append(row)
    return groups


class Row(Protocol):
    """Something of tokens, whose length is known."""

    @property
    def ids(self) -> NDArray[np.int32]:
        """All its tokens."""

    @property
    def tokens(self) -> int:
        """How long it is."""


class LabelledLoader:
    """Batches of rows of similar length, each epoch in a new order.

    An epoch's order is drawn from (seed, epoch) alone: rows are shuffled, those of POOL_BATCHES batches sorted by
    length and cut into batches, and the batches shuffled. So `state` is two integers. With several processes
    each takes every size-th row of a batch, which keeps their lengths alike. An epoch's last batch may be smaller.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        batch: int,
        collate: Callable[[Sequence[Any]], Any],
        seed: int,
        rank: int = 0,
        size: int = 1,
        variants: Callable[[int], Sequence[Row]] | None = None,
    ) -> None:
        """batch: rows of a batch, over all processes; a multiple of `size`. collate: from rows to a batch.

        variants: from an epoch's number to what stands in the place of `rows` in it; None: they stay.
        """
        assert len(rows) >= size and batch % size == 0
        self.rows, self.batch, self.collate, self.seed = rows, batch, collate, seed
        self.rank, self.size, self.variants = rank, size, variants
        self.state = LoaderState()
        self._order: tuple[int, list[NDArray[np.int64]]] | None = None

    def _epoch(self) -> list[NDArray[np.int64]]:
        """Return this epoch's batches of row numbers."""
        if self._order is None or self._order[0] != self.state.epoch:
            if self.variants is not None:
                self.rows = self.variants(self.state.epoch)
            lengths = np.array([row.tokens for row in self.rows])
            generator = np.random.default_rng([self.seed, self.state.epoch])
            order = generator.permutation(len(self.rows))
            # What is left over after whole batches, fewer than there are processes, is of no use to all of them.
            order = order[: len(order) - len(order) % self.batch % self.size]
            batches = []
            for begin in range(0, len(order), POOL_BATCHES * self.batch):
                pool = order[begin : begin + POOL_BATCHES * self.batch]
                pool = pool[np.argsort(lengths[pool], kind="stable")]
                batches += [pool[i : i + self.batch] for i in range(0, len(pool), self.batch)]
            self._order = self.state.epoch, [batches[i] for i in generator.permutation(len(batches))]
        return self._order[1]

    def take(self) -> Any:
        """Return the next batch of this process."""
        batches, number = self._epoch(), self.state.rows // self.batch
        chosen = batches[number][self.rank :: self.size]
        self.state = LoaderState(self.state.epoch, (number + 1) * self.batch)
        if number + 1 == len(batches):
            self.state = LoaderState(self.state.epoch + 1, 0)
        return self.collate([self.rows[row] for row in chosen])
