"""Text files of word vectors, as word2vec, fastText (`.vec`) and GloVe write them. [vectors]"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import ConfigError, DataError
from langmill.core.files import atomic_write
from langmill.text.streams import text_lines
from langmill.vectors.table import WordVectors


@dataclass(frozen=True)
class Vectors:
    """Words and their vectors, in the file's order."""

    words: list[str]
    matrix: NDArray[np.float32]
    """(words, width)."""
    total: int
    """Words in the file, those that were not wanted included."""
    repeated: int
    """Lines left out because their word had come before."""


def read_vectors(path: Path | str, *, wanted: Container[str] | None = None) -> Vectors:
    """Read a text file of vectors, `.gz` and `.zst` too; wanted: the words to keep, of a file that may be huge.

    word2vec and fastText begin with a line of how many words and numbers follow, GloVe does not. Raises
    DataError with file:line where a line does not fit.
    """
    path = Path(path)
    rows: dict[str, NDArray[np.float32]] = {}
    width = announced = total = repeated = 0
    for number, text, _, fault in text_lines(path, encoding="utf-8"):
        where = f"{path}:{number}"
        if fault:
            raise DataError(f"{where}: {fault}")
        text = text.rstrip(" ")
        if number == 1:
            head = text.split(" ")
            if len(head) == 2 and all(part.isascii() and part.isdigit() for part in head):
                announced, width = int(head[0]), int(head[1])
                continue
            width = len(head) - 1
        word, numbers = split(text, width, where)
        total += 1
        if word in rows:
            repeated += 1
        elif wanted is None or word in wanted:
            rows[word] = parse(numbers, where)
    if not total or (announced and announced != total):
        said = (
            f"its first line says {announced} words"
            if announced
            else "expected a word and its numbers a line"
        )
        raise DataError(f"{path}: {said}, found {total}; the file is cut short, or not of word vectors")
    matrix = np.stack(list(rows.values())) if rows else np.empty((0, width), np.float32)
    return Vectors(list(rows), matrix, total, repeated)


def split(text: str, width: int, where: str) -> tuple[str, list[str]]:
    """Return the word of a line, which may have spaces in it, and its `width` numbers as text."""
    word, *numbers = text.rsplit(" ", width) if width else [text]
    before, _, last = word.rpartition(" ")
    if not width or len(numbers) != width or (before and is_number(last)):
        first, *rest = text.split(" ")
        raise DataError(
            f"{where}: found {len(rest)} numbers behind {first[:40]!r}, expected {width or 'some'}; a line holds a"
            " word and its numbers with single spaces between them"
        )
    return word, numbers


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse(numbers: list[str], where: str) -> NDArray[np.float32]:
    """Return the numbers of a line, or raise DataError."""
    try:
        row = np.array(numbers, dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{where}: not a number ({error})") from error
    if not np.isfinite(row).all():
        raise DataError(f"{where}: a number is not finite; expected finite ones")
    return row


def write_vectors(path: Path | str, vectors: WordVectors) -> None:
    """Write word vectors as text (`.vec`): how many words and numbers, then a word and its numbers a line."""
    path = Path(path)
    if path.suffix != ".vec":
        raise ConfigError(f"{path}: unknown ending {path.suffix!r}; allowed: .vec")
    lines = [f"{len(vectors.words)} {vectors.width}"]
    for word, row in zip(vectors.words, vectors.matrix, strict=True):
        lines.append(" ".join([word, *(format(number, ".9g") for number in row.tolist())]))
    atomic_write(path, "\n".join(lines) + "\n")
