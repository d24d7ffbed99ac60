"""Whole documents with all their fields: drawn from the readers, written to files that they read again. [text]

Written as JSON Lines, a document is the object `{"text", its other fields, "source"}`. Written as text (`.txt` and
the like) documents stand between lines of `<|endoftext|>`, or under the boundary `line` one a line; their fields
are then left out.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from langmill.core.errors import DataError, MissingDependencyError, did_you_mean
from langmill.core.files import atomic_file
from langmill.text.documents import Document
from langmill.text.paths import kind_of, split_ending
from langmill.text.readers import SEPARATOR, Boundary
from langmill.text.steps import Outcome

TOO_LONG = "too long"


@dataclass(frozen=True)
class Row:
    """A document in one piece."""

    text: str
    source: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    """Why it is rejected as it was read."""
    part: int = 0
    """A document that is too long to be held comes in parts, each rejected."""


def whole_rows(documents: Iterable[Document], *, maximum_characters: int) -> Iterator[Row]:
    """Join the parts of documents.

    One of more than `maximum_characters` is never held: its parts come as rows rejected as too long.
    """
    held: list[str] = []
    length = parts = 0
    for document in documents:
        if document.part == 0:
            length = parts = 0
        held.append(document.text)
        length += len(document.text)
        reason = document.reason or (TOO_LONG if length > maximum_characters else "")
        if document.last or reason:
            yield Row("".join(held), document.source, document.fields or {}, reason, parts)
            held.clear()
            parts += 1


def as_json(row: Row) -> bytes:
    """Return a kept row as a line of JSON. A field of its own named `source` stands for ours.

    >>> as_json(Row("床前明月光", "诗.txt:1", {"poet": "李白"})).decode()
    '{"text": "床前明月光", "poet": "李白", "source": "诗.txt:1"}\\n'
    """
    return json_line({"text": row.text, **row.fields, "source": row.fields.get("source", row.source)})


def as_reject(row: Row, reason: str, **more: Any) -> bytes:
    """Return a rejected row as a line of JSON: `source`, `reason`, `more`, `text`, and its `fields` if any."""
    tree = {"source": row.source, "reason": reason, **more, "text": row.text}
    tree |= {"part": row.part} if row.part else {}
    return json_line(tree | ({"fields": dict(row.fields)} if row.fields else {}))


def json_line(tree: Mapping[str, Any]) -> bytes:
    """Return one line of JSON, whatever values Parquet or JSON gave."""
    try:
        return json.dumps(tree, ensure_ascii=False, default=_plain).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair in a field: JSON can tell it only as an escape
        return json.dumps(tree, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    """Return what stands in JSON for a value of Parquet that JSON lacks, such as a date."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


class FitsTextFile:
    """A step that rejects what a text file cannot hold so that it is read back as it was."""

    name = "text file"

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary

    def __call__(self, text: str) -> Outcome:
        """Reject a separator, a line end where the boundary is a line, and a NUL."""
        if "\0" in text or text.startswith("\ufeff"):
            return Outcome(text, "NUL character or byte order mark")
        if self._boundary == "line" and "\n" in text:
            return Outcome(text, "more than one line")
        if SEPARATOR in text and any(line.strip() == SEPARATOR for line in text.split("\n")):
            return Outcome(text, "separator within")
        return Outcome(text)


def is_text_output(path: Path) -> bool:
    """Say whether documents are written to `path` as text; raise DataError if it is neither text nor JSON Lines."""
    kind = kind_of(path)
    ending = split_ending(path)[0]
    if kind == "jsonl" or (kind == "text" and ending in (".txt", ".text", ".md")):
        return kind == "text"
    raise DataError(
        f"{path}: cannot write {ending or 'a file without ending'}; expected .jsonl or .txt, also with .gz or .zst "
        f"behind it{did_you_mean(ending, ['.jsonl', '.txt'])}"
    )


class DocumentWriter:
    """Writes kept rows to an open file in the format that its path asks for."""

    def __init__(self, stream: IO[bytes], path: Path, boundary: Boundary = "auto") -> None:
        self._stream, self._text, self._first = stream, is_text_output(path), True
        self._separator = b"" if boundary == "line" else f"{SEPARATOR}\n".encode()

    def write(self, line: bytes) -> None:
        """Write the row that `as_json` made this line of; in a text file its last line is closed."""
        if self._text:
            text = json.loads(line)["text"].replace("\r\n", "\n").removesuffix("\n").removesuffix("\r")
            line = (b"" if self._first else self._separator) + text.encode() + b"\n"
            self._first = False
        self._stream.write(line)


@contextlib.contextmanager
def open_writer(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write, compressed as its ending says, that is there when all went well and not before."""
    compression = split_ending(path)[1]
    with atomic_file(path) as aside, open(aside, "wb") as file:
        if compression == "gz":
            packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
            with packed, io.BufferedWriter(packed, 1 << 16) as stream:
                yield stream
        elif compression == "zst":
            with _zstandard(path).ZstdCompressor().stream_writer(file, closefd=False) as stream:
                yield stream
        else:
            yield file


def _zstandard(path: Path) -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: writing .zst needs zstandard; install it with `pip install 'langmill[data]'`"
        ) from error
    return zstandard
