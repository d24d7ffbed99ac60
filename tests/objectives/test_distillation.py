"""The loss of a teacher, by hand, by its gradients and where it must be that of labels."""

from __future__ import annotations

import math

import pytest
import torch

from langmill.objectives.distillation import disagreement, mixed_loss, teacher_loss
from langmill.objectives.labels import class_loss, several_labels_loss


def drawn(seed: int, *, rows: int = 5, labels: int = 3) -> torch.Tensor:
    return 2 * torch.randn(rows, labels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TARGETS = torch.tensor([0, 2, 1, -100, 1])


def test_by_hand() -> None:
    """Teacher 3:1, pupil 1:1, without a temperature and with one of 2, under which 3:1 becomes √3:1."""
    pupil, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    cold = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert teacher_loss(pupil, teacher, temperature=1.0, several=False).item() == pytest.approx(
        cold, rel=1e-5
    )
    p = math.sqrt(3) / (1 + math.sqrt(3))
    warm = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert teacher_loss(pupil, teacher, temperature=2.0, several=False).item() == pytest.approx(
        warm, rel=1e-5
    )


def test_several_labels_by_hand() -> None:
    """Labels of 3:1 and 1:1 against 1:1: the mean over the labels of the divergences of yes and no."""
    pupil, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert teacher_loss(pupil, teacher, temperature=1.0, several=True).item() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("several", [False, True])
def test_nothing_is_lost_where_both_say_the_same(several: bool) -> None:
    scores = drawn(0).requires_grad_()
    loss = teacher_loss(scores, scores.detach(), temperature=3.0, several=several).sum()
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert scores.grad is not None and float(scores.grad.abs().max()) < 1e-12
    assert (teacher_loss(scores, drawn(1), temperature=3.0, several=several) > 0).all()


@pytest.mark.parametrize("several", [False, True])
def test_the_gradient_is_the_difference_of_probabilities(several: bool) -> None:
    """T (p_pupil - p_teacher) at temperature T (Hinton et al. 2015, equation 2, times T²)."""
    scores, teacher, temperature = drawn(0).requires_grad_(), drawn(1), 2.5
    teacher_loss(scores, teacher, temperature=temperature, several=several).sum().backward()
    squash = torch.sigmoid if several else (lambda x: x.softmax(-1))
    expected = temperature * (squash(scores.detach() / temperature) - squash(teacher / temperature))
    torch.testing.assert_close(scores.grad, expected / (3 if several else 1))


def test_a_teacher_as_sure_as_labels_is_the_cross_entropy() -> None:
    scores, targets = drawn(0), torch.tensor([0, 2, 1, 1, 0])
    sure = torch.where(torch.eye(3, dtype=torch.bool)[targets], 0.0, -1e3).double()
    hard, _ = class_loss(scores, targets)
    torch.testing.assert_close(teacher_loss(scores, sure, temperature=1.0, several=False).sum(), hard)
    flags = torch.tensor([[1, 0, 1]] * 5)
    hard, _ = several_labels_loss(scores, flags)
    sure = torch.where(flags > 0, 1e3, -1e3).double()
    torch.testing.assert_close(teacher_loss(scores, sure, temperature=1.0, several=True).sum(), hard)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)])
def test_mixed_row_by_row(weights: torch.Tensor | None) -> None:
    """Labels and teacher share a row; a row without a label has the teacher's loss alone, at weight 1."""
    scores, soft = drawn(0), torch.arange(1.0, 6.0, dtype=torch.float64)
    loss, count = mixed_loss(
        class_loss(scores, TARGETS, weights=weights), soft, TARGETS, weight=0.7, label_weights=weights
    )
    logs, expected, shares = scores.log_softmax(-1), 0.0, 0.0
    for row, target in enumerate(TARGETS.tolist()):
        share = 1.0 if weights is None or target < 0 else float(weights[target])
        hard = 0.0 if target < 0 else -float(logs[row, target])
        expected += share * (float(soft[row]) if target < 0 else 0.3 * hard + 0.7 * float(soft[row]))
        shares += share
    assert float(loss) == pytest.approx(expected) and float(count) == pytest.approx(shares)


def test_without_weight_a_teacher_says_nothing_of_rows_with_labels() -> None:
    scores = drawn(0)
    flags = torch.tensor([[1, 0, 1], [-100] * 3, [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    for hard, targets in (
        (class_loss(scores, TARGETS), TARGETS),
        (several_labels_loss(scores, flags), flags),
    ):
        loss, count = mixed_loss(hard, torch.zeros(5), targets, weight=0.0)
        assert float(loss) == pytest.approx(float(hard[0])) and int(hard[1]) == 4 and int(count) == 5
    several, _ = several_labels_loss(scores, flags)
    torch.testing.assert_close(several, several_labels_loss(scores[[0, 2, 3, 4]], flags[[0, 2, 3, 4]])[0])


def test_a_batch_without_any_label_has_a_gradient() -> None:
    scores = drawn(0).requires_grad_()
    targets = torch.full((5,), -100)
    soft = teacher_loss(scores, drawn(1), temperature=2.0, several=False)
    loss, count = mixed_loss(class_loss(scores, targets), soft, targets, weight=0.9)
    loss.backward()
    assert int(count) == 5 and loss.item() == pytest.approx(soft.sum().item())
    assert scores.grad is not None and float(scores.grad.abs().sum()) > 0


@pytest.mark.parametrize("several", [False, True])
def test_disagreement_by_hand_and_both_ways(several: bool) -> None:
    first, second = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    if several:  # one half and three quarters; one half and one half
        one = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
        other = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    else:  # of two labels the same chances
        one = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
        other = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    expected = torch.tensor([(one + other) / 2])
    torch.testing.assert_close(disagreement(first, second, several=several), expected)
    torch.testing.assert_close(disagreement(second, first, several=several), expected)
    assert disagreement(first, first, several=several).abs().max() < 1e-7
