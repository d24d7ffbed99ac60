"""`train classify`, `predict` and `evaluate` from the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from small_runs import CommandLine

import langmill
from langmill.core.errors import ConfigError

TOPICS = {"sport ⚽": ("goal", "match", "球队", "比赛"), "money": ("bank", "market", "股票", "银行")}


def write_rows(path: Path, count: int = 80) -> Path:
    """Write rows of two topics; a label has a space and an emoji."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            label = list(TOPICS)[n % 2]
            text = f"{TOPICS[label][n // 2 % 4]} news {n % 9}"
            print(json.dumps({"id": n, "text": text, "label": label}, ensure_ascii=False), file=file)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "topics.jsonl")


def train(line: CommandLine, data: Path, run: Path, *more: object):
    sizes = ("--model.layers", 1, "--model.width", 32, "--model.heads", 2)
    return line(
        "train", "classify", data, "-o", run, "--steps", 25, "--batch", 16, *sizes, "--no-tensorboard", *more
    )


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "topics"
    sizes = {"layers": 1, "width": 32, "heads": 2, "family": "bert"}
    langmill.train(
        "classify",
        str(data),
        output=str(folder),
        steps=40,
        batch=16,
        model=sizes,
        tokenizer="wordpiece",
        tensorboard=False,
    )
    return folder


def test_predict_prints_a_line_a_text(run, capsys):
    said = CommandLine(capsys)("predict", run, "match news 1", "股票 news 2")
    labels = [row.split("\t")[0] for row in said.out.splitlines()]
    assert said.status == 0 and labels == ["sport ⚽", "money"]


def test_predict_keeps_columns_and_order(run, data, capsys, tmp_path):
    out = tmp_path / "answers.csv"
    said = CommandLine(capsys)("predict", run, "--input", data, "-o", out)
    assert said.status == 0 and "80 documents" in said.err
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert list(rows[0]) == ["id", "text", "label", "predicted_label", "probability"]
    assert [int(row["id"]) for row in rows] == list(range(80))
    assert sum(row["label"] == row["predicted_label"] for row in rows) > 76


def test_predict_gives_probabilities_as_json(run, data, capsys):
    said = CommandLine(capsys)("predict", run, "--input", data, "--json")
    row = json.loads(said.out.splitlines()[0])
    assert set(row["probabilities"]) == set(TOPICS) and sum(row["probabilities"].values()) == pytest.approx(1)


def test_evaluate_has_the_promised_keys(run, data, capsys):
    said = CommandLine(capsys)("evaluate", run, data, "--json")
    tree = json.loads(said.out)
    wanted = {"accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro", "per_class", "ece"}
    assert wanted <= set(tree) and {"examples", "interval", "baseline"} <= set(tree)
    assert tree["examples"] == 80 and tree["accuracy"] > 0.95 and set(tree["per_class"]) == set(TOPICS)
    assert (
        0.4 < tree["baseline"]["commonest label"]["accuracy"] < 0.6 < tree["baseline"]["TF-IDF"]["accuracy"]
    )
    assert tree["interval"][0] <= tree["accuracy"] <= tree["interval"][1]
    assert any("among the training data" in note for note in tree["notes"])


def test_evaluate_compares_two(run, data, capsys, tmp_path):
    line = CommandLine(capsys)
    assert train(line, data, tmp_path / "other", "--steps", 1).status == 0
    said = line("evaluate", run, tmp_path / "other", data, "--no-references")
    assert "is better than" in said.out and "McNemar" in said.out
    tree = json.loads(line("evaluate", run, data, "--against", run, "--json", "--no-references").out)
    assert tree["against"]["difference"] == 0 and tree["against"]["real"] is False


def test_what_is_saved_opens_in_transformers(run, data):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    theirs = AutoModelForSequenceClassification.from_pretrained(run).eval()
    ours = langmill.load(run)
    assert theirs.config.id2label == dict(enumerate(sorted(TOPICS)))
    texts = [json.loads(row)["text"] for row in data.read_text(encoding="utf-8").splitlines()[:6]]
    batch = AutoTokenizer.from_pretrained(run)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        chances = theirs(**batch).logits.softmax(-1)
    found = [[result.probabilities[label] for label in sorted(TOPICS)] for result in ours.predict(texts)]
    torch.testing.assert_close(torch.tensor(found), chances, rtol=1e-4, atol=1e-5)


def test_several_labels(capsys, tmp_path):
    with (tmp_path / "rows.jsonl").open("w", encoding="utf-8") as file:
        for n in range(60):
            labels = [name for name, word in (("red", n % 2), ("blue", n % 3 == 0)) if word]
            print(json.dumps({"text": " ".join(labels) + f" thing {n}", "label": labels}), file=file)
    line = CommandLine(capsys)
    said = train(line, tmp_path / "rows.jsonl", tmp_path / "run", "--steps", 60)
    assert said.status == 0
    tree = json.loads(
        line("evaluate", tmp_path / "run", tmp_path / "rows.jsonl", "--json", "--no-references").out
    )
    assert tree["interval_of"] == "f1_micro" and tree["f1_micro"] > 0.9
    held = line("predict", tmp_path / "run", "red blue thing 1", "thing 2").out.splitlines()
    assert held[0].split("\t")[0] in ("red, blue", "blue, red") and held[1].startswith("(none)")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": "a", "label": "x"}, {"text": "b"}],
            "this row has no value for 'label', which rows before it have; or leave",
        ),
        ([{"text": "a", "label": "x"}, {"text": "", "label": "x"}], "text"),
        ([{"text": f"t{n}", "label": "x"} for n in range(30)], "rows have the label 'x'"),
        ([], "nothing to learn from"),
    ],
)
def test_bad_rows_are_named(rows, message, capsys, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = train(CommandLine(capsys), path, tmp_path / "run")
    assert said.status == 2 and message in said.error
    assert not (tmp_path / "run").exists()


def test_what_a_classifier_is_not_for(capsys, tmp_path):
    line, run = CommandLine(capsys), tmp_path / "run"
    assert line("train", "classify", write_rows(tmp_path / "rows.jsonl"), "-o", run).status == 0
    for said in (line("generate", run, "--prompt", "hi"), line("chat", run, "--message", "hi")):
        assert (
            "this checkpoint is a classifier, and generates no text; ask it with `langmill predict`"
            in said.error
        )
    said = line("info", run)
    assert "tokens" not in said.out and "cache" not in said.out
    parts = [row for row in said.out.splitlines() if row.endswith("%")]
    assert len(parts) > 2 and len({len(row) for row in parts}) == 1
    assert "langmill train classify FILE" in line("train", "classify").error
    (tmp_path / "dev.conll").write_text("Bob B-PER\nslept O\n")
    assert (
        "--on-bad-row" not in line("train", "classify", tmp_path / "dev.conll", "-o", tmp_path / "new").error
    )


def test_skipped_rows_are_counted(data, capsys, tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text(data.read_text(encoding="utf-8") + '{"text": "no label"}\n', encoding="utf-8")
    said = train(CommandLine(capsys), path, tmp_path / "run", "--on-bad-row", "skip", "--steps", 1)
    assert said.status == 0 and "1 left out: missing label" in said.err and "some.jsonl:81" in said.err


def test_texts_or_files(run, capsys, tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text('{"text": "a match"}\n')
    said = CommandLine(capsys)("predict", run, "a text", "--input", path)
    assert said.status == 2 and "answer them one after the other" in said.error
    said = CommandLine(capsys)("predict", run, path)
    assert CommandLine(capsys)("predict", run, "磨坊把原始文本变成模型。" * 20).status == 0, (
        "longer than a file's name"
    )
    assert said.status == 0 and "is read as text" in said.err and f"--input {path}" in said.err
    said = CommandLine(capsys)("predict", run, " ")
    assert said.status == 0 and "a text is empty (' '); what is answered to it means nothing" in said.err


@pytest.mark.parametrize("model", ["tfidf", "lstm"])
def test_pairs_and_single_texts(model, capsys, tmp_path):
    line, single, pairs = CommandLine(capsys), tmp_path / "single.jsonl", tmp_path / "pairs.jsonl"
    write_rows(single, 40)
    pairs.write_text(
        single.read_text(encoding="utf-8").replace('"label"', '"text_pair": "b", "label"'), "utf-8"
    )
    sizes = () if model == "tfidf" else ("--steps", 2, "--model.width", 16, "--no-tensorboard")
    for data, other in ((single, pairs), (pairs, single)):
        run = tmp_path / data.stem
        assert line("train", "classify", data, "-o", run, "--model", model, *sizes).status == 0
        assert line("evaluate", run, data, "--no-references").status == 0
        for said in (line("evaluate", run, other), line("predict", run, "--input", other)):
            assert (
                f"this classifier learned {'pairs of' if data == pairs else 'single'} texts, and 'goal news"
                in (said.error)
            )
    assert (
        "'a' comes with a second one; leave out --pair"
        in line("predict", tmp_path / "single", "a", "--pair", "b").error
    )
    assert line("predict", tmp_path / "pairs", "a", "--pair", "b").status == 0
    assert "'a' stands alone; give its second text" in line("predict", tmp_path / "pairs", "a").error


def test_unknown_label_at_evaluation(run, capsys, tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text('{"text": "a", "label": "mony"}\n')
    said = CommandLine(capsys)("evaluate", run, path)
    assert said.status == 2
    assert (
        "new.jsonl:1: the label 'mony' is none of the model's: money, sport ⚽; mend or leave out the row, or train with this label too; did you mean money?"
        in said.error
    )


def test_long_and_empty_texts_are_answered(run, capsys, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps({"text": "match " * 20_000}) + "\n")
    said = CommandLine(capsys)("predict", run, "--input", path, "--json")
    assert said.status == 0 and json.loads(said.out)["cut"] > 19_000
    assert CommandLine(capsys)("predict", run, "").status == 0


def test_precision_changes_no_label(run, data, capsys):
    line = CommandLine(capsys)
    exact, fast = (line("predict", run, "--input", data, "--precision", name) for name in ("float32", "auto"))
    labels = [[json.loads(row)["predicted_label"] for row in said.out.splitlines()] for said in (exact, fast)]
    assert labels[0] == labels[1] and len(labels[0]) == 80
    model, text = langmill.load(run), json.loads(exact.out.splitlines()[0])["text"]
    assert model.predict(text, precision="auto").label == labels[0][0]
    assert model.predict(text).probability == pytest.approx(
        json.loads(exact.out.splitlines()[0])["probability"]
    )
    with pytest.raises(ConfigError, match="precision 'half'"):
        model.predict(text, precision="half")
    assert line("evaluate", run, data, "--precision", "auto", "--no-references").status == 0


def test_the_remedy_in_a_message_is_an_option(data, capsys, tmp_path):
    line = CommandLine(capsys)
    said = train(line, data, tmp_path / "run", "--label-field", "lable")
    assert "no column 'lable'; did you mean label?" in said.error and "--label-field" in said.error
    assert train(line, data, tmp_path / "run", "--label-field", "label", "--steps", 1).status == 0


def test_columns_are_remembered(data, tmp_path, command):
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    own = tmp_path / "own.csv"
    with own.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("甲", "乙"), *((row["text"], f"{row['label']};old") for row in rows)])
    run, options = tmp_path / "run", ("--text-field", "甲", "--label-field", "乙", "--separator", ";")
    said = command("train", "classify", own, "-o", run, "--model", "nbsvm", "--no-tensorboard", *options)
    assert said.status == 0, said.err
    said = command("evaluate", run, own, "--json")
    assert json.loads(said.out)["examples"] == len(rows)
    assert "run.yaml says: --text-field 甲 --label-field 乙 --separator ;" in said.err
    said = command("predict", run, "--input", own)
    assert said.status == 0 and len(said.out.splitlines()) == len(rows)
    said = command("predict", run, "--input", data)  # its columns are called otherwise
    assert said.status == 0 and len(said.out.splitlines()) == len(rows)
    assert "no column '丙'" in command("predict", run, "--input", own, "--text-field", "丙").error
