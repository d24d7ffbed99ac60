"""What learning from labelled text shares: holding out, lengths, the run end to end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import langmill
from langmill.core.errors import ConfigError, DataError
from langmill.tasks.classify import Classifying
from langmill.tasks.labelled import fill_length, hold_out, quick_part
from langmill.text.labelled import ClassExample
from langmill.training.settings import TrainSettings

GOOD, BAD = ("great", "fine", "lovely", "精彩"), ("awful", "dull", "poor", "难看")


def write_reviews(path: Path, count: int = 120) -> Path:
    """Write reviews whose one telling word gives the label away."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            word = (GOOD if n % 2 else BAD)[n // 2 % 4]
            row = {
                "id": n,
                "text": f"film {n}: {word} " + "and so on " * (n % 3),
                "label": "pos" if n % 2 else "neg",
            }
            print(json.dumps(row, ensure_ascii=False), file=file)
    return path


TINY = {"layers": 1, "width": 32, "heads": 2}


def train(data: Path, output: Path, **settings: object) -> langmill.TrainResult:  # type: ignore[name-defined]
    asked: dict[str, object] = {
        "model": TINY,
        "steps": 40,
        "batch": 16,
        "vocabulary": 400,
        "seed": 1,
        **settings,
    }
    return langmill.train("classify", str(data), output=str(output), **asked)


def example(text: str, label: str) -> ClassExample:
    return ClassExample(text, (label,))


def test_holding_out_keeps_shares_and_equal_texts_together() -> None:
    examples = [example(f"text {n % 400}", "a" if n % 400 < 100 else "b") for n in range(500)]
    learned, held = hold_out(examples, Classifying(), share=0.2, seed=0)
    assert len(learned) + len(held) == 500
    assert not {e.text for e in learned} & {e.text for e in held}
    counts = Counter(e.labels[0] for e in held)
    assert abs(counts["a"] - 40) <= 2 and abs(counts["b"] - 60) <= 2
    again, _ = hold_out(list(reversed(examples)), Classifying(), share=0.2, seed=0)
    assert {e.text for e in again} == {e.text for e in learned}
    other, _ = hold_out(examples, Classifying(), share=0.2, seed=1)
    assert {e.text for e in other} != {e.text for e in learned}


def test_too_few_examples_to_hold_out() -> None:
    with pytest.raises(DataError, match="too few to hold some out: 2 examples, 2 different texts; add rows"):
        hold_out([example("one", "a"), example("two", "b")], Classifying(), share=0.1, seed=0)


def test_lengths_that_nobody_asked_for() -> None:
    assert fill_length(TrainSettings(), 1000, continues=True).epochs == 3
    assert fill_length(TrainSettings(), 20, continues=False).batch == 20
    assert fill_length(TrainSettings(steps=7), 1000, continues=True).epochs == 0


def test_a_classifier_learns_and_is_evaluated(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "reviews.jsonl")
    result = train(data, tmp_path / "run")
    assert result.metrics["accuracy"] > 0.9
    model = langmill.load(tmp_path / "run")
    good, bad = model.predict(["film 111: great ", "film 110: awful "])
    assert (good.label, bad.label) == ("pos", "neg")
    assert sum(good.probabilities.values()) == pytest.approx(1)
    alone = model.predict("film 111: great ")
    assert alone.label == "pos" and alone.probability == pytest.approx(good.probability, rel=1e-5)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "reviews.jsonl")
    constant = {"decay": 0.0, "warmup": 0.0}  # rates that do not depend on how long the run was to be
    train(data, tmp_path / "whole", steps=30, optimizer=constant)
    train(data, tmp_path / "parts", steps=12, optimizer=constant)
    langmill.train("classify", output=str(tmp_path / "parts"), resume=True, steps=30)

    def losses(name: str) -> list[float]:
        rows = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return [row["loss"] for row in rows if row["kind"] == "train"]

    assert len(losses("whole")) == 30 and losses("whole") == losses("parts")


def test_examples_that_changed_cannot_be_resumed(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "reviews.jsonl")
    train(data, tmp_path / "run", steps=2)
    write_reviews(data, 118)
    with pytest.raises(DataError, match="have changed since this run began"):
        langmill.train("classify", output=str(tmp_path / "run"), resume=True, steps=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": {"share": 0.2}}, "--mask.share has no effect on classify"),
        (
            {"model": {"family": "t5"}},
            "classify trains eurobert, bert, lstm, gru, qwen3, gpt2, tfidf, nbsvm, fasttext from scratch",
        ),
        ({"labels": {"several": "maybe"}}, "labels.several"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    data = write_reviews(tmp_path / "reviews.jsonl", 40)
    with pytest.raises(ConfigError, match=message):
        train(data, tmp_path / "run", **settings)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_model_for_vectors_becomes_a_classifier(tmp_path: Path, rank: int) -> None:
    """Whole or by an adapter; its folder must not be read as one for vectors any more."""
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"a film {n}\ta movie {n}\n" for n in range(60)))
    vectors = langmill.train(
        "embed",
        str(pairs),
        output=str(tmp_path / "vectors"),
        model=TINY | {"family": "bert"},
        steps=2,
        batch=8,
    )
    data = write_reviews(tmp_path / "reviews.jsonl")
    asked = {"from_checkpoint": vectors.folder, "steps": 2, "batch": 8, "adapter": {"rank": rank}}
    run = langmill.train("classify", str(data), output=str(tmp_path / "run"), **asked)
    assert langmill.load(run.folder).predict("film 1: great").label in ("pos", "neg")


def test_a_quick_evaluation_sees_all_of_a_sorted_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langmill.tasks.labelled.QUICK_EXAMPLES", 4)
    assert quick_part(range(10)) == range(0, 10, 3)
    assert quick_part(range(4)) == range(4)
