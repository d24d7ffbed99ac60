"""One step of the loop by hand: gradients, clipping, the learning rate, the running average."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_jobs import make_job, settings_of, weights_of

from langmill.batches.batch import TokenBatch
from langmill.core.config import resolve
from langmill.core.distributed import World
from langmill.core.errors import ConfigError
from langmill.objectives.cross_entropy import IGNORED
from langmill.objectives.next_token import next_token
from langmill.training.loop import Trainer
from langmill.training.settings import TrainSettings


def trainer(tmp_path: Path, *, micro_batch: int = 4, steps: int = 10, **settings: Any) -> Trainer:
    """Return a trainer whose batches leave more targets out in some rows than in others."""
    job = make_job(steps=steps, micro_batch=micro_batch)
    take = job.loader.take

    def uneven() -> TokenBatch:
        batch = take()
        targets = batch.targets.clone()
        targets[0, :6] = IGNORED
        targets[3, :2] = IGNORED
        return TokenBatch(batch.ids, targets, batch.starts)

    job.loader.take = uneven  # type: ignore[method-assign]
    return Trainer(job, settings_of(**settings), folder=tmp_path, here=World(), deadline=math.inf)


def gradients_at_step(subject: Trainer) -> dict[str, torch.Tensor]:
    """Take a step and return the gradients that the optimiser was given."""
    found: dict[str, torch.Tensor] = {}

    def note() -> None:
        found.update({n: p.grad.clone() for n, p in subject.model.named_parameters() if p.grad is not None})

    subject.optimizer.step = note  # type: ignore[method-assign]
    subject.update()
    return found


def mean_gradients(subject: Trainer) -> dict[str, torch.Tensor]:
    """Return the gradients of the mean loss over the coming batch's counted targets."""
    loss, count = next_token(subject.model, subject.job.loader.take())
    (loss / count).backward()
    return {n: p.grad.clone() for n, p in subject.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4])
def test_the_gradient_is_of_the_mean_over_all_targets(tmp_path: Path, micro_batch: int) -> None:
    expected = mean_gradients(trainer(tmp_path))
    found = gradients_at_step(trainer(tmp_path, micro_batch=micro_batch, optimizer__clip=0))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_clipped_as_a_whole(tmp_path: Path) -> None:
    expected = mean_gradients(trainer(tmp_path))
    norm = torch.stack([g.norm() for g in expected.values()]).norm()
    subject = trainer(tmp_path, micro_batch=3, optimizer__clip=float(norm) / 4)
    for name, gradient in gradients_at_step(subject).items():
        torch.testing.assert_close(gradient, expected[name] / 4, rtol=1e-4, atol=1e-6)
    loose = trainer(tmp_path, optimizer__clip=float(norm) * 2)
    for name, gradient in gradients_at_step(loose).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_the_figures_of_a_step(tmp_path: Path) -> None:
    other = trainer(tmp_path)
    loss, count = next_token(other.model, other.job.loader.take())
    subject = trainer(tmp_path, micro_batch=3, optimizer__warmup=0.5, optimizer__decay=0.5)
    subject.progress.fraction = 0.25
    figures = subject.update()
    assert figures is not None
    assert figures["loss"] == pytest.approx(float(loss.detach() / count), rel=1e-5)
    assert figures["learning_rate_scale"] == pytest.approx(0.5)
    assert [g["lr"] / g["initial_lr"] for g in subject.optimizer.param_groups] == pytest.approx([0.5, 0.5])
    assert subject.tokens == 32


def test_the_running_average_by_hand(tmp_path: Path) -> None:
    subject = trainer(tmp_path, optimizer__ema=0.6, optimizer__warmup=0)
    average = weights_of(subject.job)
    for step in range(8):
        subject.update()
        decay = min(0.6, (1 + step) / (10 + step))
        weights = weights_of(subject.job)
        average = {name: decay * old + (1 - decay) * weights[name] for name, old in average.items()}
        subject.step += 1
    for name, p in subject.shown.named_parameters():
        torch.testing.assert_close(p.detach(), average[name])
    assert subject.shown is not subject.model


def test_the_plain_average_by_hand(tmp_path: Path) -> None:
    subject = trainer(tmp_path, optimizer__average=0.3, optimizer__warmup=0)
    seen = []
    for step in range(10):
        subject.progress.fraction = step / 10
        subject.update()
        seen.append(weights_of(subject.job))
        wanted = seen[7:] or seen[-1:]  # before the last three tenths the model is shown as it is
        for name, p in subject.shown.named_parameters():
            torch.testing.assert_close(p.detach(), torch.stack([each[name] for each in wanted]).mean(0))
    subject.progress.fraction = 0.5  # lengthened
    subject.update()
    for name, p in subject.shown.named_parameters():
        assert torch.equal(p, weights_of(subject.job)[name])


def test_two_averages_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--optimizer.ema and --optimizer.average exclude each other"):
        resolve(TrainSettings, {"optimizer": {"ema": 0.9, "average": 0.2}})


def test_without_an_average_the_model_is_shown(tmp_path: Path) -> None:
    subject = trainer(tmp_path)
    assert subject.shown is subject.model
