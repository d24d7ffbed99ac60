"""A model's answers to labelled examples: metrics with intervals, beside baselines or a second model. [evaluation]"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from langmill.checkpoint import Checkpoint, open_checkpoint
from langmill.checkpoint.locate import member_names
from langmill.core.config import read_yaml, resolve
from langmill.core.errors import ConfigError, DataError
from langmill.core.log import say
from langmill.evaluation.language import need_tokenizer
from langmill.evaluation.report import overlap_note
from langmill.evaluation.texts import RUN_FILE, run_data
from langmill.evaluation.verdict import difference_tree, verdict
from langmill.metrics.association import share_interval
from langmill.metrics.bootstrap import MINIMUM_UNITS, Interval, PairedDifference
from langmill.metrics.significance import McNemar, mcnemar, score_difference, score_interval
from langmill.tasks import find_task, task_of
from langmill.tasks.assessment import Assessment
from langmill.tasks.base import Request
from langmill.tasks.embed import shortened
from langmill.tasks.labelled import LabelledCorpus, read_corpus
from langmill.text.documents import ReadReport, plural
from langmill.training.settings import DataSettings, TrainSettings


@dataclass(frozen=True)
class Baseline:
    """What a simple model of the same training data reaches."""

    name: str
    figures: Mapping[str, float]
    note: str

    @staticmethod
    def of(name: str, found: Assessment, note: str) -> Baseline:
        """Return it with those of its figures that are plain numbers."""
        plain = {key: value for key, value in found.figures.items() if isinstance(value, (int, float))}
        return Baseline(name, plain, note)


@dataclass(frozen=True)
class Duel:
    """A second checkpoint on the same examples."""

    name: str
    assessment: Assessment
    difference: PairedDifference | None
    """Of the main figure, the first model's minus this one's; None: too few examples to say."""
    discordant: McNemar
    """Of the examples that just one of the two has entirely right (McNemar 1947, exact)."""

    def sentence(self, first: str) -> str:
        """Say which of the two is better, and whether that is real."""
        tests = f", McNemar p = {self.discordant.p_value:.2g}"
        return verdict(first, self.name, self.difference, figure=self.assessment.main, tests=tests)


@dataclass(frozen=True)
class TaskEvaluation:
    """What `langmill evaluate` found of a model with answers."""

    name: str
    task: str
    assessment: Assessment
    interval: Interval | None
    """Of the main figure; None: too few examples."""
    baselines: tuple[Baseline, ...] = ()
    against: Duel | None = None
    notes: tuple[str, ...] = ()

    @property
    def examples(self) -> int:
        """How many were answered."""
        return len(self.assessment.right)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        found, interval = self.assessment, self.interval
        tree: dict[str, Any] = {
            "checkpoint": self.name,
            "task": self.task,
            **found.figures,
            "examples": self.examples,
        }
        tree["interval"] = None if interval is None else [interval.low, interval.high]
        tree |= {"interval_of": found.main, "interval_level": None if interval is None else interval.level}
        if self.baselines:
            tree["baseline"] = {each.name: {**each.figures, "note": each.note} for each in self.baselines}
        if self.against is not None:
            against = self.against
            tree["against"] = {
                "checkpoint": against.name,
                **against.assessment.figures,
                **difference_tree(against.difference),
                "p_value_mcnemar": against.discordant.p_value,
            }
        return tree | {"notes": list(self.notes)}

    def table(self) -> str:
        """Return it all as text, columns aligned."""
        main = self.assessment.main
        plain = [name for name, value in self.assessment.figures.items() if isinstance(value, (int, float))]
        columns = [main, *(name for name in plain if name != main)]
        models = [(self.name, self.assessment.figures)]
        models += [(self.against.name, self.against.assessment.figures)] if self.against else []
        models += [(each.name, each.figures) for each in self.baselines]
        rows = [["", *columns]]
        rows += [[name, *(shown(figures.get(column)) for column in columns)] for name, figures in models]
        lines = aligned(rows)
        if self.interval is not None:
            low, high = self.interval.low, self.interval.high
            lines.append(
                f"\n{main} lies between {low:.4f} and {high:.4f} with {self.interval.level:.0%} confidence"
                f" ({plural(self.examples, 'example')}, bootstrap)"
            )
        tables = {
            name: value for name, value in self.assessment.figures.items() if isinstance(value, Mapping)
        }
        for table in tables.values():
            if table and isinstance(next(iter(table.values())), Mapping):
                names = list(next(iter(table.values())))
                lines += [
                    "",
                    *aligned(
                        [["", *names], *([label, *map(shown, row.values())] for label, row in table.items())]
                    ),
                ]
        if self.against is not None:
            lines += ["", self.against.sentence(self.name)]
        notes = [*(f"{each.name}: {each.note}" for each in self.baselines if each.note), *self.notes]
        return "\n".join([*lines, *([""] if notes else []), *(f"note: {note}" for note in notes)])


def shown(value: Any) -> str:
    """Return a figure as it is printed."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines whose columns stand under one another; the first to the left, the rest to the right."""
    from rich.cells import cell_len

    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> Iterator[str]:
        for i, (cell, width) in enumerate(zip(row, widths)):
            space = " " * (width - cell_len(cell))
            yield cell + space if i == 0 else space + cell

    return ["  ".join(line(row)).rstrip() for row in rows]


def evaluate_answers(
    names: Sequence[str],
    data: Sequence[str],
    *,
    reading: DataSettings,
    train_data: Sequence[str],
    references: bool,
    device: torch.device,
    report: Path | None = None,
    size: int = 0,
) -> TaskEvaluation:
    """Evaluate the checkpoint `names[0]`, whose model has a head, on labelled data; a second one is compared with it.

    train_data: what baselines learn from; empty: what the
    run of the first checkpoint was trained on. report: where to write a page about a classifier's mistakes.
    size: numbers that are kept of the first one's vectors; 0: all.
    """
    opened = open_checkpoint(names[0], device=device)
    need_tokenizer(opened)
    task: Any = find_task(task_of(opened.model))
    if report is not None and task.name != "classify":
        raise ConfigError(f"--report is of classifiers; {names[0]} is made for {task.name}: leave it out")
    if report is not None and getattr(opened.model.config, "head", None) is None:
        raise ConfigError(f"--report: {names[0]} gives no labels, of which the page tells; leave it out")
    if size and task.name != "embed":
        raise ConfigError(
            f"--size shortens vectors of texts; {names[0]} is made for {task.name}: leave it out"
        )
    opened = shortened(opened, size) if size else opened
    examples = read_examples(task, data, reading)
    called = f"{names[0]} ({plural(size, 'number')})" if size else names[0]
    result = evaluate_task(called, task, opened, examples)
    for name in names[1:]:
        other = open_checkpoint(name, device=device)
        need_tokenizer(other)
        if task_of(other.model) != task.name:
            raise ConfigError(
                f"{names[0]} is made for {task.name}, {name} for {task_of(other.model)}; they cannot be compared"
            )
        result = add_duel(result, name, task.evaluate(other, examples))
    if references:
        learned: tuple[Sequence[Any], str] = (), ""
        if getattr(task, "baselines_learn", True):
            learned = training_examples(member_names(names[0])[0], task, train_data, reading)
        result = add_baselines(result, task, opened, examples, learned)
    seen = [note for each in member_names(names[0]) for note in overlap_note(run_data(each), data, names[0])]
    result = replace(result, notes=(*result.notes, *dict.fromkeys(seen)))
    if report is not None:
        from langmill.evaluation.error_report import write_report

        write_report(report, result, examples, opened.model.config.head)
        say(f"written: {report}")
    return result


def training_examples(
    name: str, task: Any, train_data: Sequence[str], settings: DataSettings
) -> tuple[Sequence[Any], str]:
    """Return what baselines learn from, or nothing and why."""
    if train_data:
        return read_examples(task, train_data, settings), ""
    run_file = Path(name) / RUN_FILE
    if not run_file.is_file():
        return (
            (),
            f"{name} has no {RUN_FILE}, so what it was trained on is not known; name it with --train-data",
        )
    if (found := read_yaml(run_file).get("task")) != task.name:
        return (), f"{run_file} is of a run of {found}"
    try:
        return corpus_of(Path(name), task).train, ""
    except DataError as error:
        return (), f"what {name} was trained on cannot be read ({error}); name it with --train-data"


def corpus_of(folder: Path, task: Any) -> LabelledCorpus:
    """Read and split once more the examples that the run in `folder` had."""
    tree = read_yaml(folder / RUN_FILE)
    asked = {name: value for name, value in tree.items() if name in ("data", "seed")}
    files, held_out = tuple(tree["files"]), tuple(tree.get("held_out_files") or ())
    return read_corpus(Request(files, held_out, folder, resolve(TrainSettings, asked)), task, again=True)


def add_baselines(
    evaluation: TaskEvaluation,
    task: Any,
    checkpoint: Checkpoint,
    examples: Sequence[Any],
    train: tuple[Sequence[Any], str],
) -> TaskEvaluation:
    """Say what simple models of the same training data reach."""
    learned, why_not = train
    if why_not:
        return replace(evaluation, notes=(*evaluation.notes, f"no baselines: {why_not}"))
    say("baselines …")
    found = task.baselines(learned, examples, getattr(checkpoint.model.config, "head", None))
    return replace(evaluation, baselines=tuple(Baseline.of(*each) for each in found))


def read_examples(task: Any, paths: Sequence[str], settings: DataSettings) -> list[Any]:
    """Return the examples of files, or raise DataError where there is none."""
    report = ReadReport()
    examples = list(task.read(paths, settings, report))
    if not examples:
        raise DataError(f"{', '.join(paths)}: nothing to evaluate on; {report}")
    say(f"read {report}")
    return examples


def evaluate_task(name: str, task: Any, checkpoint: Checkpoint, examples: Sequence[Any]) -> TaskEvaluation:
    """Answer all examples and score the answers."""
    found = task.evaluate(checkpoint, examples)
    return TaskEvaluation(name, task.name, found, interval_of(found))


def interval_of(found: Assessment) -> Interval | None:
    """Return the interval of the main figure; None with too few examples.

    Where all examples are right, or none, resampling them says nothing: the interval is then that of a share.
    """
    count, hits = len(found.right), int(found.right.sum())
    if count < MINIMUM_UNITS:
        return None
    interval = score_interval(found.score, count)
    if hits in (0, count) and interval.low == interval.high:
        low, high = share_interval(hits, count)
        return replace(interval, low=min(low, interval.low), high=max(high, interval.high))
    return interval


def add_duel(evaluation: TaskEvaluation, name: str, found: Assessment) -> TaskEvaluation:
    """Compare with what a second checkpoint made of the same examples."""
    first = evaluation.assessment
    difference = None
    if evaluation.interval is not None:
        difference = score_difference(first.score, found.score, evaluation.examples)
    return replace(evaluation, against=Duel(name, found, difference, mcnemar(first.right, found.right)))
