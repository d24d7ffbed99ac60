"""The temperature by which a classifier is saved: fitted by hand, in the weights on disk, not in those that are trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, weights

import langmill
from langmill.checkpoint import load_checkpoint
from langmill.models.heads import HeadConfig
from langmill.tasks.calibrated import best_temperature, output_layer
from langmill.tasks.classify import Classifying, indicators
from langmill.tasks.labelled import Encoded
from langmill.text.labelled import ClassExample

HEAD = HeadConfig(kind="text", labels=("no", "yes"))


def sure(right: int, wrong: int, logit: float = 4.0) -> tuple[np.ndarray, list[ClassExample]]:
    """Return scores that are as sure of what is wrong as of what is right."""
    logits = np.array([[0, logit]] * (right + wrong), np.float32)
    return logits, [ClassExample("", ("yes",))] * right + [ClassExample("", ("no",))] * wrong


def truth_of(examples: list[ClassExample]) -> np.ndarray:
    return indicators([example.labels for example in examples], HEAD.labels)


def test_by_hand() -> None:
    """Three of four are right, so that exp(4 / T) must be 3."""
    logits, examples = sure(90, 30)
    found = best_temperature(logits, truth_of(examples), several=False)
    assert found == pytest.approx(4 / math.log(3), rel=1e-4)
    logits = np.array([[-4, 4]] * 100, np.float32)
    examples = (
        [ClassExample("", ("yes",))] * 80
        + [ClassExample("", ("no", "yes"))] * 10
        + [ClassExample("", ())] * 10
    )
    # Of 200 yes-or-no answers 180 are right.
    found = best_temperature(logits, truth_of(examples), several=True)
    assert found == pytest.approx(4 / math.log(9), rel=1e-4)


@pytest.mark.parametrize(("right", "wrong"), [(74, 25), (100, 0)], ids=["too few", "nothing wrong"])
def test_none_is_fitted(right: int, wrong: int) -> None:
    task, model = Classifying(), SimpleNamespace(config=SimpleNamespace(head=HEAD))
    logits, examples = sure(right, wrong)
    task.temperature = 3.0  # of an evaluation before
    figures = task.figures(list(logits), examples, Encoded([], np.zeros(0, np.int64)), model)
    assert task.temperature == 1 and "ece_uncalibrated" not in figures


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


FAMILIES = {
    "bert": {
        "model": {"family": "bert", "layers": 1, "width": 32, "heads": 2},
        "tokenizer": "wordpiece",
        "steps": 60,
        "batch": 32,
    },
    "tfidf": {"model": {"family": "tfidf"}},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_classifier_is_saved_calibrated(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    folders = {}
    for name, least in (("calibrated", 100), ("plain", 10**6)):
        monkeypatch.setattr("langmill.tasks.calibrated.LEAST", least)
        run = langmill.train(
            "classify", str(data), output=str(tmp_path / name), tensorboard=False, **FAMILIES[family]
        )  # type: ignore[arg-type]
        folders[name] = run.folder
        assert ("ece_uncalibrated" in run.metrics) == (name == "calibrated")
    task, texts = Classifying(), [("great w1 w2",), ("dull w3 w30 w7",)]
    found, plain = (np.stack(task.outputs(load_checkpoint(each), texts)[0]) for each in folders.values())
    ratios = plain / found
    assert abs(ratios.mean() - 1) > 0.02  # there was something to mend
    np.testing.assert_allclose(ratios, ratios.mean(), rtol=1e-3)
    one, other = (weights(Path(each)) for each in folders.values())
    changed = [name for name in one if not torch.equal(one[name], other[name])]
    assert (
        sorted(changed)
        == {"bert": ["classifier.bias", "classifier.weight"], "tfidf": ["bias", "weight"]}[family]
    )


def test_transformers_gives_the_calibrated_probabilities(data: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = langmill.train(
        "classify", str(data), output=str(tmp_path / "run"), tensorboard=False, **FAMILIES["bert"]
    )  # type: ignore[arg-type]
    theirs = AutoModelForSequenceClassification.from_pretrained(run.folder).eval()
    texts = ["great w1 w2", "dull w3 w30 w7"]
    batch = AutoTokenizer.from_pretrained(run.folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        chances = theirs(**batch).logits.softmax(-1).numpy()
    found = [
        [each.probabilities[label] for label in HEAD.labels]
        for each in langmill.load(run.folder).predict(texts)
    ]
    np.testing.assert_allclose(found, chances, atol=1e-5)


def test_what_is_trained_is_not_divided(data: Path, tmp_path: Path) -> None:
    """A run that saves at every step is one that saves at the end."""
    for name, every in (("often", 1), ("once", 0)):
        langmill.train(
            "classify",
            str(data),
            output=str(tmp_path / name),
            tensorboard=False,
            save_every=every,
            evaluate_every=10,
            **{**FAMILIES["bert"], "steps": 25},  # type: ignore[arg-type]
        )
    assert_same_weights(tmp_path / "often", tmp_path / "once")


def test_settling_divides_a_checkpoint(data: Path, tmp_path: Path) -> None:
    run = langmill.train(
        "classify", str(data), output=str(tmp_path / "run"), held_out_data=[str(data)], tensorboard=False
    )
    checkpoint, task = load_checkpoint(run.folder), Classifying()
    weight = output_layer(checkpoint.model)[0]
    saved = weight.clone()
    weight.data.mul_(5)
    output_layer(checkpoint.model)[1].data.mul_(5)
    rows = map(json.loads, data.read_text().splitlines())
    task.settle(checkpoint, [ClassExample(row["text"], (row["label"],)) for row in rows])
    torch.testing.assert_close(weight, saved, rtol=1e-3, atol=1e-6)
