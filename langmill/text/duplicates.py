"""Exact and near-duplicates: sketches of texts, and the clusters that their likeness makes. [text]

Legend: `N` texts, `S` shingles of all of them, `K` hash functions, `P` bands, `R` rows a band.

Two texts are exact duplicates when they differ in case, white space and Unicode compatibility forms at most. They
are near-duplicates when their sets of shingles have a Jaccard similarity of at least the threshold. A shingle is five
tokens in a row; a token is a word, or one character of a script without spaces (Chinese, kana, Thai …): five Chinese
characters are about three words, and a text of both kinds needs no decision. Punctuation is not looked at.

MinHash (Broder 1997) sketches a text as the least values of K hash functions over its shingles; the share of equal
components estimates the similarity with a standard error of at most 0.5/sqrt(K) = 0.044. Banding (Leskovec, Rajaraman
and Ullman, Mining of Massive Datasets, 3.4) finds the pairs worth comparing, the estimate confirms them, and connected
pairs are one cluster, of which the first text stays.

In memory a text costs 16 bytes of digest and about 60 more while clusters are made; its signature, 4 K = 512
bytes, stays on disk.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint32]

SHINGLE_TOKENS = 5
HASHES = 128
"""K, the components of a signature."""
EMPTY = np.uint32(0xFFFFFFFF)
"""The first component of a text without a token, which is like no other."""
CANDIDATE_RECALL = 0.98
"""How likely a pair exactly at the threshold is to share a band, at least."""

_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF),
             (0x4E00, 0x9FFF), (0xF900, 0xFAFF))  # fmt: skip
_OTHER, _WORD, _ALONE = 0, 1, 2
_POSITIONS = 64
_BLOCK = 1 << 16
_WORTH_COMPILING = 1 << 15
"""Shingles at once; with fewer numpy is done before numba is imported."""


def normal(text: str) -> str:
    """Return a text as it is compared.

    >>> normal("Ｆull  width\\n")
    'full width'
    """
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def digests(normals: Sequence[str]) -> Words:
    """Return (N, 2) digests of 16 bytes; equal ones of different texts are not to be expected."""
    data = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in normals)
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Return what each code point is; the last entry stands for all that follow, which are Chinese."""
    table = np.zeros(0x20001, np.uint8)
    table[:0x20000] = [_WORD if chr(code).isalnum() else _OTHER for code in range(0x20000)]
    for first, last in _UNSPACED:
        table[first : last + 1][table[first : last + 1] == _WORD] = _ALONE
    table[0x20000] = _ALONE
    return table


@functools.cache
def _odd_numbers(count: int, seed: int) -> Words:
    return np.random.default_rng(seed).integers(0, 1 << 63, count, dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)


def _mixed(values: Words) -> Words:
    """Spread every bit over all others (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Tokens(NamedTuple):
    """The tokens of several texts one after another."""

    hashes: Words
    text: npt.NDArray[np.int64]
    """Which text each belongs to."""
    begin: npt.NDArray[np.int64]
    """Where it begins in its text, in characters."""


def tokens(normals: Sequence[str]) -> Tokens:
    """Return hashes of the words, and of the characters of scripts without spaces."""
    codes = np.frombuffer("\0".join(normals).encode("utf-32-le"), np.uint32)
    kinds = _kinds()[np.minimum(codes, 0x20000)]
    before = np.concatenate([np.zeros(1, np.uint8), kinds[:-1]])
    starts = (kinds == _ALONE) | ((kinds == _WORD) & (before != _WORD))
    within = np.flatnonzero(kinds)  # characters that belong to a token
    first = np.flatnonzero(starts[within])  # where in `within` tokens begin
    if not len(first):
        return Tokens(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    lengths = np.diff(np.append(first, len(within)))
    position = np.arange(len(within)) - np.repeat(first, lengths)
    weights = _odd_numbers(_POSITIONS, 1)[position % _POSITIONS] + position.astype(np.uint64)
    hashes = np.add.reduceat(_mixed(codes[within].astype(np.uint64)) * weights, first)
    offsets = np.cumsum([0] + [len(text) + 1 for text in normals])
    text = np.searchsorted(offsets, within[first], side="right") - 1
    return Tokens(_mixed(hashes), text, within[first] - offsets[text])


def shingles(found: Tokens, size: int) -> tuple[Words, npt.NDArray[np.int64]]:
    """Return hashes (S,) of every `size` tokens in a row, and which token each begins with.

    A text of fewer tokens has one shingle, of all of them.
    """
    count, factors = len(found.hashes), _odd_numbers(size, 2)
    sums, length = np.zeros(count, np.uint64), np.zeros(count, np.int64)
    for step in range(min(size, count)):
        ahead = found.text[step:] == found.text[: count - step]
        sums[: count - step] += np.where(ahead, found.hashes[step:] * factors[step], np.uint64(0))
        length[: count - step] += ahead
    opens = np.diff(found.text, prepend=-1) != 0
    chosen = np.flatnonzero((length == size) | opens)
    return _mixed(sums[chosen]), chosen


def signatures(normals: Sequence[str]) -> Signatures:
    """Return MinHash signatures (N, K); a text without a token has `EMPTY` everywhere.

    The hash functions are multiply-shift, strongly universal from 32 to 32 bits (Dietzfelbinger 1996).
    """
    out = np.full((len(normals), HASHES), EMPTY, np.uint32)
    found = tokens(normals)
    hashes, begins = shingles(found, SHINGLE_TOKENS)
    factors, terms = _odd_numbers(HASHES, 3), _odd_numbers(HASHES, 4)
    least = _compiled() if len(hashes) > _WORTH_COMPILING else least_numpy
    least(hashes & np.uint64(0xFFFFFFFF), found.text[begins], factors, terms, out)
    return out


@functools.cache
def _compiled() -> Callable[..., None]:
    """Return the loop over shingles as machine code where numba is installed: twenty times as fast."""
    if importlib.util.find_spec("numba") is None:
        return least_numpy
    from numba import njit

    def least(
        hashes: Words, text: npt.NDArray[np.int64], factors: Words, terms: Words, out: Signatures
    ) -> None:
        for shingle in range(len(hashes)):
            row = out[text[shingle]]
            for k in range(len(factors)):
                value = np.uint32((hashes[shingle] * factors[k] + terms[k]) >> np.uint64(32))
                if value < row[k]:
                    row[k] = value

    return njit(least)


def least_numpy(
    hashes: Words, text: npt.NDArray[np.int64], factors: Words, terms: Words, out: Signatures
) -> None:
    """Lower `out` (N, K) to the least hash of each text's shingles (S,)."""
    for begin in range(0, len(hashes), 256):
        values = (hashes[begin : begin + 256, None] * factors + terms) >> np.uint64(32)
        owner = text[begin : begin + 256]
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        least = np.minimum.reduceat(values, first, axis=0).astype(np.uint32)
        out[owner[first]] = np.minimum(out[owner[first]], least)


def bands_for(threshold: float) -> tuple[int, int]:
    """Return bands and rows (P, R): the longest bands that still find a pair at the threshold.

    A pair of similarity s shares a band with probability 1 - (1 - s^R)^P (Leskovec et al., 3.4.2).

    >>> bands_for(0.8), bands_for(0.5)
    ((18, 7), (42, 3))
    """
    for rows in range(HASHES, 1, -1):
        bands = HASHES // rows
        if 1 - (1 - threshold**rows) ** bands >= CANDIDATE_RECALL:
            return bands, rows
    return HASHES, 1


def first_of_equal(keys: Words) -> npt.NDArray[np.int64]:
    """Return for each row of `keys` (N, 2) the first row that equals it."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    labels = np.empty(len(keys), np.int64)
    # lexsort is stable: the first row of a run is the first text.
    labels[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(keys) else order
    return labels


def first_of_alike(
    sketches: Signatures, chosen: npt.NDArray[np.int64], *, threshold: float
) -> npt.NDArray[np.int64]:
    """Return for each of the `chosen` rows of `sketches` (N, K) the first in its cluster of near-duplicates.

    sketches: may be mapped from disk; `_BLOCK` rows are held at a time. Both what comes and what goes are row numbers.
    """
    labels = np.arange(len(chosen))
    bands, rows = bands_for(threshold)
    for band in range(bands):
        keys = band_keys(sketches, chosen, band * rows, rows)
        order = np.argsort(keys, kind="stable")
        new = np.ones(len(keys), bool)
        new[1:] = keys[order][1:] != keys[order][:-1]
        run = order[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(keys) else order
        later = np.flatnonzero(~new)
        # A text is compared with the first that shares its band and with the one before it.
        pairs = np.concatenate(
            [np.stack([run, order])[:, later], np.stack([order[later - 1], order[later]])], axis=1
        )
        pairs = pairs[:, labels[pairs[0]] != labels[pairs[1]]]
        alike = [
            _alike(sketches[chosen[left]], sketches[chosen[right]], threshold)
            for left, right in _blocks(pairs)
        ]
        labels = connect(labels, pairs[:, np.concatenate(alike)] if alike else pairs)
    return chosen[labels]


def _blocks(pairs: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    return [pairs[:, begin : begin + _BLOCK] for begin in range(0, pairs.shape[1], _BLOCK)]


def band_keys(sketches: Signatures, chosen: npt.NDArray[np.int64], column: int, rows: int) -> Words:
    """Return one number for what each text has in a band."""
    keys = np.empty(len(chosen), np.uint64)
    for begin in range(0, len(chosen), _BLOCK):
        band = sketches[chosen[begin : begin + _BLOCK], column : column + rows].astype(np.uint64)
        keys[begin : begin + _BLOCK] = _mixed(
            (_mixed(band) * _odd_numbers(rows, 5)).sum(axis=1, dtype=np.uint64)
        )
    return keys


def _alike(left: Signatures, right: Signatures, threshold: float) -> npt.NDArray[np.bool_]:
    return (similarity(left, right) >= threshold) & (left[:, 0] != EMPTY)


def similarity(left: Signatures, right: Signatures) -> npt.NDArray[np.float64]:
    """Return the estimated Jaccard similarity of rows, from 0 to 1."""
    return (left == right).mean(axis=1)


def connect(labels: npt.NDArray[np.int64], pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Join the clusters of each pair (2, ·); a cluster's label is its first member, before and after.

    >>> connect(np.arange(5), np.array([[1, 4], [3, 3]])).tolist()
    [0, 1, 2, 1, 1]
    """
    labels = labels.copy()
    while True:
        left, right = labels[pairs[0]], labels[pairs[1]]
        apart = left != right
        if not apart.any():
            return labels
        least = np.minimum(left, right)[apart]
        np.minimum.at(labels, np.maximum(left, right)[apart], least)
        while True:  # follow each label to the first of its cluster
            further = labels[labels]
            if (further == labels).all():
                break
            labels = further


class Sketches:
    """Sketches of texts as they come, for clusters at the end; signatures lie in a temporary file."""

    def __init__(self, *, near: bool, threshold: float) -> None:
        self._near, self._threshold = near, threshold
        self._digests: list[bytes] = []
        self._file = tempfile.TemporaryFile()

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, texts: Sequence[str]) -> None:
        """Sketch some more texts."""
        normals = [normal(text) for text in texts]
        self._digests += [row.tobytes() for row in digests(normals)]
        if self._near:
            self._file.write(signatures(normals).tobytes())

    def first(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return for each text the first that equals it, and the first that is like it (without `near`: equals it)."""
        exact = first_of_equal(np.frombuffer(b"".join(self._digests), np.uint64).reshape(-1, 2))
        if not self._near or not len(exact):
            return exact, exact
        self._file.flush()
        sketches = np.memmap(self._file, np.uint32, "r").reshape(-1, HASHES)
        near, rows = exact.copy(), np.flatnonzero(exact == np.arange(len(exact)))
        near[rows] = first_of_alike(sketches, rows, threshold=self._threshold)
        return exact, near[exact]
