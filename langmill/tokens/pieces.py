"""What a token stands for: its exact bytes; and a fast table for single characters. [tokens]"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend

from langmill.core.errors import DataError

BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
"""How byte fallback spells a byte: `<0x00>` to `<0xFF>`."""

WORD_START = "▁"
"""The sign that SentencePiece-style tokenizers put for a space."""


def byte_piece(value: int) -> str:
    """Return the fallback piece of a byte.

    >>> byte_piece(10)
    '<0x0A>'
    """
    return f"<0x{value:02X}>"


@functools.cache
def byte_characters() -> dict[str, int]:
    """Return the visible character with which byte-level BPE writes each byte (GPT-2's table), inverted.

    Printable Latin-1 stands for itself; the other bytes take the code points from 256 upwards.

    >>> byte_characters()["Ġ"], byte_characters()["A"]
    (32, 65)
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [value for value in range(256) if value not in set(printable)]
    table = {chr(value): value for value in printable}
    table.update({chr(256 + place): value for place, value in enumerate(hidden)})
    return table


def parts_of(component: Any) -> list[dict[str, Any]]:
    """Return the JSON of a normaliser, pre-tokeniser or decoder as a flat list of its steps ([] for None)."""
    if component is None:
        return []
    pending = [json.loads(component.__getstate__())]
    steps: list[dict[str, Any]] = []
    while pending:
        step = pending.pop(0)
        inner = next((step[key] for key in ("decoders", "pretokenizers", "normalizers") if key in step), None)
        if inner is None:
            steps.append(step)
        else:
            pending = [*inner, *pending]
    return steps


class PieceReader:
    """Turns the tokens of one backend into bytes, by the steps of its decoder."""

    def __init__(self, backend: Backend) -> None:
        steps = {step["type"]: step for step in parts_of(backend.decoder)}
        self.byte_level = "ByteLevel" in steps
        self.byte_fallback = "ByteFallback" in steps
        self.word_prefix = steps["WordPiece"]["prefix"] if "WordPiece" in steps else None
        marks_space = "Metaspace" in steps or any(
            step["type"] == "Replace" and step.get("content") == " " for step in parts_of(backend.decoder)
        )
        self.word_start = WORD_START if marks_space else None
        self.added = {number: token.content for number, token in backend.get_added_tokens_decoder().items()}

    def read(self, number: int, token: str) -> bytes:
        """Return the bytes that token `number`, spelt `token`, stands for.

        Exact for byte-level BPE, byte fallback and characters. A WordPiece continuation loses its
        prefix, a SentencePiece mark becomes a space.
        """
        if number in self.added:
            return self.added[number].encode()
        if self.byte_level:
            table = byte_characters()
            if all(character in table for character in token):
                return bytes(table[character] for character in token)
        if self.byte_fallback and (match := BYTE_PIECE.fullmatch(token)):
            return bytes([int(match[1], 16)])
        if self.word_start is not None:
            token = token.replace(self.word_start, " ")
        if self.word_prefix is not None:
            token = token.removeprefix(self.word_prefix)
        return token.encode()


class CharacterTable:
    """Encodes text for a tokenizer of single characters by looking code points up in an array.

    Gives the same ids as the backend, some fifty times as fast; text that holds an added token is left
    to the backend.
    """

    def __init__(self, vocabulary: Mapping[str, int], added: Iterable[str]) -> None:
        self.added = tuple(added)
        self.bytes = np.array([vocabulary[byte_piece(value)] for value in range(256)], dtype=np.int64)
        self.table = np.full(0x110000, -1, dtype=np.int32)
        for token, number in vocabulary.items():
            if len(token) == 1:
                self.table[ord(token)] = number

    @classmethod
    def of(cls, backend: Backend) -> CharacterTable | None:
        """Return the table of `backend`, or None when it is not a plain character tokenizer."""
        if backend.normalizer is not None or backend.pre_tokenizer is not None:
            return None
        if "ByteFallback" not in {step["type"] for step in parts_of(backend.decoder)}:
            return None
        tree = json.loads(backend.to_str())
        model = tree["model"]
        plain = (
            model["type"] == "BPE" and model["byte_fallback"] and not model["merges"] and not model["dropout"]
        )
        affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
        if not plain or affixes or any(byte_piece(value) not in model["vocab"] for value in range(256)):
            return None
        return cls(model["vocab"], [token["content"] for token in tree["added_tokens"]])

    def encode(self, text: str) -> NDArray[np.int64] | None:
        """Return the ids of `text`, shape (tokens,), or None where the backend has to look."""
        if any(token in text for token in self.added):
            return None
        codes = np.frombuffer(utf32(text), dtype="<u4")
        ids = self.table[codes].astype(np.int64)
        missing = ids < 0
        if not missing.any():
            return ids
        unseen = codes[missing]
        lengths = np.ones(len(ids), dtype=np.int64)
        lengths[missing] = 1 + (unseen > 0x7F) + (unseen > 0x7FF) + (unseen > 0xFFFF)
        ids = np.repeat(ids, lengths)
        spelt = unseen.tobytes().decode("utf-32-le").encode()
        ids[ids < 0] = self.bytes[np.frombuffer(spelt, dtype=np.uint8)]
        return ids


def utf32(text: str) -> bytes:
    """Return `text` as little-endian UTF-32, or raise a DataError for a lone surrogate."""
    try:
        return text.encode("utf-32-le")
    except UnicodeEncodeError as error:
        raise surrogate_error(error) from error


def surrogate_error(error: UnicodeEncodeError) -> DataError:
    """Return the error for text that is not valid Unicode."""
    code = ord(error.object[error.start])
    return DataError(
        f"the text holds half a surrogate pair (U+{code:04X}) at character {error.start}, "
        "which no UTF-8 file can hold; read the text as UTF-8, "
        "or replace it with text.encode('utf-8', 'replace').decode()"
    )
