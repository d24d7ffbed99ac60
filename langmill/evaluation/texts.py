"""Which text a checkpoint is scored on, and which it was trained on. [evaluation]"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langmill.checkpoint.locate import member_names
from langmill.core.config import option_name, read_yaml, resolve
from langmill.core.errors import DataError
from langmill.core.log import say
from langmill.tasks.corpus import Corpus, texts
from langmill.text.documents import ReadReport
from langmill.text.labelled_rows import LabelledSettings, file_rows
from langmill.text.paths import expand
from langmill.text.readers import read_documents
from langmill.training.settings import DataSettings

RUN_FILE = "run.yaml"
COLUMNS = ("text_field", "pair_field", "label_field")
CELLS = ("separator", "tag_names")
"""Settings that say how labelled rows are read, of which a run's hold for further data too."""


@dataclass(frozen=True)
class Texts:
    """Whole documents in memory, and what they are called."""

    texts: tuple[str, ...]
    names: tuple[str, ...]


def read_texts(
    paths: Sequence[str | Path], *, reading: DataSettings | None = None, report: ReadReport | None = None
) -> Texts:
    """Read every document of `paths`, the parts of long ones joined. Raises DataError where there is none."""
    report = ReadReport() if report is None else report
    names, parts, whole = [], [], []
    for document in open_documents(paths, reading=reading, report=report):
        parts.append(document.text)
        if document.last:
            names.append(document.source)
            whole.append("".join(parts))
            parts = []
    if not whole:
        raise DataError(f"{', '.join(map(str, paths))}: no text to score; {report}")
    return Texts(tuple(whole), tuple(names))


def open_documents(
    paths: Sequence[str | Path], *, reading: DataSettings | None = None, report: ReadReport | None = None
) -> Iterator[Any]:
    """Yield the documents of `paths`, read as `reading` says."""
    reading = reading or DataSettings()
    return read_documents(
        paths,
        boundary=reading.boundary,
        text_field=reading.text_field,
        encoding=reading.encoding,
        on_bad_row=reading.on_bad_row,
        report=report,
    )


@dataclass(frozen=True)
class TrainingData:
    """What a checkpoint learned from, as far as it is known and still here."""

    paths: tuple[str, ...] = ()
    """Files, folders or globs; empty: not known."""
    corpus: Corpus | None = field(default=None, compare=False)
    """The run's own corpus, with its split; None for files that the user names."""
    reading: DataSettings = field(default_factory=DataSettings)
    why_not: str = ""
    """Why the text is not known."""

    def texts(self) -> Iterator[str]:
        """Yield the training text, a document or a part of one at a time."""
        if self.corpus is not None:
            return self.corpus.training_texts()
        return (
            (document.text for document in open_documents(self.paths, reading=self.reading))
            if self.paths
            else iter(())
        )

    def held_out(self) -> Texts:
        """Return what the run held out. Raises DataError when that is not known, or nothing was."""
        if self.corpus is None:
            raise DataError(
                f"the held-out text is not known: {self.why_not or 'no run names it'}; name files to score on"
            )
        chosen = [document for document, held_out in self.corpus.documents() if held_out]
        if not chosen:
            raise DataError("the run held out no text; name files to score on")
        return Texts(tuple(texts(chosen)), tuple(each.source for each in chosen if each.last))

    def overlap(self, paths: Sequence[str | Path]) -> list[str]:
        """Return which files of `paths` belong to the training data."""
        own = {path.resolve() for path in expand(self.paths)} if self.paths else set()
        return [str(path) for path in expand(paths) if path.resolve() in own]


def named_data(paths: Sequence[str], *, reading: DataSettings | None = None) -> TrainingData:
    """Return training data that the user names. Raises DataError when a path is missing."""
    expand(paths)
    return TrainingData(tuple(paths), reading=reading or DataSettings())


def run_data(folder: str | Path) -> TrainingData:
    """Return what the run in `folder` was trained on, as its run.yaml says."""
    run_file = Path(folder) / RUN_FILE
    if not run_file.is_file():
        return TrainingData(why_not=f"{folder} has no {RUN_FILE}")
    tree = read_yaml(run_file)
    paths = tree.get("files")
    if not isinstance(paths, list) or not paths:
        return TrainingData(why_not=f"{run_file} names no files")
    held_out = tuple(tree.get("held_out_files") or ())
    try:
        expand([*paths, *held_out])
    except DataError as error:
        return TrainingData(why_not=f"{run_file} names text that is not here ({error})")
    settings = resolve(DataSettings, tree.get("data") or {}, source=str(run_file))
    corpus = Corpus(tuple(paths), held_out, settings, seed=int(tree.get("seed") or 0))
    return TrainingData(tuple(paths), corpus)


def as_trained(given: Mapping[str, Any], name: str, paths: Sequence[str]) -> dict[str, Any]:
    """Return settings of reading rows, and where nothing is given what the run of the checkpoint `name` was told.

    Its columns are taken where the first row of `paths` has them.
    """
    run_file = Path(member_names(name)[0]) / RUN_FILE
    told = (read_yaml(run_file).get("data") or {}) if run_file.is_file() else {}
    known = LabelledSettings().model_dump()
    told = {key: told[key] for key in (*COLUMNS, *CELLS) if key not in given and told.get(key, known[key]) != known[key]}  # fmt: skip
    if not told:
        return dict(given)
    row: Mapping[str, Any] = {}
    with contextlib.suppress(
        DataError, StopIteration
    ):  # what is wrong with the data is said when they are read
        encoding = given.get("encoding", known["encoding"])
        row = next(file_rows(expand(paths)[0], encoding)).fields
    told = {key: value for key, value in told.items() if key in CELLS or value in row}
    if told:
        say(
            f"read as {run_file} says: {' '.join(f'{option_name(key)} {value}' for key, value in told.items())}"
        )
    return {**told, **given}
