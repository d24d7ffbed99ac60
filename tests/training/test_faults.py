"""Losses that are not finite, early stopping, disks that fill up, deadlines."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import everything_in, weights
from toy_jobs import go, make_job, weights_of

from langmill.checkpoint import load_checkpoint
from langmill.core.errors import LangmillError
from langmill.objectives.next_token import next_token
from langmill.training.loop import BAD_STEPS, ROLLBACKS


def failing(calls: Collection[int], *, how: str = "loss") -> Any:
    """Return an objective that is not finite in these calls (from 1), in its loss or only in its gradient."""
    count = 0

    def objective(model: Any, batch: Any) -> Any:
        nonlocal count
        count += 1
        loss, tokens = next_token(model, batch)
        if count in calls:
            loss = loss * math.nan if how == "loss" else loss + 0 * (model.output.weight.sum() * 0).sqrt()
        return loss, tokens

    return objective


def kinds(folder: Path) -> list[int]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if row["kind"] == "train"]


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_bad_step_is_skipped_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    job = make_job(steps=8, objective=failing([3, 6], how=how))
    outcome = go(job, tmp_path / "a")
    assert (outcome.steps, outcome.skipped_steps, outcome.rollbacks) == (8, 2, 0)
    assert all(bool(p.isfinite().all()) for p in weights_of(job).values())
    said = capsys.readouterr().err
    assert said.count("is not finite; the step is skipped") == 2
    assert kinds(tmp_path / "a") == [1, 2, 4, 5, 7, 8]


def test_bad_steps_in_a_row_go_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # saved after step 4; steps 6 to 8 fail: back to 4, then on to the end with other rows
    job = make_job(steps=10, objective=failing([6, 7, 8]))
    outcome = go(job, tmp_path / "a", save_every=4)
    assert (outcome.steps, outcome.skipped_steps, outcome.rollbacks) == (10, BAD_STEPS, 1)
    assert f"going back to the state of step 4 (return 1 of {ROLLBACKS})" in capsys.readouterr().err
    assert kinds(tmp_path / "a") == list(range(1, 11)), "steps taken again must not stand twice"


def test_a_rollback_restores_the_weights_and_goes_on_with_other_rows(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    rows: list[list[int]] = []
    fail = failing([4, 5, 6])

    def watching(model: Any, batch: Any) -> Any:
        seen.append(model.output.weight.detach().clone())
        rows.append(batch.ids[:, 0].tolist())
        return fail(model, batch)

    go(make_job(steps=8, objective=watching), tmp_path / "a", save_every=2)
    # calls 1..3 are steps 1..3, calls 4..6 fail, call 7 is step 3 again from the state after step 2
    assert torch.equal(seen[6], seen[2])
    assert not torch.equal(seen[3], seen[2])
    assert rows[6] not in rows[:6]


def test_a_run_that_stays_bad_stops_with_a_word(tmp_path: Path) -> None:
    job = make_job(steps=50, objective=failing(range(6, 999)))
    with pytest.raises(
        LangmillError, match=r"training diverged.*after 2 returns.*lower --optimizer.learning-rate"
    ):
        go(job, tmp_path / "a", save_every=2)
    checkpoint = load_checkpoint(tmp_path / "a")
    assert all(bool(p.isfinite().all()) for p in checkpoint.model.parameters())


class Figures:
    """An evaluation that gives prepared figures and remembers the weights that it saw."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.seen: list[torch.Tensor] = []

    def __call__(self, model: Any) -> dict[str, float]:
        self.seen.append(model.output.weight.detach().clone())
        return {"loss": self.values[len(self.seen) - 1]}


def test_early_stopping_returns_to_the_best(tmp_path: Path) -> None:
    figures = Figures(3.0, 2.0, 2.5, 2.6, 2.0)  # the last: the best weights, measured again
    outcome = go(make_job(steps=100, evaluate=figures), tmp_path / "a", evaluate_every=4, early_stopping=2)
    assert outcome.steps == 16
    assert outcome.metrics == {"loss": 2.0}
    best = figures.seen[1]
    assert torch.equal(figures.seen[4], best)
    assert torch.equal(weights(tmp_path / "a")["model.embed_tokens.weight"], best)


def test_early_stopping_counts_the_last_weights_too(tmp_path: Path) -> None:
    figures = Figures(3.0, 2.0, 1.5)
    outcome = go(make_job(steps=10, evaluate=figures), tmp_path / "a", evaluate_every=4, early_stopping=5)
    assert outcome.metrics == {"loss": 1.5}
    assert torch.equal(weights(tmp_path / "a")["model.embed_tokens.weight"], figures.seen[2])


def test_without_early_stopping_the_last_weights_stay(tmp_path: Path) -> None:
    figures = Figures(3.0, 2.0, 2.5)
    outcome = go(make_job(steps=10, evaluate=figures), tmp_path / "a", evaluate_every=4)
    assert outcome.metrics == {"loss": 2.5}
    assert torch.equal(weights(tmp_path / "a")["model.embed_tokens.weight"], figures.seen[2])


def test_a_run_stopped_early_stays_stopped(tmp_path: Path) -> None:
    go(
        make_job(steps=100, evaluate=Figures(1.0, 2.0, 1.0)),
        tmp_path / "a",
        evaluate_every=4,
        early_stopping=1,
    )
    outcome = go(
        make_job(steps=100, evaluate=Figures(1.0)),
        tmp_path / "a",
        resume=True,
        evaluate_every=4,
        early_stopping=1,
    )
    assert (outcome.steps, outcome.metrics) == (8, {"loss": 1.0})


def test_a_full_disk_keeps_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(make_job(steps=4), tmp_path / "a", save_every=2)
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if "step-00000006" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(LangmillError, match="the disk is full"):
        go(make_job(steps=8), tmp_path / "a", resume=True, save_every=2)
    monkeypatch.undo()
    assert not [name for name in everything_in(tmp_path / "a") if "partial" in name]
    load_checkpoint(tmp_path / "a")
    assert go(make_job(steps=8), tmp_path / "a", resume=True).steps == 8


def test_a_full_disk_under_the_metrics(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metrics.jsonl").symlink_to("/dev/full")

    from toy_jobs import settings_of

    from langmill.core.distributed import World
    from langmill.training.tracking import Tracker

    job = make_job(steps=3)
    tracker = Tracker.__new__(Tracker)
    tracker.__dict__.update(
        job=job, settings=settings_of(), folder=tmp_path / "a", active=World().is_main, events=None
    )
    tracker.path = tmp_path / "a" / "metrics.jsonl"
    tracker.file = open(tracker.path, "a", encoding="utf-8")
    with pytest.raises(LangmillError, match=r"metrics\.jsonl: the disk is full"):
        tracker.write("train", 1, {"loss": 1.0})


def test_a_deadline_ends_the_run(tmp_path: Path) -> None:
    begin = time.time()
    outcome = go(make_job(steps=10**9), tmp_path / "a", deadline=begin + 1.0, budget=1.0)
    assert 1 <= outcome.steps < 10**6
    assert outcome.metrics
    # A resumed run of the same budget is at its end.
    again = go(make_job(steps=10**9), tmp_path / "a", resume=True, deadline=time.time() + 0.1, budget=1.0)
    assert again.steps == outcome.steps
    longer = go(make_job(steps=10**9), tmp_path / "a", resume=True, deadline=time.time() + 1.5, budget=2.0)
    assert longer.steps > outcome.steps


@pytest.mark.parametrize(
    ("last", "kept"), [(0.62, 3), (0.60, 1)], ids=["within a standard error", "falls short of it"]
)
def test_the_latest_weights_that_are_no_worse_are_kept(
    tmp_path: Path, last: float, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = Figures(0.5, 0.7, 0.55, last, 0.7)  # of 25 examples, .7 has a standard error of .092
    job = make_job(steps=16, evaluate=figures)
    job.rises = job.keeps_best = True
    job.examples = 25
    go(job, tmp_path / "a", evaluate_every=4)
    saved = weights(tmp_path / "a")["model.embed_tokens.weight"]
    assert [torch.equal(saved, seen) for seen in figures.seen[:4]] == [number == kept for number in range(4)]
    said = capsys.readouterr().err
    assert ("kept: the weights of step 8, better on what is held out than the last ones" in said) == (
        kept == 1
    )
    assert said.count("held-out at step 8:") == (2 if kept == 1 else 1)


def test_no_rate_is_said_before_it_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(make_job(steps=2), tmp_path / "a", evaluate_every=1)
    assert (
        "tokens/s" not in (said := capsys.readouterr().err) and "step 2 · loss" in said and "MFU" not in said
    )
    go(make_job(steps=4), tmp_path / "b", evaluate_every=4)
    assert "tokens/s · " in capsys.readouterr().err
