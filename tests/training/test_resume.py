"""Resumed = uninterrupted to the bit; accumulated = full batch; damaged states."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_runs import assert_same_weights
from toy_jobs import go, make_job, settings_of, weights_of

from langmill.checkpoint import load_checkpoint
from langmill.core.errors import CheckpointError
from langmill.objectives.next_token import next_token
from langmill.training.job import Job
from langmill.training.state import saved_states

STEPS = 24  # 33 rows an epoch, 4 a step: nearly three epochs


def signalling(when: int, number: int = signal.SIGINT) -> Any:
    """Return an objective that sends this process a signal in its call number `when`."""
    calls = 0

    def objective(model: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == when:
            os.kill(os.getpid(), number)
        return next_token(model, batch)

    return objective


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(saved_states(folder)[0] / "tensors.safetensors")


@pytest.mark.parametrize(
    ("job", "settings"),
    [
        ({}, {}),
        ({"dropout": 0.3}, {}),
        ({}, {"optimizer__ema": 0.9}),
        ({}, {"optimizer__average": 0.8, "optimizer__final": 0.5}),
        ({"dropout": 0.2, "micro_batch": 1}, {"optimizer__ema": 0.95, "optimizer__schedule": "cosine"}),
        ({"dropout": 0.2}, {"optimizer__kind": "adamw", "early_stopping": 50}),
    ],
    ids=["plain", "dropout", "ema", "average", "all", "adamw"],
)
@pytest.mark.parametrize("stops", [(1,), (9, 20)])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, job: dict[str, Any], settings: dict[str, Any], stops: tuple[int, ...]
) -> None:
    whole = make_job(steps=STEPS, **job)
    expected = go(whole, tmp_path / "whole", evaluate_every=5, **settings)
    parts_a_step = 4 // job.get("micro_batch", 4)
    before = 0
    for stop in stops:
        interrupted = make_job(
            steps=STEPS, **{**job, "objective": signalling((stop - before - 1) * parts_a_step + 1)}
        )
        outcome = go(interrupted, tmp_path / "parts", resume=before > 0, evaluate_every=5, **settings)
        assert (outcome.steps, outcome.interrupted) == (stop, "SIGINT")
        load_checkpoint(tmp_path / "parts")
        before = stop
    last = make_job(steps=STEPS, **job)
    outcome = go(last, tmp_path / "parts", resume=True, evaluate_every=5, **settings)
    assert (outcome.steps, outcome.tokens) == (expected.steps, expected.tokens) == (STEPS, STEPS * 32)
    assert outcome.metrics == expected.metrics
    assert outcome.interrupted == ""
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    one, other = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    rows = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, STEPS + 1))
    assert [row["step"] for row in rows if row["kind"] == "held_out"] == [5, 10, 15, 20, STEPS]


def test_the_comparison_sees_a_lost_random_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(make_job(steps=STEPS, dropout=0.3), tmp_path / "whole")
    go(make_job(steps=STEPS, dropout=0.3, objective=signalling(9)), tmp_path / "parts")
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    go(make_job(steps=STEPS, dropout=0.3), tmp_path / "parts", resume=True)
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_accumulated_equals_full_batch(tmp_path: Path, micro_batch: int) -> None:
    full, parts = make_job(steps=6), make_job(steps=6, micro_batch=micro_batch)
    # Plain AdamW divides by the root of squares: small differences stay small only where it has settled.
    rates = {"optimizer__learning_rate": 1e-3, "optimizer__matrix_learning_rate": 5e-3}
    for name, job in (("full", full), ("parts", parts)):
        go(job, tmp_path / name, precision="float32", **rates)
    for name, p in weights_of(full).items():
        torch.testing.assert_close(weights_of(parts)[name], p, rtol=1e-4, atol=2e-5)


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(make_job(steps=5), tmp_path / "a")
    before = state_of(tmp_path / "a")
    outcome = go(make_job(steps=5), tmp_path / "a", resume=True)
    assert outcome.steps == 5
    assert "resumed after step 5, the run's end" in capsys.readouterr().err
    after = state_of(tmp_path / "a")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_more_steps_may_be_added(tmp_path: Path) -> None:
    go(make_job(steps=5), tmp_path / "a")
    assert go(make_job(steps=9), tmp_path / "a", resume=True).steps == 9


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    job = make_job(steps=3)
    go(job, tmp_path / "a")
    other = make_job(steps=3)
    other.model.decoder.embed = torch.nn.Embedding(7, 16)  # type: ignore[union-attr]
    other.model.output.weight = other.model.decoder.embed.weight  # type: ignore[union-attr]
    with pytest.raises(
        CheckpointError, match=r"of another model: .*other shapes for \['decoder.embed.weight'\]"
    ):
        go(other, tmp_path / "a", resume=True)


def damage(folder: Path) -> None:
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def test_a_damaged_state_gives_way_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(make_job(steps=STEPS, dropout=0.2), tmp_path / "whole")
    go(make_job(steps=STEPS, dropout=0.2, objective=signalling(12)), tmp_path / "a", save_every=5)
    newest, older = saved_states(tmp_path / "a")
    assert (newest.name, older.name) == ("step-00000012", "step-00000010")
    damage(newest)
    go(make_job(steps=STEPS, dropout=0.2), tmp_path / "a", resume=True, save_every=5)
    said = capsys.readouterr().err
    assert "a saved state is damaged and removed (step-00000012:" in said
    assert "going on from step-00000010" in said
    assert_same_weights(tmp_path / "whole", tmp_path / "a")
    assert "step-00000012" not in [path.name for path in saved_states(tmp_path / "a")]


@pytest.mark.parametrize("how", ["cut tensors", "no facts"])
def test_nothing_but_damaged_states(tmp_path: Path, how: str) -> None:
    go(make_job(steps=6), tmp_path / "a", save_every=2)
    for folder in saved_states(tmp_path / "a"):
        damage(folder) if how == "cut tensors" else (folder / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"no saved state can be read \(step-00000006: .*give --from"):
        go(make_job(steps=6), tmp_path / "a", resume=True)


def test_only_two_states_are_kept(tmp_path: Path) -> None:
    go(make_job(steps=8), tmp_path / "a", save_every=3)
    assert [path.name for path in saved_states(tmp_path / "a")] == ["step-00000008", "step-00000006"]


def test_sigterm_is_told_from_sigint(tmp_path: Path) -> None:
    job: Job = make_job(steps=9, objective=signalling(4, signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert go(job, tmp_path / "a").interrupted == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_acts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langmill.training import loop

    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    with loop.stop_signals() as caught:
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 0.5
        os.kill(os.getpid(), signal.SIGTERM)  # the same one, passed on by torchrun
        assert caught == ["SIGINT"]
        now[0] += 1.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_while_saving_waits_for_the_save(tmp_path: Path) -> None:
    job = make_job(steps=9)
    save, saves = job.save_model, []

    def interrupted_save(folder: Path, model: torch.nn.Module) -> None:
        saves.append(1)
        if len(saves) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        save(folder, model)

    job.save_model = interrupted_save
    outcome = go(job, tmp_path / "a", save_every=3)
    assert outcome.interrupted == "SIGINT" and outcome.steps == 4
    load_checkpoint(tmp_path / "a")
    assert go(make_job(steps=9), tmp_path / "a", resume=True).steps == 9


def test_settings_of_the_helper_are_checked() -> None:
    with pytest.raises(ValueError, match="--optimizer.ema"):
        settings_of(optimizer__ema=2)
