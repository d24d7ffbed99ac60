"""One model from several: the mean of their weights. [evaluation]

A soup (Wortsman et al. 2022, arXiv:2203.05482) costs no more to run than one of the models. They must lie close together,
as fine-tunings of one checkpoint do; between models trained from scratch the mean is seldom of any use.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langmill.checkpoint import Checkpoint, load_checkpoint
from langmill.checkpoint.ensembles import mean_decisions
from langmill.checkpoint.export import export_checkpoint, make_room
from langmill.checkpoint.folder import model_config
from langmill.checkpoint.locate import member_names
from langmill.core.config import flatten, option_name, read_yaml, resolve
from langmill.core.errors import CheckpointError, ConfigError
from langmill.core.files import atomic_write
from langmill.core.log import say, warn
from langmill.evaluation.labelled import aligned, read_examples
from langmill.evaluation.report import score_checkpoint
from langmill.evaluation.texts import RUN_FILE, read_texts
from langmill.models.families.recurrent import RECURRENT
from langmill.models.protocol import Layerless
from langmill.tasks import find_task, task_of
from langmill.text.documents import plural
from langmill.training.settings import DataSettings
from langmill.version import __version__

CARD = "README.md"


@dataclass(frozen=True)
class Measured:
    """What a checkpoint reaches."""

    figure: str
    value: float
    rises: bool = True
    """Whether more of it is better."""

    @property
    def worth(self) -> float:
        """What is to be raised."""
        return self.value if self.rises else -self.value


Score = Callable[[Checkpoint, str], Measured]
"""From a checkpoint and its name to what it reaches."""
Settle = Callable[[Checkpoint], None]
"""Sets how a checkpoint's answers are read: a threshold, a temperature."""


@dataclass(frozen=True)
class Portion:
    """A checkpoint that was offered to a soup."""

    name: str
    score: float | None = None
    """Of it alone; None: nothing was measured."""
    mixed: float | None = None
    """Of the soup with it."""
    kept: bool = True


@dataclass(frozen=True)
class Soup:
    """What `langmill combine` made."""

    folder: str
    portions: tuple[Portion, ...]
    """In the order in which they were offered."""
    measure: str = ""
    """What their scores are; empty: nothing was measured and all were taken."""

    @property
    def kept(self) -> list[str]:
        """The names of those that the soup is made of."""
        return [portion.name for portion in self.portions if portion.kept]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {**dataclasses.asdict(self), "kept": self.kept}

    def rows(self) -> Iterator[list[str]]:
        """Yield the steps as rows of a table, the first with the columns' names."""
        yield ["", self.measure, "soup with it", ""]
        for each in self.portions:
            yield [each.name, f"{each.score:.4f}", f"{each.mixed:.4f}", "kept" if each.kept else "left out"]

    def table(self) -> str:
        """Return it all as text."""
        lines = aligned(list(self.rows())) if self.measure else []
        alone = f"the weights of {self.kept[0]} alone; with each of the others the score falls"
        what = f"the mean of {', '.join(self.kept)}" if len(self.kept) > 1 else alone
        return "\n".join([*lines, f"{self.folder}: {what}"])


class Mean:
    """The mean of weights, added one model after the other."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, Tensor] = {}
        self.decisions: list[Mapping[str, float]] = []

    def with_(self, checkpoint: Checkpoint) -> Mean:
        """Return the mean with one more."""
        more = Mean()
        more.count = self.count + 1
        # In float64, so that the mean of equal weights is these very weights.
        own = {name: p.detach().double() for name, p in checkpoint.model.named_parameters()}
        more.sums = {name: self.sums[name] + p if self.sums else p for name, p in own.items()}
        more.decisions = [*self.decisions, checkpoint.decisions]
        return more

    @torch.no_grad()
    def checkpoint(self, like: Checkpoint) -> Checkpoint:
        """Return a checkpoint with the mean of the weights, and of the numbers by which answers are read."""
        model = copy.deepcopy(like.model)
        for name, p in model.named_parameters():
            p.copy_(self.sums[name] / self.count)
        decisions = mean_decisions(self.decisions)
        return replace(like, model=model, decisions=decisions, folder=None, base=None, adapter={})


def combine(
    names: Sequence[str],
    output: str,
    *,
    data: Sequence[str] = (),
    reading: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    overwrite: bool = False,
) -> Soup:
    """Write the mean of checkpoints' weights as a checkpoint: of all, or with data of those that raise its score.

    names: also folders that `train --seeds` wrote. data: held-out files on which the greedy soup is chosen. reading: how
    they are read, as in `DataSettings`. Adapters count as merged into their bases.

    Raises CheckpointError where one is missing or of another layout, or `output` holds something.
    """
    if reading and not data:
        raise ConfigError(
            f"{option_name(next(iter(reading)))} says how --data is read; name some, or leave it out"
        )
    names = [each for name in names for each in member_names(name)]
    check_output(Path(output), names, overwrite=overwrite)
    first = open_portion(names[0], device)
    if not overwrite:
        make_room(Path(output), first, overwrite=False)
    warn_of_scratch(names)

    def portion(name: str) -> Checkpoint:
        opened = open_portion(name, device)
        check_alike(names[0], first, name, opened)
        return opened

    if data:
        score, settle = scorer(first, data, resolve(DataSettings, reading or {}))
        mean, soup = greedy(names, portion, score)
        soup, made = replace(soup, folder=output), mean.checkpoint(first)
        settle(made)
    else:
        mean, soup = Mean(), Soup(output, tuple(map(Portion, names)))
        for name in names:
            mean = mean.with_(portion(name))
        made = mean.checkpoint(first)
    export_checkpoint(output, made, overwrite=overwrite)
    write_card(soup, first, data)
    return soup


def greedy(names: Sequence[str], portion: Callable[[str], Checkpoint], score: Score) -> tuple[Mean, Soup]:
    """Offer checkpoints to a soup, the best first; one stays in it while the score does not fall (recipe 1)."""
    alone: dict[str, Measured] = {}
    for name in dict.fromkeys(names):
        alone[name] = score(portion(name), name)
        say(f"{name}: {alone[name].value:.4f} {alone[name].figure}")
    mean, portions = Mean(), list[Portion]()
    best = max(alone.values(), key=lambda each: each.worth)
    for name in sorted(names, key=lambda each: -alone[each].worth):
        opened = portion(name)
        more = mean.with_(opened)
        mixed = score(more.checkpoint(opened), f"soup with {name}") if mean.count else alone[name]
        if kept := mixed.worth >= best.worth:
            mean, best = more, mixed
        portions.append(Portion(name, alone[name].value, mixed.value, kept))
    return mean, Soup("", tuple(portions), best.figure)


def scorer(like: Checkpoint, data: Sequence[str], settings: DataSettings) -> tuple[Score, Settle]:
    """Return functions from a checkpoint of the kind of `like` to its main figure on data, and one that settles it by them."""
    name = task_of(like.model)
    if name == "lm":
        texts = read_texts(data, reading=settings)

        def bits(checkpoint: Checkpoint, name: str) -> Measured:
            return Measured("bits/byte", score_checkpoint(checkpoint, name, texts).bits_per_byte, rises=False)

        return bits, lambda checkpoint: None
    task: Any = find_task(name)
    if not hasattr(task, "evaluate"):
        raise ConfigError(
            f"--data: a model for {name} has no held-out score here; leave it out for the mean of all"
        )
    examples = read_examples(task, data, settings)

    def main(checkpoint: Checkpoint, name: str) -> Measured:
        found = task.evaluate(checkpoint, examples)
        return Measured(found.main, float(found.figures[found.main]))

    return main, lambda checkpoint: task.settle(checkpoint, examples) if hasattr(task, "settle") else None


def open_portion(name: str, device: str | torch.device) -> Checkpoint:
    """Return a checkpoint whose weights can be averaged."""
    opened = load_checkpoint(name, device=device)
    if isinstance(opened.model.config, Layerless):
        raise CheckpointError(
            f"{name}: a model of n-grams is fitted, and its numbers are of n-grams that another does not have; of"
            " several that give labels the answers can be averaged: langmill predict A+B"
        )
    return opened


def check_alike(first: str, one: Checkpoint, name: str, other: Checkpoint) -> None:
    """Raise CheckpointError, saying in what, where two checkpoints are not of one layout; dropout may differ."""
    ours, theirs = (
        {
            "task": task_of(each.model),
            "family": each.family,
            **flatten(dataclasses.asdict(model_config(each.model))),
            "tokenizer": each.tokenizer and each.tokenizer.backend.get_vocab(with_added_tokens=True),
            "pooling": each.pooling,
        }
        for each in (one, other)
    )
    for key in dict.fromkeys([*ours, *theirs]):
        if ours.get(key) == theirs.get(key) or "drop" in key:
            continue
        values = "" if key == "tokenizer" else f" ({ours.get(key)} and {theirs.get(key)})"
        raise CheckpointError(
            f"{first} and {name} differ in {key}{values}; weights are averaged of one layout with one tokenizer"
        )


def check_output(folder: Path, names: Sequence[str], *, overwrite: bool) -> None:
    """Raise CheckpointError where there is nothing to average, or something would be lost."""
    if len(names) < 2:
        raise CheckpointError(
            f"{names[0]}: one checkpoint is no mean; name several: langmill combine A B -o DIR"
        )
    if folder.resolve() in [Path(name).resolve() for name in names]:
        raise CheckpointError(f"{folder}: a model is read from there; write to another folder")
    if (folder / CARD).exists() and not overwrite:
        raise CheckpointError(
            f"{folder}: already holds {CARD}; pass --overwrite to replace it, or write to another folder"
        )


def warn_of_scratch(names: Sequence[str]) -> None:
    """Say where runs did not go on from a checkpoint."""
    runs = [Path(name) / RUN_FILE for name in dict.fromkeys(names)]
    scratch = [run.parent for run in runs if run.is_file() and not read_yaml(run).get("from_checkpoint")]
    if len(scratch) > 1:
        warn(
            f"{', '.join(map(str, scratch))}: trained from scratch, each to another solution; the mean of such weights is"
            " seldom of use (--data FILE shows what it is worth)"
        )


def write_card(soup: Soup, like: Checkpoint, data: Sequence[str]) -> None:
    """Write README.md: what the model is made of, and how."""
    library = "langmill" if like.family == RECURRENT.name else "transformers"
    kind = "greedy" if soup.measure else "uniform"
    rows = list(soup.rows()) if soup.measure else [["checkpoint"], *([name] for name in soup.kept)]
    rows[0][0] = "checkpoint"
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    table = "\n".join(lines)
    chosen = (
        f"""
The order and the choice are by {soup.measure} on {", ".join(f"`{path}`" for path in data)}, so that the soup's own score there \
is a little too good; evaluate it on other data.
"""
        if soup.measure
        else ""
    )
    again = ["langmill", "combine", *(each.name for each in soup.portions), "-o", soup.folder]
    again += itertools.chain.from_iterable(("--data", path) for path in data)
    atomic_write(
        Path(soup.folder) / CARD,
        f"""---
library_name: {library}
tags: [langmill, soup]
---

# {Path(soup.folder).name}

The mean of the weights of {plural(len(soup.kept), "checkpoint")}, a {kind} soup (Wortsman et al. 2022), made by langmill \
{__version__}. Adapters were merged into their bases first.

{table}
{chosen}
To do it again: `{shlex.join(again)}`. Written {datetime.now(timezone.utc):%Y-%m-%d}.
""",
    )
