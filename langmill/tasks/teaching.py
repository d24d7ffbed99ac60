"""Learning from other models: their probabilities of texts that have labels, and of texts that have none. [tasks]

A teacher reads texts by its own tokenizer, once, before the first step; it shares with its pupil the labels alone.
Distillation: Hinton et al. 2015, arXiv:1503.02531. With texts without labels it is self-training (Yarowsky 1995; Xie
et al. 2020, arXiv:1911.04252), of which a run is one round: the next has this one's model as its teacher.
Shape letters: N examples, L labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from langmill.batches.labelled import LabelledRow
from langmill.checkpoint import Checkpoint, open_checkpoint
from langmill.core.config import option_name
from langmill.core.device import choose_device
from langmill.core.errors import ConfigError, DataError
from langmill.core.log import say, warn
from langmill.models.heads import HeadConfig
from langmill.objectives.cross_entropy import IGNORED
from langmill.tasks.base import Request
from langmill.tasks.prediction import CHUNK_ROWS, LINE_SECONDS
from langmill.text.documents import ReadReport, plural
from langmill.training.settings import TeacherSettings, TrainSettings

if TYPE_CHECKING:
    from langmill.tasks.labelled import LabelledCorpus, LabelledTask

LEAST = 1e-12
"""Probabilities are taken for at least so much (and for so much less than 1), for their logarithms."""


@dataclass(frozen=True)
class Teaching:
    """The examples of a run, and what teachers say of them."""

    examples: Sequence[Any]
    """Those with labels, then those without."""
    labelled: int
    """How many have labels."""
    scores: NDArray[np.float32] | None = None
    """(N, L), logarithms of probabilities, of several labels of odds; None: there is no teacher."""
    notes: Sequence[str] = ()
    """What the model card says of it, in sentences."""

    def mark(self, rows: Sequence[LabelledRow]) -> Sequence[LabelledRow]:
        """Return the examples' rows, one an example, with the teachers' scores; nothing is asked of absent labels."""
        if self.scores is None:
            return rows
        marked = [replace(row, teacher=scores) for row, scores in zip(rows, self.scores, strict=True)]
        return [
            *marked[: self.labelled],
            *(replace(row, target=np.full_like(row.target, IGNORED)) for row in marked[self.labelled :]),
        ]


def check_teacher(settings: TeacherSettings) -> None:
    """Raise ConfigError for settings that have no effect."""
    given = settings.model_dump(exclude_defaults=True)
    if given and not settings.checkpoints:
        raise ConfigError(
            f"{option_name(f'teacher.{next(iter(given))}')} needs a teacher: name one with --teacher CKPT"
        )
    if settings.confidence and not settings.unlabelled:
        raise ConfigError(
            "--teacher.confidence chooses among texts without labels: name them with --unlabelled FILE"
        )


def read_unlabelled(settings: TrainSettings, task: LabelledTask, known: Sequence[Any]) -> list[Any]:
    """Return the examples of files of texts without labels, each text once, and none that `known` has.

    known: what is learned with labels, and what is evaluated on, which no training may see.
    """
    paths = settings.teacher.unlabelled
    if not paths:
        return []
    report = ReadReport()
    found = list(task.read(paths, settings.data, report, answers=False))
    seen = {task.group(example) for example in known}
    new = []
    for example in found:
        if (texts := task.group(example)) not in seen:
            seen.add(texts)
            new.append(replace(example, labels=()))
    for reason, count in sorted(report.skipped.items()):
        warn(f"{count} left out: {reason} (first: {report.first[reason]})")
    if not new:
        raise DataError(f"{', '.join(paths)}: no text that is not among the labelled ones; {report}")
    lost = len(found) - len(new)
    say(
        f"unlabelled: {plural(len(new), 'text')}"
        + (f"; {lost:,} left out that are among the labelled or held-out ones or come twice" if lost else "")
    )
    return new


def ask_teachers(request: Request, task: str, corpus: LabelledCorpus, head: HeadConfig) -> Teaching:
    """Return the examples to learn from, with the mean of the teachers' probabilities where there are any.

    Raises ConfigError where a teacher is made for something else or has other labels.
    """
    asked, labelled = request.settings.teacher, len(corpus.train)
    examples = [*corpus.train, *corpus.unlabelled]
    if not asked.checkpoints:
        return Teaching(examples, labelled)
    device = choose_device(request.settings.device, local_rank=request.here.local_rank)
    teachers = [probabilities(name, task, examples, head, device) for name in asked.checkpoints]
    chances = np.mean(teachers, axis=0)
    sure = confidence_of(chances[labelled:], several=head.multi_label) >= asked.confidence
    kept = [*range(labelled), *(labelled + np.flatnonzero(sure))]
    named = " and ".join(asked.checkpoints)
    said = f"Learned too: the probabilities of {named} (weight {asked.weight:g}, temperature {asked.temperature:g})"
    if len(sure):
        said += f", and from them alone {plural(int(sure.sum()), 'text')} of {', '.join(asked.unlabelled)}"
    if asked.confidence:
        said += f" ({(~sure).sum():,} more left out, of which it is less than {asked.confidence:g} sure)"
    say(said)
    chances = np.clip(chances[kept], LEAST, 1 - LEAST)
    scores = np.log(chances) - (np.log1p(-chances) if head.multi_label else 0)
    return Teaching([examples[i] for i in kept], labelled, scores.astype(np.float32), [f"{said}."])


def confidence_of(chances: NDArray[np.float64], *, several: bool) -> NDArray[np.float64]:
    """Return how sure probabilities (N, L) are, (N,): of the likeliest label, of several of the least certain one.

    >>> confidence_of(np.array([[0.1, 0.9]]), several=False), confidence_of(np.array([[0.1, 0.6]]), several=True)
    (array([0.9]), array([0.6]))
    """
    return np.maximum(chances, 1 - chances).min(1) if several else chances.max(1)


def probabilities(
    name: str, task: str, examples: Sequence[Any], head: HeadConfig, device: torch.device
) -> NDArray[np.float64]:
    """Return a teacher's probabilities (N, L) of the head's labels."""
    from langmill.tasks import find_task

    learner: Any = find_task(task)
    teacher = open_teacher(name, task, head, device)
    found = np.zeros((len(examples), len(head.labels)))
    begin = last = time.perf_counter()
    for first in range(0, len(examples), CHUNK_ROWS):
        part = examples[first : first + CHUNK_ROWS]
        results = learner.predict(teacher, [learner.question(example) for example in part])
        for row, result in zip(found[first:], results):
            row[:] = [result.probabilities[label] for label in head.labels]
        if (now := time.perf_counter()) - last >= LINE_SECONDS:
            last, done = now, first + len(part)
            say(f"teacher {name}: {done:,} of {len(examples):,} texts, {done / (now - begin):,.0f} a second")
    return found


def open_teacher(name: str, task: str, head: HeadConfig, device: torch.device) -> Checkpoint:
    """Return a checkpoint made for the task, with the labels of the head in any order."""
    from langmill.tasks import task_of

    teacher = open_checkpoint(name, device=device)
    if teacher.tokenizer is None:
        raise ConfigError(f"--teacher {name}: has no tokenizer.json, so text cannot be read with it")
    if (made_for := task_of(teacher.model)) != task:
        raise ConfigError(
            f"--teacher {name}: is no model for {task} but for {made_for}; train one with `train {task}`"
        )
    theirs: HeadConfig = teacher.model.config.head
    if set(theirs.labels) != set(head.labels):
        more, less = (
            sorted(set(a) - set(b)) for a, b in ((theirs.labels, head.labels), (head.labels, theirs.labels))
        )
        parts = (
            f"{who} alone {'has' if who == 'it' else 'have'} {', '.join(map(repr, labels))}"
            for who, labels in (("it", more), ("the data", less))
            if labels
        )
        raise ConfigError(f"--teacher {name}: its labels must be those of the data; {'; '.join(parts)}")
    if theirs.multi_label != head.multi_label:
        kinds = {True: "any number of labels", False: "one label"}
        raise ConfigError(
            f"--teacher {name}: gives a text {kinds[theirs.multi_label]}, the data {kinds[head.multi_label]};"
            f" --labels.several {'yes' if theirs.multi_label else 'no'} may settle it"
        )
    return teacher
