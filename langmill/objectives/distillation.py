"""Learning from what another model says of the same rows. [objectives]

Shape letters: N rows, L labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from langmill.objectives.cross_entropy import IGNORED


def teacher_loss(scores: Tensor, teacher: Tensor, *, temperature: float, several: bool) -> Tensor:
    """Return each row's T² KL(teacher ‖ student), both softened by the temperature T (Hinton et al. 2015, section 2).

    T² keeps its gradient beside that of labels as large whatever T is. scores, teacher: (N, L), logits. several: each
    label is a yes or no of its own, over which the mean is taken. Returns (N,), in nats, 0 where both say the same.
    """
    ours, theirs = scores / temperature, teacher / temperature
    if several:
        chances = theirs.sigmoid()
        cross, own = (
            F.binary_cross_entropy_with_logits(each, chances, reduction="none") for each in (ours, theirs)
        )
        loss = (cross - own).mean(-1)
    else:
        logs = theirs.log_softmax(-1)
        loss = F.kl_div(ours.log_softmax(-1), logs, reduction="none", log_target=True).sum(-1)
    return temperature**2 * loss


def disagreement(first: Tensor, second: Tensor, *, several: bool) -> Tensor:
    """Return how far two answers to each row are apart: the mean of their KL divergences from each other, both learning.

    Equation 2 of R-Drop (Liang et al. 2021, arXiv:2106.14448). first, second: (N, L), logits. several: as in
    `teacher_loss`. Returns (N,), in nats.
    """
    pairs = ((first, second), (second, first))
    one, other = (teacher_loss(a, b, temperature=1.0, several=several) for a, b in pairs)
    return (one + other) / 2


def mixed_loss(
    hard: tuple[Tensor, Tensor],
    soft: Tensor,
    targets: Tensor,
    *,
    weight: float,
    label_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (loss_sum, count) of labels and a teacher: (1 - weight) of the one and weight of the other.

    A row without labels has the teacher's loss alone, and counts 1. hard: (loss_sum, count) of the labels. soft: (N,)
    of `teacher_loss`. targets: (N,) or (N, L), IGNORED in rows without labels. label_weights: (L,), how much a row of
    each label counts, where it has one.
    """
    loss, count = hard
    labelled = (targets if targets.ndim == 1 else targets[:, 0]) != IGNORED
    shares = torch.ones_like(soft)
    if label_weights is not None and targets.ndim == 1:
        shares = torch.where(labelled, label_weights[targets.clamp(min=0)], shares)
    shares = torch.where(labelled, weight * shares, shares)
    return (1 - weight) * loss + (shares * soft).sum(), count + (~labelled).sum()
