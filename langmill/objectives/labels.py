"""The objectives of labelled text: a class, several classes, a tag for each token, or the extent of an answer. [objectives]

Each returns (loss_sum, count), the loss in nats. Shape letters: B rows, T tokens, L labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from langmill.objectives.cross_entropy import IGNORED


def class_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    focus: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of one label a row, and the sum of the rows' weights.

    scores: (N, L). targets: (N,), IGNORED where nothing is asked. weights: (L,), how much a row of each label
    counts. smoothing: share of a target given to all labels alike (Szegedy et al. 2016, section 7). focus: the
    exponent γ of focal loss, which multiplies a row's loss by (1 - p)^γ (Lin et al. 2017, arXiv:1708.02002).
    """
    asked = targets != IGNORED
    targets = targets[asked]
    logs = scores[asked].log_softmax(-1)
    chosen = logs.gather(1, targets[:, None])[:, 0]
    loss = -chosen
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * logs.mean(-1)
    if focus:
        loss = loss * (1 - chosen.exp()).clamp(min=0) ** focus
    share = torch.ones_like(loss) if weights is None else weights[targets]
    return (loss * share).sum(), share.sum()


def several_labels_loss(
    scores: Tensor, targets: Tensor, *, weights: Tensor | None = None, focus: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the binary cross-entropy of every label of every row, averaged over the labels, and the number of rows.

    scores, targets: (B, L), 1 where a label holds, IGNORED in rows of which nothing is asked. weights: (L,), how much a label counts where it holds. focus: as
    in `class_loss`.
    """
    asked = targets[:, 0] != IGNORED
    scores, targets = scores[asked], targets[asked].to(scores.dtype)
    loss = F.binary_cross_entropy_with_logits(scores, targets, reduction="none", pos_weight=weights)
    if focus:
        chance = torch.where(targets > 0, scores.sigmoid(), 1 - scores.sigmoid())
        loss = loss * (1 - chance) ** focus
    return loss.mean(-1).sum(), torch.tensor(len(scores), device=scores.device)


def extent_loss(scores: Tensor, targets: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of where answers begin and end, averaged over the two, and the number of rows.

    scores: (B, T, 2). targets: (B, 2), token numbers. valid: (B, T), False where no answer can be (padding).
    """
    scores = scores.masked_fill(~valid[:, :, None], -torch.inf)
    logs = scores.transpose(1, 2).log_softmax(-1)  # (B, 2, T)
    loss = -logs.gather(2, targets[:, :, None])[:, :, 0].mean(-1)
    return loss.sum(), torch.tensor(len(loss), device=loss.device)
