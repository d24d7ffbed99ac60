"""A training job of tiny parts, and calls of the loop with it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from langmill.batches.packing import PackedLoader
from langmill.batches.shards import Part
from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.core.config import nest, resolve
from langmill.core.distributed import World
from langmill.models.config import default_decoder
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.objectives.next_token import next_token
from langmill.training import tracking
from langmill.training.job import Job, Outcome
from langmill.training.loop import train
from langmill.training.settings import TrainSettings

VOCABULARY, CONTEXT = 23, 8


def corpus(tokens: int = 330) -> Part:
    """Return tokens with a pattern in them, in documents of 30."""
    draw = np.random.default_rng(0)
    ids = (np.cumsum(draw.integers(0, 3, tokens)) % VOCABULARY).astype(np.uint16)
    return Part(ids, np.arange(0, tokens, 30, dtype=np.int64), tokens, tokens)


def make_model(*, dropout: float = 0.0) -> Transformer:
    config = default_decoder(
        VOCABULARY, layers=2, width=16, heads=2, kv_heads=0, hidden=24, context=CONTEXT, dropout=dropout
    )
    model = Transformer(config)
    initialise(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.output.weight.normal_(generator=torch.Generator().manual_seed(1), std=0.1)
    return model


def make_job(
    *,
    steps: int,
    dropout: float = 0.0,
    rows: int = 4,
    micro_batch: int = 4,
    objective: Callable[[Any, Any], tuple[Tensor, Tensor]] = next_token,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
) -> Job:
    """Return a job whose held-out figure is its loss on fixed rows of the corpus."""
    part = corpus()
    fixed = PackedLoader(part, context=CONTEXT, rows=4, seed=99).take()

    @torch.no_grad()
    def fixed_loss(model: nn.Module) -> dict[str, float]:
        loss, count = next_token(model, fixed)  # type: ignore[arg-type]
        return {"loss": float(loss / count)}

    model = make_model(dropout=dropout)
    return Job(
        model=model,
        loader=PackedLoader(part, context=CONTEXT, rows=rows, seed=3),
        objective=objective,
        evaluate=evaluate or fixed_loss,
        save_model=lambda folder, shown: save_checkpoint(folder, Checkpoint(shown)),
        steps=steps,
        micro_batch=micro_batch,
        flops_per_token=1.0,
    )


def settings_of(**given: Any) -> TrainSettings:
    """Return settings by name, `optimizer__ema=…` for the nested ones."""
    rates = {"optimizer__learning_rate": 0.003, "optimizer__matrix_learning_rate": 0.02}
    tree = nest({name.replace("__", "."): value for name, value in (rates | given).items()})
    return resolve(TrainSettings, {"tensorboard": False, **tree})


def go(
    job: Job,
    folder: Path,
    *,
    resume: bool = False,
    deadline: float = math.inf,
    curve: bool = False,
    **settings: Any,
) -> Outcome:
    """Run the loop in a folder; drawing the curve takes longer than the run, and is left out unless asked for."""
    folder.mkdir(exist_ok=True)
    drawing = contextlib.nullcontext() if curve else mock.patch.object(tracking, "draw_curve")
    with drawing:
        return train(
            job, settings_of(**settings), folder=folder, here=World(), resume=resume, deadline=deadline
        )


def weights_of(job: Job) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in job.model.named_parameters()}
