"""What filters look at in a text, measured once: lines, words, length, repeated parts; for scripts without spaces too. [text]

English filters count words. Chinese sets no spaces between its words, so a text in a script without spaces is
counted in characters and converted: 1.5 characters are one word of English and one character stands for three
of English. On 19,616 sentence pairs of Tatoeba it is 1.40 Chinese characters to a word and 3.16 English
characters to a Chinese one; longer sentences and written style have more to a word.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from langmill.text.characters import Kinds, code_points, count_kinds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHARACTERS_PER_WORD = 1.5
ENGLISH_CHARACTERS_PER_CHARACTER = 3
_ENGLISH_CHARACTERS_PER_WORD = 5

_MULTIPLIER = (
    0x9E3779B97F4A7C15  # odd and without pattern (2^64 over the golden ratio): hashes of n-grams spread
)


class Measured:
    """A text and what is known of it, each computed when first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._hashes: dict[int, npt.NDArray[np.uint64]] = {}
        self._places: dict[int, npt.NDArray[np.int64]] = {}

    @functools.cached_property
    def kinds(self) -> Kinds:
        """Its characters by kind."""
        return count_kinds(self.text)

    @functools.cached_property
    def unspaced(self) -> bool:
        """Whether most of it, and a tenth of its signs at least, is in a script that sets no spaces between words."""
        # Such characters have three bytes in UTF-8: without a tenth of them there is no need to count.
        if len(self.text.encode("utf-8", "surrogatepass")) < 1.2 * len(self.text):
            return False
        characters, words = self._lengths_in_words
        return characters > words

    @functools.cached_property
    def chinese(self) -> bool:
        """Whether most of it is in Chinese characters, without the kana of Japanese."""
        kinds = self.kinds
        return self.unspaced and kinds.han > kinds.unspaced and kinds.kana * 20 <= kinds.han + kinds.kana

    @property
    def _lengths_in_words(self) -> tuple[float, float]:
        kinds = self.kinds
        return (
            (kinds.han + kinds.kana + kinds.unspaced) / CHARACTERS_PER_WORD,
            (kinds.latin + kinds.letter + kinds.digit + kinds.hangul) / _ENGLISH_CHARACTERS_PER_WORD,
        )

    @functools.cached_property
    def words(self) -> list[str]:
        """What stands between white space."""
        return self.text.split()

    @functools.cached_property
    def vocabulary(self) -> dict[str, int]:
        """The different words, numbered in order."""
        return {word: number for number, word in enumerate(dict.fromkeys(self.words))}

    @functools.cached_property
    def _unalphabetic(self) -> list[str]:
        return list(itertools.filterfalse(str.isalpha, self.vocabulary))

    def count_unalphabetic(self, wanted: Callable[[str], object]) -> tuple[int, int]:
        """Return how many of the words that are not letters alone are `wanted`, and how many characters these have."""
        chosen = set(filter(wanted, self._unalphabetic))
        found = [word for word in self.words if word in chosen] if chosen else []
        return len(found), sum(map(len, found))

    @functools.cached_property
    def length_words(self) -> float:
        """Length in words, or in what characters of a script without spaces make in words."""
        return sum(self._lengths_in_words) if self.unspaced else len(self.words)

    @functools.cached_property
    def lines(self) -> list[str]:
        """All lines, empty ones included."""
        return self.text.split("\n")

    @functools.cached_property
    def full_lines(self) -> list[str]:
        """The lines that are not empty."""
        return [line for line in self.lines if line and not line.isspace()]

    @functools.cached_property
    def paragraphs(self) -> list[str]:
        """What stands between empty lines."""
        return re.split("\n{2,}", self.text.strip()) if "\n\n" in self.text else [self.text]

    def n(self, words: int) -> int:
        """Return how many units an n-gram of so many words has: 1.5 characters for a word in a script without spaces."""
        return int(words * CHARACTERS_PER_WORD + 0.5) if self.unspaced else words

    @functools.cached_property
    def _units(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """The words, or the characters but white space, as numbers; and where each ends, in characters, from 0."""
        import numpy as np

        if self.unspaced:
            numbers = code_points("".join(self.words)).astype(np.uint64)
            return numbers, np.arange(len(numbers) + 1)
        count = len(self.words)
        numbers = np.fromiter(map(self.vocabulary.__getitem__, self.words), np.uint64, count)
        lengths = np.fromiter(map(len, self.words), np.int64, count)
        return numbers, np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))

    def _grams(self, n: int) -> npt.NDArray[np.uint64]:
        """Return a hash of every run of `n` units; different runs have different ones but for odds of 2^-64."""
        import numpy as np

        if n in self._hashes:
            return self._hashes[n]
        numbers = self._units[0]
        count = max(len(numbers) - n + 1, 0)
        hashes = np.zeros(count, np.uint64)
        for i in range(n):
            hashes = hashes * np.uint64(_MULTIPLIER) + numbers[i : i + count] + np.uint64(1)
        self._hashes[n] = hashes
        return hashes

    def top_gram_share(self, n: int) -> float:
        """Return the share of characters that the most frequent run of `n` units covers; 0: none stands there twice.

        Of several as frequent it is the first. The spaces within a run count, overlaps count twice.
        """
        import numpy as np

        grams, ends = self._grams(n), self._units[1]
        if len(grams) < 2:
            return 0.0
        ordered = np.sort(grams)
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        counts = np.diff(np.append(starts, len(ordered)))
        top = int(counts.max())
        if top == 1:
            return 0.0
        first = min(int(np.argmax(grams == gram)) for gram in ordered[starts[counts == top]][:_TIES])
        spaces = 0 if self.unspaced else n - 1
        return (int(ends[first + n] - ends[first]) + spaces) * top / len(self.text)

    def repeated_gram_share(self, n: int) -> float:
        """Return the share of characters in runs of `n` units that stood before, counted without overlap."""
        at = self._repeated_at(n)
        if not len(at):
            return 0.0
        grams, ends = self._grams(n)[at].tolist(), self._units[1]
        lengths = (ends[at + n] - ends[at]).tolist()
        seen: set[int] = set()
        characters = after = 0
        for i, gram, length in zip(at.tolist(), grams, lengths):
            if i < after:
                continue
            if gram in seen:
                characters += length
                after = i + n
            else:
                seen.add(gram)
        return characters / len(self.text)

    def most_repeated_share(self, n: int) -> float:
        """Return a quick upper bound of `repeated_gram_share` for runs of `n` units or more."""
        import numpy as np

        at = self._repeated_at(n)
        if not len(at):
            return 0.0
        ends = self._units[1]
        change = np.zeros(len(ends), np.int64)
        np.add.at(change, at, 1)
        np.add.at(change, at + n, -1)
        covered = np.cumsum(change)[:-1] > 0
        return int(np.diff(ends)[covered].sum()) / len(self.text)

    def _repeated_at(self, n: int) -> npt.NDArray[np.int64]:
        """Return the places of the runs of `n` units that stand in the text more than once."""
        import numpy as np

        if n in self._places:
            return self._places[n]
        grams = self._grams(n)
        ordered = np.sort(grams)
        at = np.zeros(0, np.int64)
        if len(grams) > 1 and (ordered[1:] == ordered[:-1]).any():
            order = np.argsort(grams, kind="stable")
            same = grams[order[1:]] == grams[order[:-1]]
            at = np.unique(np.concatenate((order[1:][same], order[:-1][same])))
        self._places[n] = at
        return at


_TIES = 64


def duplicate_shares(parts: list[str], characters: int) -> tuple[float, float]:
    """Return which share of the parts stood before, and their characters as a share of `characters`.

    >>> duplicate_shares(["a", "bc", "bc", "bc"], 7)
    (0.5, 0.5714285714285714)
    """
    different = set(parts)
    if len(different) == len(parts):
        return 0.0, 0.0
    repeated = sum(map(len, parts)) - sum(map(len, different))
    return (len(parts) - len(different)) / len(parts), repeated / characters
