"""What `--model auto` says it has chosen, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from langmill.core.config import nest, resolve
from langmill.tasks import classify, taggers
from langmill.tasks.base import Request
from langmill.training.settings import TrainSettings


def choose(task: str, given: dict[str, Any]) -> str:
    settings = resolve(TrainSettings, nest(given))
    if task == "ner":
        return taggers.choose_model(settings).model.family
    return classify.choose_model(Request((), (), Path("run"), settings)).model.family


@pytest.mark.parametrize(
    ("task", "given", "family", "said"),
    [
        ("classify", {"seed": 3}, "nbsvm", "model auto: nbsvm, the best on few"),
        (
            "classify",
            {"labels.weights": "balanced"},
            "auto",
            "model auto: eurobert, for --labels.weights does not go with a linear classifier of n-grams (--model nbsvm), which"
            " is fitted in one go",
        ),
        ("classify", {"augment.operations": "swap", "steps": 2}, "auto", "eurobert, for --steps, --augment do not go"),
        ("classify", {"teacher.checkpoints": ["t1"]}, "auto", "eurobert, for --teacher does not go"),
        ("ner", {}, "crf", "model auto: a conditional random field over n-grams; or name another"),
        (
            "ner",
            {"labels.smoothing": 0.1},
            "lstm",
            "model auto: an LSTM that reads characters, for --labels.smoothing does not go with a conditional random field"
            " over n-grams (--model crf), which is fitted in one go",
        ),
        ("ner", {"labels.crf": "no"}, "lstm", "reads characters, for --labels.crf no does not go"),
    ],
)  # fmt: skip
def test_the_choice_is_said_with_its_reason(
    task: str, given: dict[str, Any], family: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert choose(task, given) == family
    assert said in " ".join(capsys.readouterr().err.split())


def test_nothing_is_chosen_where_a_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose("classify", {"from_checkpoint": "small", "steps": 2}) == "auto"
    assert choose("ner", {"from_checkpoint": "small"}) == "auto"
    assert choose("classify", {"model.family": "lstm"}) == "lstm"
    assert not capsys.readouterr().err
