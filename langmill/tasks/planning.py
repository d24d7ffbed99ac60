"""From data and a budget to a model and a plan, for every task that learns step by step. [tasks]"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from langmill.checkpoint import Checkpoint
from langmill.checkpoint.heads import left_behind
from langmill.checkpoint.weights import some
from langmill.core.device import forward_products, measure_matmul, synchronise
from langmill.core.distributed import World
from langmill.core.log import say
from langmill.core.products import cpu_products
from langmill.models.adapters import adapted_layers
from langmill.models.recurrent import RecurrentConfig
from langmill.tasks.practice import MICRO_TOKENS
from langmill.text.documents import plural
from langmill.training import budget
from langmill.training.budget import Plan
from langmill.training.job import Loader
from langmill.training.settings import ModelSettings, TrainSettings


@dataclass(frozen=True)
class Course:
    """What a plan has to know of the data and of what is learned from them."""

    tokens: int
    """Of one pass over the training data."""
    row_tokens: float
    """Of a row, on average."""
    vocabulary: int
    objective: Callable[[Any, Any], tuple[Tensor, Tensor]]
    loader: Callable[[int], Loader]
    """From a number of rows to batches of so many."""
    make: Callable[[ModelSettings, torch.Generator], Any]
    """From settings with every size known to a new model."""
    answers: bool = False
    """Whether rows have answers to learn, rather than being plain text."""
    most_steps: int = 0
    """More are not taken, however much time a budget leaves; 0: as many as fit."""


def make_plan(
    settings: TrainSettings,
    course: Course,
    source: Checkpoint | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    deadline: float,
    here: World,
) -> tuple[Plan, Any]:
    """Decide every open size, build the model and fix the number of steps."""
    # Processes measure and read their clocks apart, and must decide alike: the main one's figures hold.
    peak_flops = here.agree(measure_matmul(device, seconds=0.15, dtype=dtype))
    context = settings.model.context
    left = here.agree(seconds_left(deadline)) if settings.budget else 0.0
    precision = str(dtype).removeprefix("torch.")
    flops = left * peak_flops * budget.EFFICIENCY[precision]
    model: Any
    if source is None:
        layers, width = budget.DEFAULT_SHAPE
        if settings.budget:
            layers, width = budget.best_shape(
                flops, vocabulary=course.vocabulary, corpus_tokens=course.tokens, context=context
            )
        settings = budget.fill_model(settings, layers=layers, width=width, context=context)
        model = course.make(settings.model, torch.Generator().manual_seed(settings.seed))
    else:
        model = source.model
        if not adapted_layers(model) and (dropped := left_behind(source)):
            say(
                f"{plural(len(dropped), 'weight')} of {settings.from_checkpoint}, for which this task has no use, will not be saved:"
                f" {some(dropped)}"
            )
        stack = model.config.output_stack
        sizes = {"layers": stack.layers, "width": stack.width, "heads": stack.heads, "context": context}
        settings = settings.model_copy(update={"model": settings.model.model_copy(update=sizes)})
    stack = model.config.output_stack
    if isinstance(stack, RecurrentConfig):
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"heads": 0})})
    tuning = course.answers and source is not None
    settings = budget.fill_rates(settings, width=stack.width, tuning=tuning)
    model.to(device)
    parameters, trained, operations = count_work(model, context=context)
    batch = budget.choose_batch(settings, context=course.row_tokens, tokens=flops / operations)
    settings = settings.model_copy(update={"batch": batch})
    step_tokens = batch * course.row_tokens
    steps = budget.wanted_steps(settings, step_tokens=step_tokens, corpus_tokens=course.tokens)
    seconds = 0.0
    if not steps:
        with cpu_products(dtype):
            pace = here.agree(trial_seconds(model, course, settings, device, dtype))
        seconds = here.agree(seconds_left(deadline))
        steps = max(1, round(seconds / pace))
        if 0 < course.most_steps <= steps:
            steps, seconds = course.most_steps, 0.0
    plan = Plan(
        settings=settings.model_copy(update={"steps": steps}),
        parameters=parameters,
        tokens=round(steps * step_tokens),
        corpus_tokens=course.tokens,
        flops_per_token=operations,
        expected_seconds=seconds,
        peak_flops=peak_flops,
        precision=precision,
        family="" if source is None else source.family,
        row_tokens=0.0 if course.row_tokens == context else course.row_tokens,
        trained=trained,
    )
    return plan, model


def count_work(model: Any, *, context: int) -> tuple[int, int, float]:
    """Return a model's parameters, how many of them are trained (0: all), and the operations a token takes."""
    stack = model.config.output_stack
    parameters = sum(p.numel() for p in model.parameters())
    multiplying = parameters - sum(e.weight.numel() for e in embeddings(model))
    fast = {id(p): p.numel() for p in model.parameters() if not p.requires_grad}
    trained = parameters - sum(fast.values()) if fast else 0
    for embedding in embeddings(model):
        fast.pop(id(embedding.weight), None)
    operations = budget.flops_per_token(
        multiplying, layers=stack.layers, width=stack.width, context=context, fast=sum(fast.values())
    )
    return parameters, trained, operations


FINISH_SECONDS, FINISH_SHARE = 4.0, 0.15
"""Time of a budget kept for the last evaluation, saving and the curve: so much, or this share of a short one."""
TRAINING_SHARE = 0.97
"""Share of the time left that goes into steps; the rest is for evaluations and saving."""


def finish_seconds(budget_seconds: float) -> float:
    """Return the part of a budget that is kept for the end."""
    return min(FINISH_SECONDS, FINISH_SHARE * budget_seconds)


def seconds_left(deadline: float) -> float:
    """Return the time for steps until `deadline`, at least a second."""
    return max(1.0, (deadline - time.time()) * TRAINING_SHARE)


def embeddings(model: Any) -> list[nn.Embedding]:
    """Return the embeddings that only look up: those not tied to the output layer."""
    output = getattr(getattr(model, "output", None), "weight", None)
    return [m for m in model.modules() if isinstance(m, nn.Embedding) and m.weight is not output]


def trial_seconds(
    model: nn.Module, course: Course, settings: TrainSettings, device: torch.device, dtype: torch.dtype
) -> float:
    """Return what a step takes, its products in `dtype`, measured on a copy of the model with the run's own batch."""
    from langmill.training.optimizers import optimizer_of

    trial = copy.deepcopy(model)
    optimizer = optimizer_of(trial, settings.optimizer)
    rows = settings.batch
    micro = min(rows, settings.micro_batch or max(1, int(MICRO_TOKENS[device.type] // course.row_tokens)))
    loader = course.loader(micro)
    times = []
    for _ in range(budget.TRIAL_STEPS):
        begin = time.perf_counter()
        batch = loader.take()
        with forward_products(device, dtype):
            loss, _ = course.objective(trial, batch.to(device))
        loss.backward()
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        synchronise(device)
        times.append((middle - begin) * max(1, rows / micro) + time.perf_counter() - middle)
    return float(np.median(times[1:]))
