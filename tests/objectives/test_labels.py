"""The objectives of labelled text, by hand and against PyTorch's own."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from langmill.objectives.labels import class_loss, extent_loss, several_labels_loss


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


TARGETS = torch.tensor([0, 1, 2, 3, -100, 1])


def test_class_loss_by_hand() -> None:
    loss, count = class_loss(torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]), torch.tensor([1, 0]))
    assert float(loss) == pytest.approx(math.log(4 / 3) + math.log(2)) and float(count) == 2


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_class_loss_is_pytorchs(scores: torch.Tensor, smoothing: float, weighted: bool) -> None:
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0]) if weighted else None
    loss, count = class_loss(scores, TARGETS, weights=weights, smoothing=smoothing)
    if weighted and smoothing:  # PyTorch weighs the smoothed share by its own label, we by the row's
        logs = scores.log_softmax(-1)
        rows = [(t, logs[i]) for i, t in enumerate(TARGETS.tolist()) if t >= 0]
        expected = sum(weights[t] * (-0.8 * log[t] - 0.2 * log.mean()) for t, log in rows)  # type: ignore[index]
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)
        return
    wanted = F.cross_entropy(scores, TARGETS, weight=weights, label_smoothing=smoothing)
    assert float(loss / count) == pytest.approx(float(wanted), rel=1e-5)


def test_focus_counts_what_is_right_less(scores: torch.Tensor) -> None:
    rows = [i for i, t in enumerate(TARGETS.tolist()) if t >= 0]
    chances = scores.softmax(-1)[rows, TARGETS[rows]]
    loss, count = class_loss(scores, TARGETS, focus=2.0)
    assert float(loss) == pytest.approx(float((-((1 - chances) ** 2) * chances.log()).sum()), rel=1e-5)
    assert float(count) == 5


@pytest.mark.parametrize("focus", [0.0, 1.5])
def test_several_labels(scores: torch.Tensor, focus: float) -> None:
    targets = torch.tensor([[1, 0, 0, 1]] * 6)
    loss, count = several_labels_loss(scores, targets, focus=focus)
    chance = torch.where(targets > 0, scores.sigmoid(), 1 - scores.sigmoid())
    expected = (-((1 - chance) ** focus) * chance.log()).mean(-1).sum()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5) and float(count) == 6


def test_extents_look_at_valid_tokens_only() -> None:
    scores = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(1))
    valid = torch.tensor([[True] * 5, [True, True, True, False, False]])
    targets = torch.tensor([[1, 4], [0, 2]])
    loss, count = extent_loss(scores, targets, valid)
    expected = 0.0
    for row, length in ((0, 5), (1, 3)):
        for side in (0, 1):
            expected -= float(scores[row, :length, side].log_softmax(0)[targets[row, side]]) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5) and float(count) == 2
