"""Scores over the number of examples that were learned from, and what they suggest. [evaluation]"""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from langmill.checkpoint import load_checkpoint
from langmill.core.files import atomic_write
from langmill.core.log import say
from langmill.evaluation.labelled import aligned, corpus_of
from langmill.tasks import find_task
from langmill.tasks.labelled import quick_part


@dataclass(frozen=True)
class CurvePoint:
    """What runs with so many examples reached on the held-out part."""

    examples: int
    folders: tuple[str, ...]
    """Of the runs, one a seed."""
    scores: tuple[float, ...]
    """Their first figures, which training raised."""
    references: Mapping[str, tuple[float, ...]]
    """What simple models reach that learned from the same examples, one score a seed."""


@dataclass(frozen=True)
class LearningCurve:
    """Points in order of their number of examples, two or more."""

    task: str
    metric: str
    points: tuple[CurvePoint, ...]

    @property
    def gains(self) -> tuple[float, ...]:
        """How much the score of each seed rose between the two largest sizes, for each doubling of the examples.

        >>> points = [CurvePoint(n, (), scores, {}) for n, scores in ((100, (0.5, 0.6)), (400, (0.7, 0.7)))]
        >>> [round(gain, 6) for gain in LearningCurve("classify", "accuracy", tuple(points)).gains]
        [0.1, 0.05]
        """
        fewer, more = self.points[-2:]
        doublings = math.log2(more.examples / fewer.examples)
        return tuple((high - low) / doublings for low, high in zip(fewer.scores, more.scores))

    @property
    def suggestion(self) -> str:
        """What the last slope says of more examples; points are too few and too noisy to fit a law to."""
        gains, (fewer, more) = self.gains, self.points[-2:]
        said = (
            f"from {fewer.examples:,} to {more.examples:,} examples {self.metric} changed by {mean(gains):+.4f}"
            " a doubling"
        )
        if len(gains) == 1:
            return f"{said}, with one seed; --seeds 3 would tell it from chance"
        said += f" (seeds: {min(gains):+.4f} to {max(gains):+.4f}): "
        if min(gains) > 0:
            return f"{said}more examples are likely to help, each doubling as a rule less than the one before"
        return f"{said}no gain that all seeds share; more examples of this kind may not help"

    def table(self) -> str:
        """Return sizes, scores and references as text, and the suggestion."""
        names = list(self.points[0].references)
        rows = [["examples", self.metric, *names]]
        for point in self.points:
            columns = (point.scores, *(point.references[name] for name in names))
            rows.append([f"{point.examples:,}", *map(spread, columns)])
        return "\n".join([*aligned(rows), self.suggestion])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        points = [{**asdict(point), "mean": mean(point.scores)} for point in self.points]
        return {
            "task": self.task,
            "metric": self.metric,
            "sizes": points,
            "gain_per_doubling": mean(self.gains),
            "suggestion": self.suggestion,
        }


def spread(scores: Sequence[float]) -> str:
    """Return mean and standard deviation.

    >>> spread([0.5, 0.7]), spread([0.5])
    ('0.6000 ± 0.1414', '0.5000')
    """
    return f"{mean(scores):.4f}" + (f" ± {stdev(scores):.4f}" if len(scores) > 1 else "")


def measure_point(task: str, runs: Sequence[tuple[Path, Mapping[str, float]]]) -> CurvePoint:
    """Return what runs of one size reached, given their folders and figures, and what simple models do instead."""
    learner: Any = find_task(task)
    metric = next(iter(runs[0][1]))
    references: dict[str, list[float]] = defaultdict(list)
    for folder, _ in runs:
        corpus = corpus_of(folder, learner)
        head = getattr(load_checkpoint(folder).model.config, "head", None)
        for name, found, _ in learner.baselines(corpus.train, quick_part(corpus.held_out), head):
            if metric in found.figures:
                references[name].append(found.figures[metric])
    return CurvePoint(
        examples=len(corpus.train),
        folders=tuple(str(folder) for folder, _ in runs),
        scores=tuple(figures[metric] for _, figures in runs),
        references={name: tuple(scores) for name, scores in references.items()},
    )


def draw(curve: LearningCurve, path: Path) -> None:
    """Draw scores over the number of examples, on a logarithmic axis; bars: standard deviation over seeds."""
    if importlib.util.find_spec("matplotlib") is None:
        say(f"{path.name} is not drawn: matplotlib is missing (pip install 'langmill[viz]')")
        return
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(7, 4), dpi=120)
    axes = figure.add_subplot()
    sizes = [point.examples for point in curve.points]
    lines = {"trained": [point.scores for point in curve.points]}
    lines |= {name: [p.references[name] for p in curve.points] for name in curve.points[0].references}
    for name, scores in lines.items():
        bars = [stdev(each) if len(each) > 1 else 0.0 for each in scores]
        ours = name == "trained"
        axes.errorbar(
            sizes,
            [*map(mean, scores)],
            bars,
            fmt="o-" if ours else ".--",
            alpha=1 if ours else 0.6,
            label=name,
        )
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("examples")
    axes.set_ylabel(f"held-out {curve.metric}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    atomic_write(path, lambda temporary: figure.savefig(temporary, format="png"))
    say(f"written: {path}")
