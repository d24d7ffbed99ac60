"""How augmented rows are written: in the format they were read in, with the operation's name. [tasks]

Rows have a field `augmented` for it, which readers pass over. Plain text and columns have no room (a comment would
be read as a token): there a file beside the output, OUTPUT.augmented.tsv, names the new ones by their number.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from langmill.tasks.augmented_rows import MARK
from langmill.text.paths import kind_of
from langmill.text.row_files import row_writer
from langmill.text.rows import open_writer

Write = Callable[[Any, str, str], None]
"""Writes a row, given the operation that made it (empty: none) and its source."""


def writer_of(task: str, output: Path) -> AbstractContextManager[Write]:
    """Return the writer of a task's rows in the format that the file's ending says."""
    return columns_or_text(output) if is_marked(task, output) else WRITERS[kind_of(output)](output)


def is_marked(task: str, output: Path) -> bool:
    """Say whether the operations are named in a file beside the output."""
    return kind_of(output) == "text" or (task == "ner" and kind_of(output) == "tsv")


def beside(output: Path) -> Path:
    """Return the file that names the operations."""
    return output.with_name(f"{output.name}.{MARK}.tsv")


@contextlib.contextmanager
def jsonl_writer(output: Path) -> Iterator[Write]:
    """Write JSON Lines."""
    with row_writer(output) as write_row:

        def write(row: dict[str, Any], name: str, source: str) -> None:
            write_row(row)

        yield write


@contextlib.contextmanager
def table_writer(output: Path) -> Iterator[Write]:
    """Write CSV or TSV, whose last column names the operation."""
    with row_writer(output) as write_row:

        def write(row: dict[str, Any], name: str, source: str) -> None:
            write_row({**row, MARK: name or row.get(MARK, "")})

        yield write


@contextlib.contextmanager
def columns_or_text(output: Path) -> Iterator[Write]:
    """Write lines of text or sentences in columns, and beside them a file that names the operations."""
    with open_writer(output) as stream, open_writer(beside(output)) as marks:
        marks.write(b"number\toperation\tsource\n")
        numbers = itertools.count(1)

        def write(value: Any, name: str, source: str) -> None:
            lines = value if isinstance(value, str) else "\n".join("\t".join(row) for row in value) + "\n"
            stream.write(f"{lines}\n".encode())
            number = next(numbers)
            if name:
                marks.write(f"{number}\t{name}\t{source}\n".encode())

        yield write


@contextlib.contextmanager
def squad_writer(output: Path) -> Iterator[Write]:
    """Write SQuAD JSON, an article a paragraph; the questions of a new paragraph have new ids."""
    with open_writer(output) as stream:
        stream.write(b'{"version": "augmented", "data": [')
        numbers = itertools.count()

        def write(value: tuple[str, dict[str, Any]], name: str, source: str) -> None:
            title, paragraph = value
            number = next(numbers)
            if name:
                new = [{**each, "id": f"{each.get('id', '')}-{name}-{number}"} for each in paragraph["qas"]]
                paragraph = {**paragraph, "qas": new}
            article = {"title": title, "paragraphs": [paragraph]}
            stream.write(
                (",\n" if number else "\n").encode() + json.dumps(article, ensure_ascii=False).encode()
            )

        yield write
        stream.write(b"\n]}\n")


WRITERS = {
    "jsonl": jsonl_writer,
    "csv": table_writer,
    "tsv": table_writer,
    "json": squad_writer,
}
