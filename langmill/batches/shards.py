"""Tokens on disk: one memory-mapped file a part, hashed, reused when nothing changed. [batches]

A folder of shards is written once for a tokenizer and a set of sources and is whole or absent:

    manifest.json       what it was made from and what it holds
    train.tokens        ids, uint16 or uint32, little-endian, each document opened by end-of-text
    train.documents     int64: where each document begins in train.tokens
    held_out.tokens, held_out.documents

The end-of-text token opens a document rather than closing it: it is what the first token is predicted
from, and the last token of the document before predicts it all the same.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langmill.core.errors import DataError, LangmillError
from langmill.core.files import atomic_folder, digest, read_json

if TYPE_CHECKING:
    from langmill.text.documents import Document
    from langmill.tokens.tokenizer import Tokenizer

VERSION = 2
PARTS = ("train", "held_out")
BATCH_CHARACTERS = 1 << 20
"""How much text is tokenized at a time; bounds memory, which the library needs ~50 times over."""


@dataclass(frozen=True)
class Part:
    """Tokens of one side of the split."""

    tokens: np.ndarray
    """(n,) uint16 or uint32, memory-mapped."""
    documents: np.ndarray
    """(documents,) int64: the index at which each document begins, ascending from 0."""
    bytes: int
    """UTF-8 bytes of the text."""
    characters: int


@dataclass(frozen=True)
class Shards:
    """A corpus as tokens."""

    folder: Path
    train: Part
    held_out: Part
    split: str
    """How the held-out part was chosen, in a sentence."""
    content: str
    """A digest of all tokens: the same for the same text under the same tokenizer, wherever it lies."""
    reused: bool

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of training text to a token."""
        return self.train.bytes / max(1, len(self.train.tokens))


class _Writer:
    def __init__(self, folder: Path, name: str, dtype: np.dtype) -> None:
        self.tokens = open(folder / f"{name}.tokens", "wb")
        self.documents = open(folder / f"{name}.documents", "wb")
        self.dtype = dtype
        self.count = self.bytes = self.characters = self.begun = 0
        self.content = hashlib.blake2b(digest_size=16)
        self.open_document = False

    def add(self, document: Document, ids: list[int], separator: int | None) -> None:
        if not self.open_document:
            self.documents.write(np.asarray(self.count, "<i8").tobytes())
            self.begun += 1
            if separator is not None:
                ids = [separator, *ids]
        data = np.asarray(ids, dtype=self.dtype).tobytes()
        self.tokens.write(data)
        self.content.update(data)
        self.count += len(ids)
        self.bytes += len(document.text.encode("utf-8"))
        self.characters += len(document.text)
        self.open_document = not document.last

    def close(self) -> dict[str, Any]:
        self.tokens.close()
        self.documents.close()
        return {
            "tokens": self.count,
            "documents": self.begun,
            "bytes": self.bytes,
            "characters": self.characters,
            "content": self.content.hexdigest(),
        }


def build_shards(
    folder: Path,
    documents: Iterable[tuple[Document, bool]],
    *,
    tokenizer: Tokenizer,
    key: dict[str, str],
    split: str,
) -> Shards:
    """Tokenize `documents` (each with whether it is held out) into `folder`, and open it.

    key: what the result depends on, saved in the manifest for `open_shards` to compare.
    """
    dtype = np.dtype("<u2" if tokenizer.vocabulary_size <= 1 << 16 else "<u4")
    separator = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    begin = time.perf_counter()
    with atomic_folder(folder) as aside:
        writers = {name: _Writer(aside, name, dtype) for name in PARTS}
        for batch in _batched(documents):
            for (document, held_out), ids in zip(batch, tokenizer.encode_batch([d.text for d, _ in batch])):
                writers["held_out" if held_out else "train"].add(document, ids, separator)
        parts = {name: writer.close() for name, writer in writers.items()}
        manifest = {
            "version": VERSION,
            "key": key,
            "dtype": dtype.str,
            "split": split,
            "parts": parts,
            "seconds": round(time.perf_counter() - begin, 3),
        }
        (aside / "manifest.json").write_text(json.dumps(manifest, indent=2))
        if not parts["train"]["tokens"]:
            raise DataError("the corpus holds no text to train on; give files with some text in them")
    shards = open_shards(folder, key)
    assert shards is not None
    return replace(shards, reused=False)


def open_shards(folder: Path, key: dict[str, str]) -> Shards | None:
    """Open shards made from exactly `key`; None where there are none, or they are of another make or damaged."""
    if not (folder / "manifest.json").is_file():
        return None
    try:
        manifest = read_json(folder / "manifest.json")
    except LangmillError:
        return None
    if manifest.get("version") != VERSION or manifest.get("key") != key:
        return None
    opened = {}
    for name in PARTS:
        facts = manifest["parts"][name]
        tokens = _map(folder / f"{name}.tokens", manifest["dtype"], facts["tokens"])
        documents = _map(folder / f"{name}.documents", "<i8", facts["documents"])
        if tokens is None or documents is None:
            return None
        opened[name] = Part(tokens, documents, facts["bytes"], facts["characters"])
    content = digest(*(manifest["parts"][name]["content"] for name in PARTS))
    return Shards(folder, opened["train"], opened["held_out"], manifest["split"], content, reused=True)


def _map(path: Path, dtype: str, count: int) -> np.ndarray | None:
    """Map a file of `count` numbers; None where it is missing or of another length."""
    if not path.is_file() or path.stat().st_size != count * np.dtype(dtype).itemsize:
        return None
    if not count:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")


def _batched(documents: Iterable[tuple[Document, bool]]) -> Iterator[list[tuple[Document, bool]]]:
    iterator = iter(documents)
    while True:
        batch: list[tuple[Document, bool]] = []
        size = 0
        for item in islice(iterator, 1024):
            batch.append(item)
            size += len(item[0].text)
            if size >= BATCH_CHARACTERS:
                break
        if not batch:
            return
        yield batch
