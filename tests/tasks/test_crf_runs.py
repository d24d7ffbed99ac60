"""The tagger of n-grams end to end: chosen, fitted, saved, evaluated, asked, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import langmill
from langmill.checkpoint import load_checkpoint, save_checkpoint
from langmill.checkpoint.export import check_known_elsewhere
from langmill.core.config import resolve
from langmill.core.errors import CheckpointError, ConfigError, DataError
from langmill.evaluation.anatomy import anatomy
from langmill.evaluation.checkup import describe
from langmill.models.crf import CrfTagger
from langmill.tasks.ner import Tagging, assess
from langmill.tasks.tag_dictionary import tag_by_dictionary
from langmill.tasks.taggers import choose_model
from langmill.text.labelled_entities import Span
from langmill.text.labelled_spans import TaggedExample
from langmill.training.settings import TrainSettings
from tests.small_runs import CommandLine
from tests.tasks.ner_samples import read, write_entities, write_words

TASK = Tagging()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_entities(tmp_path_factory.mktemp("data") / "entities.jsonl")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "auto"
    langmill.train("ner", str(data), output=str(folder), seed=1, tensorboard=False)
    return folder


def test_chosen_evaluated_and_asked(run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(run)
    assert isinstance(checkpoint.model, CrfTagger) and checkpoint.model.config.head.scheme == "BIOES"
    found = TASK.evaluate(checkpoint, read(write_entities(tmp_path / "fresh.jsonl", 40, seed=9)))
    assert found.figures["f1"] > 0.95 and set(found.figures["per_type"]) == {"person", "地点 📍"}
    text = "Ada met Bob in New York."
    (result,) = TASK.predict(checkpoint, [text])
    assert [(e.text, e.label) for e in result.entities] == [
        ("Ada", "person"),
        ("Bob", "person"),
        ("New York", "地点 📍"),
    ]
    assert all(0.5 < each.score <= 1 for each in result.entities)
    tokens, empty = TASK.predict(checkpoint, [["Bob", "in", "New", "York"], ""])
    assert tokens.tags == ("S-person", "O", "B-地点 📍", "E-地点 📍") and empty.entities == ()


def test_names_that_the_dictionary_has_not(data: Path, run: Path) -> None:
    examples = [
        TaggedExample(f"{name} met Ada.", (Span(0, 3, "person"), Span(8, 11, "person")))
        for name in ("Eve", "Tom")
    ]
    by_dictionary = assess(tag_by_dictionary(read(data), examples), examples)
    assert by_dictionary.figures["recall"] == 0.5
    assert TASK.evaluate(load_checkpoint(run), examples).figures["f1"] == 1


def test_files_of_tokens_are_read_as_sentences(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = "Bob O\nin O\nRome B-person\n\nAda O\nrained O\n"
    for name in ("wrong.conll", "wrong.bio", "wrong.txt"):
        (tmp_path / name).write_text(sentences)
        said = CommandLine(capsys)("predict", run, "--input", tmp_path / name)
        rows = [json.loads(line) for line in said.out.splitlines()]
        assert [row["tokens"] for row in rows] == [["Bob", "in", "Rome"], ["Ada", "rained"]], name
        assert rows[0]["predicted_tags"] == ["S-person", "O", "S-地点 📍"]
    (tmp_path / "lines.txt").write_text("Bob in Rome\n")
    assert CommandLine(capsys)("predict", run, "--input", tmp_path / "lines.txt").out.startswith(
        "Bob in Rome\n"
    )


def test_places_stand_in_a_column(run: Path) -> None:
    text = "Ada met Bob in New York."
    (found,) = TASK.predict(load_checkpoint(run), [text])
    _, *lines = found.summary(text).splitlines()
    assert [line.split()[0] for line in lines] == ["0-3", "8-11", "15-23"]
    assert len({line.index("%") for line in lines}) == 1


def test_a_long_text_is_read_whole(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    sentence = "Ada met Bob in New York. "
    (found,) = TASK.predict(checkpoint, [sentence * 60])
    assert [each.text for each in found.entities] == ["Ada", "Bob", "New York"] * 60


def test_saved_and_loaded(run: Path, tmp_path: Path) -> None:
    first = load_checkpoint(run)
    save_checkpoint(tmp_path / "again", first)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()
    assert load_checkpoint(tmp_path / "again").model.config == first.model.config
    theirs = json.loads((run / "config.json").read_text())
    assert theirs["model_type"] == "langmill_crf" and "lower@-1 lower@0" in theirs["templates"]
    assert not (run / "generation_config.json").exists()
    assert anatomy(first.model).total == sum(p.numel() for p in first.model.parameters())
    assert "9 tags" in describe(first)
    with pytest.raises(CheckpointError, match="a tagger of n-grams is a layout of langmill's own"):
        check_known_elsewhere(first)


def test_what_is_damaged_is_told(run: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, load_checkpoint(run))
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    tensors, theirs = load_file(weights), json.loads(config.read_text())
    for name, bad in (("keys", tensors["keys"].flip(0)), ("kinds", tensors["kinds"] + 9)):
        save_file(tensors | {name: bad}, weights)
        with pytest.raises(CheckpointError, match="the keys of its features are damaged"):
            load_checkpoint(tmp_path)
    for key, value, message in (
        ("templates", "lower@0", "it must be a list of texts"),
        ("templates", ["taste@0"], "template 'taste@0' is not known"),
        ("features", -1, "features -1 are sizes"),
    ):
        config.write_text(json.dumps(theirs | {key: value}))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path)


def test_refused(run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = CommandLine(capsys)
    said = command("train", "ner", data, "--from", run, "-o", tmp_path / "new")
    assert said.status == 2 and "a tagger of n-grams is fitted in one go" in said.error
    said = command("train", "ner", data, "--model", "crf", "--epochs", "3", "-o", tmp_path / "new")
    assert said.status == 2 and "--model crf: --epochs has no effect" in said.error
    said = command("train", "ner", data, "--model", "crf", "--labels.crf", "no", "-o", tmp_path / "new")
    assert said.status == 2 and "leave out --labels.crf no" in said.error
    said = command("doctor", run)
    assert said.status == 0 and "nothing wrong was found" in said.out
    with pytest.raises(DataError, match="the label 'animal' is none of the model's"):
        TASK.evaluate(load_checkpoint(run), [TaggedExample("a cat", (Span(2, 5, "animal"),))])


def test_the_model_that_is_chosen() -> None:
    def chosen(**settings: object) -> TrainSettings:
        return choose_model(resolve(TrainSettings, settings))

    assert chosen(seed=3).model.family == chosen(labels={"crf": "yes"}).model.family == "crf"
    assert chosen(labels={"crf": "no"}).model.family == chosen(epochs=3).model.family == "lstm"
    named, auto = chosen(model={"family": "lstm"}), chosen(epochs=3)
    assert named.model == auto.model and (named.batch, named.labels.crf) == (32, "yes")
    assert named.tokenizer == "char" and named.model.dropout == 0.4
    assert chosen(model={"family": "lstm"}, labels={"crf": "no"}).labels.crf == "no"
    with pytest.raises(ConfigError, match="leave out --labels.crf no"):
        chosen(model={"family": "crf"}, labels={"crf": "no"})


def test_words_and_schemes(data: Path, tmp_path: Path) -> None:
    path = write_words(tmp_path / "words.txt")
    langmill.train("ner", str(path), output=str(tmp_path / "words"), seed=1, tensorboard=False)
    checkpoint = load_checkpoint(tmp_path / "words")
    assert checkpoint.model.config.head.labels == ("B", "M", "E", "S")
    assert TASK.predict(checkpoint, ["我们爱北京天安门"])[0].words == ("我们", "爱", "北京", "天安门")
    folder = tmp_path / "bio"
    langmill.train(
        "ner",
        str(data),
        output=str(folder),
        labels={"scheme": "BIO"},
        model={"family": "crf"},
        tensorboard=False,
    )
    transitions = load_checkpoint(folder).model.transitions
    assert len(transitions) == 6 and torch.isfinite(transitions).all()
