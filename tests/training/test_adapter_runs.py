"""Runs that train an adapter: only it moves, only it is saved, and stopping changes nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_jobs import go, make_job

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.checkpoint.adapters import WEIGHTS, save_adapter
from langmill.models.adapters import Form, adapt, adapted_layers, choose_layers
from langmill.models.families import FAMILIES
from langmill.objectives.next_token import next_token
from langmill.training.job import Job
from langmill.training.state import saved_states

STEPS = 12


def adapter_job(tmp_path: Path, *, form: Form, **options: Any) -> Job:
    """Return a toy job that trains an adapter beside a base, which lies in tmp_path / "base"."""
    job = make_job(steps=STEPS, **options)
    base = Checkpoint(job.model)
    generator = torch.Generator().manual_seed(2)
    with (
        torch.no_grad()
    ):  # what comes out of a block begins at zero, where nothing could be learned before it
        for weight in job.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    save_checkpoint(tmp_path / "base", base)
    layers = choose_layers(FAMILIES[base.family], job.model)
    adapt(job.model, dict.fromkeys(layers.values(), form), torch.Generator().manual_seed(0))
    job.save_model = lambda folder, shown: save_adapter(
        folder, Checkpoint(shown, family=base.family), base=str(tmp_path / "base")
    )
    return job


def stopping_at(step: int) -> Any:
    """Return an objective that stops the run in a step."""
    count = [0]

    def objective(model: Any, batch: Any) -> Any:
        count[0] += 1
        if count[0] == step:
            os.kill(os.getpid(), signal.SIGINT)
        return next_token(model, batch)

    return objective


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        (Form(2, 2.0), {}),
        (Form(2, 2.0, "dora", 0.2), {"optimizer__ema": 0.9}),
        (Form(3, 1.0, "lora", 0.3), {"early_stopping": 50, "optimizer__weight_decay": 0.1}),
    ],
    ids=["lora", "dora averaged", "patient"],
)
def test_resumed_equals_uninterrupted(tmp_path: Path, form: Form, settings: dict[str, Any]) -> None:
    expected = go(
        adapter_job(tmp_path, form=form, dropout=0.2), tmp_path / "whole", evaluate_every=5, **settings
    )
    first = adapter_job(tmp_path, form=form, dropout=0.2, objective=stopping_at(7))
    assert go(first, tmp_path / "parts", evaluate_every=5, **settings).interrupted == "SIGINT"
    last = adapter_job(tmp_path, form=form, dropout=0.2)
    outcome = go(last, tmp_path / "parts", resume=True, evaluate_every=5, **settings)
    assert outcome.metrics == expected.metrics and outcome.steps == STEPS
    for name in (WEIGHTS, f"state/step-{STEPS:08d}/tensors.safetensors"):
        one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_accumulated_equals_full_batch(tmp_path: Path, kind: Any) -> None:
    found = []
    for micro_batch in (4, 1):
        job = adapter_job(tmp_path, form=Form(2, 2.0, kind), micro_batch=micro_batch)
        go(job, tmp_path / str(micro_batch), precision="float32", optimizer__learning_rate=1e-3)
        found.append(load_file(tmp_path / str(micro_batch) / WEIGHTS))
    for name, one in found[0].items():
        torch.testing.assert_close(found[1][name], one, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_base_stays_and_is_in_no_state(tmp_path: Path, ema: float) -> None:
    job = adapter_job(tmp_path, form=Form(2, 2.0))
    before = {name: p.detach().clone() for name, p in job.model.named_parameters()}
    outcome = go(job, tmp_path / "run", optimizer__ema=ema, optimizer__learning_rate=0.02)
    moved = {name for name, p in job.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in job.model.named_parameters() if p.requires_grad}
    state = load_file(saved_states(tmp_path / "run")[0] / "tensors.safetensors")
    assert {name.removeprefix("model.") for name in state if name.startswith("model.")} == moved
    assert all("lora_" in name or name.startswith("random.") for name in state)
    assert not (tmp_path / "run" / "config.json").exists()
    loaded = load_checkpoint(tmp_path / "run").model
    assert not adapted_layers(loaded)
    assert job.evaluate(loaded)["loss"] == pytest.approx(outcome.metrics["loss"], abs=1e-6)


def test_an_adapter_learns(tmp_path: Path) -> None:
    """Beside weights that were trained a little, and held fast, it lowers the loss that they had come to."""
    start = make_job(steps=60)
    before = go(start, tmp_path / "start").metrics["loss"]
    job = make_job(steps=200)
    job.model.load_state_dict(start.model.state_dict())
    layers = choose_layers(FAMILIES["qwen3"], job.model)
    adapt(job.model, dict.fromkeys(layers.values(), Form(8, 2.0)), torch.Generator().manual_seed(0))
    job.save_model = lambda folder, shown: None
    after = go(job, tmp_path / "run", optimizer__learning_rate=0.01).metrics["loss"]
    assert after < before - 0.05
