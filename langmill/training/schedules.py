"""How the learning rate goes through a run. [training]"""

from __future__ import annotations

import math
import time

from langmill.training.settings import OptimizerSettings


def learning_rate_scale(settings: OptimizerSettings, progress: float) -> float:
    """Return the rate at `progress` in [0, 1] of a run, as a share of its peak.

    wsd: linear warm-up, constant, linear decay to `final` (Hu et al. 2024, arXiv:2404.06395, 4.3).
    cosine: linear warm-up, then half a cosine to `final` (Loshchilov and Hutter 2017).
    """
    warmup = settings.warmup
    rise = min(1.0, progress / warmup) if warmup else 1.0
    if settings.schedule == "cosine":
        through = min(1.0, max(0.0, (progress - warmup) / (1 - warmup))) if warmup < 1 else 0.0
        fall = (1 + math.cos(math.pi * through)) / 2
    else:
        fall = min(1.0, (1 - progress) / settings.decay) if settings.decay else 1.0
    return rise * (settings.final + (1 - settings.final) * fall)


class Progress:
    """How far a run has come, in [0, 1], counted in steps or, under a budget, in time.

    Under a budget the steps that remain are estimated anew at every step from the recent pace, and
    the progress goes on by an equal share of what is left: the schedule ends when the time does,
    however the machine's speed drifts.
    """

    def __init__(self, steps: int, *, deadline: float = math.inf) -> None:
        """steps: how many there are to be, or with a deadline (seconds since the epoch) are expected until then."""
        self.steps, self.deadline = steps, deadline
        self._first = 0
        """The step from which on `steps` are expected."""
        self.fraction = 0.0
        """Progress at the coming step; restored on resuming."""
        self._pace_seconds: float | None = None
        self._last: float | None = None

    def advance(self, step: int) -> None:
        """Note that `step` steps are done."""
        if math.isinf(self.deadline):
            self.fraction = min(1.0, step / self.steps)
            return
        now = time.time()
        if self._last is not None:
            took = now - self._last
            self._pace_seconds = (
                took if self._pace_seconds is None else 0.95 * self._pace_seconds + 0.05 * took
            )
        self._last = now
        left = self.deadline - now
        pace = self._pace_seconds or max(left, 0.0) / max(1, self._first + self.steps - step)
        remaining = left / pace if pace else 0.0
        self.fraction = 1.0 if remaining < 1 else min(1.0, self.fraction + (1 - self.fraction) / remaining)

    def restart(self, step: int, *, seconds: float, fraction: float | None) -> None:
        """Go on after `step` steps that took `seconds`.

        fraction: where the run stood, if its budget is still the same; steps may have been added.
        """
        self._last = self._pace_seconds = None
        self._first = step
        if math.isinf(self.deadline):
            self.fraction = min(1.0, step / self.steps)
        elif fraction is not None:
            self.fraction = fraction
        else:
            left = max(0.0, self.deadline - time.time())
            self.fraction = seconds / (seconds + left) if seconds + left else 1.0

    def pause(self) -> None:
        """Leave the time until the next step out of the pace (an evaluation, a save)."""
        self._last = None

    @property
    def over(self) -> bool:
        """Whether the run has come to its end."""
        return self.fraction >= 1.0
