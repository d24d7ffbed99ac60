"""What cleaning leaves between its two passes: rows judged one by one, and sketches of those that remain. [text]

A shard is a folder: `rows` holds a line for every row in the order of their numbers, `number TAB K|R TAB characters TAB
source TAB JSON` (kept or rejected; the JSON as it will be written), the other files hold arrays over the kept rows, and
`counts.json` the counts.
"""

from __future__ import annotations

import contextlib
import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from langmill.core.files import write_json
from langmill.text.duplicates import HASHES
from langmill.text.rows import Row, as_json, as_reject
from langmill.text.steps import Outcome

ARRAYS: dict[str, tuple[Any, int]] = {
    "numbers": (np.int64, 1),
    "digests": (np.uint64, 2),
    "signatures": (np.uint32, HASHES),
    "paragraphs": (np.int64, 1),
    "paragraph_digests": (np.uint64, 2),
    "paragraph_signatures": (np.uint32, HASHES),
}
"""Name → type and columns. `paragraphs` counts those of each row; the last two have a row for each of them."""


@dataclass
class Counts:
    """What happened to the rows of a shard, or of all."""

    read: int = 0
    characters_in: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    """Those of the rejected rows that could not be read."""
    changes: Counter[str] = field(default_factory=Counter)
    """In how many kept rows something was changed, by name."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.read + other.read,
            self.characters_in + other.characters_in,
            self.rejected + other.rejected,
            self.unread + other.unread,
            self.changes + other.changes,
        )


class Record(NamedTuple):
    """A line of `rows`."""

    number: int
    kept: bool
    characters: int
    source: str
    line: bytes


class ShardWriter:
    """Fills a shard, row by row and batch by batch."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.counts = folder, Counts()
        self._stack = contextlib.ExitStack()
        self._rows = self._open("rows")
        self._arrays = {name: self._open(name) for name in ARRAYS}

    def _open(self, name: str) -> IO[bytes]:
        return self._stack.enter_context(open(self._folder / name, "wb"))

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        if error[0] is None:
            write_json(self._folder / "counts.json", vars(self.counts))

    def add(self, number: int, row: Row, outcome: Outcome) -> None:
        """Write what became of a row; of one that was not read whole, each part in turn."""
        self.counts.read += row.part == 0
        self.counts.characters_in += len(row.text)
        kept = not outcome.reason
        if kept:
            line = as_json(Row(outcome.text, row.source, row.fields))
            self.counts.changes.update(outcome.counts.keys())
        else:
            self.counts.rejected[outcome.reason] += row.part == 0
            self.counts.unread[outcome.reason] += row.part == 0 and bool(row.reason)
            line = as_reject(row, outcome.reason)
        head = f"{number}\t{'K' if kept else 'R'}\t{len(outcome.text)}\t{json.dumps(row.source)}\t"
        self._rows.write(head.encode() + line)

    def sketch(self, numbers: Sequence[int], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Append the arrays of the kept rows of a batch."""
        for name, values in {"numbers": np.asarray(numbers), **arrays}.items():
            self._arrays[name].write(values.astype(ARRAYS[name][0], copy=False).tobytes())


def read_counts(folders: Sequence[Path]) -> Counts:
    """Return the counts of all shards together."""
    total = Counts()
    for folder in folders:
        tree = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        total += Counts(
            tree["read"],
            tree["characters_in"],
            *(Counter(tree[name]) for name in ("rejected", "unread", "changes")),
        )
    return total


def read_records(folders: Sequence[Path]) -> Iterator[Record]:
    """Yield the rows of all shards in the order of their numbers."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open(folder / "rows", "rb")) for folder in folders]
        yield from heapq.merge(*(map(_record, stream) for stream in streams))


def _record(line: bytes) -> Record:
    number, state, characters, source, rest = line.split(b"\t", 4)
    return Record(int(number), state == b"K", int(characters), json.loads(source), rest)


def merge_arrays(folders: Sequence[Path], into: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of all shards, mapped from disk, in the order of the rows' numbers.

    into: a folder for the merged files, where there are several shards.
    """
    if len(folders) == 1:
        return {name: _mapped(folders[0] / name, name) for name in ARRAYS}
    numbers = [_mapped(folder / "numbers", "numbers") for folder in folders]
    counts = [_mapped(folder / "paragraphs", "paragraphs") for folder in folders]
    place = _places(np.concatenate(numbers), [len(part) for part in numbers])
    total = np.zeros(sum(map(len, numbers)), np.int64)
    for where, part in zip(place, counts):
        total[where[: len(part)]] = part
    offsets = np.cumsum(total) - total
    within = [
        np.repeat(offsets[where[: len(part)]], part) + _count_up(part) for where, part in zip(place, counts)
    ]
    merged = {}
    for name, (kind, columns) in ARRAYS.items():
        parts = [_mapped(folder / name, name) for folder in folders]
        length = sum(map(len, parts))
        if not length:
            merged[name] = parts[0]
            continue
        shape = (length, columns) if columns > 1 else (length,)
        merged[name] = np.memmap(into / name, kind, "w+", shape=shape)
        for where, part in zip(within if name.startswith("paragraph_") else place, parts):
            for begin in range(0, len(part), 1 << 16):
                merged[name][where[begin : begin + (1 << 16)]] = part[begin : begin + (1 << 16)]
    return merged


def _places(numbers: npt.NDArray[np.int64], lengths: Sequence[int]) -> list[npt.NDArray[np.int64]]:
    """Return the rank of every number, shard by shard."""
    rank = np.empty(len(numbers), np.int64)
    rank[np.argsort(numbers)] = np.arange(len(numbers))
    return np.split(rank, np.cumsum(lengths)[:-1])


def _count_up(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return 0, 1, … for each length in turn.

    >>> _count_up(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _mapped(path: Path, name: str) -> npt.NDArray[Any]:
    kind, columns = ARRAYS[name]
    if path.stat().st_size == 0:  # which cannot be mapped
        return np.zeros((0, columns) if columns > 1 else 0, kind)
    flat = np.memmap(path, kind, "r")
    return flat.reshape(-1, columns) if columns > 1 else flat
