"""A model's answers to labelled examples: metrics with intervals, beside baselines or a second model. [evaluation]"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from langmill.checkpoint import Checkpoint, load_checkpoint
from langmill.core.config import resolve
from langmill.core.errors import ConfigError, DataError
from langmill.core.log import say
from langmill.evaluation.language import need_tokenizer
from langmill.metrics.bootstrap import MINIMUM_UNITS, Interval, PairedDifference
from langmill.metrics.significance import McNemar, mcnemar, score_difference, score_interval
from langmill.tasks import find_task, task_of
from langmill.tasks.assessment import Assessment
from langmill.text.documents import ReadReport, plural
from langmill.training.settings import DataSettings


@dataclass(frozen=True)
class Baseline:
    """What a simple model of the same training data reaches."""

    name: str
    figures: Mapping[str, float]
    note: str


@dataclass(frozen=True)
class Duel:
    """A second checkpoint on the same examples."""

    name: str
    assessment: Assessment
    difference: PairedDifference | None
    """Of the main figure, the first model's minus this one's; None: too few examples to say."""
    discordant: McNemar
    """Of the examples that just one of the two has entirely right (McNemar 1947, exact)."""

    @property
    def real(self) -> bool | None:
        """Whether the difference is more than chance: its interval leaves out 0. None: cannot be told."""
        if self.difference is None:
            return None
        return self.difference.interval.low > 0 or self.difference.interval.high < 0

    def sentence(self, first: str) -> str:
        """Say which of the two is better, and whether that is real."""
        if self.difference is None:
            return f"{first} against {self.name}: too few examples to tell a difference from chance"
        gap, interval = self.difference.difference, self.difference.interval
        tests = (
            f"{interval.level:.0%} interval {interval.low:+.4f} to {interval.high:+.4f}, p = {self.difference.p_value:.2g},"
            f" McNemar p = {self.discordant.p_value:.2g}"
        )
        figure = self.assessment.main
        if not self.real:
            return f"no real difference: {first} minus {self.name} is {gap:+.4f} {figure}, which chance alone may give ({tests})"
        better, worse = (first, self.name) if gap > 0 else (self.name, first)
        return f"{better} is better than {worse} by {abs(gap):.4f} {figure}, and the difference is real ({tests})"


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
            tree["against"] = duel_tree(self.against)
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
            if table:
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


def duel_tree(duel: Duel) -> dict[str, Any]:
    """Return a comparison as JSON can hold it."""
    found = duel.difference
    return {
        "checkpoint": duel.name,
        **duel.assessment.figures,
        "difference": None if found is None else found.difference,
        "difference_interval": None if found is None else [found.interval.low, found.interval.high],
        "p_value": None if found is None else found.p_value,
        "p_value_mcnemar": duel.discordant.p_value,
        "real": duel.real,
    }


def evaluate_answers(
    names: Sequence[str],
    data: Sequence[str],
    *,
    reading: Mapping[str, Any],
    train_data: Sequence[str],
    references: bool,
    device: torch.device,
) -> TaskEvaluation:
    """Evaluate the checkpoint `names[0]`, whose model has a head, on labelled data; a second one is compared with it.

    reading: settings of how rows are read, as in `DataSettings`. train_data: what baselines learn from; empty: what the
    run of the first checkpoint was trained on.
    """
    settings = resolve(DataSettings, reading)
    opened = load_checkpoint(names[0], device=device)
    need_tokenizer(opened)
    task: Any = find_task(task_of(opened.model))
    examples = read_examples(task, data, settings)
    result = evaluate_task(names[0], task, opened, examples)
    for name in names[1:]:
        other = load_checkpoint(name, device=device)
        need_tokenizer(other)
        if task_of(other.model) != task.name:
            raise ConfigError(
                f"{names[0]} is made for {task.name}, {name} for {task_of(other.model)}; they cannot be compared"
            )
        result = add_duel(result, name, task.evaluate(other, examples))
    return result


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
    interval = None
    if len(examples) >= MINIMUM_UNITS:
        interval = score_interval(found.score, len(examples))
    return TaskEvaluation(name, task.name, found, interval)


def add_duel(evaluation: TaskEvaluation, name: str, found: Assessment) -> TaskEvaluation:
    """Compare with what a second checkpoint made of the same examples."""
    first = evaluation.assessment
    difference = None
    if evaluation.interval is not None:
        difference = score_difference(first.score, found.score, evaluation.examples)
    return replace(evaluation, against=Duel(name, found, difference, mcnemar(first.right, found.right)))
