"""SentencePiece's model files: pieces, scores and the treatment of text. [tokens]

They are protocol buffers (sentencepiece_model.proto), of which the few fields that matter are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from langmill.core.errors import CheckpointError

UNIGRAM, BPE = 1, 2
"""Kinds of model."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of piece."""


@dataclass(frozen=True)
class PieceModel:
    """What a SentencePiece model says (Kudo and Richardson 2018, arXiv:1808.06226)."""

    pieces: list[tuple[str, float, int]]
    """(piece, score, kind of piece) by id."""
    kind: int
    unknown: str
    """The piece that stands for what cannot be spelt."""
    byte_fallback: bool
    characters: bytes
    """How characters are normalised, as a compiled table; empty: they stay."""
    prefix: bool
    """A space is put in front of a text."""

    def merges(self) -> list[tuple[str, str]]:
        """Return the merges of a BPE: every two pieces that make a third one, by its id."""
        ids = {piece: number for number, (piece, _, _) in enumerate(self.pieces)}
        return [
            (piece[:cut], piece[cut:])
            for piece, _, kind in self.pieces
            if kind in (NORMAL, USER_DEFINED)
            for cut in range(1, len(piece))
            if piece[:cut] in ids and piece[cut:] in ids
        ]


def read_model(file: Path, kind: int | None = None) -> PieceModel:
    """Read a model file, or raise a CheckpointError; kind: the only one that will do."""
    try:
        model = parse(file.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, IndexError, TypeError, struct.error) as error:
        raise CheckpointError(f"{file}: not a SentencePiece model, or cut short ({error})") from error
    if model.kind not in ((UNIGRAM, BPE) if kind is None else (kind,)):
        wanted = "Unigram or BPE" if kind is None else "Unigram"
        raise CheckpointError(f"{file}: a SentencePiece model of kind {model.kind}, not {wanted}")
    return model


def parse(data: bytes) -> PieceModel:
    """Read the bytes of a model file; what they leave out has the format's defaults."""
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in fields_of(data):
        if number == 1:
            piece = dict(fields_of(bytes_of(value)))
            (score,) = struct.unpack("<f", bytes_of(piece.get(2, bytes(4))))
            # Nine digits tell every float32 apart; with more, tokenizer.json would not read back what it wrote.
            score = float(f"{score:.9g}")
            pieces.append((bytes_of(piece[1]).decode(), score, int_of(piece.get(3, NORMAL))))
        elif number == 2:
            trainer = dict(fields_of(bytes_of(value)))
        elif number == 3:
            normalizer = dict(fields_of(bytes_of(value)))
    unknown = [piece for piece, _, kind in pieces if kind == UNKNOWN]
    if not unknown:
        raise ValueError("it has no unknown piece")
    return PieceModel(
        pieces,
        int_of(trainer.get(3, UNIGRAM)),
        unknown[0],
        bool(trainer.get(35, 0)),
        bytes_of(normalizer.get(2, b"")),
        bool(normalizer.get(3, 1)),
    )


def bytes_of(value: int | bytes) -> bytes:
    """Return a field that must be a string or a message."""
    if isinstance(value, int):
        raise ValueError("a number where text is expected")
    return value


def int_of(value: int | bytes) -> int:
    """Return a field that must be a number."""
    if isinstance(value, bytes):
        raise ValueError("text where a number is expected")
    return value


def fields_of(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    r"""Yield (number, value) of each field of a protocol buffer.

    >>> list(fields_of(b"\x08\x96\x01\x12\x02hi"))
    [(1, 150), (2, b'hi')]
    """
    place = 0
    while place < len(data):
        key, place = varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = varint(data, place)
            yield number, value
            continue
        if wire == 2:
            size, place = varint(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"no field of type {wire} exists")
        if place + size > len(data):
            raise ValueError("a field ends behind the end")
        yield number, data[place : place + size]
        place += size


def varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at `place`, seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
