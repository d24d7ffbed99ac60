"""From a corpus and a budget to a model and a plan, for every task that learns from plain text. [tasks]"""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import torch
from torch import nn

from langmill.batches.packing import PackedLoader
from langmill.batches.shards import Part, Shards
from langmill.checkpoint import Checkpoint
from langmill.core.device import cpu_products, forward_products, measure_matmul, synchronise
from langmill.core.distributed import World
from langmill.models.recurrent import RecurrentConfig
from langmill.tasks.practice import MICRO_TOKENS, Practice, PracticeLoader, PretrainingTask
from langmill.tokens.tokenizer import Tokenizer
from langmill.training import budget
from langmill.training.budget import Plan
from langmill.training.settings import TrainSettings


def make_plan(
    settings: TrainSettings,
    shards: Shards,
    tokenizer: Tokenizer,
    source: Checkpoint | None,
    task: PretrainingTask,
    practice: Practice,
    *,
    device: torch.device,
    dtype: torch.dtype,
    deadline: float,
    here: World,
) -> tuple[Plan, Any]:
    """Decide every open size, build the model and fix the number of steps."""
    # Processes measure and read their clocks apart, and must decide alike: the main one's figures hold.
    peak_flops = here.agree(measure_matmul(device, seconds=0.15, dtype=dtype))
    corpus_tokens, context = len(shards.train.tokens), settings.model.context
    left = here.agree(seconds_left(deadline)) if settings.budget else 0.0
    precision = str(dtype).removeprefix("torch.")
    flops = left * peak_flops * budget.EFFICIENCY[precision]
    layers, width = budget.DEFAULT_SHAPE
    if settings.budget:
        layers, width = budget.best_shape(
            flops, vocabulary=tokenizer.vocabulary_size, corpus_tokens=corpus_tokens, context=context
        )
    model: Any
    if source is None:
        settings = budget.fill_model(settings, layers=layers, width=width, context=context)
        generator = torch.Generator().manual_seed(settings.seed)
        make = task.families[settings.model.family]
        model = make(settings.model, tokenizer.vocabulary_size, generator)
    else:
        model = source.model
        stack = model.config.output_stack
        sizes = {"layers": stack.layers, "width": stack.width, "heads": stack.heads, "context": context}
        settings = settings.model_copy(update={"model": settings.model.model_copy(update=sizes)})
    stack = model.config.output_stack
    if isinstance(stack, RecurrentConfig):
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"heads": 0})})
    settings = budget.fill_rates(settings, width=stack.width)
    model.to(device)
    parameters = sum(p.numel() for p in model.parameters())
    multiplying = parameters - sum(e.weight.numel() for e in embeddings(model))
    fast = {id(p): p.numel() for p in model.parameters() if not p.requires_grad}
    trained = parameters - sum(fast.values()) if fast else 0
    for embedding in embeddings(model):
        fast.pop(id(embedding.weight), None)
    operations = budget.flops_per_token(
        multiplying, layers=stack.layers, width=stack.width, context=context, fast=sum(fast.values())
    )
    batch = budget.choose_batch(settings, context=context, tokens=flops / operations)
    settings = settings.model_copy(update={"batch": batch})
    steps = budget.wanted_steps(settings, step_tokens=batch * context, corpus_tokens=corpus_tokens)
    seconds = 0.0
    if not steps:
        with cpu_products(dtype):
            pace = here.agree(trial_seconds(model, shards.train, practice, settings, device, dtype))
        seconds = here.agree(seconds_left(deadline))
        steps = max(1, round(seconds / pace))
    plan = Plan(
        settings=settings.model_copy(update={"steps": steps}),
        parameters=parameters,
        tokens=steps * batch * context,
        corpus_tokens=corpus_tokens,
        flops_per_token=operations,
        expected_seconds=seconds,
        peak_flops=peak_flops,
        precision=precision,
        family="" if source is None else source.family,
        trained=trained,
    )
    return plan, model


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
    output = model.output.weight
    return [m for m in model.modules() if isinstance(m, nn.Embedding) and m.weight is not output]


def trial_seconds(
    model: nn.Module,
    part: Part,
    practice: Practice,
    settings: TrainSettings,
    device: torch.device,
    dtype: torch.dtype,
) -> float:
    """Return what a step takes, its products in `dtype`, measured on a copy of the model with the run's own batch."""
    from langmill.training.optimizers import optimizer_of

    trial = copy.deepcopy(model)
    optimizer = optimizer_of(trial, settings.optimizer)
    rows = settings.batch
    micro = settings.micro_batch or max(1, MICRO_TOKENS[device.type] // settings.model.context)
    packed = PackedLoader(part, context=settings.model.context, rows=min(rows, micro), seed=settings.seed)
    loader = PracticeLoader(packed, practice)
    times = []
    for _ in range(budget.TRIAL_STEPS):
        begin = time.perf_counter()
        batch = loader.take()
        with forward_products(device, dtype):
            loss, _ = practice.objective(trial, batch.to(device))
        loss.backward()
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        synchronise(device)
        times.append((middle - begin) * max(1, rows / micro) + time.perf_counter() - middle)
    return float(np.median(times[1:]))
