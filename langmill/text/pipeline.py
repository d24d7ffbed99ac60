"""Cleaning a corpus: every document through the steps, then duplicates away, nothing lost uncounted. [text]

Two passes. The first reads, and on all cores puts each document through the steps and sketches what remains; rows
and sketches go to a folder beside the output. The second makes clusters of the sketches and writes every row to
the output or, with the reason, to the rejects, in the order in which they were read; what comes out depends neither
on the number of workers nor on the engine. In memory are a few batches and about 100 bytes a kept document
(`duplicates` tells more); on disk, for the time being, as much as the output and 512 bytes a document.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from langmill.core.files import PARTIAL, make_folder, write_json
from langmill.core.log import say
from langmill.text import duplicates
from langmill.text.documents import ReadReport
from langmill.text.paths import check_outputs, split_ending
from langmill.text.rows import DocumentWriter, Row, as_reject, is_text_output, json_line, open_writer
from langmill.text.settings import Level, PipelineSettings
from langmill.text.shards import Record, merge_arrays, read_counts, read_records
from langmill.text.sifting import StepsFor, check_reading, no_steps, numbered_rows, paragraphs, sift, told
from langmill.text.steps import Step

EXACT, NEAR, REPEATED = "exact duplicate", "near-duplicate", "only repeated paragraphs"
EXAMPLE_CHARACTERS = 160


@dataclasses.dataclass(frozen=True)
class Example:
    """A rejected document: where it stands, and its beginning."""

    source: str
    text: str
    duplicate_of: str = ""


@dataclasses.dataclass(frozen=True)
class CleaningReport:
    """What became of a corpus: `read` is `kept` and all `rejected` together."""

    output: str
    rejects: str
    files: int
    read: int
    kept: int
    rejected: dict[str, int]
    changes: dict[str, int]
    """In how many of the documents that passed the steps something was changed, by name."""
    characters_in: int
    characters_out: int
    ignored: dict[str, int]
    """Reason → files that were not read."""
    seconds: float
    examples: dict[str, Example]
    settings: dict[str, Any]


def clean(
    paths: Sequence[str | Path],
    output: Path,
    *,
    make_steps: Callable[[], Sequence[Step]] = no_steps,
    settings: PipelineSettings | None = None,
    described: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> CleaningReport:
    """Clean the corpus that `paths` name into `output` (.jsonl or .txt, .gz or .zst may follow).

    make_steps: see `sift`. described: the settings of the steps, for the report. overwrite: replace what is there.
    Beside the output stand `….rejects.jsonl` and `….report.json`. Nothing is there before all is done.
    """
    settings = settings or PipelineSettings()
    check_output(paths, output, overwrite=overwrite)
    begin, read = time.perf_counter(), ReadReport()
    rows = told(numbered_rows(paths, settings, read))  # looks for the files, before there is one more folder
    make_folder(output.parent)
    folder = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=output.parent))
    try:
        steps = StepsFor(make_steps, output, settings.boundary)
        sift(
            rows, folder, make_steps=steps, settings=settings, workers=settings.workers or os.cpu_count() or 1
        )
        return settle([folder], output, settings=settings, read=read, begin=begin, described=described or {})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_output(paths: Sequence[str | Path], output: Path, *, overwrite: bool) -> None:
    """Raise DataError for an output of another format, and for what `check_outputs` refuses."""
    is_text_output(output)
    written = (output, beside(output, "rejects.jsonl"), beside(output, "report.json"))
    check_outputs(written, read=paths, overwrite=overwrite)


def beside(output: Path, name: str) -> Path:
    """Return the path of a file that belongs to an output.

    >>> str(beside(Path("a/clean.jsonl.gz"), "report.json"))
    'a/clean.report.json'
    """
    stem = output.with_suffix("") if split_ending(output)[1] else output
    return stem.with_suffix(f".{name}")


class Verdicts(NamedTuple):
    """What the sketches tell about kept rows, which are numbered anew from 0."""

    exact: npt.NDArray[np.int64]
    """The first row that equals each."""
    near: npt.NDArray[np.int64]
    """The first row that is like each."""
    paragraphs: npt.NDArray[np.int64]
    """How many paragraphs each has."""
    repeated: npt.NDArray[np.bool_]
    """Of each paragraph whether it goes."""


def judge(arrays: dict[str, npt.NDArray[Any]], settings: PipelineSettings) -> Verdicts:
    """Make clusters of what `shards.merge_arrays` returns: of documents, then of the remaining ones' paragraphs."""
    count = len(arrays["numbers"])
    exact, near = _clusters(arrays, "", np.ones(count, bool), settings.dedup, settings.threshold)
    stay = near == np.arange(count)
    looked_at = np.repeat(stay, arrays["paragraphs"])
    first = _clusters(arrays, "paragraph_", looked_at, settings.paragraphs, settings.threshold)[1]
    return Verdicts(exact, near, arrays["paragraphs"], looked_at & (first != np.arange(len(first))))


def _clusters(
    arrays: dict[str, npt.NDArray[Any]],
    prefix: str,
    chosen: npt.NDArray[np.bool_],
    level: Level,
    threshold: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return for every unit the first that equals it, and the first that is like it, among the chosen."""
    exact = np.arange(len(chosen))
    if level == "none" or not chosen.any():
        return exact, exact
    rows = np.flatnonzero(chosen)
    exact[rows] = rows[duplicates.first_of_equal(np.asarray(arrays[f"{prefix}digests"])[rows])]
    near = exact.copy()
    if level == "near":
        rows = rows[exact[rows] == rows]
        near[rows] = duplicates.first_of_alike(arrays[f"{prefix}signatures"], rows, threshold=threshold)
        near = near[exact]
    return exact, near


class Settled(NamedTuple):
    """What becomes of a row."""

    line: bytes
    reason: str = ""
    """Why it goes to the rejects."""
    text: str = ""
    """What is rejected."""
    first: str = ""
    """Where the one that it repeats stands."""
    characters: int = 0
    """Of a row that stays."""


class _Settling:
    """Decides row by row, in order, what goes to the output and what to the rejects."""

    def __init__(self, verdicts: Verdicts, settings: PipelineSettings) -> None:
        self._verdicts, self._settings = verdicts, settings
        self._index = self._paragraph = 0
        self._sources: dict[int, str] = {}
        own = np.arange(len(verdicts.near))
        self._named = set(
            np.unique(np.concatenate([x[x != own] for x in (verdicts.exact, verdicts.near)])).tolist()
        )
        self.shortened = 0
        """Documents that lost a paragraph."""

    def __call__(self, record: Record) -> Settled:
        """Return what becomes of a row."""
        if not record.kept:
            tree = json.loads(record.line)
            return Settled(record.line, tree["reason"], tree["text"])
        index, self._index = self._index, self._index + 1
        goes = self._verdicts.repeated[self._paragraph : self._paragraph + self._verdicts.paragraphs[index]]
        self._paragraph += len(goes)
        if index in self._named:
            self._sources[index] = record.source
        for reason, labels in ((EXACT, self._verdicts.exact), (NEAR, self._verdicts.near)):
            if labels[index] != index:
                return self._reject(record, reason, self._sources[int(labels[index])])
        if not goes.any():
            return Settled(record.line, characters=record.characters)
        tree = json.loads(record.line)
        text = without(tree["text"], paragraphs(tree["text"], self._settings), goes)
        if not text.strip():
            return self._reject(record, REPEATED, "")
        self.shortened += 1
        return Settled(json_line(tree | {"text": text}), characters=len(text))

    def _reject(self, record: Record, reason: str, first: str) -> Settled:
        tree = json.loads(record.line)
        text = tree.pop("text")
        if tree.get("source") == record.source:
            del tree["source"]
        more = {"duplicate_of": first} if first else {}
        line = as_reject(Row(text, record.source, tree), reason, **more)
        return Settled(line, reason, text, first)


def without(text: str, spans: Sequence[tuple[int, int]], goes: Sequence[bool] | npt.NDArray[np.bool_]) -> str:
    """Return a text without some of its spans; it ends in a line end only if it did.

    >>> without("a\\n\\nb\\nc", [(0, 3), (5, 6)], [False, True])
    'a\\n\\nb'
    """
    pieces, position = [], 0
    for (begin, end), gone in zip(spans, goes):
        if gone:
            pieces.append(text[position:begin])
            position = end
    kept = "".join(pieces) + text[position:]
    return kept if text.endswith("\n") else kept.rstrip("\n")


def settle(
    folders: Sequence[Path],
    output: Path,
    *,
    settings: PipelineSettings,
    read: ReadReport,
    begin: float,
    described: dict[str, Any],
) -> CleaningReport:
    """Write output, rejects and report from the shards that all rows were sifted into."""
    counts = read_counts(folders)
    check_reading(counts.read - counts.unread.total(), counts.unread, read, settings, "clean")
    say("looking for duplicates …" if settings.dedup != "none" else "writing …")
    settling = _Settling(judge(merge_arrays(folders, folders[0].parent), settings), settings)
    rejected = counts.rejected.copy()
    examples: dict[str, Example] = {}
    kept = characters = 0
    rejects = beside(output, "rejects.jsonl")
    with open_writer(rejects) as aside, open_writer(output) as stream:
        writer = DocumentWriter(stream, output, settings.boundary)
        for record in read_records(folders):
            settled = settling(record)
            if reason := settled.reason:
                aside.write(settled.line)
                examples.setdefault(
                    reason, Example(record.source, settled.text[:EXAMPLE_CHARACTERS], settled.first)
                )
                rejected[reason] += record.kept  # the others are counted already
            else:
                writer.write(settled.line)
                kept += 1
                characters += settled.characters
    if settling.shortened:
        counts.changes["repeated paragraphs"] += settling.shortened
    report = CleaningReport(
        str(output), str(rejects), read.files, counts.read, kept, dict(rejected.most_common()),
        dict(counts.changes.most_common()), counts.characters_in, characters, dict(read.ignored),
        round(time.perf_counter() - begin, 2), examples, {**settings.model_dump(mode="json"), **described},
    )  # fmt: skip
    assert report.read == kept + rejected.total(), "a row was lost"
    write_json(beside(output, "report.json"), dataclasses.asdict(report))
    return report
