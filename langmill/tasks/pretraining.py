"""What pre-training on plain text shares, whatever is learned from it: corpus, plan, model, job. [tasks]"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langmill.batches.packing import PackedLoader
from langmill.batches.shards import Part, Shards
from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.checkpoint.adapters import CONFIG, base_folder, is_adapter, save_adapter
from langmill.checkpoint.locate import read_object
from langmill.core.config import option_name
from langmill.core.device import (
    can_compile,
    choose_device,
    other_load,
    training_dtype,
)
from langmill.core.distributed import World
from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.core.log import format_seconds, say, warn
from langmill.models.adapters import Form, adapt, adapted_layers, choose_layers
from langmill.models.bag import BagClassifier
from langmill.models.crf import CrfTagger
from langmill.models.families import FAMILIES
from langmill.tasks.base import Lesson, Request
from langmill.tasks.corpus import Corpus, open_corpus, open_tokenizer
from langmill.tasks.embeddings import fit_width, open_vectors, start_from
from langmill.tasks.planning import Course, finish_seconds, make_plan
from langmill.tasks.practice import MICRO_TOKENS, Practice, PracticeLoader, PretrainingTask, StepTask
from langmill.tokens.tokenizer import Tokenizer
from langmill.training import budget
from langmill.training.budget import Plan
from langmill.training.job import Job
from langmill.training.settings import TrainSettings
from langmill.training.state import seed_everything

EVALUATION_TOKENS = (8192, 131_072)
"""Fewest and most held-out tokens in one quick evaluation; between them, a two-hundredth of the training tokens."""
KEPT = ("layers", "width", "heads", "kv_heads", "hidden", "dropout", "embed_dropout", "weight_drop")
"""Settings of a model that are a checkpoint's own, which training from it keeps."""
DEFAULT_BUDGET_SECONDS = 300.0
"""Time for a run that is told neither its time nor its length."""
BUSY = 0.7
"""Processes a core that want to run, from which on a budget's plan suffers."""
SAMPLE_SECONDS = 60.0
"""The shortest run that shows samples."""


def prepare(request: Request, task: PretrainingTask) -> Lesson:
    """Make the tokenizer, the tokens, the plan and the model."""
    settings = request.settings
    if not any((settings.budget, settings.steps, settings.tokens, settings.epochs)):
        settings = settings.model_copy(update={"budget": DEFAULT_BUDGET_SECONDS})
    device = choose_device(settings.device, local_rank=request.here.local_rank)
    dtype = training_dtype(device, settings.precision)  # a mistake is said before the corpus is read
    refuse_foreign_settings(settings, task)
    corpus = Corpus(request.data, request.held_out, settings.data, seed=settings.seed)
    settings = choose_family(settings, task)
    source = open_source(request, task)
    tokenizer, shards = open_text(request, corpus, settings, source, task)
    # A row needs a token to read and one to predict; a corpus shorter than the context shortens it.
    settings = fit_context(settings, shards, source)
    practice = task.practice(tokenizer, shards, settings.model.context)
    start = open_vectors(request, tokenizer, shards.train.tokens)
    if start is not None:
        settings = fit_width(settings, start.matrix.shape[1])
    finish = finish_seconds(settings.budget)
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
    course = Course(
        tokens=len(shards.train.tokens),
        row_tokens=settings.model.context,
        vocabulary=tokenizer.vocabulary_size,
        objective=practice.objective,
        loader=lambda rows: PracticeLoader(
            PackedLoader(shards.train, context=settings.model.context, rows=rows, seed=settings.seed),
            practice,
        ),
        make=lambda model, generator: task.families[model.family](
            model, tokenizer.vocabulary_size, generator
        ),
    )
    plan, model = make_plan(
        settings,
        course,
        source,
        device=device,
        dtype=dtype,
        deadline=deadline,
        here=request.here,
    )
    if start is not None:
        start_from(model, start)
    settings = plan.settings
    rows = PackedLoader(
        shards.train,
        context=settings.model.context,
        rows=share(settings.batch, request.here),
        seed=settings.seed,
        rank=request.here.rank,
        size=request.here.size,
    )
    checkpoint = (
        Checkpoint(model, tokenizer)
        if source is None
        else Checkpoint(model, tokenizer, source.family, source.config)
    )
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
        save_model=partial(save_run, checkpoint, base_name(request)),
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
            "family": checkpoint.family,
            **text_facts(corpus, tokenizer, shards, settings.model.context),
        },
    )
    return Lesson(job, plan, deadline)


def open_text(
    request: Request,
    corpus: Corpus,
    settings: TrainSettings,
    source: Checkpoint | None,
    task: PretrainingTask,
) -> tuple[Tokenizer, Shards]:
    """Return the tokenizer and the corpus as its tokens, some of them held out."""
    if settings.data.examples:
        raise ConfigError("--data.examples counts rows with answers, which plain text has not; leave it out")
    with request.here.main_first():
        tokenizer = choose_tokenizer(request, corpus, settings, source, task)
        shards = open_corpus(corpus, tokenizer, expected=request.content)
    if len(shards.held_out.tokens) < 2:
        raise DataError(
            f"{', '.join(request.data)}: too little text to hold some out for evaluation; add text, name a file"
            " with --held-out-data, or raise --data.held-out"
        )
    return tokenizer, shards


def text_facts(corpus: Corpus, tokenizer: Tokenizer, shards: Shards, context: int) -> dict[str, Any]:
    """Return what the model card says of the text, and of the rows of the quick evaluation."""
    return {
        "rows": f"rows of {context} tokens cut end to end",
        "split": shards.split,
        "corpus": corpus.fingerprint,
        "content": shards.content,
        "train_bytes": shards.train.bytes,
        "train_tokens": len(shards.train.tokens),
        "vocabulary": tokenizer.vocabulary_size,
    }


def refuse_foreign_settings(settings: TrainSettings, task: StepTask) -> None:
    """Raise ConfigError where something is set that only another task follows."""
    for group in ("mask", "spans", "labels", "teacher", "augment", "embed"):
        asked = getattr(settings, group).model_dump(exclude_defaults=True)
        if asked and group not in task.own_settings:
            raise ConfigError(
                f"{option_name(f'{group}.{next(iter(asked))}')} has no effect on {task.name}; leave it out"
            )
    if settings.model.order:
        raise ConfigError(
            "--model.order is of n-gram models; leave it out, or give --model ngram to train lm"
        )


def choose_family(settings: TrainSettings, task: StepTask) -> TrainSettings:
    """Return `settings` with the task's default layout where none is asked for."""
    name = settings.model.family if settings.model.family != "auto" else next(iter(task.families))
    known = (*task.families, *task.fitted)
    if name not in known:
        raise ConfigError(
            f"--model {name}: {task.name} trains {', '.join(known)} from scratch{did_you_mean(name, known)}"
        )
    return settings.model_copy(update={"model": settings.model.model_copy(update={"family": name})})


def open_source(request: Request, task: StepTask) -> Checkpoint | None:
    """Return the checkpoint to go on from; a resumed run has it in its own folder."""
    settings = request.settings
    if settings.embeddings and settings.from_checkpoint:
        raise ConfigError("--embeddings and --from exclude each other: a checkpoint has trained embeddings")
    if settings.embeddings and not request.resume and not Path(settings.embeddings).is_file():
        raise ConfigError(
            f"--embeddings {settings.embeddings}: no such file; name a .vec file of word vectors"
        )
    check_adapter(settings)
    if not settings.from_checkpoint:
        return None
    path: str | Path = settings.from_checkpoint
    if request.resume and is_adapter(request.folder):
        path = base_folder(request.folder)  # its own weights are in the state
    elif request.resume and (request.folder / "config.json").is_file():
        return load_checkpoint(request.folder)
    source = load_checkpoint(path)
    if source.tokenizer is None:
        raise ConfigError(
            f"--from {settings.from_checkpoint}: has no tokenizer.json, so text cannot be read with it"
        )
    if isinstance(source.model, BagClassifier | CrfTagger):
        raise ConfigError(
            f"--from {settings.from_checkpoint}: a {'tagger' if isinstance(source.model, CrfTagger) else 'classifier'} of n-grams is fitted in one go and has no weights to go on"
            " training; fit one anew, without --from"
        )
    task.check(source.model, source.tokenizer)
    if settings.model.family not in ("auto", source.family):
        raise ConfigError(
            f"--model {settings.model.family}: the checkpoint {settings.from_checkpoint} is a {source.family}, which --from"
            " keeps; leave the option out"
        )
    stack = source.model.config.output_stack
    for name in KEPT:
        wanted, has = getattr(settings.model, name), getattr(stack, name, 0)
        if wanted and wanted != has:
            raise ConfigError(
                f"{option_name(f'model.{name}')} {wanted}: the checkpoint {settings.from_checkpoint} has {has},"
                " which --from keeps; leave the option out"
            )
    if settings.tokenizer != TrainSettings.model_fields["tokenizer"].default:
        raise ConfigError("--tokenizer and --from exclude each other: a checkpoint brings its own tokenizer")
    if settings.adapter.rank:
        put_adapter(source, settings)
    return source


def base_name(request: Request) -> str:
    """Return what the run's adapter says of where its model lies: a whole path, or a hub name."""
    if request.resume and is_adapter(request.folder):
        return str(read_object(request.folder / CONFIG)["base_model_name_or_path"])
    named = request.settings.from_checkpoint
    return str(Path(named).resolve()) if Path(named).exists() else named


def check_adapter(settings: TrainSettings) -> None:
    """Raise ConfigError where an adapter is asked for and cannot be trained."""
    adapter = settings.adapter
    given = [name for name, value in adapter if value != type(adapter).model_fields[name].default]
    if given and not adapter.rank:
        raise ConfigError(f"{option_name(f'adapter.{given[0]}')} needs --adapter.rank, such as 8")
    if given and not settings.from_checkpoint:
        raise ConfigError("--adapter.rank trains beside the weights of a checkpoint: name one by --from CKPT")


def put_adapter(source: Checkpoint, settings: TrainSettings) -> None:
    """Put the adapter that settings ask for on a checkpoint's model."""
    wanted = settings.adapter
    layers = choose_layers(FAMILIES[source.family], source.model, wanted.targets)
    alpha = wanted.alpha or 2 * wanted.rank
    form = Form(wanted.rank, alpha / wanted.rank, wanted.kind, wanted.dropout)
    generator = torch.Generator().manual_seed(settings.seed)
    adapt(source.model, dict.fromkeys(layers.values(), form), generator)


def known_tokenizer(request: Request, source: Checkpoint | None) -> Tokenizer | None:
    """Return the tokenizer of a run to be resumed, or of the checkpoint to go on from, if there is one."""
    if request.resume and (request.folder / "tokenizer.json").is_file():
        return Tokenizer.load(request.folder)
    return None if source is None else source.tokenizer


def choose_tokenizer(
    request: Request,
    corpus: Corpus,
    settings: TrainSettings,
    source: Checkpoint | None,
    task: PretrainingTask,
) -> Tokenizer:
    """Return the tokenizer of the run or of the checkpoint to go on from; else open or train one."""
    if known := known_tokenizer(request, source):
        return known
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


def save_run(checkpoint: Checkpoint, base: str, folder: Path, model: Any) -> None:
    """Write the checkpoint into the run's folder with `model` as it is now; of a model with adapters those alone.

    base: what an adapter says of where its model lies.
    """
    now = replace(checkpoint, model=model)
    if adapted_layers(model):
        save_adapter(folder, now, base=base)
    else:
        save_checkpoint(folder, now)


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
