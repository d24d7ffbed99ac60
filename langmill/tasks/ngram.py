"""Counting an n-gram model on the tokens, tokenizer and held-out text that a neural one would have. [tasks]"""

from __future__ import annotations

from functools import partial
from typing import Any

from langmill.batches.shards import Shards
from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.core.config import flatten, option_name
from langmill.core.errors import ConfigError
from langmill.core.log import format_count
from langmill.models.families.ngram import NGRAM as FAMILY
from langmill.models.ngram import COUNTING_BYTES, NGRAM_BYTES, NgramModel, default_order
from langmill.models.ngram_decoder import NgramDecoder
from langmill.tasks.base import Lesson, Request
from langmill.tasks.corpus import Corpus
from langmill.tasks.practice import PretrainingTask
from langmill.tasks.pretraining import open_text, quick_evaluation, text_facts
from langmill.tokens.tokenizer import Tokenizer
from langmill.training import budget
from langmill.training.fit import FitJob, FitPlan
from langmill.training.settings import TrainSettings

NGRAM = "ngram"
"""The layout's name."""
FOLLOWED = ("tokenizer", "vocabulary", "seed", "device", "tensorboard", "model.family", "model.order")
"""Settings that an n-gram model follows, beside those of the data."""
SPELT = {"from_checkpoint": "--from"}


def prepare_ngram(request: Request, task: PretrainingTask) -> Lesson:
    """Open the text and say what is counted; the model is made by the job."""
    settings = request.settings
    refuse_unfollowed(settings)
    if request.here.size > 1:
        raise ConfigError("--model ngram is counted by one process; start it without torchrun")
    corpus = Corpus(request.data, request.held_out, settings.data, seed=settings.seed)
    tokenizer, shards = open_text(request, corpus, settings, None, task)
    order = settings.model.order or default_order(tokenizer.vocabulary_size)
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"order": order})})
    tokens = len(shards.train.tokens)
    context = budget.choose_context(settings, bytes_per_token=shards.bytes_per_token, seconds=0)
    facts = {"family": FAMILY.name, **text_facts(corpus, tokenizer, shards, context)}
    job = FitJob(
        fit=partial(count, shards, tokenizer, order, facts),
        evaluate=quick_evaluation(
            shards.held_out,
            context,
            tokens,
            practice=task.practice(tokenizer, shards, context),
            scores_text=task.scores_text,
            here=request.here,
        ),
        save_model=lambda folder, model: save_checkpoint(folder, Checkpoint(model, tokenizer)),
        tokens=tokens,
        facts=facts,
    )
    most = tokens * (COUNTING_BYTES + (order - 1) * NGRAM_BYTES)
    said = (
        f"model    ngram: order {order}, modified Kneser-Ney, vocabulary {tokenizer.vocabulary_size}",
        f"count    one pass over {format_count(tokens)} tokens, in at most {format_count(most)}B of memory",
    )
    return Lesson(job, FitPlan(settings, tokens, said))


def refuse_unfollowed(settings: TrainSettings) -> None:
    """Raise ConfigError where something is set that an n-gram model has no use for."""
    given = flatten(settings.model_dump(exclude_defaults=True))
    if idle := [name for name in given if name not in FOLLOWED and not name.startswith("data.")]:
        named = ", ".join(SPELT.get(name, option_name(name)) for name in idle)
        raise ConfigError(
            f"--model ngram: {named} {'have' if len(idle) > 1 else 'has'} no effect, for it counts the text once and has"
            " no weights to train; leave it out"
        )
    if settings.device not in ("auto", "cpu"):
        raise ConfigError(f"--device {settings.device}: an n-gram model is counted on the CPU; leave it out")


def count(shards: Shards, tokenizer: Tokenizer, order: int, facts: dict[str, Any]) -> NgramDecoder:
    """Return the model of the training tokens, and note its size among the facts."""
    part = shards.train
    start = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    begins = part.documents.tolist()
    ends = [*begins[1:], len(part.tokens)]
    documents = (part.tokens[begin + (start is not None) : end] for begin, end in zip(begins, ends))
    table = NgramModel.train(documents, vocabulary=tokenizer.vocabulary_size, order=order, start=start)
    facts["what"] = f"An n-gram model of order {order}, smoothed after modified Kneser-Ney"
    facts["sizes"] = f"{table.ngrams:,} n-grams"
    return NgramDecoder.of(table)
