"""How often words occur near one another, counted on disk when it outgrows memory. [vectors]

A pair counts 1/distance (Pennington et al. 2014, section 4.2), to both sides of a word and within its sentence.
Each thread counts into a table; a full table is sorted and written down as a run, and all runs are merged. The
counts are sums of whole numbers, so that the result is the same to the bit however the work was cut.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import MissingDependencyError
from langmill.vectors.corpus import EncodedCorpus

PAIR = np.dtype([("low", np.int32), ("high", np.int32), ("count", np.float32)])
"""Two words, the more frequent first, and how often they occur together."""
SLOT_BYTES = 16
FULL = 0.7
"""A table grows, or is written down, when so much of it is filled."""
FIRST_SLOTS = 1 << 14
"""Of a new table: a power of two, and many times the widest window."""
MERGE_PAIRS = 1 << 20
"""About so many pairs are merged, or placed, at a time."""
BLOCK_PAIRS = 1 << 20
"""Pairs of a block; see `in_blocks`."""

Run = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Keys in rising order, and their counts."""


@dataclass(frozen=True)
class Cooccurrences:
    """All pairs that occur, in blocks: each is a random choice of the pairs, itself in order."""

    pairs: NDArray[Any]
    """(pairs,) of PAIR, in memory or memory-mapped."""
    ends: NDArray[np.int64]
    """(blocks,): where each block ends."""
    on_disk: bool

    @cached_property
    def cells(self) -> int:
        """How many cells of the symmetric matrix of words and contexts are not zero."""
        parts = (self.pairs[begin : begin + MERGE_PAIRS] for begin in range(0, len(self.pairs), MERGE_PAIRS))
        return 2 * len(self.pairs) - sum(int((part["low"] == part["high"]).sum()) for part in parts)


def count_cooccurrences(
    corpus: EncodedCorpus,
    folder: Path,
    *,
    window: int,
    memory_bytes: int = 2_000_000_000,
    threads: int = 1,
    seed: int = 1,
) -> Cooccurrences:
    """Count the pairs of a corpus; what does not fit into `memory_bytes` lies in `folder`."""
    if importlib.util.find_spec("numba") is None:
        raise MissingDependencyError("GloVe needs numba, to compile; pip install 'langmill[fast]'")
    words = len(corpus.vocabulary.words)
    # A third for the tables: what is sorted needs its place beside them.
    slots = 1 << max(FIRST_SLOTS, memory_bytes // (3 * SLOT_BYTES * threads)).bit_length() - 1
    cuts = np.linspace(0, len(corpus.ends), threads + 1).astype(np.int64)

    def work(thread: int) -> list[Run]:
        begin, end = int(cuts[thread]), int(cuts[thread + 1])
        return spilled(runs_of(corpus, begin, end, window=window, slots=slots), folder / f"runs-{thread}")

    with ThreadPoolExecutor(threads) as pool:
        runs = [run for found in pool.map(work, range(threads)) for run in found]
    on_disk = any(isinstance(keys, np.memmap) for keys, _ in runs)
    merged = merge(runs)
    pairs = gather(merged, sum(len(keys) for keys, _ in runs), words, folder / "pairs" if on_disk else None)
    return in_blocks(pairs, folder / "blocks" if on_disk else None, seed=seed)


def runs_of(
    corpus: EncodedCorpus, sentence: int, last: int, *, window: int, slots: int
) -> Iterator[tuple[Run, bool]]:
    """Yield sorted runs of the pairs of some sentences, and whether each stopped at a full table."""
    from langmill.vectors.glove_kernels import EMPTY, count_pairs, move_pairs

    words, ids, ends = len(corpus.vocabulary.words), np.asarray(corpus.ids), np.asarray(corpus.ends)
    keys = np.full(FIRST_SLOTS, EMPTY, np.int64)
    counts = np.zeros(len(keys), np.int64)
    place, filled = int(ends[sentence - 1]) if sentence else 0, 0
    while True:
        # The last word may add a pair for every neighbour.
        limit = int(FULL * len(keys)) - window
        sentence, place, filled = count_pairs(
            ids, ends, sentence, place, last, window, words, keys, counts, filled, limit
        )
        full = filled >= limit
        if full and len(keys) < slots:
            small = keys, counts
            keys, counts = np.full(2 * len(keys), EMPTY, np.int64), np.zeros(2 * len(keys), np.int64)
            move_pairs(*small, keys, counts)
            continue
        used = np.flatnonzero(keys != EMPTY)
        used = used[np.argsort(keys[used])]
        yield (keys[used], counts[used]), full
        if not full:
            return
        keys[:], counts[:], filled = EMPTY, 0, 0


def spilled(runs: Iterator[tuple[Run, bool]], path: Path) -> list[Run]:
    """Return the runs: those of full tables from disk, so that memory is free for the next."""
    lengths: list[int] = []
    rest: list[Run] = []
    with open(f"{path}-keys", "wb") as keys_file, open(f"{path}-counts", "wb") as counts_file:
        for run, full in runs:
            if full:
                run[0].tofile(keys_file)
                run[1].tofile(counts_file)
                lengths.append(len(run[0]))
            else:
                rest.append(run)
    if not lengths:
        return rest
    cuts = np.cumsum(lengths)[:-1]
    keys, counts = (np.split(np.memmap(f"{path}-{name}", np.int64, "r"), cuts) for name in ("keys", "counts"))
    return [*zip(keys, counts, strict=True), *rest]


def merge(runs: list[Run]) -> Iterator[Run]:
    """Yield all pairs in rising order, each once, in parts: ranges of keys, whose pairs of all runs are sorted."""
    stride = max(1, MERGE_PAIRS // (2 * max(1, len(runs))))
    marks = np.unique(np.concatenate([keys[::stride] for keys, _ in runs]))
    bounds = [*marks[:: max(1, len(runs))][1:], np.iinfo(np.int64).max]
    begins = [0] * len(runs)
    for bound in bounds:
        ends = [int(np.searchsorted(keys, bound)) for keys, _ in runs]
        spans = [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]
        keys = np.concatenate([run[0][span] for run, span in zip(runs, spans, strict=True)])
        counts = np.concatenate([run[1][span] for run, span in zip(runs, spans, strict=True)])
        begins = ends
        if len(keys):
            order = np.argsort(keys, kind="stable")
            keys, counts = keys[order], counts[order]
            first = np.flatnonzero(np.diff(keys, prepend=-1))
            yield keys[first], np.add.reduceat(counts, first)


def gather(merged: Iterator[Run], most: int, words: int, path: Path | None) -> NDArray[Any]:
    """Return the pairs as one array of PAIR, on disk where a path is given; most: they cannot be more."""
    from langmill.vectors.glove_kernels import ONE

    if not most:
        return np.empty(0, PAIR)
    pairs = np.empty(most, PAIR) if path is None else np.memmap(path, PAIR, "w+", shape=(most,))
    count = 0
    for keys, counts in merged:
        part = pairs[count : count + len(keys)]
        part["low"], part["high"] = np.divmod(keys, words)
        part["count"] = counts / ONE
        count += len(keys)
    return pairs[:count]


def in_blocks(pairs: NDArray[Any], path: Path | None, *, seed: int) -> Cooccurrences:
    """Give every pair to a random block.

    Training takes blocks, and the pairs of a block, in random order each epoch: as good as shuffling all of
    them, with one block in memory.
    """
    blocks = -(-len(pairs) // BLOCK_PAIRS)
    if blocks < 2:
        return Cooccurrences(pairs, np.full(blocks, len(pairs)), path is not None)

    def parts() -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        random = np.random.default_rng([seed, 1])
        for begin in range(0, len(pairs), MERGE_PAIRS):
            part = pairs[begin : begin + MERGE_PAIRS]
            yield part, random.integers(blocks, size=len(part))

    sizes = sum((np.bincount(chosen, minlength=blocks) for _, chosen in parts()), np.zeros(blocks, np.int64))
    ends = np.cumsum(sizes)
    placed = np.empty(len(pairs), PAIR) if path is None else np.memmap(path, PAIR, "w+", shape=pairs.shape)
    begins = ends - sizes
    for part, chosen in parts():
        order = np.argsort(chosen, kind="stable")
        counts = np.bincount(chosen, minlength=blocks)
        for block, found in enumerate(np.split(order, np.cumsum(counts)[:-1])):
            placed[begins[block] : begins[block] + len(found)] = part[found]
        begins += counts
    return Cooccurrences(placed, ends, path is not None)
