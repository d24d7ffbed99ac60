"""Word vectors as named arrays: `.npz` and `.safetensors`, which keep everything. [vectors]

words, offsets    all words as UTF-8, one after another, and where each begins (words + 1,)
matrix            (words, width) float32
counts            (words,) int64, where known
subwords, lengths (buckets, width) float32, and the shortest and longest piece, where there are any
facts             JSON of how they were made; in safetensors as its metadata
"""

from __future__ import annotations

import json
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import DataError
from langmill.vectors.table import Subwords, WordVectors

Arrays = dict[str, NDArray[Any]]


def write_npz(path: Path, vectors: WordVectors) -> None:
    """Write arrays of numpy, not compressed."""
    arrays: dict[str, Any] = arrays_of(vectors)
    arrays["facts"] = np.frombuffer(json.dumps(vectors.facts, ensure_ascii=False).encode(), np.uint8)
    with open(path, "wb") as stream:
        np.savez(stream, **arrays)


def write_safetensors(path: Path, vectors: WordVectors) -> None:
    """Write a file of safetensors."""
    from safetensors.numpy import save_file

    save_file(arrays_of(vectors), path, metadata=vectors.facts or None)


def read_npz(path: Path) -> WordVectors:
    """Read what `write_npz` wrote; nothing in it is ever run."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: holds one array, expected an archive of several")
            arrays = dict(file)
        facts = json.loads(arrays.pop("facts", np.empty(0, np.uint8)).tobytes() or b"{}")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read ({error}); it is damaged, or of another kind") from error
    return vectors_of(path, arrays, facts)


def read_safetensors(path: Path) -> WordVectors:
    """Read what `write_safetensors` wrote."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            facts = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it is damaged, or of another kind") from error
    return vectors_of(path, arrays, facts)


def arrays_of(vectors: WordVectors) -> Arrays:
    """Return the arrays of word vectors."""
    words = [word.encode() for word in vectors.words]
    arrays: Arrays = {
        "words": np.frombuffer(b"".join(words), np.uint8),
        "offsets": np.cumsum([0, *map(len, words)], dtype=np.int64),
        "matrix": np.ascontiguousarray(vectors.matrix, np.float32),
    }
    if vectors.counts is not None:
        arrays["counts"] = vectors.counts.astype(np.int64)
    if vectors.subwords is not None:
        arrays["subwords"] = np.ascontiguousarray(vectors.subwords.matrix, np.float32)
        arrays["lengths"] = np.array([vectors.subwords.shortest, vectors.subwords.longest], np.int64)
    return arrays


def vectors_of(path: Path, arrays: Arrays, facts: Any) -> WordVectors:
    """Return the word vectors that arrays hold, or raise DataError with what does not fit."""
    if missing := [name for name in ("words", "offsets", "matrix") if name not in arrays]:
        raise DataError(
            f"{path}: {', '.join(missing)} missing; expected word vectors as langmill writes them"
        )
    matrix, offsets, counts = arrays["matrix"], arrays["offsets"], arrays.get("counts")
    rows = len(offsets) - 1 if offsets.ndim == 1 and offsets.dtype == np.int64 else -1
    data = arrays["words"].tobytes()
    sound = (
        arrays["words"].dtype == np.uint8
        and rows >= 0
        and (offsets[0], offsets[-1]) == (0, len(data))
        and bool((np.diff(offsets) >= 0).all())
    )
    faults = {
        "words and offsets": not sound,
        "matrix": matrix.ndim != 2 or matrix.dtype != np.float32 or len(matrix) != rows,
        "counts": counts is not None and (counts.shape != (rows,) or counts.dtype != np.int64),
        "subwords": ("subwords" in arrays) != ("lengths" in arrays),
        "facts": not isinstance(facts, dict) or not all(isinstance(fact, str) for fact in facts.values()),
    }
    subwords = None
    if not any(faults.values()) and "subwords" in arrays:
        pieces, lengths = arrays["subwords"], arrays["lengths"]
        faults["subwords"] = (
            pieces.ndim != 2
            or pieces.dtype != np.float32
            or not len(pieces)
            or pieces.shape[1] != matrix.shape[1]
            or lengths.shape != (2,)
            or not 1 <= lengths[0] <= lengths[1]
        )
        if not faults["subwords"]:
            subwords = Subwords(pieces, int(lengths[0]), int(lengths[1]))
    if wrong := [name for name, fault in faults.items() if fault]:
        raise DataError(f"{path}: {', '.join(wrong)} not as langmill writes them; the file is damaged")
    for name in ("matrix", "subwords"):
        if name in arrays and not all(
            np.isfinite(arrays[name][row : row + 1000]).all() for row in range(0, len(arrays[name]), 1000)
        ):
            raise DataError(f"{path}: {name} holds a number that is not finite; the file is damaged")
    try:
        words = [data[begin:end].decode() for begin, end in pairwise(offsets.tolist())]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a word is not UTF-8; the file is damaged") from error
    return WordVectors(words, matrix, counts, subwords, facts)
