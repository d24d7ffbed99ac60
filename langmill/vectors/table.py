"""Words and their vectors, and those of the pieces that unknown words are made of. [vectors]"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows of length 1; zeros stay zeros."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1), np.float32)


@dataclass(frozen=True)
class Subwords:
    """FastText's character n-grams (Bojanowski et al. 2017): vectors of hashed pieces."""

    matrix: NDArray[np.float32]
    """(buckets, width)."""
    shortest: int = 3
    longest: int = 6


@dataclass(frozen=True)
class WordVectors:
    """A vocabulary, most frequent word first, and a vector for each word."""

    words: list[str]
    matrix: NDArray[np.float32]
    """(words, width). With subwords: the sum that stands for the word, ready to use."""
    counts: NDArray[np.int64] | None = None
    """(words,): how often each occurred, where that is known."""
    subwords: Subwords | None = None
    facts: dict[str, str] = field(default_factory=dict)
    """How they were made: method, settings, seed; kept in formats that have room for it."""

    @cached_property
    def index(self) -> dict[str, int]:
        """Word → its row; of a word that comes twice, the first."""
        rows = range(len(self.words) - 1, -1, -1)
        return dict(zip(reversed(self.words), rows, strict=True))

    @cached_property
    def units(self) -> NDArray[np.float32]:
        """(words, width): the vectors at length 1; a vector of zeros stays one."""
        return unit(self.matrix)

    @property
    def width(self) -> int:
        """Numbers a vector."""
        return self.matrix.shape[1]

    def take(self, words: list[str]) -> WordVectors:
        """Return the vectors of some words of the vocabulary, in their order."""
        rows = [self.index[word] for word in words]
        counts = None if self.counts is None else self.counts[rows]
        return replace(self, words=words, matrix=self.matrix[rows], counts=counts)
