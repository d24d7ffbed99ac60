"""`train qa`: a model that learns, what it says, and its files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import CommandLine

import langmill
from langmill.checkpoint import load_checkpoint, save_checkpoint
from langmill.core.errors import ConfigError, DataError
from langmill.metrics.answers import score_answer
from langmill.tasks.labelled import hold_out
from langmill.tasks.qa import QuestionAnswering
from langmill.tasks.qa_answers import THRESHOLD, answer_of, assess_answers, best_threshold
from langmill.tasks.qa_windows import Candidates, cut_windows
from langmill.text.documents import ReadReport
from langmill.training.settings import DataSettings
from tests.tasks.question_samples import HARD, example, numbers, write_squad

SETTINGS = {
    "tokenizer": "char",
    "device": "cpu",
    "tensorboard": False,
    "batch": 32,
    "model": {"layers": 2, "width": 32, "context": 80},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    write_squad(folder / "train.json", numbers(320, impossible=80))
    write_squad(folder / "dev.json", numbers(60, impossible=20, seed=1))
    write_squad(folder / "answerable.json", numbers(64, seed=2))
    return folder


@pytest.fixture(scope="module")
def run(data) -> Path:
    """Return a run that has learned to find the number of a text, or that there is none."""
    result = langmill.train(
        "qa",
        str(data / "train.json"),
        held_out_data=[str(data / "dev.json")],
        output=str(data / "run"),
        steps=120,
        precision="float32",  # in which `outputs` scores too: thresholds are compared
        **SETTINGS,
    )
    assert list(result.metrics)[:2] == ["f1", "exact_match"]
    return Path(result.folder)


@pytest.fixture(scope="module")
def model(run):
    return langmill.load(run)


def test_it_learns(run, data, capsys):
    said = CommandLine(capsys)("evaluate", run, data / "dev.json", "--json")
    found = json.loads(said.out)
    assert found["task"] == "qa" and found["examples"] == 60 and found["interval_of"] == "f1"
    assert found["f1"] > 0.9 and found["exact_match"] > 0.9
    parts = found["by_kind"]
    assert parts["has answer"]["questions"] == 40 and parts["no answer"]["questions"] == 20
    for name in ("f1", "exact_match"):
        both = (40 * parts["has answer"][name] + 20 * parts["no answer"][name]) / 60
        assert found[name] == pytest.approx(both)


def test_answers(model):
    context = "the mill 磨坊 👍 turns 47 models"
    with_number, without = model.predict(
        [("how many?", context), ("多少？", "the mill turns raw text into models")]
    )
    assert with_number.text == "47" == context[with_number.begin : with_number.end]
    assert with_number.alternatives[0].text == "47" and with_number.probability > 0.5
    assert without.text == "" and (without.begin, without.end) == (0, 0)
    assert without.alternatives[0].text == "" and without.probability == without.alternatives[0].probability
    assert with_number.columns() == {
        "predicted_answer": "47",
        "predicted_begin": with_number.begin,
        "predicted_end": with_number.end,
        "probability": round(with_number.probability, 6),
    }


def test_every_candidate_is_a_piece_of_the_context(model):
    (found,) = model.predict([("how many?", HARD * 5)])
    assert len(found.alternatives) == 5
    for each in found.alternatives:
        assert (HARD * 5)[each.begin : each.end] == each.text


def test_other_texts_beside_it_change_nothing(model):
    asked = [(question, context) for question, context, _ in numbers(12, seed=3)]
    asked[3] = asked[3][0], asked[3][1] * 20
    together = model.predict(asked)
    alone = [model.predict([each])[0] for each in asked]
    assert [each.text for each in together] == [each.text for each in alone]
    assert [each.begin for each in together] == [each.begin for each in alone]
    chances = ([each.probability for each in found] for found in (together, alone))
    assert np.allclose(*chances, atol=1e-5)


def test_an_answer_far_behind(model):
    context = "the mill 磨坊 👍 turns 47 models"
    (found,) = model.predict([("how many?", context)])
    assert "47" in [each.text for each in found.alternatives]


def test_the_command_line(run, capsys):
    line = CommandLine(capsys)
    answer, chance, question = line("predict", run, "how many?", "--pair", "turns 47 models").out.split("\t")
    assert (answer, question.strip()) == ("47", "how many?") and 0.5 < float(chance) <= 1
    assert line("predict", run, "how many?", "--pair", "the mill").out.startswith("(no answer)\t")
    row = json.loads(line("predict", run, "how many?", "--pair", "turns 47 models", "--json").out)
    assert row["input"] == ["how many?", "turns 47 models"]
    assert (row["text"], row["begin"], row["end"]) == ("47", 6, 8)
    assert "'how many?' has no context" in line("predict", run, "how many?").error


def test_rows_of_files(run, tmp_path, capsys):
    rows = [{"id": number, "query": "how many?", "passage": f"turns {number} mills"} for number in (47, 12)]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = CommandLine(capsys)("predict", run, "--input", source, "-o", tmp_path / "out.jsonl")
    assert said.status == 0, said.err
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in rows[0]} for row in out] == rows
    assert [(row["predicted_answer"], row["predicted_begin"], row["predicted_end"]) for row in out] == [
        ("47", 6, 8),
        ("12", 6, 8),
    ]


def test_baselines_stand_beside_it(run, data, capsys):
    found = json.loads(CommandLine(capsys)("evaluate", run, data / "dev.json", "--json").out)
    assert found["baseline"]["TF-IDF window"]["f1"] < found["f1"]


def test_the_threshold_goes_with_the_model(run, model, data, tmp_path):
    stored = json.loads((run / "config.json").read_text())["langmill_null_threshold"]
    task = QuestionAnswering()
    examples = list(task.read([str(data / "dev.json")], DataSettings(), ReadReport()))
    wanted = best_threshold(task.outputs(model.checkpoint, examples), examples)
    assert model.checkpoint.decisions == {THRESHOLD: stored}
    assert stored == pytest.approx(wanted, abs=1e-4)
    save_checkpoint(tmp_path, model.checkpoint)
    assert load_checkpoint(tmp_path).decisions == {THRESHOLD: stored}
    always = replace(model.checkpoint, decisions={})
    (found,) = task.predict(always, [("how many?", "the mill turns raw text")])
    assert found.text and all(each.text for each in found.alternatives)


def test_it_opens_in_transformers(run, model):
    transformers = pytest.importorskip("transformers")
    folder = run.parent / "bert"
    if not folder.exists():
        settings = {**SETTINGS, "model": {**SETTINGS["model"], "family": "bert"}}
        langmill.train("qa", str(run.parent / "answerable.json"), output=str(folder), steps=2, **settings)
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    read = transformers.AutoTokenizer.from_pretrained(folder)
    opened = load_checkpoint(folder)
    assert opened.decisions == {}, "all questions have answers"
    asked = example("how many?", "the 磨坊 turns 47 models")
    (row,) = cut_windows([asked], opened.tokenizer, limit=80, segments=True).rows
    given = read(asked.question, asked.context, return_tensors="pt")
    assert given["input_ids"][0].tolist() == row.ids.tolist()
    assert given["token_type_ids"][0].tolist() == row.segments.tolist()
    with torch.no_grad():
        out = theirs(**given)
        ours = opened.model(given["input_ids"], segments=given["token_type_ids"])
    assert torch.allclose(ours, torch.stack([out.start_logits, out.end_logits], -1), atol=1e-5)


def test_an_adapter_keeps_its_threshold(run, data, tmp_path):
    settings = {key: value for key, value in SETTINGS.items() if key not in ("tokenizer", "model")}
    result = langmill.train(
        "qa",
        str(data / "train.json"),
        held_out_data=[str(data / "dev.json")],
        output=str(tmp_path / "adapter"),
        from_checkpoint=str(run),
        adapter={"rank": 2},
        steps=2,
        **settings,
    )
    own = json.loads((tmp_path / "adapter" / "head_config.json").read_text())["langmill_null_threshold"]
    opened = load_checkpoint(result.folder)
    assert opened.decisions == {THRESHOLD: own}
    save_checkpoint(tmp_path / "merged", opened)
    assert load_checkpoint(tmp_path / "merged").decisions == {THRESHOLD: own}


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_networks(data, tmp_path, kind):
    settings = {**SETTINGS, "model": {"family": kind, "layers": 1, "width": 32, "context": 80}}
    output = tmp_path / kind
    langmill.train("qa", str(data / "answerable.json"), output=str(output), steps=2, **settings)
    (found,) = langmill.load(output).predict([("how many?", "turns 47 models")])
    assert found.text in "turns 47 models"


def test_decoders_go_on_learning(data, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the mill turns 47 models 磨坊 多少？ how many?\n" * 50, encoding="utf-8")
    langmill.train("lm", str(text), output=str(tmp_path / "lm"), steps=1, **{**SETTINGS, "batch": 4})
    rest = {key: value for key, value in SETTINGS.items() if key not in ("tokenizer", "model")}
    output = tmp_path / "qa"
    source = str(tmp_path / "lm")
    langmill.train(
        "qa", str(data / "answerable.json"), output=str(output), from_checkpoint=source, steps=2, **rest
    )
    assert langmill.load(output).predict([("how many?", "turns 47 models")])[0].text in "turns 47 models"


def test_mistakes(data, tmp_path):
    write_squad(tmp_path / "none.json", numbers(20, impossible=20))
    with pytest.raises(DataError, match="no question has an answer"):
        langmill.train("qa", str(tmp_path / "none.json"), output=str(tmp_path / "run"), steps=1, **SETTINGS)
    small = {**SETTINGS, "model": {**SETTINGS["model"], "context": 12}}
    with pytest.raises(ConfigError, match="--model.context 12"):
        langmill.train("qa", str(data / "answerable.json"), output=str(tmp_path / "run"), steps=1, **small)


# ------------------------------------------------------------------------------------------------
# Parts


def test_a_context_is_held_out_with_all_its_questions():
    asked = [example(f"question {number}?", f"context {number // 4}") for number in range(400)]
    train, held_out = hold_out(asked, QuestionAnswering(), share=0.1, seed=0)
    contexts = [{each.context for each in part} for part in (train, held_out)]
    assert len(train) + len(held_out) == 400 and not contexts[0] & contexts[1]


def test_the_threshold_decides():
    found = Candidates({(0, 2): 3.0, (3, 5): 1.0}, 4.0)
    assert answer_of(found, "ab cd", 0.9).text == "" and answer_of(found, "ab cd", 1.0).text == "ab"
    sure = answer_of(found, "ab cd", math.inf)
    assert sure.probability == pytest.approx(math.exp(3) / (math.exp(3) + math.exp(1)))
    assert [each.text for each in sure.alternatives] == ["ab", "cd"]
    total = math.exp(3) + math.exp(1) + math.exp(4)
    assert answer_of(found, "ab cd", 1.0).probability == pytest.approx(math.exp(3) / total)
    assert answer_of(found, "ab cd", 0.9).probability == pytest.approx(math.exp(4) / total)
    assert [each.text for each in answer_of(found, "ab cd", 0.9).alternatives] == ["", "ab", "cd"]
    assert answer_of(Candidates({}, -1.0), " ", math.inf).text == ""


def test_the_best_threshold():
    asked = [example("a?", "x 1", "1"), example("b?", "x 1", "1"), example("c?", "x 1", impossible=True)]
    found = [Candidates({(2, 3): 0.0}, odds) for odds in (-2.0, 0.5, 3.0)]
    assert best_threshold(found, asked) == 0.5


def test_answers_are_scored_in_the_language_of_the_question():
    asked = [
        example("Who?", "the Ann Lee", "the Ann Lee"),
        example("谁？", "在北京大学", "北京大学"),
        example("Why?", "x", impossible=True),
    ]
    said = ["Ann Lee", "在北京大学", ""]
    found = assess_answers(said, asked)
    f1 = [1.0, score_answer("在北京大学", ["北京大学"], chinese=True)[1], 1.0]
    assert found.figures["exact_match"] == pytest.approx(2 / 3)
    assert found.figures["f1"] == pytest.approx(np.mean(f1)) and found.main == "f1"
    assert found.score(np.array([1, 1, 2])) == pytest.approx(np.mean([f1[1], f1[1], 1]))
    assert found.right.tolist() == [True, False, True]
    assert found.figures["by_kind"]["no answer"] == {"exact_match": 1.0, "f1": 1.0, "questions": 1}
    assert "by_kind" not in assess_answers(said[:2], asked[:2]).figures


def test_score_of_results():
    task = QuestionAnswering()
    results = [answer_of(Candidates({(0, 3): 1.0}, 0.0), text, math.inf) for text in ("Ann", "Lee")]
    assert task.score(results, [["Ann"], ["Bob"]]) == {"exact_match": 0.5, "f1": 0.5}
    with pytest.raises(DataError, match="2 results and 1 references"):
        task.score(results, [["Ann"]])
