"""Learning-rate schedules by hand, and the clock of a budget with a time that the test sets."""

from __future__ import annotations

import math

import pytest

from langmill.training import schedules
from langmill.training.schedules import Progress, learning_rate_scale
from langmill.training.settings import OptimizerSettings


@pytest.mark.parametrize(
    ("progress", "scale"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.5, 1.0), (0.6, 1.0), (0.8, 0.55), (1.0, 0.1)],
)
def test_wsd_by_hand(progress: float, scale: float) -> None:
    settings = OptimizerSettings(schedule="wsd", warmup=0.1, decay=0.4, final=0.1)
    assert learning_rate_scale(settings, progress) == pytest.approx(scale)


@pytest.mark.parametrize(
    ("progress", "scale"), [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.6, 0.55), (0.4, 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2), (1.0, 0.1)]
)  # fmt: skip
def test_cosine_by_hand(progress: float, scale: float) -> None:
    settings = OptimizerSettings(schedule="cosine", warmup=0.2, final=0.1)
    assert learning_rate_scale(settings, progress) == pytest.approx(scale)


@pytest.mark.parametrize("schedule", ["wsd", "cosine"])
def test_no_warmup_and_nothing_but_warmup(schedule: str) -> None:
    assert learning_rate_scale(OptimizerSettings(schedule=schedule, warmup=0.0), 0.0) == 1.0
    rising = OptimizerSettings(schedule=schedule, warmup=1.0, decay=0.0)
    assert learning_rate_scale(rising, 0.25) == pytest.approx(0.25)


def test_steps_are_counted() -> None:
    progress = Progress(4)
    seen = []
    for step in (1, 2, 3, 4):
        progress.advance(step)
        seen.append(progress.fraction)
    assert seen == [0.25, 0.5, 0.75, 1.0]
    assert progress.over


class Clock:
    """A time that passes when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(schedules.time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def run(progress: Progress, clock: Clock, seconds: list[float], *, first: int = 1) -> list[float]:
    """Take steps that last `seconds` each, to the end of the run or of the list."""
    seen = []
    for step, took in enumerate(seconds, first):
        clock.now += took
        progress.advance(step)
        seen.append(progress.fraction)
        if progress.over:
            break
    return seen


def test_an_even_pace_fills_the_time_evenly(clock: Clock) -> None:
    progress = Progress(100, deadline=clock.now + 100)
    seen = run(progress, clock, [1.0] * 200)
    assert progress.over
    assert clock.now == pytest.approx(1100, abs=1.5)
    assert seen[49] == pytest.approx(0.5, abs=0.02)
    assert seen == sorted(seen)


@pytest.mark.parametrize("change", [0.25, 4.0])
def test_a_machine_that_changes_its_speed_still_ends_in_time(clock: Clock, change: float) -> None:
    progress = Progress(1000, deadline=clock.now + 100)
    seen = run(progress, clock, [0.1] * 500 + [0.1 * change] * 5000)
    assert progress.over
    assert clock.now == pytest.approx(1100, abs=1.0)
    assert seen[-2] > 0.98, "the schedule did not come to its end before the time did"


def test_a_wrong_guess_of_the_steps_does_not_matter(clock: Clock) -> None:
    progress = Progress(10_000, deadline=clock.now + 50)
    run(progress, clock, [1.0] * 100)
    assert clock.now == pytest.approx(1050, abs=1.5)


def test_a_pause_is_not_taken_for_a_slow_step(clock: Clock) -> None:
    progress = Progress(100, deadline=clock.now + 100)
    run(progress, clock, [1.0] * 20)
    clock.now += 30  # an evaluation
    progress.pause()
    run(progress, clock, [1.0] * 200, first=21)
    assert clock.now == pytest.approx(1100, abs=1.5)


def test_a_deadline_in_the_past_ends_after_one_step(clock: Clock) -> None:
    progress = Progress(100, deadline=clock.now - 1)
    run(progress, clock, [1.0] * 5)
    assert progress.over and clock.now == 1001


def test_going_on(clock: Clock) -> None:
    steps = Progress(80)
    steps.restart(20, seconds=5, fraction=0.9)
    assert steps.fraction == 0.25, "steps were added: the fraction is of the new number"
    same = Progress(80, deadline=clock.now + 30)
    same.restart(20, seconds=70, fraction=0.7)
    assert same.fraction == 0.7
    longer = Progress(80, deadline=clock.now + 140)
    longer.restart(20, seconds=60, fraction=None)
    assert longer.fraction == pytest.approx(0.3)
    assert not longer.over


@pytest.mark.parametrize("more", [1, 20, 290])
def test_a_run_resumed_late_takes_the_time_that_is_left(clock: Clock, more: int) -> None:
    """The steps that are expected are those to come, not all: a run past its half did one step and was over."""
    progress = Progress(more, deadline=clock.now + 20)
    progress.restart(305, seconds=20, fraction=0.5)
    seen = run(progress, clock, [20 / more] * 400, first=306)
    assert progress.over
    assert len(seen) == pytest.approx(more, abs=1)
    assert clock.now == pytest.approx(1020, abs=1.5)
