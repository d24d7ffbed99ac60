"""Is what we test on in what we train on? Shared n-grams, exact and near-duplicates. [text]

A token of a test document is covered if it lies in an n-gram of 13 tokens that also stands in the training text: the
rule of GPT-3 (Brown et al. 2020, appendix C), with a Chinese character as a token. Case, punctuation and
compatibility forms make no difference. A document of fewer than 13 tokens has no such n-gram: only a training text
equal to it covers it. The test documents are held in memory, with about 20 bytes more a token; the training text streams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from langmill.core.errors import DataError
from langmill.text import duplicates
from langmill.text.documents import ReadReport
from langmill.text.rows import Row
from langmill.text.settings import CheckSettings
from langmill.text.sifting import batches, numbered_rows

EXCERPT_CHARACTERS = 200


@dataclass
class Leak:
    """What a test document shares with the training text."""

    source: str
    covered: float = 0.0
    """Share of its tokens that lie in shared n-grams."""
    excerpt: str = ""
    """The beginning of the longest shared passage, as it is compared."""
    exact: str = ""
    """Where the first training document stands that equals it."""
    near: str = ""
    """Where the most similar training document stands, if it is a near-duplicate."""
    similarity: float = 0.0
    """Estimated Jaccard similarity with that one."""


@dataclass
class LeakageReport:
    """How far the test documents are in the training text."""

    train_documents: int
    test_documents: int
    exact: int
    near: int
    """Near-duplicates, exact ones not counted."""
    touched: int
    """Documents that share an n-gram."""
    contaminated: int
    """Documents that are duplicates, or covered by as much as the settings say."""
    covered: float
    """Share of all test tokens that lie in shared n-grams."""
    too_short: int
    """Documents of fewer tokens than an n-gram."""
    rejected: dict[str, int]
    """Rows of either side that could not be read."""
    leaks: list[Leak] = field(default_factory=list)
    """What is shared, document by document, the worst first; clean ones are left out."""

    @property
    def share(self) -> float:
        """Contaminated documents among all, from 0 to 1."""
        return self.contaminated / self.test_documents


class _Test:
    """The test documents, ready to be looked for."""

    def __init__(self, rows: Sequence[Row], settings: CheckSettings) -> None:
        self.settings = settings
        self.leaks = [Leak(row.source) for row in rows]
        self.normals = [duplicates.normal(row.text) for row in rows]
        self.tokens = duplicates.tokens(self.normals)
        grams, self.begins = duplicates.shingles(self.tokens, settings.ngram)
        self.grams, self.which = np.unique(grams, return_inverse=True)
        self.seen = np.zeros(len(self.grams), bool)
        self.by_digest: dict[bytes, list[int]] = {}
        for index, key in enumerate(duplicates.digests(self.normals)):
            self.by_digest.setdefault(key.tobytes(), []).append(index)
        self.signatures = duplicates.signatures(self.normals)
        self.bands, self.band_rows = duplicates.bands_for(settings.threshold)
        everything = np.arange(len(rows))
        self.band_order = []
        for band in range(self.bands):
            keys = duplicates.band_keys(self.signatures, everything, band * self.band_rows, self.band_rows)
            order = np.argsort(keys, kind="stable")
            self.band_order.append((keys[order], order))

    def look_in(self, rows: Sequence[Row]) -> None:
        """Mark what a few training documents share with the test documents."""
        normals = [duplicates.normal(row.text) for row in rows]
        grams, _ = duplicates.shingles(duplicates.tokens(normals), self.settings.ngram)
        if len(self.grams):
            place = np.minimum(np.searchsorted(self.grams, grams), len(self.grams) - 1)
            self.seen[place[self.grams[place] == grams]] = True
        for row, key in zip(rows, duplicates.digests(normals)):
            for index in self.by_digest.get(key.tobytes(), ()):
                self.leaks[index].exact = self.leaks[index].exact or row.source
        self._look_for_alike(rows, duplicates.signatures(normals))

    def _look_for_alike(self, rows: Sequence[Row], signatures: duplicates.Signatures) -> None:
        pairs: set[tuple[int, int]] = set()
        everything = np.arange(len(rows))
        for band, (ordered, order) in enumerate(self.band_order):
            keys = duplicates.band_keys(signatures, everything, band * self.band_rows, self.band_rows)
            left, right = (np.searchsorted(ordered, keys, side=side) for side in ("left", "right"))
            for index in np.flatnonzero(right > left).tolist():
                pairs.update((index, int(other)) for other in order[left[index] : right[index]])
        for index, other in sorted(pairs):
            if signatures[index, 0] == duplicates.EMPTY:
                continue
            found = float(
                duplicates.similarity(signatures[index : index + 1], self.signatures[other : other + 1])[0]
            )
            leak = self.leaks[other]
            if found >= self.settings.threshold and found > leak.similarity:
                leak.near, leak.similarity = rows[index].source, found

    def cover(self) -> npt.NDArray[np.bool_]:
        """Fill in what n-grams tell; return for each token whether it is covered."""
        size, owner = self.settings.ngram, self.tokens.text
        begins = self.begins[self.seen[self.which]]
        ends = np.minimum(begins + size, np.searchsorted(owner, owner[begins], side="right"))
        steps = np.zeros(len(owner) + 1, np.int64)
        np.add.at(steps, begins, 1)
        np.add.at(steps, ends, -1)
        covered = np.cumsum(steps[:-1]) > 0
        first = np.searchsorted(owner, np.arange(len(self.leaks) + 1))
        for index in np.unique(owner[covered]).tolist():
            mask = covered[first[index] : first[index + 1]]
            self.leaks[index].covered = float(mask.mean())
            self.leaks[index].excerpt = self._longest(index, int(first[index]), mask)
        return covered

    def _longest(self, index: int, first: int, mask: npt.NDArray[np.bool_]) -> str:
        changes = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
        runs = changes.reshape(-1, 2)
        begin, end = runs[np.argmax(runs[:, 1] - runs[:, 0])]
        positions = self.tokens.begin[first : first + len(mask)]
        stop = positions[end] if end < len(mask) else None
        return self.normals[index][positions[begin] : stop][:EXCERPT_CHARACTERS].strip()


def check(
    train: Sequence[str | Path], against: Sequence[str | Path], *, settings: CheckSettings | None = None
) -> LeakageReport:
    """Look for the documents of `against` (test) in those of `train`."""
    settings = settings or CheckSettings()
    rejected: Counter[str] = Counter()
    rows: list[Row] = []
    for _, row in numbered_rows(against, settings, ReadReport()):
        if row.reason:
            rejected[f"test: {row.reason}"] += row.part == 0
        else:
            rows.append(row)
    if not rows:
        raise DataError("--against: no document to look for; expected at least one with text in it")
    test, documents = _Test(rows, settings), 0
    for batch in batches(numbered_rows(train, settings, ReadReport())):
        good = [row for _, row in batch if not row.reason]
        rejected.update(f"train: {row.reason}" for _, row in batch if row.reason and row.part == 0)
        documents += len(good)
        test.look_in(good)
    covered = test.cover()
    lengths = np.bincount(test.tokens.text, minlength=len(rows))
    leaks = test.leaks
    return LeakageReport(
        train_documents=documents,
        test_documents=len(rows),
        exact=sum(bool(leak.exact) for leak in leaks),
        near=sum(bool(leak.near) and not leak.exact for leak in leaks),
        touched=sum(leak.covered > 0 for leak in leaks),
        contaminated=sum(bool(leak.exact or leak.near) or leak.covered >= settings.covered for leak in leaks),
        covered=float(covered.mean()) if len(covered) else 0.0,
        too_short=int((lengths < settings.ngram).sum()),
        rejected=dict(rejected),
        leaks=sorted(
            (leak for leak in leaks if leak.exact or leak.near or leak.covered),
            key=lambda leak: (not leak.exact, not leak.near, -leak.covered),
        ),
    )
