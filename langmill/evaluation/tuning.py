"""What a search for settings found: a table for the terminal, and a page. [evaluation]"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from langmill.core import log
from langmill.core.files import atomic_write
from langmill.core.page import page, picture, table
from langmill.tasks.spaces import FALLING, Searched

FEW = 20
"""Trials run to their end below which importances say little."""
PART = 3


@dataclass(frozen=True)
class Trial:
    """One training run of a search."""

    number: int
    state: str
    """complete, pruned (ended early, others having been better by then) or failed."""
    value: float | None
    """The figure that is to be improved; of a pruned trial that of its last evaluation."""
    settings: Mapping[str, Any]
    """Those that were searched, by dotted name; of the first trial, what the defaults came to."""
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: Mapping[int, float] = field(default_factory=dict)
    """The figure by tenths of the run: what the last evaluation until then has said."""
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class TuneResult:
    """What a search came to."""

    folder: str
    """The best trial's checkpoint; empty: no trial ran to its end."""
    metric: str
    value: float | None
    default_value: float | None
    """What the settings that are not searched reach: trial 0."""
    settings: Mapping[str, Any]
    """The best trial's, of those that were searched."""
    trials: tuple[Trial, ...]
    space: tuple[str, ...]
    importance: Mapping[str, float]
    """Share of each setting in what sets the better trials apart (PED-ANOVA)."""
    seconds: float
    """Of all trials."""
    report: str = ""
    interrupted: str = ""
    resume_command: str = ""
    next_commands: tuple[str, ...] = ()

    @property
    def rises(self) -> bool:
        """Whether the figure is better where it is higher."""
        return self.metric not in FALLING

    @property
    def ranked(self) -> list[Trial]:
        """The trials: those run to their end, the best first; then the pruned; then the failed."""
        order = {"complete": 0, "pruned": 1, "failed": 2}

        def rank(trial: Trial) -> tuple[int, float, int]:
            value = math.inf if trial.value is None else trial.value * (-1 if self.rises else 1)
            return order[trial.state], value, trial.number

        return sorted(self.trials, key=rank)

    def summary(self) -> str:
        """Say it in a table and a few lines, with what to do next."""
        names = [each.partition("=")[0].replace("-", "_") for each in self.space]
        rows = [("trial", self.metric, "time", *names), *(row_of(trial, names) for trial in self.ranked)]
        widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        lines += [f"  trial {trial.number} failed: {trial.reason}" for trial in self.trials if trial.reason]
        lines = [*lines, ""] if self.trials else []
        lines += self.verdict()
        if self.interrupted:
            lines.append(
                f"stopped by {self.interrupted}; what was found is kept. To go on:\n    {self.resume_command}"
            )
        return "\n".join(lines + [f"    {command}" for command in self.next_commands])

    def verdict(self) -> list[str]:
        """Say in sentences what was gained, and how far it is to be believed."""
        if self.value is None:
            return ["no trial has run to its end"]
        best = self.ranked[0]
        lines = [f"best: trial {best.number} in {self.folder}, {self.metric} {self.value:.4f}"]
        if not best.number:
            lines[0] += ": nothing was better than the defaults"
        elif self.default_value is not None:
            gain = abs(self.value - self.default_value)
            lines[0] += f", {gain:.4f} better than the defaults (trial 0, {self.default_value:.4f})"
        done = len([trial for trial in self.trials if trial.state == "complete"])
        if done > 1:
            lines.append(
                f"The best of {done} figures on the same held-out examples is better than its settings are: part of it is"
                " luck. Evaluate on other data before you believe it."
            )
        return lines


def row_of(trial: Trial, names: Sequence[str]) -> tuple[str, ...]:
    """Return a trial's row of the table; a pruned one's figure is of the share of its run that it had."""
    value = "failed" if trial.value is None else f"{trial.value:.4f}"
    state = f" at {10 * max(trial.curve)}%" if trial.state == "pruned" else ""
    settings = (form(trial.settings[name]) if name in trial.settings else "default" for name in names)
    return f"{trial.number}", value + state, log.format_seconds(trial.seconds), *settings


def form(value: Any) -> str:
    """Return a setting's value for people.

    >>> form(0.00123456), form("char"), form(128)
    ('0.001235', 'char', '128')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_page(path: Path, result: TuneResult, space: Sequence[Searched], *, title: str) -> None:
    """Write the report; raises MissingDependencyError without matplotlib."""
    names = [each.name for each in space]
    show = partial(picture, option="the report")
    body = [
        *(f"<p>{escape(line)}</p>" for line in result.verdict()),
        f"<p>Searched: {escape('; '.join(result.space))}</p>",
        "<h2>History</h2>",
        show(partial(draw_history, result=result)),
    ]
    if result.importance:
        done = len([trial for trial in result.trials if trial.state == "complete"])
        doubt = (
            f" With {done} trials run to their end, fewer than {FEW}, they mean little." if done < FEW else ""
        )
        body += [
            "<h2>Importance</h2>",
            "<p>How much each setting has to do with a trial being among the better ones (PED-ANOVA, Watanabe et al. 2023),"
            f" as shares.{doubt}</p>",
            table(
                ["setting", "share"], [(name, f"{share:.3f}") for name, share in result.importance.items()]
            ),
        ]
    rows = -(-len(space) // PART)
    body += [
        "<h2>Settings</h2>",
        "<p>Each point is a trial run to its end; the defaults are ringed.</p>",
        show(partial(draw_settings, result=result, space=space), height=3.2 * rows),
        "<h2>Trials</h2>",
        table(["trial", result.metric, "time", *names], [row_of(trial, names) for trial in result.ranked]),
    ]
    if failed := [(trial.number, trial.reason) for trial in result.trials if trial.reason]:
        body += ["<h2>Failed</h2>", table(["trial", "reason"], failed, kind="text")]
    atomic_write(path, page(title, body))


def draw_history(figure: Any, result: TuneResult) -> None:
    """Draw the trials' figures one after the other with the best so far, and how each came to be."""
    left, right = figure.subplots(1, 2)
    done = [trial for trial in result.trials if trial.state == "complete" and trial.value is not None]
    values = [trial.value for trial in done if trial.value is not None]
    best = list(itertools.accumulate(values, max if result.rises else min))
    left.plot([trial.number for trial in done], [trial.value for trial in done], "o", label="to its end")
    left.step([trial.number for trial in done], best, where="post", label="best so far")
    left.set(xlabel="trial", ylabel=result.metric)
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend()
    for trial in result.trials:
        known = sorted(trial.curve.items())
        chosen = trial.number == result.ranked[0].number
        colour = "C1" if chosen else "0.6" if trial.state == "pruned" else "C0"
        places, values = [10 * tenth for tenth, _ in known], [value for _, value in known]
        right.plot(
            places, values, drawstyle="steps-post", linewidth=1, color=colour, zorder=3 if chosen else 2
        )
    right.set(xlabel="% of the run", ylabel=result.metric, title="the best trial in orange, pruned ones grey")


def draw_settings(figure: Any, result: TuneResult, space: Sequence[Searched]) -> None:
    """Draw the figure over each setting."""
    rows = -(-len(space) // PART)
    axes = figure.subplots(rows, PART, squeeze=False).flatten()
    done = [trial for trial in result.trials if trial.state == "complete" and trial.value is not None]
    for axis, each in zip(axes, space):
        known = [trial for trial in done if each.name in trial.settings]
        places = [trial.settings[each.name] for trial in known]
        if each.choices:
            places = [each.choices.index(value) for value in places]
            axis.set_xticks(range(len(each.choices)), map(form, each.choices))
        elif each.log:
            axis.set_xscale("log")
        axis.plot(places, [trial.value for trial in known], "o")
        for place, trial in zip(places, known):
            if trial.number == 0:
                axis.plot(place, trial.value, "o", markersize=11, markerfacecolor="none", color="C1")
        axis.set(xlabel=each.name, ylabel=result.metric)
    for axis in axes[len(space) :]:
        axis.set_axis_off()
