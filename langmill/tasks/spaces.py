"""What a search for settings tries: declarations, and what is tried where none are given. [tasks]"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langmill.core.config import flatten, leaves, nest, option_name, resolve
from langmill.core.errors import ConfigError, did_you_mean
from langmill.tasks.bags import BAGS, FOLLOWED
from langmill.tasks.ngram import NGRAM
from langmill.tasks.practice import StepTask
from langmill.tasks.taggers import CRF, RECIPES
from langmill.training.settings import TrainSettings

SHORT = {"model": "model.family", "from": "from_checkpoint"}
"""Settings that the command line calls by a shorter name."""
IDLE = ("device", "compile", "tensorboard", "save_every", "evaluate_every", "micro_batch", "budget")
"""Settings that change the time a run takes or what it writes."""
MEASURING = ("data.", "mask.", "spans.")
"""Groups that change what is held out, or what is asked of it."""
LOSS_MEASURING = ("tokenizer", "vocabulary", "from_checkpoint", "embed.")
"""Settings that change what a loss is a loss of; bits a byte, accuracies and the like stand above them."""
FALLING = ("loss", "bits_per_byte")
"""Figures of a quick evaluation that are better where they are lower."""
KINDS: Mapping[tuple[str, ...], tuple[str, ...]] = {BAGS: BAGS, (CRF,): tuple(RECIPES)}
"""Layouts that are tried by name, by those of the task that are fitted in one go."""
RANGE = "NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C"
MOST_WHOLE = 64
"""Whole numbers of a range that can be tried one by one."""


@dataclass(frozen=True)
class Searched:
    """A setting and the values it may take: `choices`, or from `low` to `high`."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    """Whether equal ratios count alike, rather than equal differences."""
    whole: bool = False

    @property
    def values(self) -> Sequence[Any]:
        """Those to be tried one by one; none where there are too many."""
        if self.whole and self.high - self.low < MOST_WHOLE:
            return range(int(self.low), int(self.high) + 1)
        return self.choices

    def holds(self, value: Any) -> bool:
        """Whether it may take this value."""
        return value in self.choices if self.choices else self.low <= value <= self.high

    def __str__(self) -> str:
        """Return it as it is declared."""
        ends = f"{self.low}:{self.high}" + (":log" if self.log else "")
        return f"{self.name.replace('_', '-')}={','.join(map(str, self.choices)) or ends}"


def parse(text: str) -> Searched:
    """Read a declaration.

    Raises ConfigError where the setting is unknown or not to be searched, or a value is none of its own.

    >>> parse("optimizer.learning-rate=1e-5:1e-3:log").log, parse("model=lstm,gru").choices
    (True, ('lstm', 'gru'))
    """
    given, equals, values = text.partition("=")
    spelt = given.strip().removeprefix("--").replace("-", "_")
    name = SHORT.get(spelt, spelt)
    kinds = {each: field.annotation for each, field in leaves(TrainSettings)}
    if name not in kinds:
        known = [option_name(each).removeprefix("--") for each in (*kinds, *SHORT)]
        raise ConfigError(
            f"--search {text}: unknown setting{did_you_mean(spelt.replace('_', '-'), known) or '; see langmill train --help'}"
        )
    if reason := refusal(name, kinds[name]):
        raise ConfigError(f"--search {text}: {reason}")
    if not equals or not values.strip():
        raise ConfigError(f"--search {text}: expected {RANGE}")
    if kinds[name] in (int, float) and ":" in values:
        return parse_range(text, name, values.split(":"), whole=kinds[name] is int)
    choices = tuple(dict.fromkeys(read_value(text, name, value) for value in values.split(",")))
    if len(choices) < 2:
        raise ConfigError(
            f"--search {text}: a single value is no search; give {option_name(given)} {values} instead, or {RANGE}"
        )
    return Searched(name, choices)


def parse_range(text: str, name: str, parts: Sequence[str], *, whole: bool) -> Searched:
    """Return the range between two values, the third part of a declaration saying whether it is one of ratios."""
    if len(parts) > 3 or parts[2:] not in ([], ["log"]):
        raise ConfigError(f"--search {text}: expected {RANGE}")
    low, high = (read_value(text, name, part) for part in parts[:2])
    if not low < high:
        raise ConfigError(f"--search {text}: {parts[0]} is not below {parts[1]}")
    if parts[2:] and low <= 0:
        raise ConfigError(f"--search {text}: a range of ratios (log) begins above 0")
    return Searched(name, low=low, high=high, log=bool(parts[2:]), whole=whole)


def refusal(name: str, kind: Any) -> str:
    """Return why a setting is not to be searched; empty: it may be."""
    if name == "seed":
        return "the best of several seeds is luck; train --seeds N shows how much of it there is"
    if name in IDLE:
        return f"{option_name(name)} changes nothing that is learned; give it as an option"
    if name.startswith(MEASURING):
        return f"{option_name(name)} changes what is measured, so that trials would not compare"
    return f"{option_name(name)} is a list, which cannot be searched" if kind not in (int, float, str, bool) and "tuple" in str(kind) else ""  # fmt: skip


def read_value(text: str, name: str, value: str) -> Any:
    """Return a value of the declaration `text`, or raise ConfigError where the setting has no such."""
    resolved = resolve(TrainSettings, nest({name: value.strip()}), source=f"--search {text}")
    return flatten(resolved.model_dump())[name]


def read_space(declared: Sequence[str], settings: TrainSettings) -> tuple[Searched, ...]:
    """Return the space of declarations that go with the settings of all trials."""
    space = tuple(parse(text) for text in declared)
    names = [each.name for each in space]
    for each in space:
        if names.count(each.name) > 1:
            raise ConfigError(f"--search {each}: {each.name} is declared more than once")
        if each.name.startswith("model.") and each.name != "model.context" and settings.from_checkpoint:
            raise ConfigError(f"--search {each}: has no effect with --from, whose model is what it is")
    return space


def default_space(
    task: StepTask, settings: TrainSettings, given: Collection[str], *, timed: bool
) -> tuple[str, ...]:
    """Return what is searched for a task where nothing is declared: the settings that matter most and are not given.

    given: names of the settings that are. timed: trials end by the clock, which chooses a model's size and the number
    of steps. Rates lie around those that a plan takes.
    """
    family, source = settings.model.family, bool(settings.from_checkpoint)
    if family == NGRAM and family in task.fitted:
        return left(("model.order=2:8", "tokenizer=char,bpe"), given)
    if family in task.fitted:
        raise ConfigError(
            f"--model {family} is fitted in one go and has no settings to search; search the kinds,"
            f" --search model={','.join(KINDS[task.fitted])}, or leave it out"
        )
    rows = task.name not in ("lm", "mlm", "denoise")
    length = {"epochs", "steps", "tokens"} & {*given}
    timed = timed or not (rows or length)
    kinds = KINDS.get(task.fitted, ())
    if kinds and not [name for name in given if name not in FOLLOWED and name[:5] != "data."]:
        return (f"model={','.join(kinds)}",)
    muon = settings.optimizer.kind == "muon" or (settings.optimizer.kind == "auto" and not (source and rows))
    space: list[str] = []
    if settings.adapter.rank:
        space += ["optimizer.learning-rate=1e-4:1e-2:log", "adapter.rank=4,8,16,32", "adapter.dropout=0:0.2"]
    elif source:
        space += ["optimizer.learning-rate=1e-5:3e-3:log", "optimizer.layer-decay=0.7:1"]
    else:
        space += [
            f"optimizer.learning-rate={'1e-3:3e-2' if muon else '1e-4:1e-2'}:log",
            f"model.dropout=0:{0.5 if rows else 0.3}",
        ]
        space += [] if timed else ["model.layers=1:4", "model.width=64,128,256"]
    if muon:
        space.append(f"optimizer.matrix-learning-rate={'2e-4:2e-2' if source else '2e-3:1e-1'}:log")
    space.append(f"batch={'4,8,16,32' if not rows else '16,32,64' if source else '32,64,128'}")
    if rows and source and not timed and not length:
        space.append("epochs=1,2,3,4,6")
    if task.name == "classify":
        space.append("labels.smoothing=0:0.2")
    return left(space, given)


def left(space: Sequence[str], given: Collection[str]) -> tuple[str, ...]:
    """Return the declarations of settings that are not given, and of the rank: to give it is to ask for an adapter."""
    return tuple(text for text in space if (name := parse(text).name) not in given or name == "adapter.rank")


def aim(metrics: Mapping[str, float], wanted: str = "") -> tuple[str, float]:
    """Return the figure of a quick evaluation that is to be improved, and its value as one to be lowered.

    wanted: its name; empty: bits a byte, which compare across tokenizers, else the first.

    >>> aim({"loss": 2.0, "bits_per_byte": 1.5}), aim({"accuracy": 0.5, "loss": 0.7})
    (('bits_per_byte', 1.5), ('accuracy', -0.5))
    """
    name = wanted or ("bits_per_byte" if "bits_per_byte" in metrics else next(iter(metrics)))
    if name not in metrics:
        raise ConfigError(
            f"--metric {name}: this task measures {', '.join(metrics)}{did_you_mean(name, metrics)}"
        )
    return name, shown(name, metrics[name])


def shown(name: str, value: float) -> float:
    """Turn a figure into one to be lowered, or back."""
    return value if name in FALLING else 0.0 - value  # and not -0.0


def check_comparable(space: Sequence[Searched], metric: str, task: str) -> None:
    """Raise ConfigError where what is to be improved is a loss that does not compare across the space."""
    if metric == "loss" and task == "embed":
        raise ConfigError(
            "texts without pairs are measured by a loss that changes with batch, dropout and temperature; name pairs to"
            " evaluate on by --held-out-data"
        )
    for each in space:
        if metric == "loss" and each.name.startswith(LOSS_MEASURING):
            raise ConfigError(
                f"--search {each}: this task measures a loss, which does not compare across it; leave it out"
            )
