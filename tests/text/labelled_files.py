"""Files of labelled data for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from langmill.core.errors import DataError
from langmill.text.documents import ReadReport
from langmill.text.labelled_rows import LabelledSettings


def write(path: Path, *rows: Any) -> Path:
    """Write rows as JSON Lines, or text as it stands."""
    text = "".join(
        row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) + "\n" for row in rows
    )
    path.write_text(text, encoding="utf-8", newline="")
    return path


def read(reader: Any, path: Path, **settings: Any) -> list[Any]:
    """Return all that a reader gives; nothing is left out."""
    report = ReadReport()
    need = {"need_labels": settings.pop("need_labels")} if "need_labels" in settings else {}
    found = list(reader([path], LabelledSettings(**settings), report, **need))
    assert report.documents == len(found)
    assert not report.skipped
    return found


def refused(reader: Any, path: Path, rows: int, **settings: Any) -> tuple[str, str]:
    """Return (reason, message) of the only bad row of a file of so many, whether it is refused or left out."""
    need = {"need_labels": settings.pop("need_labels")} if "need_labels" in settings else {}
    with pytest.raises(DataError) as caught:
        list(reader([path], LabelledSettings(**settings), ReadReport(), **need))
    report = ReadReport()
    found = list(reader([path], LabelledSettings(**settings, on_bad_row="skip"), report, **need))
    assert len(found) == report.documents == rows - 1
    assert report.skipped.total() == 1
    (reason,) = report.skipped
    (fault,) = report.faults[reason]
    message = str(caught.value)
    assert message.removesuffix("; or leave such rows out with --on-bad-row skip") == fault
    assert "\n" not in message
    return reason, fault.replace(f"{path.parent}/", "")
