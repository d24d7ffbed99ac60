"""What learning from labelled text shares, whatever the answers are: rows, split, head, plan, job. [tasks]

A task with a head says what an example is, how it becomes rows of tokens with targets, what the loss is and how
scores are read; everything between is here. Shape letters: B rows, T tokens, L labels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langmill.batches.labelled import LabelledBatch, LabelledRow, by_length, collate
from langmill.checkpoint import Checkpoint
from langmill.checkpoint.heads import put_head
from langmill.core.device import choose_device, training_dtype
from langmill.core.errors import ConfigError, DataError
from langmill.core.files import digest
from langmill.core.log import say, warn
from langmill.models.families import FAMILIES, head_for
from langmill.models.heads import HeadConfig
from langmill.models.protocol import device_of
from langmill.tasks.base import Lesson, Request, Text
from langmill.tasks.corpus import open_tokenizer
from langmill.tasks.lessons import Material, make_lesson
from langmill.tasks.objective import decide_rdrop, objective_of, scores_of
from langmill.tasks.practice import MICRO_TOKENS, StepTask
from langmill.tasks.pretraining import (
    choose_family,
    known_tokenizer,
    open_source,
    refuse_foreign_settings,
)
from langmill.tasks.subsample import draw_examples
from langmill.tasks.teaching import ask_teachers, check_teacher, read_unlabelled
from langmill.tasks.variation import check_variation, varying
from langmill.text.documents import ReadReport, plural
from langmill.text.holdout import digest_number
from langmill.text.labelled_rows import LabelledSettings
from langmill.text.paths import source_fingerprint
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import ModelSettings, TrainSettings
from langmill.training.state import seed_everything

LONGEST_TOKENS = 512
"""Tokens of a text that are read, unless the model or --model.context says less."""
QUICK_EXAMPLES = 2000
"""Held-out examples of one evaluation during training."""
BATCHES = {True: 32, False: 64}
"""Rows a step: from a checkpoint, and from scratch."""
EPOCHS = {True: 3.0, False: 12.0}
"""Passes over the data when a run is told neither its time nor its length; under a budget at most so many."""
LEAST_HELD_OUT = 500
"""Examples wanted for evaluation, of which up to MOST_HELD_OUT of a small set are taken."""
MOST_HELD_OUT = 0.2


@dataclass(frozen=True)
class Encoded:
    """Examples as rows of tokens."""

    rows: Sequence[LabelledRow]
    owners: NDArray[np.int64]
    """(rows,), the number of each row's example."""
    cut: int = 0
    """Examples of which some part is not read."""
    notes: Sequence[str] = ()
    """What else is to be said of them, in sentences."""


class LabelledTask(StepTask, Protocol):
    """A task that learns from rows with answers."""

    roles: tuple[str, ...]
    """Roles of `SpecialTokens` that its tokenizers have beyond the usual ones."""

    def read(
        self, paths: Sequence[str], settings: LabelledSettings, report: ReadReport, *, answers: bool = True
    ) -> Iterator[Any]:
        """Yield the examples of files; answers: they are needed."""

    def question(self, example: Any) -> Text | list[str]:
        """Return what `predict` is asked about an example."""

    def texts(self, example: Any) -> tuple[str, ...]:
        """Return what a tokenizer learns from: no token is to cross where it is cut."""

    def group(self, example: Any) -> tuple[str, ...]:
        """Return what equal examples share: they are held out together."""

    def stratum(self, example: Any) -> str:
        """Return the label by whose shares examples are held out; empty: by chance alone."""


class HeadedTask(LabelledTask, Protocol):
    """A task whose model is a body with a head; its families make bodies, with the output layer of a language model."""

    by_token: bool
    """Whether there is a target for each token."""
    decisions: dict[str, float]
    """How answers are read from scores; `figures` may settle it on held-out examples, and it is saved with the model."""

    def head(self, examples: Sequence[Any], settings: TrainSettings) -> HeadConfig:
        """Return the head that the answers of examples call for."""

    def encode(
        self, examples: Sequence[Any], tokenizer: Tokenizer, head: HeadConfig, *, limit: int, segments: bool
    ) -> Encoded:
        """Return examples as rows of at most `limit` tokens. segments: the model tells segments apart."""

    def loss(self, scores: Tensor, batch: LabelledBatch, model: Any) -> tuple[Tensor, Tensor]:
        """Return (loss_sum, count) of a model's scores in float32."""

    def figures(
        self,
        scores: Sequence[NDArray[np.float32]],
        examples: Sequence[Any],
        encoded: Encoded,
        model: Any,
    ) -> dict[str, float]:
        """Return metrics of a model's scores, one array a row without padding; the first is the one to be raised."""


# ------------------------------------------------------------------------------------------------
# Data


@dataclass(frozen=True)
class LabelledCorpus:
    """Examples to learn from and to evaluate on."""

    data: tuple[str, ...]
    train: Sequence[Any]
    held_out: Sequence[Any]
    split: str
    """How they were told apart, in a sentence."""
    fingerprint: str
    """Of the sources and of how they were read."""
    texts: Callable[[Any], tuple[str, ...]]
    unlabelled: Sequence[Any] = ()
    """Examples to learn from a teacher."""

    @property
    def characters(self) -> int:
        """Of what is learned from."""
        return sum(map(len, self.training_texts()))

    def training_texts(self) -> Iterator[str]:
        """Yield what a tokenizer may learn from."""
        return (text for example in (*self.train, *self.unlabelled) for text in self.texts(example))

    @property
    def content(self) -> str:
        """A digest of all examples, in order."""
        return digest(*(str(example) for example in (*self.train, *self.held_out, *self.unlabelled)))


def read_corpus(request: Request, task: LabelledTask, *, again: bool = False) -> LabelledCorpus:
    """Read the examples and hold some out. again: what there is to say of them was said when they were learned from."""
    settings = request.settings
    report = ReadReport()
    examples = list(task.read(request.data, settings.data, report))
    if not examples:
        raise DataError(f"{', '.join(request.data)}: nothing to learn from; {report}")
    if request.held_out:
        held_out = list(task.read(request.held_out, settings.data, report))
        if not held_out:
            raise DataError(f"{', '.join(request.held_out)}: nothing to evaluate on; {report}")
        split = f"{plural(len(held_out), 'example')} of {', '.join(request.held_out)} to evaluate on."
    else:
        examples, held_out = hold_out(examples, task, share=settings.data.held_out, seed=settings.seed)
        split = (
            f"{plural(len(held_out), 'example')} of {len(examples) + len(held_out):,} held out,"
            f"{' label by label,' if task.stratum(held_out[0]) else ''} chosen"
            f" by the digest of their text with seed {settings.seed}."
        )
    examples = draw_examples(examples, task, settings.data.examples, seed=settings.seed)
    if not again:
        for reason, count in sorted(report.skipped.items()):
            warn(f"{count} left out: {reason} (first: {report.first[reason]})")
        say(f"data: {plural(len(examples), 'example')} to learn from; {split}")
    unlabelled = read_unlabelled(settings, task, [*examples, *held_out])
    fingerprint = digest(
        source_fingerprint(request.data),
        source_fingerprint(request.held_out) if request.held_out else "",
        settings.data.model_dump_json(),
        str(settings.seed),
        task.name,
        *([source_fingerprint(settings.teacher.unlabelled)] if unlabelled else []),
    )
    corpus = LabelledCorpus(request.data, examples, held_out, split, fingerprint, task.texts, unlabelled)
    if request.content and corpus.content != request.content:
        raise DataError(
            f"{', '.join(request.data)}: the examples have changed since this run began, so it cannot be resumed; bring"
            " the former ones back, or start another run with --from"
        )
    return corpus


def hold_out(
    examples: Sequence[Any], task: LabelledTask, *, share: float, seed: int
) -> tuple[list[Any], list[Any]]:
    """Return examples to learn from and to evaluate on, `share` of each label; equal texts stay together.

    A small set gives more than `share`: towards LEAST_HELD_OUT, at most MOST_HELD_OUT of it.
    """
    share = max(share, min(MOST_HELD_OUT, LEAST_HELD_OUT / len(examples)))
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        groups[task.group(example)].append(number)
    strata: dict[str, list[tuple[float, list[int]]]] = defaultdict(list)
    for texts, members in groups.items():
        strata[task.stratum(examples[members[0]])].append(
            (digest_number("\0".join(texts), seed=seed), members)
        )
    out: set[int] = set()
    for label in sorted(strata):
        wanted = share * sum(len(members) for _, members in strata[label])
        taken = 0
        for _, members in sorted(strata[label]):
            if taken + len(members) / 2 > wanted:
                break
            out.update(members)
            taken += len(members)
    if not out or len(out) == len(examples):
        raise DataError(
            f"too few to hold some out: {plural(len(examples), 'example')}, {plural(len(groups), 'different text')}; add rows, or"
            " name a file with --held-out-data"
        )
    return (
        [example for number, example in enumerate(examples) if number not in out],
        [examples[number] for number in sorted(out)],
    )


# ------------------------------------------------------------------------------------------------
# A run


def prepare(request: Request, task: HeadedTask) -> Lesson:
    """Read and split the examples, make or open tokenizer and model, put the head on, decide what is open."""
    settings, source, corpus = open_run(request, task)
    head = task.head([*corpus.train, *corpus.held_out], settings)
    teaching = ask_teachers(request, task.name, corpus, head)
    tokenizer = open_words(request, corpus, settings, source, task)
    limit = choose_limit(settings, source)
    seed_everything(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    checkpoint = None if source is None else with_head(source, head, generator, task.decisions)
    segments = checkpoint is not None and checkpoint.model.config.output_stack.segments > 1
    encode = partial(task.encode, tokenizer=tokenizer, head=head, limit=limit, segments=segments)
    shown = quick_part(corpus.held_out)
    train, held_out = encode(teaching.examples), encode(shown)
    rows = teaching.mark(train.rows)
    if train.cut:
        warn(
            f"{train.cut} of {len(teaching.examples)} examples are longer than {limit} tokens; their rest is not read"
        )
    for note in train.notes:
        warn(note)
    micro_tokens = MICRO_TOKENS[choose_device(settings.device).type]
    settings = decide_rdrop(settings, head, checkpoint, len(rows))
    settings = fill_length(settings, len(rows), continues=source is not None)
    material = Material(
        rows,
        collate=partial(collate, micro_tokens=micro_tokens, by_token=task.by_token),
        objective=partial(objective_of, task, twice=settings.labels.rdrop == "yes"),
        evaluate=quick_evaluation(task, shown, held_out, micro_tokens),
        examples=len(shown),
        rises=True,
        make=partial(new_headed, task, head, tokenizer),
        most_steps=most_steps(settings, len(rows)),
        variants=varying(
            settings, task.name, teaching.examples, lambda each: teaching.mark(encode(each).rows)
        ),
    )
    facts = {**corpus_facts(corpus, tokenizer, material.tokens), "notes": teaching.notes}
    return make_lesson(
        request,
        settings,
        material,
        tokenizer,
        checkpoint,
        limit=limit,
        facts=facts,
        wrap=lambda model: Checkpoint(model, tokenizer, decisions=task.decisions),
    )


def open_run(request: Request, task: LabelledTask) -> tuple[TrainSettings, Checkpoint | None, LabelledCorpus]:
    """Check the settings, open the checkpoint to go on from, and read and split the examples."""
    settings = request.settings
    device = choose_device(settings.device, local_rank=request.here.local_rank)
    training_dtype(device, settings.precision)  # a mistake is said before the examples are read
    refuse_foreign_settings(settings, task)
    check_teacher(settings.teacher)
    check_variation(settings.augment, task.name)
    settings = choose_family(settings, task)
    source = open_source(request, task)
    return settings, source, read_corpus(request, task)


def corpus_facts(corpus: LabelledCorpus, tokenizer: Tokenizer, tokens: int) -> dict[str, Any]:
    """Return what the model card says of the examples."""
    return {
        "rows": plural(len(corpus.held_out), "held-out example"),
        "split": corpus.split,
        "corpus": corpus.fingerprint,
        "content": corpus.content,
        "train_bytes": sum(len(text.encode()) for text in corpus.training_texts()),
        "train_tokens": tokens,
        "vocabulary": tokenizer.vocabulary_size,
    }


def open_words(
    request: Request,
    corpus: LabelledCorpus,
    settings: TrainSettings,
    source: Checkpoint | None,
    task: LabelledTask,
) -> Tokenizer:
    """Return the tokenizer of the run or of its checkpoint, else open or train one."""
    if known := known_tokenizer(request, source):
        return known
    roles = ("cls", "sep") if settings.model.family == "bert" else task.roles
    with request.here.main_first():
        return open_tokenizer(corpus, settings, roles=roles)


def choose_limit(settings: TrainSettings, source: Checkpoint | None) -> int:
    """Return the tokens of a text that are read."""
    if source is None:
        return settings.model.context or LONGEST_TOKENS
    limit = source.model.config.output_stack.max_positions
    if settings.model.context > limit:
        raise ConfigError(
            f"--model.context {settings.model.context}: the checkpoint looks back over {limit} tokens"
        )
    return settings.model.context or min(limit, LONGEST_TOKENS)


def fill_length(settings: TrainSettings, rows: int, *, continues: bool) -> TrainSettings:
    """Return `settings` with the rows of a step, and the passes over the data where nothing says how long a run is."""
    batch = settings.batch or min(BATCHES[continues], rows)
    given = any((settings.budget, settings.steps, settings.tokens, settings.epochs))
    return settings.model_copy(
        update={"batch": batch, "epochs": settings.epochs if given else EPOCHS[continues]}
    )


def most_steps(settings: TrainSettings, rows: int) -> int:
    """Return the steps that a run under a budget takes at most."""
    return math.ceil(EPOCHS[bool(settings.from_checkpoint)] * rows / settings.batch)


def new_headed(
    task: HeadedTask,
    head: HeadConfig,
    tokenizer: Tokenizer,
    settings: ModelSettings,
    generator: torch.Generator,
) -> nn.Module:
    """Return a new model: a body of the family that is asked for, and a head on it."""
    body = task.families[settings.family](settings, tokenizer.vocabulary_size, generator)
    return with_head(Checkpoint(body, tokenizer), head, generator).model


def with_head(
    checkpoint: Checkpoint,
    wanted: HeadConfig,
    generator: torch.Generator,
    decisions: dict[str, float] | None = None,
) -> Checkpoint:
    """Return the checkpoint under a head for the labels that are wanted, built as its family builds one.

    decisions: those that will be saved with it.
    """
    own = checkpoint.model.config.output_stack.dropout
    head = head_for(
        FAMILIES[checkpoint.family],
        wanted.kind,
        wanted.labels,
        multi_label=wanted.multi_label,
        dropout=own,
        scheme=wanted.scheme,
        crf=wanted.crf,
    )
    return replace(put_head(checkpoint, head, generator), decisions={} if decisions is None else decisions)


@torch.no_grad()
def score_rows(
    model: Any, rows: Sequence[LabelledRow], *, micro_tokens: int, by_token: bool = False
) -> Iterable[tuple[list[int], LabelledBatch, Tensor]]:
    """Yield (row numbers, batch, scores) for all rows, the shortest first, so that little is padded."""
    device = device_of(model)
    for numbers in by_length(rows, micro_tokens=micro_tokens):
        batch = collate([rows[n] for n in numbers], micro_tokens=micro_tokens, by_token=by_token).to(device)
        yield numbers, batch, scores_of(model, batch)


def quick_part(held_out: Sequence[Any]) -> Sequence[Any]:
    """Return up to QUICK_EXAMPLES held-out examples, spread over all: a file may hold one label after the other."""
    return held_out[:: math.ceil(len(held_out) / QUICK_EXAMPLES)]


def quick_evaluation(
    task: HeadedTask, examples: Sequence[Any], encoded: Encoded, micro_tokens: int
) -> Callable[[Any], dict[str, float]]:
    """Return a function from a model to its figures on held-out examples, the loss last.

    `examples` are those of `quick_part`. Every process measures all of them: they are few, and the figures are no sums
    over examples.
    """
    rows = encoded.rows

    @torch.no_grad()
    def evaluate(model: Any) -> dict[str, float]:
        scores: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(rows)
        total = count = 0.0
        for numbers, batch, found in score_rows(
            model, rows, micro_tokens=micro_tokens, by_token=task.by_token
        ):
            loss, asked = task.loss(found, batch, model)
            total, count = total + float(loss), count + float(asked)
            for number, score in zip(numbers, found.cpu().numpy()):
                scores[number] = score[: len(rows[number].ids)] if score.ndim == 2 else score
        return {**task.figures(scores, examples, encoded, model), "loss": total / max(count, 1e-9)}

    return evaluate
