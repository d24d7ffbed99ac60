"""From rows of examples to a planned run, for tasks of labelled text. [tasks]"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from langmill.batches.labelled import LabelledLoader, Row
from langmill.checkpoint import Checkpoint
from langmill.core.device import choose_device, training_dtype
from langmill.tasks.base import Lesson, Request
from langmill.tasks.embeddings import fit_width, open_vectors, start_from
from langmill.tasks.planning import Course, finish_seconds, make_plan
from langmill.tasks.pretraining import base_name, save_run
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.job import Job
from langmill.training.settings import ModelSettings, TrainSettings


@dataclass(frozen=True)
class Material:
    """What a run learns from, and how."""

    rows: Sequence[Row]
    collate: Callable[[Sequence[Any]], Any]
    """From rows to a batch."""
    objective: Callable[[Any, Any], tuple[Tensor, Tensor]]
    """(model, batch) → (loss_sum, count)."""
    evaluate: Callable[[Any], dict[str, float]]
    """Figures of a model on held-out examples; the first says which weights are better."""
    examples: int
    """How many held-out examples these figures are of."""
    rises: bool
    """Whether it improves by rising."""
    make: Callable[[ModelSettings, torch.Generator], nn.Module]
    """From settings with every size known to a new model."""
    most_steps: int
    """More are not taken, however much time a budget leaves."""
    variants: Callable[[int], Sequence[Row]] | None = None
    """From an epoch's number to what is read in it instead of `rows`; None: they stay."""

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return sum(row.tokens for row in self.rows)


def make_lesson(
    request: Request,
    settings: TrainSettings,
    material: Material,
    tokenizer: Tokenizer,
    checkpoint: Checkpoint | None,
    *,
    limit: int,
    facts: Mapping[str, Any],
    wrap: Callable[[nn.Module], Checkpoint],
) -> Lesson:
    """Plan a run and make its model and its job.

    settings: the request's, the rows of a step decided. checkpoint: what is trained further; None: `material.make` gives
    the model. limit: tokens of a text that are read. facts: for the model card. wrap: from a new model to its checkpoint.
    """
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"context": limit})})
    start = open_vectors(request, tokenizer, np.concatenate([row.ids for row in material.rows]))
    if start is not None:
        settings = fit_width(settings, start.matrix.shape[1])
    here, count = request.here, len(material.rows)
    device = choose_device(settings.device, local_rank=here.local_rank)

    def loader(batch: int) -> LabelledLoader:
        return LabelledLoader(
            material.rows,
            batch=batch,
            collate=material.collate,
            seed=settings.seed,
            rank=here.rank,
            size=here.size,
            variants=material.variants,
        )

    course = Course(
        tokens=material.tokens,
        row_tokens=material.tokens / count,
        vocabulary=tokenizer.vocabulary_size,
        objective=material.objective,
        loader=loader,
        make=material.make,
        answers=True,
        most_steps=material.most_steps,
    )
    dtype = training_dtype(device, settings.precision)
    deadline = request.started + settings.budget - finish_seconds(settings.budget)
    plan, model = make_plan(
        settings, course, checkpoint, device=device, dtype=dtype, deadline=deadline, here=here
    )
    if start is not None:
        start_from(getattr(model, "body", model), start)
    checkpoint = checkpoint or wrap(model)
    job = Job(
        model=model,
        loader=loader(plan.settings.batch),
        objective=material.objective,
        evaluate=material.evaluate,
        save_model=partial(save_run, checkpoint, base_name(request)),
        steps=plan.settings.steps,
        micro_batch=settings.micro_batch or count,
        flops_per_token=plan.flops_per_token,
        peak_flops=plan.peak_flops * here.size,
        rises=material.rises,
        keeps_best=True,
        examples=material.examples,
        facts={
            "tokens_per_step": plan.settings.batch * course.row_tokens,
            "family": checkpoint.family,
            **facts,
        },
    )
    return Lesson(job, plan, deadline if plan.expected_seconds else math.inf)
