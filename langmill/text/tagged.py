"""Words with tags: parts of speech, entities or classes, as corpora carry them. [text]

Two shapes are read. In running text a tag is glued to its word: `bank_NOUN`, `银行/n`, `bank|NOUN`. In columns
(CoNLL) a word and its tags stand on a line of their own, with tabs or spaces between them, and a blank line ends
a sentence; `.conllu` has its own order of columns, comments and multi-word ranges.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from langmill.core.errors import ConfigError, DataError
from langmill.text.paths import split_ending
from langmill.text.streams import Line, text_lines

COLUMN_ENDINGS = (".conll", ".conllu", ".bio", ".bmes", ".tsv")
SEPARATORS = ("_", "/", "|")
SAMPLE_LINES = 100
"""Lines from which the separator of a file is told."""
LABELS = re.compile(r"(?:__label__\S+\s+)+")
"""Class labels before a text, as fastText has them."""
Tagged = tuple[str, str]


@dataclass(frozen=True)
class Sentence:
    """The rows of a sentence in columns."""

    rows: tuple[tuple[str, ...], ...]
    """The columns of each token."""
    line: int
    """Where it begins, from 1."""
    head: tuple[str, ...] = ()
    """Comments before it, in CoNLL-U."""
    fault: str = ""
    """What is wrong with it, first at `line`, where faults are kept."""


def tagged_words(text: str, *, separator: str = "") -> list[Tagged]:
    """Return the words of a text and their tags.

    separator: what stands between a word and its tag; empty: `_`, `/` or `|`, the first that all words have.
    Raises DataError where a word has no tag.

    >>> tagged_words("The_DET bank_NOUN"), tagged_words("1/2/m 银行/n")
    ([('The', 'DET'), ('bank', 'NOUN')], [('1/2', 'm'), ('银行', 'n')])
    """
    separator = separator or separator_of([text])
    found = []
    for token in text.split():
        word, _, tag = token.rpartition(separator)
        if not word or not tag:
            raise DataError(
                f"found {token[:40]!r}, expected a word and its tag with {separator!r} between them"
            )
        found.append((word, tag))
    return found


def separator_of(texts: Iterable[str]) -> str:
    """Return the first of SEPARATORS that stands between all words and their tags, or raise DataError."""
    tokens = [token for text in texts for token in text.split()]
    for separator in SEPARATORS:
        if all(token.rpartition(separator)[0] and token.rpartition(separator)[2] for token in tokens):
            return separator
    raise DataError(
        f"no sign stands between each word and its tag; expected one of {' '.join(SEPARATORS)}, as in bank_NOUN"
    )


def units(found: Iterable[Tagged]) -> list[str]:
    """Return words with their tags as units, for which vectors can be trained apart.

    >>> units([("bank", "NOUN"), ("bank", "VERB")])
    ['bank|NOUN', 'bank|VERB']
    """
    return [f"{word}|{tag}" for word, tag in found]


def split_labels(text: str) -> tuple[list[str], str]:
    """Return the class labels before a text, and the text.

    >>> split_labels("__label__pos a good film")
    (['__label__pos'], 'a good film')
    """
    found = LABELS.match(text)
    return (found[0].split(), text[found.end() :]) if found else ([], text)


def read_tagged(
    path: Path | str, *, separator: str = "", tag_column: int = 0, encoding: str = "utf-8"
) -> Iterator[list[Tagged]]:
    """Yield the sentences of a file in columns (by its ending: COLUMN_ENDINGS) or of a line of tagged words each.

    tag_column: the column of the tags, from 1; 0: the last, in `.conllu` the fourth. Raises DataError with
    file:line.
    """
    path = Path(path)
    if split_ending(path)[0] in COLUMN_ENDINGS:
        word, tag = columns_of(path, tag_column)
        for sentence in read_columns(path, needed=max(word, tag, 1) + 1, encoding=encoding):
            yield [(row[word], row[tag]) for row in sentence.rows]
        return
    lines = text_lines(path, encoding=encoding)
    sample = list(itertools.islice(lines, SAMPLE_LINES))
    try:
        separator = separator or separator_of(line.text for line in sample if not line.fault)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    for line in itertools.chain(sample, lines):
        text = _sound(path, line).text
        try:
            found = tagged_words(text, separator=separator)
        except DataError as error:
            raise DataError(f"{path}:{line.number}: {error}") from error
        if found:
            yield found


def columns_of(path: Path, tag_column: int) -> tuple[int, int]:
    """Return where word and tag stand, from 0; -1 is the last column."""
    if tag_column < 0:
        raise ConfigError(f"tag column: {tag_column} is not allowed; columns are counted from 1")
    universal = split_ending(path)[0] == ".conllu"
    usual = 3 if universal else -1
    return (1 if universal else 0), (tag_column - 1 if tag_column else usual)


def _sound(path: Path, line: Line) -> Line:
    if line.fault:
        raise DataError(f"{path}:{line.number}: {line.fault}")
    return line


def read_columns(
    path: Path | str, *, needed: int = 2, encoding: str = "utf-8", keep_faults: bool = False
) -> Iterator[Sentence]:
    """Yield the sentences of a file in columns.

    needed: columns that each row must have; all rows of a sentence have as many. Columns stand between tabs where
    the first row has one, else between spaces. In `.conllu` multi-word ranges and empty nodes are left out;
    `-DOCSTART-` is no sentence.
    keep_faults: a sentence that cannot be read carries its fault; else DataError is raised, with file:line.
    """
    path = Path(path)
    universal = split_ending(path)[0] == ".conllu"
    rows: list[tuple[str, ...]] = []
    head: list[str] = []
    begin, fault = 0, ""
    for line in text_lines(path, encoding=encoding):
        if not line.fault and not line.text.strip():
            if rows or fault:
                yield Sentence(tuple(rows), begin, tuple(head), fault)
            rows, head, fault = [], [], ""
        elif universal and line.text.startswith("#"):
            head.append(line.text)
        elif not fault:
            row, fault = _row(line, needed, rows)
            if fault and not keep_faults:
                raise DataError(f"{path}:{line.number}: {fault}")
            if not fault and (row[0] == "-DOCSTART-" or (universal and not row[0].isdecimal())):
                continue
            begin = begin if rows and not fault else line.number
            rows.append(row)
    if rows:
        yield Sentence(tuple(rows), begin, tuple(head), fault)


def _row(line: Line, needed: int, before: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], str]:
    """Return the columns of a line, and what is wrong with them."""
    text = line.text
    row = tuple(text.split("\t")) if "\t" in text else tuple(text.split())
    wanted = len(before[0]) if before else max(needed, len(row))
    if line.fault or (len(row) == wanted and all(cell.strip() for cell in row)):
        return row, line.fault
    return row, (
        f"found {len(row)} columns in {text[:40]!r}, expected {wanted} and none empty: a token"
        " and its tag a line, and a blank line after a sentence"
    )
