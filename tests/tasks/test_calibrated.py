"""The temperature that a classifier keeps: fitted by hand, kept beside the weights, used by every answer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import langmill
from langmill.checkpoint import load_checkpoint
from langmill.models.heads import HeadConfig
from langmill.tasks.classify import TEMPERATURE, Classifying, best_temperature
from langmill.tasks.labelled import Encoded
from langmill.text.labelled import ClassExample

HEAD = HeadConfig(kind="text", labels=("no", "yes"))
SEVERAL = HeadConfig(kind="text", labels=("no", "yes"), multi_label=True)


def sure(right: int, wrong: int, logit: float = 4.0) -> tuple[np.ndarray, list[ClassExample]]:
    """Return scores that are as sure of what is wrong as of what is right."""
    logits = np.array([[0, logit]] * (right + wrong), np.float32)
    return logits, [ClassExample("", ("yes",))] * right + [ClassExample("", ("no",))] * wrong


def test_by_hand() -> None:
    """Three of four are right, so that exp(4 / T) must be 3."""
    assert best_temperature(*sure(90, 30), HEAD) == pytest.approx(4 / math.log(3), rel=1e-4)
    logits = np.array([[-4, 4]] * 100, np.float32)
    examples = (
        [ClassExample("", ("yes",))] * 80
        + [ClassExample("", ("no", "yes"))] * 10
        + [ClassExample("", ())] * 10
    )
    # Of 200 yes-or-no answers 180 are right.
    assert best_temperature(logits, examples, SEVERAL) == pytest.approx(4 / math.log(9), rel=1e-4)


@pytest.mark.parametrize(("right", "wrong"), [(74, 25), (100, 0)], ids=["too few", "nothing wrong"])
def test_none_is_fitted(right: int, wrong: int) -> None:
    task, model = Classifying(), SimpleNamespace(config=SimpleNamespace(head=HEAD))
    logits, examples = sure(right, wrong)
    task.decisions[TEMPERATURE] = 3.0  # of an evaluation before
    figures = task.figures(list(logits), examples, Encoded([], np.zeros(0, np.int64)), model)
    assert task.decisions == {} and "ece_uncalibrated" not in figures


def test_both_errors_are_told() -> None:
    task, model = Classifying(), SimpleNamespace(config=SimpleNamespace(head=HEAD))
    logits, examples = sure(90, 30)
    figures = task.figures(list(logits), examples, Encoded([], np.zeros(0, np.int64)), model)
    assert list(figures) == ["accuracy", "f1_macro", "ece", "ece_uncalibrated"]
    assert figures["ece"] == pytest.approx(0, abs=1e-4)
    assert figures["ece_uncalibrated"] == pytest.approx(1 / (1 + math.exp(-4)) - 0.75, abs=1e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fifth of the labels are wrong: a model that learns them by heart is too sure."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    with path.open("w") as file:
        for number in range(800):
            good = number % 2
            words = " ".join(f"w{draw.integers(40)}" for _ in range(4))
            text = f"{('dull', 'great')[good]} {words}"
            print(json.dumps({"text": text, "label": ("no", "yes")[good ^ (draw.random() < 0.2)]}), file=file)
    return path


@pytest.mark.parametrize("family", ["bert", "tfidf"])
def test_a_trained_classifier_is_calibrated(data: Path, tmp_path: Path, family: str) -> None:
    asked = {"model": {"family": "tfidf"}}
    if family == "bert":
        sizes = {"family": "bert", "layers": 1, "width": 32, "heads": 2}
        asked = {"model": sizes, "tokenizer": "wordpiece", "steps": 60, "batch": 32}  # type: ignore[dict-item]
    run = langmill.train("classify", str(data), output=str(tmp_path / "run"), tensorboard=False, **asked)
    checkpoint = load_checkpoint(run.folder)
    temperature = checkpoint.decisions[TEMPERATURE]
    assert temperature == json.loads((tmp_path / "run" / "config.json").read_text())["langmill_temperature"]
    assert {"ece", "ece_uncalibrated"} <= set(run.metrics)
    task, texts = Classifying(), [("great w1 w2",), ("dull w3 w30 w7",)]
    calibrated = np.stack(task.outputs(checkpoint, texts)[0])
    checkpoint.decisions.clear()
    plain = np.stack(task.outputs(checkpoint, texts)[0])
    np.testing.assert_allclose(calibrated, plain / temperature, rtol=1e-6)
    assert (calibrated.argmax(1) == plain.argmax(1)).all()
    if family == "bert":  # the weights are what was trained: Transformers has the plain scores
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        theirs = AutoModelForSequenceClassification.from_pretrained(run.folder).eval()
        assert theirs.config.langmill_temperature == temperature
        batch = AutoTokenizer.from_pretrained(run.folder)(
            [text for (text,) in texts], padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            np.testing.assert_allclose(theirs(**batch).logits.numpy(), plain, rtol=1e-4, atol=1e-5)


def test_settling_is_the_same_by_a_checkpoint(data: Path, tmp_path: Path) -> None:
    run = langmill.train(
        "classify", str(data), output=str(tmp_path / "run"), held_out_data=[str(data)], tensorboard=False
    )
    checkpoint, task = load_checkpoint(run.folder), Classifying()
    rows = map(json.loads, data.read_text().splitlines())
    found = task.settle(checkpoint, [ClassExample(row["text"], (row["label"],)) for row in rows])
    assert found[TEMPERATURE] == pytest.approx(checkpoint.decisions[TEMPERATURE], rel=1e-4)
