"""A model that is made in one go, without steps. [training]"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langmill.core.distributed import World
from langmill.training.job import Outcome
from langmill.training.settings import TrainSettings
from langmill.training.state import seed_everything
from langmill.training.tracking import Tracker


@dataclass(frozen=True)
class FitPlan:
    """What such a run is going to do."""

    settings: TrainSettings
    tokens: int
    """In the training text."""
    said: tuple[str, ...]
    """The plan as lines for people."""

    def lines(self, *, resumed: bool = False) -> list[str]:
        """Return them; a resumed run begins again."""
        return [*self.said, *(["resumed  from the beginning: there is no state between"] if resumed else [])]

    @property
    def figures(self) -> dict[str, int]:
        """What run.yaml says of the plan."""
        return {"tokens": self.tokens}


@dataclass
class FitJob:
    """One run of a model that is made by a procedure of its own."""

    fit: Callable[[], Any]
    """Read the data and return the model."""
    evaluate: Callable[[Any], dict[str, float]]
    """Quick held-out metrics."""
    save_model: Callable[[Path, Any], None]
    """Write the checkpoint into the run's folder, atomically."""
    tokens: int
    """What is read."""
    facts: dict[str, Any]
    """What the model card should say; `fit` may add to it."""


def fit(job: FitJob, settings: TrainSettings, *, folder: Path, here: World) -> Outcome:
    """Make the model, evaluate it and save it."""
    seed_everything(settings.seed)
    begin = time.perf_counter()
    model = job.fit()
    # Measured first: what an evaluation settles is saved with the weights.
    metrics = job.evaluate(model)
    job.save_model(folder, model)
    tracker = Tracker(None, settings, folder=folder, here=here, first_step=-1)
    tracker.evaluated(0, metrics, "")
    tracker.close()
    return Outcome(0, job.tokens, time.perf_counter() - begin, metrics)
