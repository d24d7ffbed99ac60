"""The first pass of cleaning: documents through the steps and into sketches, on all cores. [text]"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from langmill.core.errors import DataError, LangmillError
from langmill.core.log import say, warn
from langmill.text import duplicates
from langmill.text.documents import ReadReport
from langmill.text.readers import Boundary, read_documents
from langmill.text.rows import FitsTextFile, Row, is_text_output, whole_rows
from langmill.text.settings import PipelineSettings, ReadingSettings
from langmill.text.shards import ShardWriter
from langmill.text.steps import Outcome, Step

BATCH_CHARACTERS = 1 << 19
BATCH_ROWS = 256

_PARAGRAPH = re.compile(r"[^\n]+\n*")


def numbered_rows(
    paths: Sequence[str | Path], settings: ReadingSettings, report: ReadReport
) -> Iterator[tuple[int, Row]]:
    """Yield all rows of a corpus, bad ones with their reason, counted from 0."""
    documents = read_documents(
        paths,
        boundary=settings.boundary,
        text_field=settings.text_field,
        encoding=settings.encoding,
        on_bad_row="keep" if settings.on_bad_row == "reject" else "fail",
        keep_fields=True,
        report=report,
    )
    return enumerate(whole_rows(documents, maximum_characters=settings.maximum_characters))


def check_reading(
    documents: int, unread: Mapping[str, int], report: ReadReport, settings: ReadingSettings, purpose: str
) -> None:
    """Raise DataError where no document was read, and warn where most rows lack the field of the text.

    unread: reason → rows that could not be read. purpose: what was to be done with documents.
    """
    if not documents:
        faults = [fault for kept in report.faults.values() for fault in kept]
        found = [f"{n:,} {reason} (first: {report.first.get(reason, '?')})" for reason, n in unread.items()]
        raise DataError(
            f"no document to {purpose}: {', '.join(faults[:1] or found) or 'the files are empty'}"
        )
    if (missing := unread.get("missing field", 0)) > documents:
        warn(
            f"{missing:,} rows have no field {settings.text_field!r} and are left out, more than the {documents:,}"
            " that have it; name the right one with --text-field"
        )


def told(rows: Iterable[tuple[int, Row]], *, every_seconds: float = 10.0) -> Iterator[tuple[int, Row]]:
    """Pass rows on and say now and then how far we are."""
    last = time.monotonic()
    for number, row in rows:
        yield number, row
        if number % BATCH_ROWS == 0 and time.monotonic() - last > every_seconds:
            say(f"{number + 1:,} documents read …")
            last = time.monotonic()


def no_steps() -> list[Step]:
    """Return the steps of a run that only looks for duplicates."""
    return []


@dataclasses.dataclass(frozen=True)
class StepsFor:
    """Makes the steps of a run in every process: the user's, and what the output's format asks for."""

    make: Callable[[], Sequence[Step]]
    output: Path
    boundary: Boundary

    def __call__(self) -> list[Step]:
        """Return new steps."""
        fits: list[Step] = [FitsTextFile(self.boundary)] if is_text_output(self.output) else []
        return [*self.make(), *fits]


class Sifted(NamedTuple):
    """What a worker makes of a batch of texts."""

    outcomes: list[Outcome]
    arrays: dict[str, npt.NDArray[Any]]
    """Sketches of the texts that are kept; see `shards.ARRAYS`."""


class Sifter:
    """Puts texts through the steps and sketches what remains."""

    def __init__(self, steps: Sequence[Step], settings: PipelineSettings) -> None:
        self._steps, self._settings = steps, settings

    def __call__(self, texts: Sequence[str]) -> Sifted:
        """Return what becomes of each text."""
        outcomes = [self._judge(text) for text in texts]
        kept = [outcome.text for outcome in outcomes if not outcome.reason]
        return Sifted(outcomes, self._sketch(kept))

    def _judge(self, text: str) -> Outcome:
        counts: dict[str, int] = {}
        for step in self._steps:
            outcome = step(text)
            if outcome.reason:
                return outcome
            text = outcome.text
            for name, count in outcome.counts.items():
                counts[name] = counts.get(name, 0) + count
        return Outcome(text, "" if text.strip() else "nothing left", counts)

    def _sketch(self, texts: list[str]) -> dict[str, npt.NDArray[Any]]:
        settings = self._settings
        arrays: dict[str, npt.NDArray[Any]] = {}
        if settings.dedup != "none":
            arrays |= _sketches(texts, near=settings.dedup == "near", prefix="")
        spans = [paragraphs(text, settings) for text in texts]
        arrays["paragraphs"] = np.array([len(found) for found in spans], np.int64)
        if settings.paragraphs != "none":
            units = [text[begin:end] for text, found in zip(texts, spans) for begin, end in found]
            arrays |= _sketches(units, near=settings.paragraphs == "near", prefix="paragraph_")
        return arrays


def _sketches(texts: list[str], *, near: bool, prefix: str) -> dict[str, npt.NDArray[Any]]:
    normals = [duplicates.normal(text) for text in texts]
    arrays: dict[str, npt.NDArray[Any]] = {f"{prefix}digests": duplicates.digests(normals)}
    if near:
        arrays[f"{prefix}signatures"] = duplicates.signatures(normals)
    return arrays


def paragraphs(text: str, settings: PipelineSettings) -> list[tuple[int, int]]:
    """Return begin and end, line ends included, of the paragraphs that are looked at."""
    if settings.paragraphs == "none":
        return []
    found = (match.span() for match in _PARAGRAPH.finditer(text))
    return [(begin, end) for begin, end in found if end - begin >= settings.paragraph_characters]


_sifter: Sifter | None = None  # of a worker process


def _start_worker(make_steps: Callable[[], Sequence[Step]], settings: PipelineSettings) -> None:
    global _sifter  # noqa: PLW0603 - a process has one
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to answer
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _sifter = Sifter(make_steps(), settings)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(texts: Sequence[str]) -> Sifted:
    assert _sifter is not None
    return _sifter(texts)


Batch = list[tuple[int, Row]]


def batches(rows: Iterable[tuple[int, Row]]) -> Iterator[Batch]:
    """Gather numbered rows into batches of some size."""
    batch: Batch = []
    length = 0
    for number, row in rows:
        batch.append((number, row))
        length += len(row.text)
        if length >= BATCH_CHARACTERS or len(batch) >= BATCH_ROWS:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def sift(
    rows: Iterable[tuple[int, Row]],
    folder: Path,
    *,
    make_steps: Callable[[], Sequence[Step]],
    settings: PipelineSettings,
    workers: int = 1,
) -> None:
    """Put numbered rows through the steps and write them to a new shard in `folder`.

    make_steps: what each worker process calls to have its steps; must be a module's function or a partial of one.
    """
    with ShardWriter(folder) as shard:
        for batch, sifted in _sifted(batches(rows), make_steps, settings, workers):
            outcomes = iter(sifted.outcomes)
            kept = []
            for number, row in batch:
                outcome = Outcome(row.text, row.reason) if row.reason else next(outcomes)
                shard.add(number, row, outcome)
                if not outcome.reason:
                    kept.append(number)
            shard.sketch(kept, sifted.arrays)


def _readable(batch: Batch) -> list[str]:
    return [row.text for _, row in batch if not row.reason]


def _sifted(
    found: Iterator[Batch],
    make_steps: Callable[[], Sequence[Step]],
    settings: PipelineSettings,
    workers: int,
) -> Iterator[tuple[Batch, Sifted]]:
    """Yield batches in their order with what became of them, a few batches ahead in worker processes."""
    sifter = Sifter(
        make_steps(), settings
    )  # here too, so that what is missing is told before a process starts
    first = list(itertools.islice(found, 2))
    found = itertools.chain(first, found)
    if workers == 1 or len(first) < 2:
        for batch in found:
            yield batch, sifter(_readable(batch))
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (make_steps, settings)
    )
    pending: deque[tuple[Batch, Future[Sifted]]] = deque()
    try:
        for batch in found:
            with _no_interruption():  # since this may start a process
                pending.append((batch, pool.submit(_work, _readable(batch))))
            if len(pending) > 2 * workers:
                batch, future = pending.popleft()
                yield batch, future.result()
        for batch, future in pending:
            yield batch, future.result()
    except BrokenProcessPool as error:
        raise LangmillError(
            "a worker process was ended from outside (out of memory?); try fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _no_interruption() -> Iterator[None]:
    """Put Ctrl-C off, and keep it from processes started meanwhile: half-started ones would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
