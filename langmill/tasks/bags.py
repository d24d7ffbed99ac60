"""Fitting a model of n-grams on the examples and held-out part that a neural one would have. [tasks]"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from langmill.batches.labelled import LabelledRow
from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.core.config import flatten, option_name
from langmill.core.errors import ConfigError
from langmill.core.log import format_count, say
from langmill.models.bag import BagClassifier
from langmill.models.bag_features import Alphabet
from langmill.models.bag_fit import RECIPES, fit_bag
from langmill.models.heads import HeadConfig
from langmill.tasks.base import Lesson, Request
from langmill.tasks.corpus import open_tokenizer
from langmill.tasks.labelled import HeadedTask, corpus_facts, quick_evaluation, quick_part, read_corpus
from langmill.tasks.practice import MICRO_TOKENS
from langmill.text.documents import plural
from langmill.tokens.tokenizer import Tokenizer
from langmill.tokens.train import train_tokenizer
from langmill.training.fit import FitJob, FitPlan
from langmill.training.settings import TrainSettings

BAGS = tuple(RECIPES)
"""The layouts' names."""
FOLLOWED = ("seed", "device", "tensorboard", "model.family", "labels.several")
"""Settings that they follow, beside those of the data."""
SPELT = {
    "from_checkpoint": "--from",
    "teacher.checkpoints": "--teacher",
    "teacher.unlabelled": "--unlabelled",
    "augment.operations": "--augment",
}
LIMIT = 1_000_000
"""Tokens, here characters, of a text that are read."""


@dataclass(frozen=True)
class Fitting:
    """A way of making a model in one go."""

    family: str
    what: str
    """Which kind of model, in words."""
    followed: tuple[str, ...]
    """Settings that have a meaning for it, beside those of the data."""
    fit: Callable[[Sequence[LabelledRow], HeadConfig, Tokenizer, TrainSettings], Any]
    """Return a model, whose `weight` has a row for each feature, fitted to rows of characters."""


def prepare_bag(request: Request, task: HeadedTask) -> Lesson:
    """Read the examples and say what is fitted: a classifier of n-grams."""
    return prepare_fit(request, task, BAG)


def prepare_fit(request: Request, task: HeadedTask, fitting: Fitting) -> Lesson:
    """Read the examples and say what is fitted; the model is made by the job."""
    settings = request.settings
    kind = settings.model.family
    refuse_unfollowed(request, fitting.followed)
    corpus = read_corpus(request, task)
    head = task.head([*corpus.train, *corpus.held_out], settings)
    with request.here.main_first():
        tokenizer = open_tokenizer(corpus, settings.model_copy(update={"tokenizer": "char"}))
    encode = partial(task.encode, tokenizer=tokenizer, head=head, limit=LIMIT, segments=False)
    shown = quick_part(corpus.held_out)
    train, held_out = encode(corpus.train), encode(shown)
    tokens = sum(len(row.ids) for row in train.rows)
    facts = {
        "family": fitting.family,
        "what": f"{fitting.what.capitalize()} ({kind})",
        **corpus_facts(corpus, tokenizer, tokens),
    }

    def fit() -> nn.Module:
        model = fitting.fit(train.rows, head, tokenizer, settings)
        facts["sizes"] = f"{len(model.weight):,} n-grams"
        return model

    job = FitJob(
        fit=fit,
        evaluate=quick_evaluation(task, shown, held_out, MICRO_TOKENS["cpu"]),
        save_model=lambda folder, model: save_checkpoint(
            folder, Checkpoint(model, tokenizer, decisions=task.decisions)
        ),
        tokens=tokens,
        facts=facts,
    )
    said = (
        f"model    {kind}: {fitting.what} of words and characters",
        f"fit      {plural(len(train.rows), 'example')}, {format_count(tokens)} characters",
    )
    return Lesson(job, FitPlan(settings, tokens, said))


def fit_rows(
    rows: Sequence[LabelledRow], head: HeadConfig, tokenizer: Tokenizer, settings: TrainSettings
) -> BagClassifier:
    """Return a classifier of n-grams of the kind that is asked for."""
    return fit_bag(
        settings.model.family,
        [row.ids.astype(np.int64) for row in rows],
        np.array([row.target for row in rows]),
        head.labels,
        alphabet=Alphabet.of(tokenizer),
        seed=settings.seed,
    )


BAG = Fitting("langmill_bag", "a linear classifier of n-grams", FOLLOWED, fit_rows)


def unfollowed(settings: TrainSettings, followed: Sequence[str]) -> list[str]:
    """Return the options that are set and that a model of n-grams has no use for."""
    given = flatten(settings.model_dump(exclude_defaults=True))
    idle = [name for name in given if name not in followed and not name.startswith("data.")]
    return [SPELT.get(name, option_name(name)) for name in idle]


def say_stepwise(chosen: str, idle: Sequence[str], fitting: Fitting, kind: str) -> None:
    """Say why the model that is chosen learns step by step, where one of n-grams would be: some options ask for that."""
    verb = "do" if len(idle) > 1 else "does"
    say(
        f"model auto: {chosen}, for {', '.join(idle)} {verb} not go with {fitting.what} (--model {kind}), which is fitted in"
        " one go"
    )


def refuse_unfollowed(request: Request, followed: Sequence[str]) -> None:
    """Raise ConfigError where something is set that a model of n-grams has no use for."""
    settings = request.settings
    kind = settings.model.family
    if idle := unfollowed(settings, followed):
        raise ConfigError(
            f"--model {kind}: {', '.join(idle)} {'have' if len(idle) > 1 else 'has'} no effect, for it is fitted in one go; leave it out, or"
            " name a model that learns step by step, such as --model lstm"
        )
    if settings.device not in ("auto", "cpu"):
        raise ConfigError(f"--device {settings.device}: {kind} is fitted on the CPU; leave it out")
    if request.here.size > 1:
        raise ConfigError(f"--model {kind} is fitted by one process; start it without torchrun")


def fit_texts(
    kind: str, texts: Sequence[tuple[str, ...]], targets: NDArray[Any], head: HeadConfig, *, seed: int = 0
) -> Checkpoint:
    """Return a classifier fitted to texts or pairs of texts with targets (N,) or (N, L), in memory."""
    joined = ["\n".join(text) for text in texts]
    tokenizer = train_tokenizer(joined, kind="char")
    rows = [np.array(ids, np.int64) for ids in tokenizer.encode_batch(joined)]
    model = fit_bag(kind, rows, targets, head.labels, alphabet=Alphabet.of(tokenizer), seed=seed)
    return Checkpoint(model, tokenizer)
