"""What the readers of labelled data share: rows with all their columns, how columns are called, bad rows. [text]

Every row that is found is either given out or left out with a reason: `report.documents` and
`report.skipped.total()` together are the rows found.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from langmill.core.config import Settings
from langmill.core.errors import DataError, did_you_mean
from langmill.text.documents import Document, ReadReport
from langmill.text.formats import rows, shown
from langmill.text.paths import Kind, expand, kind_of
from langmill.text.readers import SEPARATOR, OnBadRow
from langmill.text.streams import check_encoding, text_lines

T = TypeVar("T")

TEXTS = (
    *("text", "sentence", "review", "content", "title", "question", "comment", "tweet", "message", "body"),
    *("document", "headline", "abstract", "query"),
    *("文本", "内容", "评论", "标题", "正文", "句子", "文章", "问题", "评价", "微博", "摘要"),
)
"""What the column of a text is called."""
PAIRS = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("text_a", "text_b"), ("text1", "text2")),
    *(("question1", "question2"), ("question", "sentence"), ("text", "text_pair")),
    *(("句子1", "句子2"), ("文本1", "文本2"), ("问题1", "问题2"), ("前提", "假设")),
)
"""What the two columns of a pair of texts are called."""


class LabelledSettings(Settings):
    """How labelled rows are read."""

    text_field: str = "text"
    """The column that holds the text (qa: the context).  [default: text, or one called like it]"""
    pair_field: str = ""
    """The column of a second text (qa: the question; embed: the text that belongs to the first).  [default: one called
    like it]"""
    label_field: str = "label"
    """The column of the label (ner: the tags or spans; qa: the answers; embed: the score).  [default: label, or one
    called like it]"""
    separator: str = ""
    """What stands between several labels in one cell, such as a comma; a text may then have any number of labels."""
    tag_column: int = Field(0, ge=0)
    """The column of the tags where a line is a token, from 1.  [default: the last; .conllu: 4]"""
    tag_names: str = ""
    """The names of tags that are given as numbers, in order, with commas between: O,B-PER,I-PER."""
    encoding: str = "utf-8"
    """Encoding of files without a byte order mark."""
    on_bad_row: OnBadRow = "fail"
    """What to do with a row that cannot be used; skipped ones are counted."""


DEFAULTS = {
    f"--{name}-field": LabelledSettings.model_fields[f"{name}_field"].default
    for name in ("text", "pair", "label")
}
"""How the settings that name columns stand when nothing was said."""


class BadRow(DataError):
    """What is wrong with a row; the message says what was found and what was expected, not where."""

    def __init__(self, reason: str, fault: str = "") -> None:
        super().__init__(fault or reason)
        self.reason = reason


class NoColumn(BadRow):
    """A column is not there."""


@dataclass(frozen=True)
class RawRow:
    """A row as the file has it."""

    source: str
    """`path:line`; `path:line#2` is the line's second."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """All its columns, in order; of a line of text the line as `text`."""
    reason: str = ""
    fault: str = ""
    """Why it cannot be used as it was read."""
    kind: Kind = "text"
    """How the file is read; `text`: a line of text, without columns."""


def labelled_files(
    paths: Sequence[str | Path], settings: LabelledSettings, report: ReadReport, *, also: Collection[str] = ()
) -> Iterator[Path]:
    """Yield the files of files, folders and globs, counted; `also`: further endings that are taken from folders."""
    check_encoding(settings.encoding)
    for path in expand(paths, report=report, also=also):
        report.files += 1
        yield path


def file_rows(path: Path, encoding: str) -> Iterator[RawRow]:
    """Yield the rows of a file in a row format, or the lines of a text file; blank lines are no rows.

    Raises DataError for what spoils the whole file.
    """
    kind = kind_of(path)
    if kind == "text":
        for line in text_lines(path, encoding=encoding):
            if line.fault or line.text.strip() not in ("", SEPARATOR):
                yield RawRow(f"{path}:{line.number}", {"text": line.text}, line.reason, line.fault)
        return
    number = nth = 0
    for row in rows(path, kind, text_field=None, encoding=encoding, keep_fields=True):
        nth = nth + 1 if row.line == number else 1  # an array of JSON may stand in one line
        number = row.line
        source = f"{path}:{number}" + (f"#{nth}" if nth > 1 else "")
        yield RawRow(source, row.fields or {}, row.reason, row.fault, kind)


def made(
    found: Iterable[RawRow],
    make: Callable[[RawRow], T],
    settings: LabelledSettings,
    report: ReadReport,
    counted: Callable[[T], Iterable[str]],
) -> Iterator[T]:
    """Yield what `make` makes of each row; what raises BadRow is refused or left out, as the settings say.

    A column that a header lacks is missing from all rows, and refused in any case. Only where a row before could be
    used is it advised to leave bad ones out: else the whole file may be of another kind.
    counted: the texts of an example, whose characters are counted.
    """
    usable: Mapping[str, Any] = {}  # the columns of the last row that could be used
    for row in found:
        try:
            if row.fault:
                raise BadRow(row.reason, row.fault)
            example = make(row)
        except BadRow as bad:
            if isinstance(bad, NoColumn) and row.kind in ("csv", "tsv", "parquet"):
                raise DataError(f"{row.source}: {bad}; the columns are named in the file's head") from bad
            fault = str(bad)
            if isinstance(bad, NoColumn) and (
                lacking := [repr(name) for name in usable if name not in row.fields]
            ):
                fault = f"this row has no value for {' and '.join(lacking)}, which rows before it have"
            if settings.on_bad_row == "fail":
                advice = "; or leave such rows out with --on-bad-row skip" if usable else ""
                raise DataError(f"{row.source}: {fault}{advice}") from bad
            report.skip(bad.reason, row.source, fault)
            continue
        usable = row.fields
        report.add(Document("".join(counted(example)), row.source))
        yield example


def one_of(
    fields: Iterable[str], names: Sequence[str], given: str, option: str, *, reason: str = "missing field"
) -> str:
    """Return what a column is called: as the setting says, or where it says nothing one of `names` that is there.

    names: the first is taken before all others; of these there must be only one.
    given: the setting. option: how the command line spells it.
    reason: names the fault where there is none, or several, and NoColumn is raised.

    >>> one_of(["review", "stars"], TEXTS, "text", "--text-field")
    'review'
    """
    columns = list(fields)
    by_itself = given == DEFAULTS[option]
    wanted = names[0] if by_itself else given
    if wanted in columns:
        return wanted
    known = [name for name in names if name in columns] if by_itself else []
    if len(known) == 1:
        return known[0]
    listed = f"(found {', '.join(map(repr, columns)) or 'none'})"
    if known:
        several = " and ".join(map(repr, known))
        raise NoColumn(
            reason, f"no column {wanted!r}, and {several} could stand for it {listed}; name one with {option}"
        )
    hint = did_you_mean(wanted, columns)
    raise NoColumn(reason, f"no column {wanted!r}{hint} {listed}; name the right one with {option}")


def pair_of(fields: Iterable[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the only one of `pairs` both columns of which are there.

    >>> pair_of(["id", "premise", "hypothesis"], PAIRS)
    ('premise', 'hypothesis')
    """
    columns = set(fields)
    found = [pair for pair in pairs if columns.issuperset(pair)]
    return found[0] if len(found) == 1 else None


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that must hold a text with something to see in it."""
    text = fields.get(name)
    if text is None and name not in fields:
        raise NoColumn(
            "missing field", f"no column {name!r} (found {', '.join(map(repr, fields)) or 'none'})"
        )
    return checked_text(text, name)


def checked_text(text: Any, name: str) -> str:
    """Return a text, or raise BadRow where it is none, is empty, or holds half a character."""
    if not isinstance(text, str):
        raise BadRow("not a string", f"{name!r} is {shown(text)}, expected a string")
    if not text.strip():
        raise BadRow("empty text", f"{name!r} is empty, expected a text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRow(
                "broken character",
                f"{name!r} holds \\u{ord(text[error.start]):04x}, half of a surrogate pair, expected whole characters",
            ) from error
    return text


def number_of(value: Any, name: str) -> float:
    """Return a field that must hold a finite number, also written as a string."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRow("not a number", f"{name!r} is {shown(value)}, expected a number")
    return number


def parsed(value: Any, name: str) -> Any:
    """Return what a cell of CSV holds as JSON; other values as they are."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadRow("not valid JSON", f"{name!r} is {shown(value)}, expected JSON ({error})") from error
