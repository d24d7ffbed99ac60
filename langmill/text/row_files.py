"""Files of rows with named columns, written so that the readers read them again: JSON Lines, CSV and TSV. [text]"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langmill.core.errors import DataError, did_you_mean
from langmill.text.paths import kind_of, split_ending
from langmill.text.rows import json_line, open_writer

WriteRow = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def row_writer(path: Path) -> Iterator[WriteRow]:
    """Open a file for rows, in the format of its ending, also with .gz or .zst behind it.

    CSV and TSV have the columns of the first row; lists and objects stand in them as JSON. Raises DataError for
    another ending, and for a row of CSV or TSV with other columns.
    """
    kind = kind_of(path)
    if kind not in ("jsonl", "csv", "tsv"):
        ending = split_ending(path)[0]
        raise DataError(
            f"{path}: cannot write rows to {ending or 'a file without ending'}; expected .jsonl, .csv or .tsv"
            f"{did_you_mean(ending, ['.jsonl', '.csv', '.tsv'])}"
        )
    with open_writer(path) as stream:
        names: list[str] = []

        def write_object(row: Mapping[str, Any]) -> None:
            stream.write(json_line(row))

        def write_line(row: Mapping[str, Any]) -> None:
            if not names:
                names.extend(row)
                stream.write(table_line(names, tabs=kind == "tsv"))
            if strange := [name for name in row if name not in names]:
                raise DataError(
                    f"{path}: a row has the column {strange[0]!r}, which the first row lacks; write .jsonl, whose rows may"
                    " differ"
                )
            stream.write(table_line([cell(row.get(name)) for name in names], tabs=kind == "tsv"))

        yield write_object if kind == "jsonl" else write_line


def cell(value: Any) -> str:
    """Return a value as it stands in a table.

    >>> cell(None), cell(0.5), cell(["a", "b"])
    ('', '0.5', '["a", "b"]')
    """
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def table_line(fields: Sequence[str], *, tabs: bool) -> bytes:
    """Return a line of CSV or TSV."""
    if tabs:
        if spoilt := next((each for each in fields if set(each) & set("\t\n\r")), None):
            raise DataError(
                f"TSV has no room for a tab or line end, as in {spoilt[:40]!r}; write .csv or .jsonl"
            )
        return ("\t".join(quoted(each) for each in fields) + "\n").encode()
    held = io.StringIO()
    csv.writer(held, lineterminator="\n").writerow(fields)
    return held.getvalue().encode()


def quoted(text: str) -> str:
    """Return a field of TSV so that it is read as it is: what is wholly in quotation marks gets further ones."""
    plain = len(text) < 2 or text[0] != '"' or text[-1] != '"'
    return text if plain else '"' + text.replace('"', '""') + '"'
