"""Pairs of texts that are read apart: what embeddings learn from. [batches]

Shape letters: B pairs, C candidates (B texts that belong, then those that do not), T tokens of the longest text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langmill.batches.labelled import LabelledBatch, LabelledRow, collate


@dataclass(frozen=True)
class PairRow:
    """Two texts that belong together, or whose likeness is known; each text's target is its number."""

    text: LabelledRow
    positive: LabelledRow
    negatives: tuple[LabelledRow, ...] = ()
    """Texts that do not belong to the first."""
    score: float | None = None
    """How alike the two are; None: they belong together."""

    @property
    def ids(self) -> NDArray[np.int32]:
        """Of all its texts."""
        return np.concatenate([each.ids for each in (self.text, self.positive, *self.negatives)])

    @property
    def tokens(self) -> int:
        """Of all its texts."""
        return sum(each.tokens for each in (self.text, self.positive, *self.negatives))


@dataclass(frozen=True)
class PairBatch:
    """Pairs that are each other's negatives. Equal texts have equal targets."""

    texts: LabelledBatch
    """(B, T)."""
    candidates: LabelledBatch
    """(C, T), their own T: the texts that belong to each of `texts`, in order, then all that do not."""
    scores: Tensor | None
    """(B,), where likenesses are known."""
    rows: int
    """Texts of a forward pass at most."""

    def to(self, device: torch.device) -> PairBatch:
        """Return the batch on `device`."""
        scores = None if self.scores is None else self.scores.to(device, non_blocking=True)
        return PairBatch(self.texts.to(device), self.candidates.to(device), scores, self.rows)

    def split(self, rows: int) -> list[PairBatch]:
        """Return the whole batch, whose texts are read `rows` at a time: what is learned hangs on all of them."""
        return [replace(self, rows=rows)]

    @property
    def tokens(self) -> int:
        """Tokens in the batch, padding left out."""
        return self.texts.tokens + self.candidates.tokens


def collate_pairs(rows: Sequence[PairRow], *, micro_tokens: int) -> PairBatch:
    """Return pairs as a batch."""
    candidates = [row.positive for row in rows] + [each for row in rows for each in row.negatives]
    scores = None
    if rows[0].score is not None:
        scores = torch.tensor([row.score for row in rows], dtype=torch.float32)
    return PairBatch(
        collate([row.text for row in rows], micro_tokens=micro_tokens),
        collate(candidates, micro_tokens=micro_tokens),
        scores,
        len(candidates),
    )
