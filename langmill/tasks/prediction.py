"""A model's answers to the rows of files, in order, each with all columns that it came with. [tasks]"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langmill.checkpoint import Checkpoint
from langmill.core.log import say
from langmill.text.documents import ReadReport
from langmill.text.labelled_rows import LabelledSettings

CHUNK_ROWS = 2048
"""Rows that are answered together, sorted by length among themselves."""
LINE_SECONDS = 5.0
"""Time between lines of progress."""


def predict_rows(
    checkpoint: Checkpoint,
    task: Any,
    paths: Sequence[str],
    settings: LabelledSettings,
    write: Callable[[Mapping[str, Any], Any], None],
) -> ReadReport:
    """Answer every row of files, which need not be labelled, and hand it on: (columns with the answer's, result).

    The answer's columns stand behind the row's own; one of the same name is replaced. Returns what was read and what
    was left out.
    """
    report = ReadReport()
    examples = iter(task.read(paths, settings, report, answers=False))
    begin = last = time.perf_counter()
    done = 0
    while chunk := list(itertools.islice(examples, CHUNK_ROWS)):
        results = task.predict(checkpoint, [task.question(example) for example in chunk])
        for example, result in zip(chunk, results, strict=True):
            write({**example.fields, **result.columns()}, result)
        done += len(chunk)
        now = time.perf_counter()
        if now - last >= LINE_SECONDS:
            last = now
            say(f"{done:,} rows, {done / (now - begin):,.0f} a second")
    return report
