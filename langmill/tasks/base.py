"""What every task offers. [tasks]

A task has a learning half, used by training, and an answering half, used by everything outside:
evaluation and serving never see how a task learns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from langmill.checkpoint import Checkpoint
from langmill.core.distributed import World
from langmill.core.errors import DataError
from langmill.training.budget import Plan
from langmill.training.fit import FitJob, FitPlan
from langmill.training.job import Job
from langmill.training.settings import TrainSettings

Text = str | tuple[str, str]
"""What a task is asked about: a text, or two that are read together."""


def single_texts(inputs: Sequence[Text]) -> list[str]:
    """Return the inputs of a task that knows no pairs, or raise DataError where there is one."""
    texts = [text for text in inputs if isinstance(text, str)]
    if len(texts) < len(inputs):
        raise DataError("this model reads one text at a time; pairs of texts take an encoder (mlm)")
    return texts


@dataclass(frozen=True)
class Request:
    """What the user asked to be trained."""

    data: tuple[str, ...]
    """Files, folders or globs."""
    held_out: tuple[str, ...]
    """The same for evaluation; empty: split off the data."""
    folder: Path
    """The run directory."""
    settings: TrainSettings
    resume: bool = False
    content: str = ""
    """The digest of the tokens that a resumed run was trained on; empty: not known."""
    spent_seconds: float = 0.0
    """How long a resumed run has trained already."""
    here: World = field(default_factory=World)
    started: float = field(default_factory=time.time)
    """When the budget's clock began, in seconds since the epoch; the time spent earlier is taken off."""


@dataclass(frozen=True)
class Lesson:
    """A job ready for the loop, or to be fitted, and what was decided on the way to it."""

    job: Job | FitJob
    plan: Plan | FitPlan
    deadline: float = math.inf
    """When the loop must end, in seconds since the epoch; infinite without a budget."""


@dataclass(frozen=True)
class Use:
    """How a task's models are used: what is said of them after training."""

    kind: str
    """What such a model is called: decoder, encoder …"""
    pipeline: str
    """The tag under which model hubs list it."""
    transformers_class: str
    """What opens it in Transformers."""
    python: str
    """An expression that uses `model`, from `langmill.load`."""
    commands: tuple[str, ...]
    """What to type next, after the program's name; {} is the run's folder."""


class Task(Protocol):
    """One thing a model can learn to do."""

    name: str
    use: Use

    def learn(self, request: Request) -> Lesson:
        """Read and check the data, decide what is open, build the model: everything before the first step."""

    def predict(self, checkpoint: Checkpoint, inputs: Sequence[Text]) -> list[Any]:
        """Return one result a input, in order."""

    def score(self, results: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        """Return metrics of results against what they should have been, one reference a result."""
