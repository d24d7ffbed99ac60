"""Rows of JSON Lines, JSON, CSV, TSV and Parquet, one text each, read as a stream. [text]"""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from langmill.core.errors import DataError, MissingDependencyError, did_you_mean
from langmill.text.paths import Kind, split_ending
from langmill.text.streams import Line, open_bytes, text_blocks, text_lines

CSV_FIELD_CHARACTERS = 1 << 26
"""Longest CSV field; a quotation mark that is never closed stops here instead of swallowing the file."""

PARQUET_BATCH_ROWS = 128


class Row(NamedTuple):
    """A row: its text, or the fault that spoils it (what was found, what was expected) and what was found."""

    line: int
    """The line where it begins; in Parquet the row; both from 1."""
    text: str = ""
    """Of a faulty row all that stands in it, as it was read."""
    reason: str = ""
    """Names the kind of fault in few words, for counting; empty for a good row."""
    fault: str = ""
    fields: dict[str, Any] | None = None
    """The other fields, under `keep_fields`."""


def rows(
    path: Path,
    kind: Kind,
    *,
    text_field: str | None = "text",
    encoding: str = "utf-8",
    keep_fields: bool = False,
) -> Iterator[Row]:
    """Yield the rows of a file in one of the row formats, broken ones with their fault.

    text_field: None: no field is taken out as the text, and with `keep_fields` a row has them all, in order.
    keep_fields: give each good row its other fields, as JSON values (of CSV and TSV: strings).
    Raises DataError for what spoils the whole file: no such column, a damaged file, broken JSON in `.json`.
    """
    if kind == "jsonl":
        yield from _jsonl_rows(path, text_field, encoding, keep_fields)
    elif kind == "json":
        yield from _json_rows(path, text_field, encoding, keep_fields)
    elif kind == "csv":
        yield from _csv_rows(path, text_field, encoding, keep_fields)
    elif kind == "tsv":
        yield from _tsv_rows(path, text_field, encoding, keep_fields)
    else:
        assert kind == "parquet", kind
        yield from _parquet_rows(path, text_field, keep_fields)


def _text_row(line: int, value: Any, text_field: str | None, raw: str | None, keep_fields: bool) -> Row:
    """Return the row that holds `value[text_field]`, or tell what is wrong with it.

    raw: how `value` is written in the file, where that is at hand.
    """
    row = _checked_row(line, value, text_field)
    if row.fault:
        return row._replace(text=_written(value) if raw is None else raw)
    return row._replace(fields=_others(value, text_field)) if keep_fields else row


def _others(value: dict[str, Any], text_field: str | None) -> dict[str, Any]:
    return {name: inner for name, inner in value.items() if name != text_field}


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, default=str)


def _checked_row(line: int, value: Any, text_field: str | None) -> Row:
    if not isinstance(value, dict):
        wanted = "fields" if text_field is None else f"the field {text_field!r}"
        return Row(line, "", "not an object", f"found {shown(value)}, expected an object with {wanted}")
    if text_field is None:
        return Row(line)
    if text_field not in value:
        found = ", ".join(repr(name) for name in value) or "no fields"
        hint = did_you_mean(text_field, value)
        fault = f"no field {text_field!r}{hint} (found {found}); name the right one with --text-field"
        return Row(line, "", "missing field", fault)
    return _string_row(line, value[text_field], text_field)


def _string_row(line: int, text: Any, text_field: str) -> Row:
    if not isinstance(text, str):
        return Row(line, "", "not a string", f"field {text_field!r} is {shown(text)}, expected a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        fault = f"field {text_field!r} holds {half}, half of a surrogate pair, expected whole characters"
        return Row(line, "", "broken character", fault)
    return Row(line, text)


def shown(value: Any) -> str:
    """Name a JSON value's type and show its beginning.

    >>> shown(42), shown(None), shown(["中文"])
    ('a number (42)', 'null', 'a list (["中文"])')
    """
    if value is None:
        return "null"
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}…"
    return f"{names.get(type(value), 'a ' + type(value).__name__)} ({shown})"


def _jsonl_rows(path: Path, text_field: str | None, encoding: str, keep_fields: bool) -> Iterator[Row]:
    """One JSON object a line; blank lines are passed over, as the format allows."""
    for line in text_lines(path, encoding=encoding):
        if line.fault:
            yield Row(line.number, line.text, line.reason, line.fault)
        elif line.text and not line.text.isspace():
            try:
                value = json.loads(line.text)
            except json.JSONDecodeError as error:
                fault = (
                    f"not valid JSON ({error.msg} at column {error.colno}); expected one JSON object per line"
                )
                yield Row(line.number, line.text, "not valid JSON", fault)
            except (ValueError, RecursionError) as error:  # a number of thousands of digits; deep nesting
                yield Row(line.number, line.text, "not valid JSON", f"not readable as JSON ({error})")
            else:
                yield _text_row(line.number, value, text_field, line.text, keep_fields)


class _JsonStream:
    """A window over JSON text that is read on as needed."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.path = path
        self.line = 1
        self._blocks = text_blocks(path, encoding=encoding)
        self._text, self._position, self._ended = "", 0, False
        self._decoder = json.JSONDecoder()

    def _read_on(self) -> None:
        """Drop what is consumed, and at least double what is left, so that retries stay linear."""
        pieces = [self._text[self._position :]]
        wanted, length = 2 * len(pieces[0]) + 1, len(pieces[0])
        while length < wanted and not self._ended:
            block = next(self._blocks, None)
            self._ended = block is None
            pieces.append(block or "")
            length += len(pieces[-1])
        self._text, self._position = "".join(pieces), 0

    def _advance(self, to: int) -> None:
        self.line += self._text.count("\n", self._position, to)
        self._position = to

    def peek(self) -> str:
        """Return the next character that is not white space; at the end the empty string."""
        while True:
            rest = json.decoder.WHITESPACE.match(self._text, self._position)  # type: ignore[attr-defined]
            self._advance(rest.end())
            if self._position < len(self._text):
                return self._text[self._position]
            if self._ended:
                return ""
            self._read_on()

    def take(self, character: str) -> bool:
        """Pass over `character` if it comes next."""
        if self.peek() != character:
            return False
        self._advance(self._position + 1)
        return True

    def value(self) -> Any:
        """Return the JSON value that comes next, or raise DataError at the line where it is broken."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._position)
                if end < len(self._text) or self._ended:  # a number at the very end may go on
                    self._advance(end)
                    return value
            except json.JSONDecodeError as error:
                # Text that merely stops too early fails at its end, or at the beginning of an open string.
                cut_short = error.pos > len(self._text) - 16 or error.msg.startswith("Unterminated string")
                if self._ended or not cut_short:
                    self._advance(error.pos)
                    raise self.broken(error.msg) from error
            except (ValueError, RecursionError) as error:
                raise self.broken(str(error)) from error
            self._read_on()

    def broken(self, what: str) -> DataError:
        """Return the error for JSON that cannot be read on from here."""
        return DataError(
            f"{self.path}:{self.line}: not valid JSON ({what}); expected an array of objects, "
            "and nothing behind this can be read: mend the file"
        )


def _json_rows(path: Path, text_field: str | None, encoding: str, keep_fields: bool) -> Iterator[Row]:
    """The objects of one array; or objects one after another, as some name JSON Lines `.json`."""
    stream = _JsonStream(path, encoding)
    if not stream.take("["):
        while stream.peek():
            line = stream.line
            yield _text_row(line, stream.value(), text_field, None, keep_fields)
        return
    if not stream.take("]"):
        while True:
            stream.peek()
            line = stream.line
            yield _text_row(line, stream.value(), text_field, None, keep_fields)
            if stream.take("]"):
                break
            if not stream.take(","):
                raise stream.broken(
                    "Expecting ',' or ']'" if stream.peek() else "the file ends within the array"
                )
    if stream.peek():
        raise stream.broken("Extra data behind the array")


def _column(path: Path, line: int, names: list[str], text_field: str | None) -> int:
    """Return the place of the text column in the header; -1 where none is asked for."""
    if text_field is None:
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(
                f"{path}:{line}: the header names {twice!r} more than once (found {', '.join(names)})"
            )
        return -1
    if names.count(text_field) == 1:
        return names.index(text_field)
    found = ", ".join(repr(name) for name in names)
    if text_field in names:
        raise DataError(f"{path}:{line}: the header names {text_field!r} more than once (found {found})")
    hint = did_you_mean(text_field, names)
    raise DataError(
        f"{path}:{line}: no column {text_field!r} in the header{hint} (found {found}); "
        "name the right one with --text-field"
    )


def _fields_row(line: int, fields: list[str], names: list[str], place: int, keep_fields: bool) -> Row:
    """Return the row whose text stands at `place`, or tell that it has too many or too few fields."""
    if len(fields) != len(names):
        fault = f"found {len(fields)} fields, expected {len(names)} as in the header"
        return Row(line, "", "wrong number of fields", fault)
    if place < 0:
        return Row(line, fields=dict(zip(names, fields)))
    if not keep_fields:
        return Row(line, fields[place])
    return Row(line, fields[place], fields=_others(dict(zip(names, fields)), names[place]))


@contextlib.contextmanager
def _field_limit(characters: int) -> Iterator[None]:
    """Raise the csv module's only setting, which is global, and put it back."""
    former = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(former)


def _csv_rows(path: Path, text_field: str | None, encoding: str, keep_fields: bool) -> Iterator[Row]:
    """Comma-separated values with a header (RFC 4180): quoted fields may hold commas and line ends."""
    lines: list[Line] = []  # that the row being read consists of
    last = 0

    def feed() -> Iterator[str]:
        nonlocal last
        for line in text_lines(path, encoding=encoding):
            last = line.number
            lines.append(line)
            yield line.text + "\n"

    reader = csv.reader(feed(), strict=True)
    names: list[str] | None = None
    place = 0
    while True:
        begin = last + 1
        lines.clear()
        try:
            with _field_limit(CSV_FIELD_CHARACTERS):
                fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = Row(begin, "", "not valid CSV", f"not valid CSV ({error}); is a quotation mark unpaired?")
        else:
            if not fields:  # a blank line
                continue
            if names is None and not any(line.fault for line in lines):
                names = fields
                place = _column(path, begin, names, text_field)
                continue
            row = _fields_row(begin, fields, names, place, keep_fields) if names else Row(begin)
        if faulty := next((line for line in lines if line.fault), None):
            row = Row(faulty.number, "", faulty.reason, faulty.fault)
        if names is None:
            raise DataError(f"{path}:{row.line}: {row.fault}; without its header the file cannot be read")
        yield row._replace(text="\n".join(line.text for line in lines)) if row.fault else row


def _tsv_rows(path: Path, text_field: str | None, encoding: str, keep_fields: bool) -> Iterator[Row]:
    """Tab-separated values with a header: a line is a row, and a field holds neither tab nor line end.

    Quotation marks are ordinary characters, but a field wholly in quotation marks, with those within
    doubled, is what a CSV writer makes of a text with quotation marks, and read as such.
    """
    names: list[str] | None = None
    place = 0
    for line in text_lines(path, encoding=encoding):
        if names is None:
            if line.fault:
                raise DataError(f"{path}:{line.number}: {line.fault}")
            names = [_unquoted(name) for name in line.text.split("\t")]
            place = _column(path, line.number, names, text_field)
            continue
        fields = line.text.split("\t")
        if line.fault:
            yield Row(line.number, line.text, line.reason, line.fault)
        elif line.text or len(names) == 1:
            row = _fields_row(line.number, [*map(_unquoted, fields)], names, place, keep_fields)
            yield row._replace(text=line.text) if row.fault else row


def _unquoted(field: str) -> str:
    """Take off the quotation marks of a CSV writer.

    >>> print(_unquoted('"他说：""好""。"'), _unquoted('"a" or "b"'))
    他说："好"。 "a" or "b"
    """
    if len(field) < 2 or field[0] != '"' or field[-1] != '"':
        return field
    inner = field[1:-1]
    return field if '"' in inner.replace('""', "") else inner.replace('""', '"')


def _parquet_rows(path: Path, text_field: str | None, keep_fields: bool) -> Iterator[Row]:
    """One column of a Parquet file, or all, a few rows at a time."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: reading Parquet needs pyarrow; install it with `pip install 'langmill[data]'`"
        ) from error
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_bytes(path))
        if split_ending(path)[1]:  # Parquet is read from its end, a compressed stream only from its beginning
            whole = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(source, whole)
            whole.seek(0)
            source = whole
        try:
            file = parquet.ParquetFile(source, pre_buffer=False)
            _column(path, 1, file.schema_arrow.names, text_field)
            number = 0
            columns = None if keep_fields or text_field is None else [text_field]
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=columns):
                for place in range(batch.num_rows):
                    number += 1
                    yield _parquet_row(number, batch, place, text_field)
        except (arrow.ArrowException, OSError) as error:  # damaged Thrift is an OSError
            raise DataError(f"{path}: damaged or not Parquet ({str(error).splitlines()[0]})") from error


def _parquet_row(number: int, batch: Any, place: int, text_field: str | None) -> Row:
    """Return a row with all the columns of `batch` that there are, the text's own left out."""
    fields: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns):
        try:
            fields[name] = column[place].as_py()
        except UnicodeDecodeError as error:
            raw = error.object.decode("utf-8", "backslashreplace")
            fault = f"not valid UTF-8 (byte 0x{error.object[error.start]:02X}) in field {name!r}"
            return Row(number, raw, "not valid UTF-8", fault)
    if text_field is None:
        return Row(number, fields=fields)
    row = _string_row(number, fields.pop(text_field), text_field)
    return row._replace(text=_written(fields)) if row.fault else row._replace(fields=fields)
