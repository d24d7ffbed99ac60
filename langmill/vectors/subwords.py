"""The pieces that fastText makes words of: character n-grams, hashed. [vectors]

Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", section 3.2; byte for byte as
fastText's program (`dictionary.cc`), so that vectors can be exchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_WORDS = 1000
"""Words whose pieces are found at a time."""
END_OF_SENTENCE = "</s>"
"""fastText's word for it, which has no pieces."""


def hashed_pieces(
    words: Sequence[str], shortest: int, longest: int, buckets: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each word's buckets begin (words + 1,), and all buckets.

    A word's pieces are the n-grams of it between < and >, of `shortest` to `longest` characters; the marks alone
    are none. A bucket is the 32-bit FNV-1a hash of a piece, its bytes taken as signed, modulo `buckets`. All
    n-grams that begin anywhere grow together, a character at a time, and their hashes with them.

    >>> begins, found = hashed_pieces(["ox", "你好"], 3, 6, 1000)  # <ox <ox> ox>, <你好 <你好> 你好>
    >>> begins.tolist(), found.tolist()
    ([0, 3, 6], [484, 934, 652, 985, 781, 495])
    """
    marked = [
        b"" if word == END_OF_SENTENCE else f"<{word}>".encode("utf-8", "surrogatepass") for word in words
    ]
    data = np.frombuffer(b"".join(marked), np.uint8)
    signed = data.view(np.int8).astype(np.int32).view(np.uint32)
    begin = np.flatnonzero((data & 0xC0) != 0x80)  # of each character (C,)
    end = np.append(begin[1:], len(data))
    last = np.cumsum(np.array([len(text) for text in marked], np.int64))
    word = np.searchsorted(last, begin, side="right")
    left = np.searchsorted(begin, last)[word] - np.arange(len(begin))  # characters to the word's end
    longest = min(longest, int(left.max(initial=0)))
    value = np.full(len(begin), 2166136261, np.uint32)
    held = np.zeros((len(begin), max(0, longest - shortest + 1)), np.int64)
    there = np.zeros(held.shape, bool)
    for length in range(1, longest + 1):
        grows = np.flatnonzero(left >= length)
        added = grows + length - 1
        for byte in range(4):
            on = begin[added] + byte < end[added]
            value[grows[on]] ^= signed[begin[added[on]] + byte]
            value[grows[on]] *= np.uint32(16777619)
        if length >= shortest:
            held[:, length - shortest] = value % np.uint32(buckets)
            there[grows, length - shortest] = True
        if length == 1 == shortest:  # the marks < and > alone
            there[:, 0] = (left > 1) & (np.diff(word, prepend=-1) == 0)
    begins = np.concatenate([[0], np.cumsum(np.bincount(word, there.sum(1), len(words)))]).astype(np.int64)
    return begins, held[there]


def sums_of_rows(
    matrix: NDArray[np.float32], begins: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the sum of each group of rows (groups, width), zero for a group without any."""
    sums = np.zeros((len(begins) - 1, matrix.shape[1]))
    full = np.flatnonzero(np.diff(begins))
    if len(full):
        sums[full] = np.add.reduceat(matrix[rows], begins[full], dtype=np.float64)
    return sums


@dataclass(frozen=True)
class Pieces:
    """The rows whose mean stands for each word: its own, then those of its pieces.

    Only buckets that some word of the vocabulary has get a row, in the order in which they come: frequent
    words' pieces lie together.
    """

    begins: NDArray[np.int64]
    """(words + 1,)."""
    rows: NDArray[np.int32]
    """A word's own row is its number; buckets follow behind all words."""
    buckets: NDArray[np.int64]
    """(rows behind the words,): the bucket of each."""


def number_pieces(words: Iterable[str], shortest: int, longest: int, buckets: int) -> Pieces:
    """Return the rows that each word is made of."""
    words = list(words)
    parts = [
        hashed_pieces(words[begin : begin + BLOCK_WORDS], shortest, longest, buckets)
        for begin in range(0, max(1, len(words)), BLOCK_WORDS)
    ]
    found = np.concatenate([each for _, each in parts])
    counts = np.concatenate([np.diff(begins) for begins, _ in parts])
    distinct, first, place = np.unique(found, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = len(words) + np.arange(len(order))
    begins = np.concatenate([[0], np.cumsum(counts + 1)])
    own = np.zeros(begins[-1], bool)
    own[begins[:-1]] = True
    rows = np.empty(len(own), np.int32)
    rows[own], rows[~own] = np.arange(len(words)), number[place]
    return Pieces(begins, rows, distinct[order])
