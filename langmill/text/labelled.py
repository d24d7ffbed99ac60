"""Texts with class labels: rows with a column for each, or lines with `__label__` as fastText has them. [text]

Columns are called `text` and `label`, or what else is usual where these are absent and exactly one fits
(`labelled_rows.TEXTS`, `LABELS`, and `PAIRS` for two texts); otherwise settings name them. A label is a string, a
whole number or true or false (all become strings); several are a list, a cell with `separator` between
them, or several `__label__`. An empty list, and under `separator` an empty cell, says that no label applies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langmill.text.documents import ReadReport
from langmill.text.formats import shown
from langmill.text.labelled_rows import (
    PAIRS,
    TEXTS,
    BadRow,
    LabelledSettings,
    NoColumn,
    RawRow,
    checked_text,
    file_rows,
    labelled_files,
    made,
    one_of,
    pair_of,
    text_of,
)
from langmill.text.tagged import split_labels

LABELS = (
    *("label", "labels", "sentiment", "category", "class", "topic", "target", "intent", "emotion", "tag"),
    *("rating", "genre", "polarity"),
    *("标签", "类别", "情感", "分类", "类型", "标注", "主题", "意图", "情绪", "评分", "极性"),
)
"""What the column of a class label is called."""
MARK = "__label__"


@dataclass(frozen=True)
class ClassExample:
    """A text and the classes it belongs to."""

    text: str
    labels: tuple[str, ...] = ()
    """Each once, in the order given; empty: none was given, or none applies."""
    pair: str = ""
    """The second text, where texts come in pairs."""
    source: str = ""
    """`file:line`."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """All columns of the row, in order."""


@dataclass(frozen=True)
class Columns:
    """What the columns of a row are called."""

    text: str
    pair: str
    label: str
    """Empty: there is none."""


def read_classes(
    paths: Sequence[str | Path], settings: LabelledSettings, report: ReadReport, *, need_labels: bool = True
) -> Iterator[ClassExample]:
    """Yield the texts of files, folders and globs with their labels.

    need_labels: refuse a row without a label; else one is taken where it is there and can be read.
    Raises DataError for a row that cannot be used (`file:line: found, expected`) unless the settings leave such out.
    """

    def make(row: RawRow) -> ClassExample:
        if row.kind == "text":
            return line_example(row, need_labels)
        return row_example(row, settings, need_labels)

    for path in labelled_files(paths, settings, report):
        yield from made(
            file_rows(path, settings.encoding), make, settings, report, lambda each: (each.text, each.pair)
        )


def line_example(row: RawRow, need_labels: bool) -> ClassExample:
    """Return a line of text as an example, its labels taken from before it."""
    marks, text = split_labels(row.fields["text"] + " ")
    if need_labels and not marks:
        raise BadRow(
            "missing label",
            f"found {row.fields['text'][:40]!r}, expected __label__NAME before the text, or rows with columns",
        )
    text = checked_text(text.strip() if marks else row.fields["text"], "text")
    labels = tuple(dict.fromkeys(mark.removeprefix(MARK) for mark in marks))
    return ClassExample(text, labels, "", row.source, row.fields)


def row_example(row: RawRow, settings: LabelledSettings, need_labels: bool) -> ClassExample:
    """Return a row with columns as an example."""
    columns = columns_of(row.fields, settings, need_labels)
    pair = text_of(row.fields, columns.pair) if columns.pair else ""
    text = text_of(row.fields, columns.text)
    labels: tuple[str, ...] = ()
    try:
        if columns.label:
            labels = labels_of(row.fields[columns.label], columns.label, settings.separator)
    except BadRow:
        if need_labels:
            raise
    return ClassExample(text, labels, pair, row.source, row.fields)


def columns_of(fields: Mapping[str, Any], settings: LabelledSettings, need_labels: bool) -> Columns:
    """Return what the columns of a row are called, or raise NoColumn."""
    given, pair = settings.text_field, settings.pair_field
    names = pair_of(fields, PAIRS) if given == TEXTS[0] and not pair else None
    if names and (given not in fields or given in names):
        text, pair = names
    else:
        pair = pair and one_of(fields, [pair], pair, "--pair-field")
        text = one_of([name for name in fields if name != pair], TEXTS, given, "--text-field")
    others = [name for name in fields if name not in (text, pair)]
    try:
        label = one_of(others, LABELS, settings.label_field, "--label-field", reason="missing label")
    except NoColumn as error:
        if not need_labels:
            return Columns(text, pair, "")
        raise NoColumn(error.reason, f"{error}; the text is {text!r}") from error
    return Columns(text, pair, label)


def labels_of(value: Any, name: str, separator: str = "") -> tuple[str, ...]:
    """Return the labels that a field holds, or raise BadRow.

    >>> labels_of("良い 👍", "label"), labels_of(True, "spam"), labels_of("news, sport", "label", ",")
    (('良い 👍',), ('true',), ('news', 'sport'))
    """
    if isinstance(value, str) and separator:
        value = [part for part in value.split(separator) if part.strip()]
    if isinstance(value, list):
        return tuple(dict.fromkeys(one_label(item, name) for item in value))
    return (one_label(value, name),)


def one_label(value: Any, name: str) -> str:
    """Return a label as a string, white space at its ends taken off."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRow(
            "missing label", f"{name!r} is {'empty' if value == '' else shown(value)}, expected a label"
        )
    if isinstance(value, (bool, int)):
        return str(value).lower()
    if not isinstance(value, str):
        raise BadRow(
            "label of a wrong type",
            f"{name!r} is {shown(value)}, expected a string, a whole number, true, false or a list of these",
        )
    return checked_text(value, name).strip()
