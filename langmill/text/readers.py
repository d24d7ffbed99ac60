"""Readers for text: from files, folders and globs to a stream of documents. [text]

What one document is depends on the format and on `boundary`:

- In the row formats (`.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`) a row is always one document:
  the string in its field `text_field`. Other fields are not looked at, unless `keep_fields` asks for them.
- In text files (prose, Markdown, code, and every file named outright whose ending is unknown):
  `file` or `auto` (the default): the whole file, its line ends kept;
  `line`: each line that is not blank, without its line end;
  `blank`: each block of lines between blank lines (one or more, white space allowed), without the last
  line end.
- In text files a line that consists of `<|endoftext|>` always separates documents and belongs to none.

Documents without any visible character are left out and counted as `empty`; so is a file without any
document. Nothing is ever in memory whole but a row, or a line under `line`: see `Document.part`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.text.documents import PART_CHARACTERS, Document, ReadReport, cut_parts
from langmill.text.formats import Row, rows
from langmill.text.paths import expand, kind_of
from langmill.text.streams import (
    UnreadableText,
    broken_blocks,
    check_encoding,
    text_blocks,
    text_lines,
    whole_lines,
)

Boundary = Literal["file", "line", "blank", "auto"]
OnBadRow = Literal["fail", "skip"]

SEPARATOR = "<|endoftext|>"
"""A line of its own that separates documents in text files."""

_MARK = re.compile(rf"^{re.escape(SEPARATOR)}[ \t]*(?:\n|\Z)", re.MULTILINE)
_BLANK = re.compile(rf"^(?:[^\S\n]*(?:{re.escape(SEPARATOR)}[ \t]*)?\n)+", re.MULTILINE)


def read_documents(
    paths: Sequence[str | Path],
    *,
    boundary: Boundary = "auto",
    text_field: str = "text",
    encoding: str = "utf-8",
    on_bad_row: OnBadRow | Literal["keep"] = "fail",
    keep_fields: bool = False,
    report: ReadReport | None = None,
) -> Iterator[Document]:
    """Yield the documents of files, folders and globs, in the order given and, within folders, sorted.

    boundary: what a document is in text files; see the module.
    text_field: the field or column that holds the text in row formats.
    encoding: of files without a byte order mark.
    on_bad_row: `fail` raises DataError at the first row that cannot be used, as `path:line: found, expected`;
        `skip` leaves it out and counts it in `report` by reason. What can be left out is a row, a line under
        `line`, and a whole text file whose bytes are not text under the other boundaries. Damage that hides
        where rows begin (a broken archive, broken `.json`) is raised in any case. `keep` yields, and counts,
        what `skip` leaves out as a document that has a `reason` and what was found as its text: nothing is
        lost, not even an empty row.
    keep_fields: give a row's documents its other fields.
    report: counts what is read, while it is read.

    Paths and settings are checked at once, files when their turn comes.
    """
    _check("boundary", boundary, get_args(Boundary))
    _check("on_bad_row", on_bad_row, [*get_args(OnBadRow), "keep"])
    check_encoding(encoding)
    report = ReadReport() if report is None else report
    files = expand(paths, report=report)
    return _read(files, boundary, text_field, encoding, on_bad_row, keep_fields, report)


def _check(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"{name}: {value!r} is not one of {', '.join(allowed)}{did_you_mean(value, allowed)}"
        )


def _read(
    files: Iterable[Path],
    boundary: Boundary,
    text_field: str,
    encoding: str,
    on_bad_row: str,
    keep_fields: bool,
    report: ReadReport,
) -> Iterator[Document]:
    for path in files:
        kind = kind_of(path)
        known = report.documents + report.skipped.total()
        report.files += 1
        faults = _Faults(path, on_bad_row, report)
        keep = on_bad_row == "keep"
        groups: Iterable[Group]
        if kind != "text":
            found = rows(path, kind, text_field=text_field, encoding=encoding, keep_fields=keep_fields)
            groups = _row_groups(path, found, faults)
        elif boundary == "line":
            groups = _line_groups(path, encoding, faults)
        elif on_bad_row != "fail" and (reason := _why_no_text(path, encoding)):
            report.skip(reason, str(path))
            groups = [Group(str(path), cut_parts(broken_blocks(path, encoding=encoding)), None, reason)]
        else:
            groups = _text_groups(path, encoding, blank=boundary == "blank")
        for group in groups:
            yield from _documents(group, keep, report)
        if report.documents + report.skipped.total() == known:
            yield from _documents(Group(str(path), [("", True)]), keep, report)


class Group(NamedTuple):
    """A document to be: its source, its parts as (text, last), and more of what `Document` tells."""

    source: str
    parts: Iterable[tuple[str, bool]]
    fields: Mapping[str, Any] | None = None
    reason: str = ""
    """Why it cannot be used, which is counted already."""


def _documents(group: Group, keep: bool, report: ReadReport) -> Iterator[Document]:
    if group.reason and not keep:
        return
    for number, (text, last) in enumerate(group.parts):
        reason = group.reason
        if number == 0 and last and not reason and not text.strip():
            report.skip("empty", group.source)
            if not keep:
                return
            reason = "empty"
        document = Document(text, group.source, number, last, group.fields, reason)
        if not reason:
            report.add(document)
        yield document


class _Faults:
    """What to do about a bad row of one file."""

    def __init__(self, path: Path, on_bad_row: str, report: ReadReport) -> None:
        self._path, self._fail, self._report = path, on_bad_row == "fail", report

    def __call__(self, line: int, reason: str, fault: str) -> None:
        place = f"{self._path}:{line}"
        if self._fail:
            raise DataError(f"{place}: {fault}; or leave such rows out with --on-bad-row skip")
        self._report.skip(reason, place, fault)


def _row_groups(path: Path, found: Iterable[Row], faults: _Faults) -> Iterator[Group]:
    line = nth = 0
    for row in found:
        nth = nth + 1 if row.line == line else 1  # an array of JSON may stand in one line
        line = row.line
        if row.fault:
            faults(row.line, row.reason, row.fault)
        source = f"{path}:{line}" + (f"#{nth}" if nth > 1 else "")
        yield Group(source, _parts(row.text), row.fields, row.reason)


def _line_groups(path: Path, encoding: str, faults: _Faults) -> Iterator[Group]:
    for line in text_lines(path, encoding=encoding):
        if line.fault:
            faults(line.number, line.reason, line.fault)
        if line.fault or line.text.strip() not in ("", SEPARATOR):
            yield Group(f"{path}:{line.number}", _parts(line.text), None, line.reason)


def _parts(text: str) -> Iterable[tuple[str, bool]]:
    """Cut a row; one without a character still is a document, to be counted as empty."""
    return [(text, True)] if len(text) <= PART_CHARACTERS else cut_parts([text])


def _why_no_text(path: Path, encoding: str) -> str:
    """Read a text file once to see whether its bytes are text; return the reason if they are not."""
    try:
        for _ in text_blocks(path, encoding=encoding):
            pass
    except UnreadableText as error:
        return error.reason
    return ""


def _text_groups(path: Path, encoding: str, *, blank: bool) -> Iterator[Group]:
    pieces = whole_lines(text_blocks(path, encoding=encoding))
    for line, fragments in itertools.groupby(_fragments(pieces, blank=blank), key=lambda pair: pair[0]):
        source = str(path) if line == 1 else f"{path}:{line}"
        yield Group(source, cut_parts((text for _, text in fragments), drop_line_end=blank))


def _fragments(pieces: Iterable[str], *, blank: bool) -> Iterator[tuple[int, str]]:
    """Yield (line where its document begins, text) for what lies between separators.

    pieces: as `whole_lines` yields them.
    """
    pattern = _BLANK if blank else _MARK
    line = begin = 1
    at_line_start = True
    for piece in pieces:
        ends_line = piece.endswith("\n")
        if blank and not ends_line and len(piece) < PART_CHARACTERS:  # the file's last line: close it
            piece, ends_line = piece + "\n", True
        first = 0 if at_line_start else piece.find("\n") + 1 or len(piece)
        at_line_start = ends_line
        position = 0
        whole = ends_line or len(piece) < PART_CHARACTERS  # else a piece out of a very long line
        for match in pattern.finditer(piece, first) if whole and (blank or SEPARATOR in piece) else ():
            yield begin, piece[position : match.start()]
            line += piece.count("\n", position, match.end())
            begin, position = line, match.end()
        yield begin, piece[position:]
        line += piece.count("\n", position)
