"""Reading each row twice: when, and what it loses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from langmill.models.heads import HeadConfig
from langmill.objectives.distillation import disagreement
from langmill.tasks.classify import Classifying
from langmill.tasks.objective import DISAGREEMENT, decide_rdrop, objective_of
from langmill.training.settings import TrainSettings

HEAD = HeadConfig(kind="text", labels=("a", "b"))


def checkpoint(dropout: float) -> Any:
    return SimpleNamespace(
        model=SimpleNamespace(config=SimpleNamespace(output_stack=SimpleNamespace(dropout=dropout)))
    )


@pytest.mark.parametrize(
    ("given", "dropout", "rows", "expected"),
    [
        ({}, 0.1, 100, "yes"),
        ({}, 0.1, 20_001, "no"),
        ({}, 0.0, 100, "no"),
        ({}, None, 100, "no"),  # from scratch
        ({"budget": 60}, 0.1, 100, "no"),
        ({"teacher": {"checkpoints": ("other",)}}, 0.1, 100, "no"),
        ({"labels": {"rdrop": "yes"}}, None, 30_000, "yes"),
        ({"labels": {"rdrop": "no"}}, 0.1, 100, "no"),
    ],
)
def test_when(given: dict[str, Any], dropout: float | None, rows: int, expected: str) -> None:
    source = None if dropout is None else checkpoint(dropout)
    assert decide_rdrop(TrainSettings(**given), HEAD, source, rows).labels.rdrop == expected


def test_only_texts() -> None:
    """The settings of a tagger stay as they were given: it refuses this one when it goes on."""
    tags = HeadConfig(kind="tokens", labels=("O", "B-X"))
    assert decide_rdrop(TrainSettings(), tags, checkpoint(0.1), 100).labels.rdrop == "auto"


class Wavering(nn.Module):
    """Gives one answer and then the other."""

    def __init__(self, *answers: torch.Tensor) -> None:
        super().__init__()
        self.answers, self.asked = answers, 0

    def forward(self, ids: Any, **_: Any) -> torch.Tensor:
        self.asked += 1
        return self.answers[(self.asked - 1) % 2]


def test_the_loss_is_the_mean_of_both_and_how_far_they_are_apart() -> None:
    first, second = (torch.randn(4, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    targets = torch.tensor([0, 1, 1, 0])
    batch: Any = SimpleNamespace(ids=None, valid=None, segments=None, targets=targets, teacher=None)
    model, task = Wavering(first, second), Classifying()
    loss, count = objective_of(task, model, batch, twice=True)
    each = [nn.functional.cross_entropy(scores, targets, reduction="sum") for scores in (first, second)]
    apart = disagreement(first, second, several=False).sum()
    torch.testing.assert_close(loss, (each[0] + each[1] + DISAGREEMENT * apart) / 2)
    assert count == 4 and model.asked == 2
    torch.testing.assert_close(objective_of(task, model, batch)[0], each[0])
    torch.testing.assert_close(
        objective_of(task, model.eval(), batch, twice=True)[0], each[1]
    )  # as it is used
    assert model.asked == 4
