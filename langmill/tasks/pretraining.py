"""What pre-training on plain text shares, whatever is learned from it: corpus, plan, model, job. [tasks]"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from langmill.batches.batch import TokenBatch
from langmill.batches.packing import LoaderState, PackedLoader
from langmill.batches.shards import Part, Shards
from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.core.config import option_name
from langmill.core.device import (
    can_compile,
    choose_device,
    cpu_products,
    forward_products,
    measure_matmul,
    other_load,
    synchronise,
    training_dtype,
)
from langmill.core.distributed import World
from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.core.log import format_seconds, say, warn
from langmill.tasks.base import Lesson, Request
from langmill.tasks.corpus import Corpus, open_corpus, open_tokenizer
from langmill.tokens.tokenizer import Tokenizer
from langmill.training import budget
from langmill.training.budget import Plan
from langmill.training.job import Job
from langmill.training.settings import ModelSettings, TrainSettings
from langmill.training.state import seed_everything

MICRO_TOKENS = {"cpu": 8192, "cuda": 65_536, "mps": 8192}
"""Tokens in one forward pass when --micro-batch does not say."""
EVALUATION_TOKENS = (8192, 131_072)
"""Fewest and most held-out tokens in one quick evaluation; between them, a two-hundredth of the training tokens."""
DEFAULT_BUDGET_SECONDS = 300.0
"""Time for a run that is told neither its time nor its length."""
BUSY = 0.7
"""Processes a core that want to run, from which on a budget's plan suffers."""
SAMPLE_SECONDS = 60.0
"""The shortest run that shows samples."""


class Practice(Protocol):
    """What a task makes of packed text in one run."""

    def reshape(self, batch: TokenBatch, generator: np.random.Generator) -> Any:
        """Return the task's batch for packed rows; chance comes from `generator` alone."""

    def objective(self, model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """Return (loss_sum, count)."""

    def measure(self, model: Any, batch: Any) -> dict[str, Tensor]:
        """Return sums over a batch: `loss` in nats, `count`, and what else is shown divided by `count`."""

    def sample(self, model: Any) -> str:
        """Return a short text that shows what the model can do."""


class PretrainingTask(Protocol):
    """A task that learns from plain text."""

    name: str
    families: Mapping[str, Callable[[ModelSettings, int, torch.Generator], nn.Module]]
    """The layouts that it trains from scratch, the default first: (settings with every size known, vocabulary,
    generator) → a new model."""
    roles: tuple[str, ...]
    """Roles of `SpecialTokens` that its tokenizers have beyond the usual ones."""
    extra_tokens: tuple[str, ...]
    """Further special tokens that its tokenizers have."""
    scores_text: bool
    """Whether every token is predicted once, so that the loss says bits per byte."""

    def check(self, model: Any, tokenizer: Tokenizer) -> None:
        """Raise ConfigError where this task cannot go on from a checkpoint."""

    def practice(self, tokenizer: Tokenizer, shards: Shards, context: int) -> Practice:
        """Return what the run needs."""


class PracticeLoader:
    """A task's batches of packed rows. What is drawn for a batch depends on the seed and its place alone."""

    def __init__(self, rows: PackedLoader, practice: Practice) -> None:
        self.rows, self.practice = rows, practice

    @property
    def state(self) -> LoaderState:
        """Where the rows stand; there is nothing else to remember."""
        return self.rows.state

    @state.setter
    def state(self, state: LoaderState) -> None:
        self.rows.state = state

    def take(self) -> Any:
        """Return the next batch."""
        place = self.state.epoch, self.state.rows
        batch = self.rows.take()
        assert batch is not None
        return self.practice.reshape(batch, np.random.default_rng([self.rows.seed, *place, self.rows.rank]))


def prepare(request: Request, task: PretrainingTask) -> Lesson:
    """Make the tokenizer, the tokens, the plan and the model."""
    settings = request.settings
    if not any((settings.budget, settings.steps, settings.tokens, settings.epochs)):
        settings = settings.model_copy(update={"budget": DEFAULT_BUDGET_SECONDS})
    device = choose_device(settings.device, local_rank=request.here.local_rank)
    dtype = training_dtype(device, settings.precision)  # a mistake is said before the corpus is read
    corpus = Corpus(request.data, request.held_out, settings.data, seed=settings.seed)
    settings = choose_family(settings, task)
    source = open_source(request, task)
    with request.here.main_first():
        tokenizer = choose_tokenizer(request, corpus, settings, source, task)
        shards = open_corpus(corpus, tokenizer, expected=request.content)
    if len(shards.held_out.tokens) < 2:
        raise DataError(
            f"{', '.join(request.data)}: too little text to hold some out for evaluation; add text, name a file"
            " with --held-out-data, or raise --data.held-out"
        )
    # A row needs a token to read and one to predict; a corpus shorter than the context shortens it.
    settings = fit_context(settings, shards, source)
    practice = task.practice(tokenizer, shards, settings.model.context)
    finish = min(FINISH_SECONDS, FINISH_SHARE * settings.budget)
    deadline = request.started + settings.budget - finish if settings.budget else math.inf
    if settings.budget and (load := other_load()) > BUSY:
        say(f"other programs keep this machine busy (load {load:.1f}); the plan is for what they leave")
    left = deadline - time.time()
    if left + request.spent_seconds < settings.budget / 2:
        warn(
            f"of the budget of {format_seconds(settings.budget)}, {format_seconds(max(0.0, left))} are left to train;"
            " the tokens are kept, so that another run has more of it, or raise --budget"
        )
    seed_everything(settings.seed)
    plan, model = make_plan(
        settings,
        shards,
        tokenizer,
        source,
        task,
        practice,
        device=device,
        dtype=dtype,
        deadline=deadline,
        here=request.here,
    )
    settings = plan.settings
    rows = PackedLoader(
        shards.train,
        context=settings.model.context,
        rows=share(settings.batch, request.here),
        seed=settings.seed,
        rank=request.here.rank,
        size=request.here.size,
    )
    checkpoint = Checkpoint(model, tokenizer, config={} if source is None else source.config)
    job = Job(
        model=model,
        loader=PracticeLoader(rows, practice),
        objective=practice.objective,
        evaluate=quick_evaluation(
            shards.held_out,
            settings.model.context,
            plan.tokens,
            practice=practice,
            scores_text=task.scores_text,
            here=request.here,
        ),
        save_model=partial(save_run, checkpoint),
        steps=settings.steps,
        micro_batch=settings.micro_batch or max(1, MICRO_TOKENS[device.type] // settings.model.context),
        flops_per_token=plan.flops_per_token,
        peak_flops=plan.peak_flops * request.here.size,
        sample=practice.sample if plan.seconds >= SAMPLE_SECONDS else None,
        units_per_nat=("bits/byte", 1 / math.log(2) / shards.bytes_per_token)
        if task.scores_text
        else ("loss", 1.0),
        compile_stack=compile_stacks if compiles(settings, device, plan) else None,
        facts={
            "tokens_per_step": settings.batch * settings.model.context,
            "split": shards.split,
            "corpus": corpus.fingerprint,
            "content": shards.content,
            "train_bytes": shards.train.bytes,
            "train_tokens": len(shards.train.tokens),
            "vocabulary": tokenizer.vocabulary_size,
        },
    )
    return Lesson(job, plan, deadline)


def choose_family(settings: TrainSettings, task: PretrainingTask) -> TrainSettings:
    """Return `settings` with the task's default layout where none is asked for."""
    name = settings.model.family if settings.model.family != "auto" else next(iter(task.families))
    if name not in task.families:
        raise ConfigError(
            f"--model {name}: {task.name} trains {', '.join(task.families)} from scratch"
            f"{did_you_mean(name, task.families)}"
        )
    return settings.model_copy(update={"model": settings.model.model_copy(update={"family": name})})


def open_source(request: Request, task: PretrainingTask) -> Checkpoint | None:
    """Return the checkpoint to go on from; a resumed run has it in its own folder."""
    settings = request.settings
    if not settings.from_checkpoint:
        return None
    if request.resume and (request.folder / "config.json").is_file():
        return load_checkpoint(request.folder)
    source = load_checkpoint(settings.from_checkpoint)
    if source.tokenizer is None:
        raise ConfigError(
            f"--from {settings.from_checkpoint}: has no tokenizer.json, so text cannot be read with it"
        )
    task.check(source.model, source.tokenizer)
    stack = source.model.config.output_stack
    for name in ("layers", "width", "heads", "kv_heads", "hidden"):
        wanted, has = getattr(settings.model, name), getattr(stack, name)
        if wanted and wanted != has:
            raise ConfigError(
                f"{option_name(f'model.{name}')} {wanted}: the checkpoint {settings.from_checkpoint} has {has},"
                " which --from keeps; leave the option out"
            )
    if settings.tokenizer != TrainSettings.model_fields["tokenizer"].default:
        raise ConfigError("--tokenizer and --from exclude each other: a checkpoint brings its own tokenizer")
    return source


def choose_tokenizer(
    request: Request,
    corpus: Corpus,
    settings: TrainSettings,
    source: Checkpoint | None,
    task: PretrainingTask,
) -> Tokenizer:
    """Return the tokenizer of the run or of the checkpoint to go on from; else open or train one."""
    if request.resume and (request.folder / "tokenizer.json").is_file():
        return Tokenizer.load(request.folder)
    if source is not None:
        assert source.tokenizer is not None
        return source.tokenizer
    tokenizer = open_tokenizer(corpus, settings, roles=task.roles, extra_tokens=task.extra_tokens)
    if lacking := [role for role in task.roles if getattr(tokenizer.specials, role) is None]:
        raise ConfigError(
            f"--tokenizer {settings.tokenizer}: has no {' or '.join(lacking)} token, which {task.name} needs"
        )
    if unknown := [token for token in task.extra_tokens if tokenizer.backend.token_to_id(token) is None]:
        raise ConfigError(
            f"--tokenizer {settings.tokenizer}: has no token {unknown[0]}, which {task.name} needs"
        )
    return tokenizer


def fit_context(settings: TrainSettings, shards: Shards, source: Checkpoint | None) -> TrainSettings:
    """Return `settings` with the tokens a row decided: what the plan wants, the model has and the corpus fills."""
    context = budget.choose_context(settings, bytes_per_token=shards.bytes_per_token, seconds=settings.budget)
    if source is not None:
        limit = source.model.config.output_stack.max_positions
        if settings.model.context > limit:
            raise ConfigError(
                f"--model.context {settings.model.context}: the checkpoint looks back over {limit} tokens"
            )
        context = min(context, limit)
    longest = len(shards.train.tokens) - 1
    if not settings.model.context and 1 <= longest < context:
        say(f"the corpus has {longest + 1} tokens: the context is shortened from {context} to {longest}")
        context = longest
    return settings.model_copy(update={"model": settings.model.model_copy(update={"context": context})})


def share(rows: int, here: World) -> int:
    """Return this process's rows of a batch of `rows`."""
    if rows % here.size:
        raise ConfigError(
            f"--batch {rows} does not divide over {here.size} processes; use a multiple of {here.size}"
        )
    return rows // here.size


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
) -> tuple[Plan, nn.Module]:
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
    settings = budget.fill_rates(settings, width=model.config.output_stack.width)
    model.to(device)
    parameters = sum(p.numel() for p in model.parameters())
    stack = model.config.output_stack
    multiplying = parameters - sum(e.weight.numel() for e in embeddings(model))
    operations = budget.flops_per_token(multiplying, layers=stack.layers, width=stack.width, context=context)
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
    )
    return plan, model


FINISH_SECONDS, FINISH_SHARE = 4.0, 0.15
"""Time of a budget kept for the last evaluation, saving and the curve: so much, or this share of a short one."""
TRAINING_SHARE = 0.97
"""Share of the time left that goes into steps; the rest is for evaluations and saving."""


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


def compiles(settings: TrainSettings, device: torch.device, plan: Plan) -> bool:
    """Whether this run uses torch.compile: it takes long to compile, and gains a share of each step."""
    if settings.compile != "auto":
        if settings.compile == "yes" and not can_compile(device):
            raise ConfigError(
                "--compile yes: torch.compile needs a C++ compiler (g++) on a CPU and Triton on a GPU"
            )
        return settings.compile == "yes"
    return can_compile(device) and plan.seconds * COMPILE_GAIN[device.type] > COMPILE_SECONDS


COMPILE_SECONDS = 60.0
COMPILE_GAIN = {"cpu": 0.0, "cuda": 0.3, "mps": 0.0}
"""Share of a step that compiling saves. None on a CPU, where the fused kernels are faster (docs/log.md)."""


def compile_stacks(model: Any) -> None:
    """Compile the stacks in place; weights keep their names, evaluation and sampling stay eager."""
    for stack in (model.encoder, model.decoder):
        if stack is not None:
            stack.compile(dynamic=False)


def save_run(checkpoint: Checkpoint, folder: Path, model: Any) -> None:
    """Write the checkpoint into the run's folder with `model` as it is now."""
    save_checkpoint(folder, Checkpoint(model, checkpoint.tokenizer, checkpoint.family, checkpoint.config))


def quick_evaluation(
    part: Part,
    context: int,
    training_tokens: int,
    *,
    practice: Practice,
    scores_text: bool,
    here: World,
) -> Callable[[Any], dict[str, float]]:
    """Return a function from a model to its loss and other figures on part of the held-out text.

    Rows are cut end to end, spread over the whole part, and every process takes its share. The first
    tokens of a row have little to go by, so a language model's figure lies above the strided one of
    `evaluate`. What is drawn for a row is the same every time.
    """
    fewest, most = EVALUATION_TOKENS
    wanted = min(max(training_tokens // 200, fewest), most)
    context = min(context, len(part.tokens) - 1)
    whole = PackedLoader(part, context=context, rows=1, seed=0)
    every = max(1, whole.epoch_rows * context // wanted)
    begins = [row * context for row in range(0, whole.epoch_rows, every)][here.rank :: here.size]
    tokens_per_byte = len(part.tokens) / max(1, part.bytes)

    @torch.no_grad()
    def evaluate(model: Any) -> dict[str, float]:
        device = next(model.parameters()).device
        totals: dict[str, Tensor] = {}
        rows = max(1, MICRO_TOKENS[device.type] // context)
        for i in range(0, len(begins), rows):
            batch = practice.reshape(whole.cut(begins[i : i + rows]), np.random.default_rng(begins[i]))
            for name, value in practice.measure(model, batch.to(device)).items():
                totals[name] = totals.get(name, 0) + value.double()
        here.sum(*totals.values())
        count = float(totals.pop("count"))
        means = {name: float(total) / count for name, total in totals.items()}
        if scores_text:
            means["bits_per_byte"] = means["loss"] * tokens_per_byte / math.log(2)
        return means

    return evaluate
