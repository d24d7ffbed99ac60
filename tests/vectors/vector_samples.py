"""Word vectors for tests: random ones, with words of both languages. [tests]"""

from __future__ import annotations

import numpy as np

from langmill.vectors.subwords import hashed_pieces, sums_of_rows
from langmill.vectors.table import Subwords, WordVectors

WORDS = [
    "the",
    "磨坊",
    "king",
    "queen",
    "man",
    "woman",
    "北京",
    "中国",
    "naïve",
    "😀",
    "猫",
    "Paris",
    "3.14",
    "𠮷野家",
]


def some_vectors(*, width: int = 5, seed: int = 0, counts: bool = True) -> WordVectors:
    """Return vectors without pieces."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(len(WORDS), width)).astype(np.float32)
    frequencies = np.arange(len(WORDS), 0, -1) * 10 if counts else None
    return WordVectors(WORDS, matrix, frequencies, facts={"method": "skipgram", "作者": "测试"})


def some_pieces(*, width: int = 5, buckets: int = 50, shortest: int = 2, longest: int = 4) -> WordVectors:
    """Return vectors with pieces: the mean of a word's own row and those of its pieces."""
    random = np.random.default_rng(1)
    table = random.normal(size=(buckets, width)).astype(np.float32)
    own = random.normal(size=(len(WORDS), width))
    begins, found = hashed_pieces(WORDS, shortest, longest, buckets)
    mean = (own + sums_of_rows(table, begins, found)) / (1 + np.diff(begins))[:, None]
    counts = np.arange(len(WORDS), 0, -1) * 10
    subwords = Subwords(table, shortest, longest)
    return WordVectors(
        WORDS, mean.astype(np.float32), counts, subwords, {"method": "fasttext", "window": "7"}
    )


def pieces_of(word: str, shortest: int, longest: int) -> list[bytes]:
    """Return the n-grams of a word between < and >, of `shortest` to `longest` characters; the marks alone are none.

    >>> [piece.decode() for piece in pieces_of("你好", 3, 6)]
    ['<你好', '<你好>', '你好>']
    """
    text = f"<{word}>"
    return [
        text[begin:end].encode("utf-8", "surrogatepass")
        for begin in range(len(text))
        for end in range(begin + shortest, min(begin + longest, len(text)) + 1)
        if not (end - begin == 1 and (begin == 0 or end == len(text)))
    ]


def piece_hash(piece: bytes) -> int:
    """Return the 32-bit FNV-1a hash with bytes taken as signed, as fastText's program has it.

    >>> piece_hash(b"abc") == 0x1A47E90B, piece_hash("你".encode())
    (True, 3745517534)
    """
    value = 2166136261
    for byte in piece:
        value = (value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619 & 0xFFFFFFFF
    return value


def buckets_of(word: str, shortest: int, longest: int, buckets: int) -> list[int]:
    """Return the buckets of a word's pieces, in order, repeats included."""
    return [piece_hash(piece) % buckets for piece in pieces_of(word, shortest, longest)]
