"""What a model with a head loses on a batch of rows, each read once, or twice to answer both times alike. [tasks]

R-Drop (Liang et al. 2021, arXiv:2106.14448): dropout makes two answers of a row, and the less they differ the better.
Of few rows a checkpoint learns more that way, in twice the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from langmill.batches.labelled import LabelledBatch
from langmill.checkpoint import Checkpoint
from langmill.core.log import say
from langmill.models.heads import HeadConfig
from langmill.objectives.distillation import disagreement
from langmill.training.settings import TrainSettings

if TYPE_CHECKING:
    from langmill.tasks.labelled import HeadedTask

DISAGREEMENT = 3.0
"""By how much it counts: α in the paper, which took 0.1 to 1 on tasks such as these and 5 on translation."""
MOST_ROWS = 20_000
"""Of more rows each is read once: the time is better spent on them."""


def decide_rdrop(
    settings: TrainSettings, head: HeadConfig, checkpoint: Checkpoint | None, rows: int
) -> TrainSettings:
    """Return `settings` with `labels.rdrop` decided where texts are classified."""
    labels = settings.labels
    if labels.rdrop != "auto" or head.kind != "text":
        return settings
    drops = checkpoint is not None and checkpoint.model.config.output_stack.dropout > 0
    twice = drops and rows <= MOST_ROWS and not (settings.budget or settings.teacher.checkpoints)
    if twice:
        say("rdrop    each row is read twice, to answer alike; --labels.rdrop no takes half the time")
    labels = labels.model_copy(update={"rdrop": "yes" if twice else "no"})
    return settings.model_copy(update={"labels": labels})


def scores_of(model: Any, batch: LabelledBatch) -> Tensor:
    """Return a headed model's scores in float32: (B, L), (B, T, L) or (B, T, 2)."""
    return model(batch.ids, valid=batch.valid, segments=batch.segments).float()


def objective_of(
    task: HeadedTask, model: Any, batch: LabelledBatch, *, twice: bool = False
) -> tuple[Tensor, Tensor]:
    """Return (loss_sum, count) of a batch.

    twice: texts are read twice while the model learns; the loss is the mean of both, and how far the two are apart.
    """
    scores = scores_of(model, batch)
    loss, count = task.loss(scores, batch, model)
    if not (twice and model.training):
        return loss, count
    again = scores_of(model, batch)
    other, _ = task.loss(again, batch, model)
    apart = disagreement(scores, again, several=batch.targets.ndim == 2).sum()
    return (loss + other + DISAGREEMENT * apart) / 2, count
