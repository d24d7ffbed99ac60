"""The first pass of cleaning as tasks of datatrove, for corpora and machines that outgrow one process pool. [text]

Every task reads the corpus and takes each `tasks`-th block of its rows (reading is cheap beside cleaning, and rows of
packed or quoted files cannot be found otherwise), puts them through the steps, and leaves a shard. datatrove starts the
tasks, keeps their logs and statistics, and marks those that are done: the same command again does what is missing.
The second pass merges the shards by row number, so that the output is that of `pipeline.clean` byte for byte.

Only the local executor is used and tested here. `tasks_of` gives the pipeline that another executor of datatrove
(Slurm, Ray) would run where all see the same folder; `pipeline.settle` then ends the work.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from langmill.core.errors import LangmillError, MissingDependencyError
from langmill.core.files import digest, make_folder, read_json, write_json
from langmill.core.log import say
from langmill.text.documents import ReadReport
from langmill.text.paths import expand, source_fingerprint
from langmill.text.pipeline import CleaningReport, beside, check_output, settle
from langmill.text.rows import Row
from langmill.text.settings import PipelineSettings
from langmill.text.sifting import StepsFor, no_steps, numbered_rows, sift
from langmill.text.steps import Step

try:
    from datatrove.data import Document
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.base import PipelineStep
except ImportError as error:
    raise MissingDependencyError(
        "--engine datatrove needs datatrove; install it with `pip install 'langmill[bigdata]'`"
    ) from error

BLOCK_ROWS = 64
FAULT = "fault.txt"
"""Holds what a user's mistake ended a task with."""


class RowReader(PipelineStep):
    """Yields a task's share of the corpus as datatrove's documents."""

    name, type = "langmill rows", "Reader"

    def __init__(self, paths: Sequence[str], settings: PipelineSettings) -> None:
        super().__init__()
        self.paths, self.settings = list(paths), settings

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the rows of every `world_size`-th block, bad ones too."""
        for number, row in numbered_rows(self.paths, self.settings, ReadReport()):
            if number // BLOCK_ROWS % world_size == rank:
                self.stat_update("rows")
                yield Document(row.text, str(number), metadata={"row": row})


class Sift(PipelineStep):
    """Puts documents through our steps into a shard of the task's own."""

    name, type = "langmill steps", "Cleaner"

    def __init__(
        self, shards: Path, make_steps: Callable[[], Sequence[Step]], settings: PipelineSettings
    ) -> None:
        super().__init__()
        self.shards, self.make_steps, self.settings = shards, make_steps, settings

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Write the shard, and pass nothing on."""
        folder = make_folder(shard_of(self.shards, rank))
        (folder / FAULT).unlink(missing_ok=True)
        try:
            sift(map(_numbered, data), folder, make_steps=self.make_steps, settings=self.settings)
        except (
            LangmillError
        ) as error:  # left for the first process: raised here, datatrove would print a traceback
            (folder / FAULT).write_text(str(error), encoding="utf-8")
        yield from ()


def _numbered(document: Document) -> tuple[int, Row]:
    return int(document.id), document.metadata["row"]


def shard_of(shards: Path, rank: int) -> Path:
    """Return the folder of a task's shard."""
    return shards / f"{rank:05d}"


def tasks_of(
    paths: Sequence[str], shards: Path, make_steps: Callable[[], Sequence[Step]], settings: PipelineSettings
) -> list[PipelineStep]:
    """Return the pipeline that every task runs."""
    return [RowReader(paths, settings), Sift(shards, make_steps, settings)]


def clean_in_tasks(
    paths: Sequence[str | Path],
    output: Path,
    *,
    tasks: int,
    make_steps: Callable[[], Sequence[Step]] = no_steps,
    settings: PipelineSettings | None = None,
    described: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> CleaningReport:
    """Do what `pipeline.clean` does in `tasks` tasks of datatrove, `settings.workers` at a time.

    Beside the output stands `….work` until all is done: logs, marks of completed tasks and their shards.
    """
    settings, described = settings or PipelineSettings(), described or {}
    check_output(paths, output, overwrite=overwrite)
    begin, read = time.perf_counter(), ReadReport()
    read.files = len(expand(paths, report=read))
    steps = StepsFor(make_steps, output, settings.boundary)
    steps()  # what is missing is told before a task starts
    work = _work_folder(beside(output, "work"), paths, settings, described, tasks)
    executor = LocalPipelineExecutor(
        pipeline=tasks_of([str(path) for path in paths], work / "shards", steps, settings),
        tasks=tasks,
        workers=min(settings.workers or tasks, tasks),
        logging_dir=str(work / "logs"),
    )
    executor.run()
    shards = [shard_of(work / "shards", rank) for rank in range(tasks)]
    for rank, shard in enumerate(shards):
        if (shard / FAULT).exists():
            executor.logging_dir.rm_file(f"completions/{rank:05d}")
            raise LangmillError((shard / FAULT).read_text(encoding="utf-8"))
    report = settle(shards, output, settings=settings, read=read, begin=begin, described=described)
    shutil.rmtree(work)
    return report


def _work_folder(
    folder: Path,
    paths: Sequence[str | Path],
    settings: PipelineSettings,
    described: dict[str, Any],
    tasks: int,
) -> Path:
    """Return the folder of an interrupted run of the same work, or a new one."""
    plan = {
        "langmill_data": digest(
            source_fingerprint(paths), settings.model_dump_json(exclude={"workers"}), repr(described)
        ),
        "tasks": tasks,
    }
    note = folder / "plan.json"
    if folder.exists():
        if not note.exists():
            raise LangmillError(
                f"{folder}: is in the way of the work's own folder; move it or choose another -o"
            )
        if read_json(note) == plan:
            say(f"{folder}: going on with what an earlier run left")
            return folder
        shutil.rmtree(folder)
    make_folder(folder)
    write_json(note, plan)
    return folder
