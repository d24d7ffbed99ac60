"""Words and their vectors, and those of the pieces that unknown words are made of. [vectors]"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


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
        """Word → its row."""
        return {word: row for row, word in enumerate(self.words)}

    @property
    def width(self) -> int:
        """Numbers a vector."""
        return self.matrix.shape[1]
