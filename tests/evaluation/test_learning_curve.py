"""Learning curves: so many examples, what scores do with them, the command from end to end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from small_runs import CommandLine

from langmill.core.errors import DataError
from langmill.evaluation.learning_curve import CurvePoint, LearningCurve, draw
from langmill.tasks.classify import Classifying
from langmill.tasks.subsample import draw_examples
from langmill.text.labelled import ClassExample


def point(examples: int, *scores: float) -> CurvePoint:
    return CurvePoint(examples, tuple("ab"[: len(scores)]), scores, {"TF-IDF": scores})


def curve(*points: CurvePoint) -> LearningCurve:
    return LearningCurve("classify", "accuracy", points)


def write_rows(path: Path, count: int = 90) -> Path:
    """Write rows of two topics, two of one for each of the other."""
    words = {"sport": ("goal", "match", "比赛"), "money": ("bank", "market", "股票")}
    rows = []
    for n in range(count):
        label = "money" if n % 3 == 0 else "sport"
        rows.append({"text": f"{words[label][n // 3 % 3]} news {n}", "label": label})
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_fewer_examples_are_among_more_and_keep_shares_and_order() -> None:
    examples = [ClassExample(f"text {n}", ("rare" if n % 5 == 0 else "usual",)) for n in range(200)]
    few, more = (draw_examples(examples, Classifying(), count, seed=3) for count in (20, 50))
    assert {e.text for e in few} < {e.text for e in more} and len(few) == 20 and len(more) == 50
    assert Counter(e.labels[0] for e in few) == {"rare": 4, "usual": 16}
    assert Counter(e.labels[0] for e in more) == {"rare": 10, "usual": 40}
    assert [examples.index(e) for e in few] == sorted(examples.index(e) for e in few)
    assert draw_examples(examples, Classifying(), 0, seed=3) == examples
    assert draw_examples(examples, Classifying(), 200, seed=3) == examples
    assert draw_examples(examples, Classifying(), 20, seed=4) != few
    turned = draw_examples(examples[::-1], Classifying(), 20, seed=3)
    assert {e.text for e in turned} == {e.text for e in few}  # the order of the file does not matter
    with pytest.raises(
        DataError, match="201 examples are asked for .--data.examples, --sizes., and 200 are there"
    ):
        draw_examples(examples, Classifying(), 201, seed=3)


def test_the_last_slope_is_what_a_curve_suggests() -> None:
    rising = curve(point(10, 0.1, 0.1), point(100, 0.5, 0.6), point(400, 0.7, 0.7))
    assert rising.gains == pytest.approx((0.1, 0.05))
    assert "from 100 to 400 examples accuracy changed by +0.0750 a doubling" in rising.suggestion
    assert "likely to help" in rising.suggestion
    mixed = curve(point(100, 0.5, 0.6), point(200, 0.6, 0.5))
    assert "no gain that all seeds share" in mixed.suggestion and "likely" not in mixed.suggestion
    assert "--seeds 3" in curve(point(100, 0.5), point(200, 0.6)).suggestion


def test_a_table_and_a_tree() -> None:
    found = curve(point(100, 0.5, 0.7), point(2000, 0.8, 0.8))
    assert found.table().splitlines()[:3] == [
        "examples         accuracy           TF-IDF",
        "100       0.6000 ± 0.1414  0.6000 ± 0.1414",
        "2,000     0.8000 ± 0.0000  0.8000 ± 0.0000",
    ]
    tree = json.loads(json.dumps(found.to_dict()))
    assert [each["examples"] for each in tree["sizes"]] == [100, 2000]
    assert tree["sizes"][0]["mean"] == pytest.approx(0.6) and tree["sizes"][1]["scores"] == [0.8, 0.8]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(curve(point(100, 0.5, 0.7), point(2000, 0.8, 0.8)), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[1:4] == b"PNG"


def test_sizes_from_end_to_end(tmp_path: Path, command: CommandLine) -> None:
    data = write_rows(tmp_path / "rows.jsonl")
    out = tmp_path / "curve"
    said = command("train", "classify", data, "--sizes", "12,30,all", "--seeds", 2, "-o", out, "--json")
    assert said.status == 0, said.err
    tree = json.loads(said.out)
    assert [each["examples"] for each in tree["sizes"]] == [12, 30, 72]
    assert set(tree["sizes"][0]["references"]) == {"commonest label", "TF-IDF"}
    folders = sorted(str(path.parent.relative_to(out)) for path in out.rglob("run.yaml"))
    assert folders == [f"size-{size}/seed-{seed}" for size in (12, 30, "all") for seed in (0, 1)]
    assert said.err.count("data: ") == 6  # once a run, not again for what simple models reach
    assert "held out" in said.err and (out / "learning_curve.png").is_file()
    known = command(
        "evaluate", out / "size-12/seed-1", data, "--json"
    )  # its TF-IDF learns from the same 12 rows
    assert "fitted to 12 examples" in json.loads(known.out)["baseline"]["TF-IDF"]["note"]


def test_sizes_of_tagging(tmp_path: Path, command: CommandLine) -> None:
    rows = [
        f"Ada B-PER\nlives O\nin O\n{place} B-LOC\n{n} O\n\n"
        for n in range(20)
        for place in ("Rome", "Paris")
    ]
    (tmp_path / "data.conll").write_text("".join(rows), encoding="utf-8")
    tiny = ("--steps", 2, "--batch", 8, "--model", "lstm", "--model.layers", 1, "--model.width", 16)
    said = command(
        "train",
        "ner",
        tmp_path / "data.conll",
        "--sizes",
        "8,16",
        *tiny,
        "--no-tensorboard",
        "-o",
        tmp_path / "c",
    )
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].split() == ["examples", "f1", "dictionary"] and lines[1].split()[0] == "8"
    assert lines[2].split()[0] == "16" and lines[3].startswith("from 8 to 16 examples f1 changed by")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sizes", "100"), "--sizes names two sizes or more"),
        (("--sizes", "10,ten"), "--sizes 10,ten: expected numbers of examples"),
        (("--sizes", "10,20", "--data.examples", "5"), "sets --data.examples itself"),
        (("--sizes", "10,5000"), "5,000 examples are asked for (--data.examples, --sizes), and 72 are there"),
    ],
)
def test_mistakes(options: tuple[str, ...], message: str, tmp_path: Path, command: CommandLine) -> None:
    data = write_rows(tmp_path / "rows.jsonl")
    said = command("train", "classify", data, *options, "-o", tmp_path / "curve")
    assert message in said.error and not list(tmp_path.rglob("run.yaml"))


def test_plain_text_has_no_answers_to_count(tmp_path: Path, command: CommandLine) -> None:
    data = write_rows(tmp_path / "rows.jsonl")
    said = command("train", "lm", data, "--sizes", "10,20", "-o", tmp_path / "curve")
    assert "--data.examples counts rows with answers" in said.error
