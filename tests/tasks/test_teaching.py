"""Teachers and texts without labels: what is read, what is asked, what is learned, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_runs import assert_same_weights

import langmill
from langmill.batches.labelled import LabelledRow, collate
from langmill.core.errors import ConfigError, DataError
from langmill.models.heads import HeadConfig
from langmill.tasks.base import Request
from langmill.tasks.classify import Classifying
from langmill.tasks.labelled import LabelledCorpus
from langmill.tasks.teaching import Teaching, ask_teachers, confidence_of, read_unlabelled
from langmill.text.labelled import ClassExample
from langmill.training.settings import TeacherSettings, TrainSettings

TELLING = {"pos": ("great", "fine", "lovely", "精彩"), "neg": ("awful", "dull", "poor", "难看")}
UNSAID = {"steps": 0, "batch": 0, "vocabulary": 0}
PUPIL = {"family": "lstm", "layers": 1, "width": 16}


def text_of(n: int) -> tuple[str, str]:
    label = "pos" if n % 2 else "neg"
    return f"film {n}: {TELLING[label][n // 2 % 4]} and so on", label


def write(path: Path, numbers: Sequence[int], *, labels: bool = True, several: bool = False) -> str:
    rows = []
    for n in numbers:
        text, label = text_of(n)
        rows.append({"text": text, "label": [label] if several else label} if labels else {"text": text})
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and two teachers: `teacher`, and `odd`, fitted to the same labels turned round."""
    folder = tmp_path_factory.mktemp("teaching")
    data = write(folder / "data.jsonl", range(60))
    write(folder / "held.jsonl", range(900, 920))
    write(folder / "rest.jsonl", range(40, 120), labels=False)
    held = str(folder / "held.jsonl")
    langmill.train(
        "classify", data, held_out_data=held, output=str(folder / "teacher"), model={"family": "nbsvm"}
    )
    rows = [json.loads(line) for line in Path(data).read_text(encoding="utf-8").splitlines()]
    turned = [{**row, "label": {"pos": "neg", "neg": "pos"}[row["label"]]} for row in rows]
    (folder / "turned.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turned))
    langmill.train(
        "classify", str(folder / "turned.jsonl"), output=str(folder / "odd"), model={"family": "tfidf"}
    )
    return folder


def train(folder: Path, output: Path, **settings: object):
    return langmill.train(
        "classify",
        str(settings.pop("data", folder / "data.jsonl")),
        held_out_data=str(folder / "held.jsonl"),
        output=str(output),
        **{"model": PUPIL, "steps": 12, "batch": 16, "vocabulary": 300, "tensorboard": False, **settings},
    )


def losses(run: Path) -> list[float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if row["kind"] == "train"]


def corpus_of(labelled: int, unlabelled: int) -> LabelledCorpus:
    told = [text_of(n) for n in range(labelled + unlabelled)]
    examples = [ClassExample(text, (label,)) for text, label in told]
    return LabelledCorpus(
        (),
        examples[:labelled],
        (),
        "",
        "",
        Classifying().texts,
        [ClassExample(e.text) for e in examples[labelled:]],
    )


def asked(*names: Path, **more: object) -> Request:
    teacher = TeacherSettings(checkpoints=tuple(map(str, names)), **more)  # type: ignore[arg-type]
    return Request((), (), Path(), TrainSettings(teacher=teacher))


# ------------------------------------------------------------------------------------------------
# What teachers are asked


@pytest.mark.parametrize("labels", [("neg", "pos"), ("pos", "neg")])
def test_labels_are_matched_by_name(folder: Path, labels: tuple[str, ...]) -> None:
    corpus = corpus_of(6, 2)
    found = ask_teachers(
        asked(folder / "teacher"), "classify", corpus, HeadConfig(kind="text", labels=labels)
    )
    results = langmill.load(folder / "teacher").predict([text_of(n)[0] for n in range(8)])
    expected = np.log([[result.probabilities[label] for label in labels] for result in results])
    assert found.scores is not None and found.scores.dtype == np.float32
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4)
    assert found.scores.argmax(1).tolist() == [labels.index(text_of(n)[1]) for n in range(8)]


def test_of_several_teachers_the_mean(folder: Path) -> None:
    head, corpus = HeadConfig(kind="text", labels=("neg", "pos")), corpus_of(5, 0)
    one, other, both = (
        ask_teachers(asked(*names), "classify", corpus, head).scores
        for names in ((folder / "teacher",), (folder / "odd",), (folder / "teacher", folder / "odd"))
    )
    assert one is not None and other is not None and both is not None
    assert np.abs(one - other).max() > 0.5
    np.testing.assert_allclose(np.exp(both), (np.exp(one) + np.exp(other)) / 2, rtol=1e-5)


def test_of_several_labels_the_log_odds(tmp_path: Path, folder: Path) -> None:
    data = write(tmp_path / "several.jsonl", range(60), several=True)
    settings = {"model": {"family": "nbsvm"}, "labels": {"several": "yes"}}
    langmill.train("classify", data, output=str(tmp_path / "teacher"), **settings)
    head = HeadConfig(kind="text", labels=("neg", "pos"), multi_label=True)
    scores = ask_teachers(asked(tmp_path / "teacher"), "classify", corpus_of(4, 0), head).scores
    result = langmill.load(tmp_path / "teacher").predict(text_of(3)[0])
    assert scores is not None
    for place, label in enumerate(head.labels):
        p = result.probabilities[label]
        assert scores[3, place] == pytest.approx(np.log(p / (1 - p)), rel=1e-4)
    with pytest.raises(
        ConfigError, match="gives a text any number of labels, the data one label; --labels.several yes"
    ):
        train(folder, tmp_path / "run", teacher={"checkpoints": [str(tmp_path / "teacher")]})


def test_the_unsure_are_left_out_and_counted(folder: Path) -> None:
    head, corpus = HeadConfig(kind="text", labels=("neg", "pos")), corpus_of(4, 30)
    everything = ask_teachers(asked(folder / "teacher", unlabelled=("x",)), "classify", corpus, head)
    assert everything.scores is not None
    sure = np.exp(everything.scores[4:]).max(1)
    least = float(np.sort(sure)[[14, 15]].mean())
    some = ask_teachers(
        asked(folder / "teacher", unlabelled=("x",), confidence=least), "classify", corpus, head
    )
    kept = [example for example, p in zip(corpus.unlabelled, sure) if p >= least]
    assert some.examples[:4] == corpus.train and list(some.examples[4:]) == kept
    assert "from them alone 15 texts of x (15 more left out, of which it is less than" in some.notes[0]


def test_confidence_of_several_labels_is_that_of_the_least_certain() -> None:
    chances = np.array([[0.05, 0.9, 0.45], [0.01, 0.02, 0.1]])
    np.testing.assert_allclose(confidence_of(chances, several=True), [0.55, 0.9])
    np.testing.assert_allclose(confidence_of(chances, several=False), [0.9, 0.1])


def test_rows_without_labels_ask_nothing_of_them() -> None:
    rows = [LabelledRow(np.arange(n + 1), np.array([1, 0])) for n in range(3)]
    scores = np.arange(6, dtype=np.float32).reshape(3, 2)
    marked = Teaching([], 1, scores).mark(rows)
    assert [row.target.tolist() for row in marked] == [[1, 0], [-100, -100], [-100, -100]]
    assert Teaching([], 1).mark(rows) is rows
    batch = collate(marked, micro_tokens=3)
    assert batch.teacher is not None and batch.teacher.tolist() == scores.tolist()
    parts = [part.teacher for part in batch.to(torch.device("cpu")).split(2)]
    assert [part.tolist() for part in parts if part is not None] == [[[0, 1]], [[2, 3]], [[4, 5]]]


# ------------------------------------------------------------------------------------------------
# Texts without labels


def test_no_text_is_learned_that_has_a_label_or_is_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "rest.jsonl", [*range(5), 3, *range(8, 10)])  # with labels, which are not read
    known = [ClassExample(text_of(n)[0], ("pos",)) for n in (1, 8)]
    request = asked(tmp_path / "teacher", unlabelled=(path,))
    found = read_unlabelled(request.settings, Classifying(), known)
    assert [(each.text, each.labels) for each in found] == [(text_of(n)[0], ()) for n in (0, 2, 3, 4, 9)]
    assert found[2].source.endswith(":4"), "of two equal ones the first"
    assert "unlabelled: 5 texts; 3 left out that are among" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"rest.jsonl: no text that is not among the labelled ones"):
        read_unlabelled(request.settings, Classifying(), [ClassExample(text_of(n)[0]) for n in range(10)])


def test_lines_of_text_need_no_labels(tmp_path: Path) -> None:
    (tmp_path / "rest.txt").write_text("__label__pos a film\n又一部电影\n", encoding="utf-8")
    request = asked(tmp_path / "teacher", unlabelled=(str(tmp_path / "rest.txt"),))
    found = read_unlabelled(request.settings, Classifying(), [])
    assert [(each.text, each.labels) for each in found] == [("a film", ()), ("又一部电影", ())]


# ------------------------------------------------------------------------------------------------
# Runs


def test_a_run_with_a_teacher_and_unlabelled_texts(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = {"checkpoints": [str(folder / "teacher")], "unlabelled": [str(folder / "rest.jsonl")]}
    few = write(tmp_path / "few.jsonl", range(8))
    settings = {"teacher": teacher, "data": few, "steps": 60, "optimizer": {"learning_rate": 0.02}}
    result = train(folder, tmp_path / "run", **settings)
    assert result.metrics["accuracy"] > 0.9
    err = capsys.readouterr().err
    assert "(weight 0.9, temperature 2), and from them alone 80 texts of" in err
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"- Learned too: the probabilities of {folder / 'teacher'} (weight 0.9, temperature 2)" in card
    run = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
    assert run["teacher"]["unlabelled"] == [str(folder / "rest.jsonl")] and run["teacher"]["weight"] == 0.9


def test_without_weight_a_teacher_changes_nothing(tmp_path: Path, folder: Path) -> None:
    teacher = {"checkpoints": [str(folder / "odd")], "weight": 0.0}
    train(folder, tmp_path / "with", teacher=teacher)
    train(folder, tmp_path / "without")
    assert_same_weights(tmp_path / "with", tmp_path / "without")
    train(folder, tmp_path / "more", teacher={**teacher, "weight": 0.1})
    assert losses(tmp_path / "more") != losses(tmp_path / "without")


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, folder: Path) -> None:
    teacher = {"checkpoints": [str(folder / "teacher")], "unlabelled": [str(folder / "rest.jsonl")]}
    settings = {
        "teacher": teacher,
        "optimizer": {"decay": 0.0, "warmup": 0.0},
        "augment": {"operations": "swap"},
    }
    train(folder, tmp_path / "whole", steps=24, **settings)
    train(folder, tmp_path / "parts", steps=11, **settings)
    langmill.train("classify", output=str(tmp_path / "parts"), resume=True, steps=24)
    assert len(losses(tmp_path / "whole")) == 24
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_texts_that_changed_cannot_be_resumed(tmp_path: Path, folder: Path) -> None:
    rest = write(tmp_path / "rest.jsonl", range(60, 80), labels=False)
    teacher = {"checkpoints": [str(folder / "teacher")], "unlabelled": [rest]}
    train(folder, tmp_path / "run", teacher=teacher, steps=2)
    write(Path(rest), range(60, 79), labels=False)
    with pytest.raises(DataError, match="have changed since this run began"):
        langmill.train("classify", output=str(tmp_path / "run"), resume=True, steps=4)


# ------------------------------------------------------------------------------------------------
# Mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": {"weight": 0.5}}, "--teacher.weight needs a teacher: name one with --teacher CKPT"),
        ({"teacher": {"unlabelled": ["x.jsonl"]}}, "--teacher.unlabelled needs a teacher"),
        (
            {"teacher": {"checkpoints": ["{}/teacher"], "confidence": 0.5}},
            "--teacher.confidence chooses among texts without labels: name them with --unlabelled FILE",
        ),
        ({"teacher": {"checkpoints": ["{}/nowhere"]}}, "nowhere"),
        (
            {"teacher": {"checkpoints": ["{}/teacher"]}, "model": {"family": "nbsvm"}, **UNSAID},
            "--model nbsvm: --teacher has no effect, for it is fitted in one go; leave it out, or name a model that learns",
        ),
        (
            {"augment": {"operations": "swap"}, "model": {"family": "tfidf"}, **UNSAID},
            "--model tfidf: --augment has no effect",
        ),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, folder: Path, settings: dict[str, object], message: str
) -> None:
    settings = json.loads(json.dumps(settings).replace("{}", str(folder)))
    with pytest.raises(langmill.core.errors.LangmillError, match=message):
        train(folder, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_other_labels(tmp_path: Path, folder: Path) -> None:
    rows = [{"text": text_of(n)[0], "label": ("good", "neg")[n % 2]} for n in range(20)]
    data = tmp_path / "other.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        ConfigError,
        match="its labels must be those of the data; it alone has 'pos'; the data alone have 'good'",
    ):
        langmill.train(
            "classify",
            str(data),
            output=str(tmp_path / "run"),
            model=PUPIL,
            steps=2,
            teacher={"checkpoints": [str(folder / "teacher")]},
        )


def test_a_teacher_of_something_else(tmp_path: Path, folder: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a film and another film\n" * 200)
    tiny = {"layers": 1, "width": 16, "heads": 2, "context": 8}
    langmill.train(
        "lm", str(text), output=str(tmp_path / "lm"), model=tiny, steps=2, batch=2, tensorboard=False
    )
    with pytest.raises(
        ConfigError, match="is no model for classify but for lm; train one with `train classify`"
    ):
        train(folder, tmp_path / "run", teacher={"checkpoints": [str(tmp_path / "lm")]})


@pytest.mark.parametrize("task", ["ner", "qa", "embed", "lm", "mlm"])
def test_other_tasks_have_no_teacher(tmp_path: Path, folder: Path, task: str) -> None:
    with pytest.raises(ConfigError, match=f"--teacher.checkpoints has no effect on {task}; leave it out"):
        langmill.train(
            task, str(folder / "data.jsonl"), output=str(tmp_path / "run"), teacher={"checkpoints": ["x"]}
        )
