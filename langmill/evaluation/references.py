"""What a text costs without a neural network: `xz -9` and an n-gram model, in bits per byte. [evaluation]

A language model's bits per byte mean something beside these, on the same held-out text: a good file
compressor, which learns from that text alone, and a smoothed n-gram model, which learns from the same
training text as the neural one.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from langmill.core.errors import ConfigError, DataError
from langmill.models.ngram import NgramModel, default_order

XZ_PRESET = 9
BYTES = 256
"""Vocabulary of the n-gram reference: bytes of UTF-8, so that no character is ever unknown."""

TRAINING_BYTES = 16_000_000
"""How much of the training text the n-gram reference counts unless told otherwise."""

_PIECE_CHARACTERS = 1 << 20
_BATCH_BYTES = 1 << 22
_PRESET_DICTIONARY_BYTES = 1 << 26
_LEAST_DICTIONARY_BYTES = 1 << 16


@dataclass(frozen=True)
class Reference:
    """What one reference reaches on the held-out text."""

    name: str
    bits_per_byte: float
    note: str
    """How it was obtained, for the reader of a report."""


def references(
    train: Iterable[str],
    held_out: Sequence[str],
    *,
    order: int | None = None,
    training_bytes: int = TRAINING_BYTES,
) -> list[Reference]:
    """Return xz on each document, xz on all together, and the n-gram model, on `held_out`.

    train: the training documents, read once and no further than `training_bytes` (1 or more; the note
    says so when text is left over). order: of the n-gram model over bytes, by default 8. Empty documents
    have nothing to compress and are left out. Without training text the n-gram model is left out, and
    only then. Raises DataError when `held_out` holds no text.
    """
    return [
        xz_each(held_out),
        xz_together(held_out),
        *ngram_reference(train, held_out, order=order, training_bytes=training_bytes),
    ]


def xz_each(documents: Iterable[str]) -> Reference:
    """Compress every document by itself: what a model without other knowledge of the text must beat.

    A .xz file has about 60 bytes around its content, which weigh on short documents; they are counted,
    as `xz -9` would.
    """
    count = original = compressed = 0
    for document in documents:
        if document:
            length, size = _xz_sizes([document], characters=len(document))
            count, original, compressed = count + 1, original + length, compressed + size
    note = f"each of {count} document{_s(count)} compressed by itself, {original:,} bytes in all"
    return Reference("xz -9 per document", _bits_per_byte(compressed, original), note)


def xz_together(documents: Iterable[str]) -> Reference:
    """Compress all documents as one file, end to end, so that later ones profit from earlier ones."""
    filled = [document for document in documents if document]
    original, compressed = _xz_sizes(filled)
    note = f"{len(filled)} document{_s(len(filled))} compressed as one file, {original:,} bytes in all"
    return Reference("xz -9 all together", _bits_per_byte(compressed, original), note)


def ngram_reference(
    train: Iterable[str],
    held_out: Sequence[str],
    *,
    order: int | None = None,
    training_bytes: int = TRAINING_BYTES,
) -> list[Reference]:
    """Train an n-gram model over bytes on `train` and score `held_out`; [] without training text."""
    if training_bytes < 1:
        raise ConfigError(f"training_bytes must be at least 1, given {training_bytes}")
    order = default_order(BYTES) if order is None else order
    parts, cut = _first_bytes(train, training_bytes)
    if not parts:
        return []
    model = NgramModel.train(parts, vocabulary=BYTES, order=order)
    nats, length = 0.0, 0
    for batch in _batches(held_out):
        nats -= sum(float(logprobs.sum()) for logprobs in model.logprobs_each(batch))
        length += sum(map(len, batch))
    seen = f"{sum(map(len, parts)):,} bytes of training text"
    note = f"over bytes, modified Kneser-Ney, {f'the first {seen} (more was given)' if cut else seen}"
    if not length:
        raise DataError(_EMPTY)
    return [Reference(f"{order}-gram", nats / math.log(2) / length, note)]


_EMPTY = "nothing to compare on: the held-out text is empty; give a text that is not"


def _xz_sizes(documents: Iterable[str], *, characters: int | None = None) -> tuple[int, int]:
    """Return the bytes of UTF-8 of `documents` end to end, and of the .xz file that `xz -9` makes of them.

    characters: how many are to come, where that is known. The dictionary is then no larger than they
    need: nothing can be found further back than the text is long, so the size stays that of `xz -9`
    (equal on each of 998 files and fragments tried), and starting costs 1 ms where it cost 43.
    """
    chain: dict[str, int] = {"id": lzma.FILTER_LZMA2, "preset": XZ_PRESET}
    if characters is not None and characters < _PRESET_DICTIONARY_BYTES // 4:
        # At most 4 bytes a character; a power of two, as all presets have.
        chain["dict_size"] = max(_LEAST_DICTIONARY_BYTES, 1 << (4 * characters - 1).bit_length())
    compressor = lzma.LZMACompressor(format=lzma.FORMAT_XZ, filters=[chain])
    original = compressed = 0
    for document in documents:
        for start in range(0, len(document), _PIECE_CHARACTERS):
            piece = _encode(document[start : start + _PIECE_CHARACTERS])
            original += len(piece)
            compressed += len(compressor.compress(piece))
    return original, compressed + len(compressor.flush())


def _first_bytes(documents: Iterable[str], limit: int) -> tuple[list[np.ndarray], bool]:
    """Return the ids of the first `limit` bytes of `documents`, and whether there were more."""
    parts: list[np.ndarray] = []
    left = limit
    for document in documents:
        if document and not left:
            return parts, True
        # A character is at least one byte, so no more than `left` of them are needed, and one to know.
        ids = _ids(document[: left + 1])
        if len(ids) > left:
            return [*parts, ids[:left]], True
        if len(ids):
            parts.append(ids)
            left -= len(ids)
    return parts, False


def _batches(documents: Iterable[str]) -> Iterator[list[np.ndarray]]:
    """Yield the ids of the documents, about `_BATCH_BYTES` at a time, to bound memory."""
    batch: list[np.ndarray] = []
    size = 0
    for document in documents:
        batch.append(_ids(document))
        size += len(batch[-1])
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _ids(text: str) -> np.ndarray:
    return np.frombuffer(_encode(text), dtype=np.uint8)


def _encode(text: str) -> bytes:
    # Lone surrogates, which a reader may let through, cost their three bytes and stop nothing.
    return text.encode("utf-8", "surrogatepass")


def _bits_per_byte(compressed: int, original: int) -> float:
    if not original:
        raise DataError(_EMPTY)
    return 8 * compressed / original


def _s(count: int) -> str:
    return "" if count == 1 else "s"
