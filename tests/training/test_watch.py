"""Something that watches a run's evaluations and may end it."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch
from toy_jobs import go, make_job, settings_of, weights_of

from langmill.core.distributed import World
from langmill.training import tracking
from langmill.training.job import WATCHED, Outcome
from langmill.training.loop import train


def watched(folder: Path, ends_at: float) -> tuple[Outcome, list[tuple[float, dict[str, float]]]]:
    """Run 10 steps with an evaluation every 2, until the watch sees a share of `ends_at`."""
    seen: list[tuple[float, dict[str, float]]] = []

    def watch(share: float, metrics: dict[str, float]) -> bool:
        seen.append((share, metrics))
        return share >= ends_at

    folder.mkdir()
    with mock.patch.object(tracking, "draw_curve"):
        outcome = train(
            make_job(steps=10),
            settings_of(evaluate_every=2),
            folder=folder,
            here=World(),
            resume=False,
            watch=watch,
        )
    return outcome, seen


def test_it_sees_the_evaluations_on_the_way(tmp_path: Path) -> None:
    outcome, seen = watched(tmp_path / "run", 2.0)
    assert [share for share, _ in seen] == [0.2, 0.4, 0.6, 0.8], "the last is the run's result"
    assert all(set(metrics) == {"loss"} for _, metrics in seen)
    assert (outcome.steps, outcome.interrupted) == (10, "")


def test_a_run_that_it_ends_is_saved_and_can_be_resumed(tmp_path: Path) -> None:
    outcome, seen = watched(tmp_path / "run", 0.4)
    assert len(seen) == 2 and outcome.steps < 6
    assert (outcome.interrupted, outcome.metrics) == (WATCHED, {})
    whole, rest = make_job(steps=10), make_job(steps=10)
    go(whole, tmp_path / "whole", evaluate_every=2)
    assert go(rest, tmp_path / "run", resume=True, evaluate_every=2).steps == 10
    for name, p in weights_of(whole).items():
        assert torch.equal(p, weights_of(rest)[name]), name
