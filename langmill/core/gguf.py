"""What a GGUF file says of its model, and where in it the tensors lie. [core]

GGUF is the format of llama.cpp (its specification is `docs/gguf.md` in ggml): facts by name, then a table
of tensors, then their bytes. Only the facts and the table are read here, which takes a twentieth of the
time that the gguf package needs for a vocabulary of 49,000 tokens.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langmill.core.errors import CheckpointError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""The format's codes for kinds of number, as `struct` and numpy spell them."""
TEXT, LIST = 8, 9


@dataclass(frozen=True)
class PlacedTensor:
    """Where a tensor lies in a GGUF file."""

    shape: tuple[int, ...]
    """Rows first, as everywhere else; the file says it the other way round."""
    kind: int
    """ggml's number for how its values are coded."""
    offset: int
    """Bytes from the beginning of the file."""


@dataclass(frozen=True)
class GgufHeader:
    """All of a GGUF file but the values of its tensors."""

    path: Path
    size_bytes: int
    facts: dict[str, Any]
    """By the format's names, such as general.architecture and tokenizer.ggml.tokens."""
    tensors: dict[str, PlacedTensor]


class _Cursor:
    """Reads one thing after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        found = self.data[self.place : self.place + size]
        if len(found) < size:
            raise EOFError
        self.place += size
        return found

    def number(self, code: str) -> Any:
        """Return the next number; of a float32 the decimal that its writer meant, 1e-5 not 0.00000999…"""
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))
        return float(str(np.float32(value))) if code == "f" else value

    def text(self) -> str:
        """Return the next text."""
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """Return the next value of a kind."""
        if kind == TEXT:
            return self.text()
        if kind != LIST:
            return self.number(NUMBERS[kind])
        inner, count = self.number("I"), self.number("Q")
        if inner not in NUMBERS:
            return [self.value(inner) for _ in range(count)]
        dtype = np.dtype("<" + NUMBERS[inner])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()


def read_header(path: Path) -> GgufHeader:
    """Read a GGUF file's facts and its table of tensors.

    Raises CheckpointError for a file of another kind, of another version, or cut short.
    """
    try:
        with open(path, "rb") as stream:
            if stream.read(4) != MAGIC:
                raise CheckpointError(f"{path}: not a GGUF file, whatever its name says")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                facts, tensors = _read(_Cursor(data), path)
                return GgufHeader(path, len(data), facts, tensors)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (EOFError, KeyError, OverflowError, MemoryError, RecursionError, struct.error) as error:
        raise CheckpointError(f"{path}: damaged or cut short; copy or download it again") from error


def _read(cursor: _Cursor, path: Path) -> tuple[dict[str, Any], dict[str, PlacedTensor]]:
    cursor.take(len(MAGIC))
    version = cursor.number("I")
    if version not in VERSIONS:
        why = "big-endian" if version % 65536 == 0 else f"of version {version}"
        raise CheckpointError(f"{path}: a GGUF file {why}; convert the model anew with a present llama.cpp")
    tensor_count, fact_count = cursor.number("Q"), cursor.number("Q")
    facts = {}
    for _ in range(fact_count):
        name = cursor.text()
        facts[name] = cursor.value(cursor.number("I"))
    found = {}
    for _ in range(tensor_count):
        name = cursor.text()
        shape = tuple(cursor.number("Q") for _ in range(cursor.number("I")))[::-1]
        found[name] = (shape, cursor.number("I"), cursor.number("Q"))
    alignment = facts.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise EOFError
    begin = -(-cursor.place // alignment) * alignment
    return facts, {
        name: PlacedTensor(shape, kind, begin + offset) for name, (shape, kind, offset) in found.items()
    }
