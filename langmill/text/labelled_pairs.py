"""Pairs of texts that belong together, with negatives or a score: what embeddings are trained on and tested by. [text]

Read are rows with two texts, perhaps with texts that do not belong (`negative`, `negatives`, `negative_1`, …) or
with a `score` of likeness; and `.tsv` of two columns that names none: parallel text, line by line.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langmill.core.errors import DataError
from langmill.text.documents import ReadReport
from langmill.text.labelled_rows import (
    DEFAULTS,
    PAIRS,
    BadRow,
    LabelledSettings,
    NoColumn,
    RawRow,
    checked_text,
    file_rows,
    labelled_files,
    made,
    number_of,
    one_of,
    pair_of,
    parsed,
    text_of,
)
from langmill.text.paths import kind_of
from langmill.text.streams import text_lines

BELONGING = (
    *(("text", "positive"), ("anchor", "positive"), ("query", "positive"), ("sentence", "positive")),
    *(("source", "target"), ("query", "document"), ("query", "passage"), ("question", "answer")),
    *(
        ("word1", "word2"),
        ("问题", "答案"),
        ("问题", "回答"),
        ("原文", "译文"),
        ("中文", "英文"),
        ("英文", "中文"),
        *PAIRS,
    ),
)
"""What the two columns are called."""
SCORES = (
    "score",
    "similarity",
    "relatedness",
    "similarity_score",
    "relatedness_score",
    "label",
    "分数",
    "得分",
    "相似度",
)
"""What the column of the score is called."""
NEGATIVE = re.compile(r"(hard_)?neg(ative)?s?(_?\d+)?")
"""What the columns of texts that do not belong are called."""
LANGUAGE = re.compile(
    "(ar|bg|bn|ca|cs|da|de|el|en|es|et|fa|fi|fr|he|hi|hr|hu|id|it|ja|ko|lt|lv|ms|nl|no|pl|pt|ro|ru|sk|sl|sr|sv|ta|th|tr|"
    "uk|ur|vi|zh|src|tgt|trg)([-_][A-Za-z]{2,4})?"
)
"""The name of a language, which tells that the first line of parallel text is a head."""

UNSAID = (DEFAULTS["--text-field"], DEFAULTS["--pair-field"])


@dataclass(frozen=True)
class TextPair:
    """Two texts that belong together, or whose likeness is known."""

    text: str
    positive: str
    negatives: tuple[str, ...] = ()
    """Texts that do not belong to the first."""
    score: float | None = None
    """How alike the two are; None: they belong together."""
    source: str = ""
    """`file:line`."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """All columns of the row, in order."""


def read_pairs(
    paths: Sequence[str | Path], settings: LabelledSettings, report: ReadReport
) -> Iterator[TextPair]:
    """Yield the pairs of files, folders and globs.

    Raises DataError for a row that cannot be used (`file:line: found, expected`) unless the settings leave such out.
    """
    for path in labelled_files(paths, settings, report):
        if kind_of(path) == "text":
            raise DataError(f"{path}: expected rows with columns, such as .jsonl, .csv or .tsv")
        names = headless(path, settings)
        found = parallel_rows(path, settings.encoding) if names == () else file_rows(path, settings.encoding)
        make = functools.partial(pair_example, settings=settings, names=names)
        yield from made(found, make, settings, report, texts_of)


def texts_of(pair: TextPair) -> tuple[str, ...]:
    """Return all texts of a pair."""
    return pair.text, pair.positive, *pair.negatives


def headless(path: Path, settings: LabelledSettings) -> tuple[str, ...] | None:
    """Return the two columns of parallel text that its head names by language; () where it has none.

    None: the columns are told from their names.
    """
    if kind_of(path) != "tsv" or (settings.text_field, settings.pair_field) != UNSAID:
        return None
    first = next(text_lines(path, encoding=settings.encoding), None)
    names = tuple(first.text.split("\t")) if first else ()
    if len(names) != 2 or pair_of(names, BELONGING):
        return None
    return names if all(LANGUAGE.fullmatch(name) for name in names) else ()


def parallel_rows(path: Path, encoding: str) -> Iterator[RawRow]:
    """Yield the lines of a file of two columns without a head."""
    for line in text_lines(path, encoding=encoding):
        if not line.fault and not line.text.strip():
            continue
        cells = line.text.split("\t")
        reason, fault = line.reason, line.fault
        if not fault and len(cells) != 2:
            reason, fault = (
                "wrong number of fields",
                f"found {len(cells)} columns, expected 2 with a tab between them",
            )
        yield RawRow(f"{path}:{line.number}", dict(zip(BELONGING[0], cells)), reason, fault)


def pair_columns(fields: Mapping[str, Any], settings: LabelledSettings) -> tuple[str, str]:
    """Return what the columns of the two texts are called, or raise NoColumn."""
    text, pair = settings.text_field, settings.pair_field
    if (text, pair) == UNSAID:
        if names := pair_of(fields, BELONGING):
            return names
        known = ", ".join("/".join(names) for names in BELONGING)
        raise NoColumn(
            "missing field",
            f"no two columns that are a pair (found {', '.join(map(repr, fields)) or 'none'}), expected one of {known};"
            " or name them with --text-field and --pair-field",
        )
    if not pair:
        raise NoColumn(
            "missing field", "--text-field names the first text; name the second with --pair-field"
        )
    return (
        one_of(fields, [text], text, "--text-field"),
        one_of(fields, [pair], pair, "--pair-field"),
    )


def pair_example(row: RawRow, settings: LabelledSettings, names: Sequence[str] | None) -> TextPair:
    """Return a row as a pair; names: of the columns of its texts, if they are known of the file."""
    fields = row.fields
    names = names or pair_columns(fields, settings)
    text, positive = (text_of(fields, name) for name in names)
    others = [name for name in fields if name not in names]
    negatives: list[str] = []
    for name in others:
        if NEGATIVE.fullmatch(name) and (given := parsed(fields[name], name)) not in (None, ""):
            negatives += [
                checked_text(item, name) for item in (given if isinstance(given, list) else [given])
            ]
    score = None
    if settings.label_field != DEFAULTS["--label-field"] or set(SCORES) & set(others):
        name = one_of(others, SCORES, settings.label_field, "--label-field")
        if fields[name] in (None, ""):
            raise BadRow("missing score", f"{name!r} is empty, expected a number")
        score = number_of(fields[name], name)
    return TextPair(text, positive, tuple(negatives), score, row.source, fields)
