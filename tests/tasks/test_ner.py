"""Tagging end to end: training, answers with offsets, figures, files that Transformers opens."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import langmill
from langmill.checkpoint import load_checkpoint
from langmill.checkpoint.heads import put_head
from langmill.core.config import resolve
from langmill.core.errors import ConfigError, DataError
from langmill.models.heads import HeadConfig
from langmill.tasks.labelled import Encoded
from langmill.tasks.ner import Entity, Tagged, Tagging, assess, model_segmenter, words_of
from langmill.tasks.tag_dictionary import tag_by_dictionary
from langmill.tasks.taggers import choose_model
from langmill.text.labelled_entities import Span
from langmill.text.labelled_spans import TaggedExample
from langmill.training.optimizers import is_matrix
from langmill.training.settings import TrainSettings
from tests.small_runs import CommandLine
from tests.tasks.ner_samples import TINY, read, train, write_entities, write_words

TASK = Tagging()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_entities(tmp_path_factory.mktemp("data") / "entities.jsonl")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ner"
    train(data, folder)
    return folder


@pytest.fixture(scope="module")
def crf_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "crf"
    train(data, folder, labels={"crf": "yes"}, tokenizer="char", model={**TINY, "family": "lstm", "heads": 0})
    return folder


@pytest.mark.parametrize("name", ["run", "crf_run"])
def test_trained_evaluated_and_asked(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(request.getfixturevalue(name))
    fresh = read(write_entities(tmp_path / "fresh.jsonl", 40, seed=9))
    found = TASK.evaluate(checkpoint, fresh)
    assert found.figures["f1"] > 0.95 and found.main == "f1"
    assert set(found.figures["per_type"]) == {"person", "地点 📍"}
    assert set(found.figures["per_type"]["person"]) == {"precision", "recall", "f1", "support"}
    text = "Ada met Bob in New York."
    (result,) = TASK.predict(checkpoint, [text])
    assert [(e.text, e.label) for e in result.entities] == [
        ("Ada", "person"),
        ("Bob", "person"),
        ("New York", "地点 📍"),
    ]
    assert all(text[e.begin : e.end] == e.text and 0.5 < e.score <= 1 for e in result.entities)


def test_figures_of_training_are_those_of_evaluation(run: Path, data: Path) -> None:
    checkpoint, examples = load_checkpoint(run), read(data)
    head = checkpoint.model.config.head
    assert checkpoint.tokenizer is not None
    encoded = TASK.encode(examples, checkpoint.tokenizer, head, limit=512, segments=False)
    with torch.no_grad():
        rows = [checkpoint.model(torch.tensor(row.ids)[None].long())[0].numpy() for row in encoded.rows]
    figures = TASK.figures(rows, examples, encoded, checkpoint.model)
    wanted = TASK.evaluate(checkpoint, examples).figures
    assert figures == {name: wanted[name] for name in ("f1", "precision", "recall")}
    assert next(iter(figures)) == "f1"


def test_given_tokens_come_back_with_a_tag_each(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    tokens = ["Ada", "met", "Bob", "in", "New", "York", "."]
    (result,) = TASK.predict(checkpoint, [tokens])
    place = "地点 📍"
    assert result.text == "Ada met Bob in New York ."
    assert list(result.tags) == ["B-person", "O", "B-person", "O", f"B-{place}", f"I-{place}", "O"]
    assert result.columns()["predicted_tags"] == list(result.tags)
    with pytest.raises(DataError, match="one text at a time"):
        TASK.predict(checkpoint, [("a", "b")])


def test_long_texts_are_read_to_the_end(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    text = "Ada met Bob in New York. " * 4000
    assert len(text) == 100_000
    (result,) = TASK.predict(checkpoint, [text])
    assert len(result.entities) == 12_000
    assert {e.begin % 25 for e in result.entities} == {0, 8, 15}


@pytest.mark.parametrize(
    "text", ["", " \n ", "👩‍👩‍👧", "\u200b\u200d", "e\u0301\ufffd", "<|endoftext|>", "Ada" * 3000]
)
def test_strange_texts(run: Path, crf_run: Path, text: str) -> None:
    for folder in (run, crf_run):
        (result, other) = TASK.predict(load_checkpoint(folder), [text, "Ada met Bob in Rome."])
        assert result.text == text and len(other.entities) == 3
        assert all(text[e.begin : e.end] == e.text for e in result.entities)


def test_no_texts_and_no_tokens(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    assert TASK.predict(checkpoint, []) == []
    assert TASK.predict(checkpoint, [[]]) == [Tagged("", ())]


def test_labels_that_the_model_does_not_know(run: Path) -> None:
    example = TaggedExample("Ada", (Span(0, 3, "persons"),), (), True, "x.jsonl:3")
    with pytest.raises(
        DataError, match=r"x.jsonl:3: the label 'persons' is none of the model's.*did you mean person"
    ):
        TASK.evaluate(load_checkpoint(run), [example])


def test_spans_inside_tokens_are_counted_and_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = load_checkpoint(run)
    assert checkpoint.tokenizer is not None
    examples = [
        TaggedExample("Ada sang", (Span(1, 3, "person"), Span(4, 8, "person")), (), True, "x.jsonl:1"),
        TaggedExample("in Rome ", (Span(3, 8, "person"),), (), True, "x.jsonl:2"),
    ]
    encoded = TASK.encode(
        examples, checkpoint.tokenizer, checkpoint.model.config.head, limit=64, segments=False
    )
    said = capsys.readouterr().err
    assert "2 spans of 3 begin or end inside a word or token, or at a space" in said
    assert "the first is 'da' (x.jsonl:1)" in said
    begins = checkpoint.model.config.head.labels.index("B-person")
    assert [int((row.target == begins).sum()) for row in encoded.rows] == [2, 1]


def test_opens_in_transformers_with_equal_scores(run: Path, tmp_path: Path, data: Path) -> None:
    transformers = pytest.importorskip("transformers")
    train(data, tmp_path / "bert", tokenizer="wordpiece", model={**TINY, "family": "bert"}, steps=3)
    for folder in (run, tmp_path / "bert"):
        ours = load_checkpoint(folder)
        theirs = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
        assert tuple(theirs.config.id2label.values()) == ours.model.config.head.labels
        read_by = transformers.AutoTokenizer.from_pretrained(folder)(
            "Ada met 王明 in Rome.", return_tensors="pt"
        )
        with torch.no_grad():
            wanted = theirs(input_ids=read_by["input_ids"]).logits
            assert torch.allclose(ours.model(read_by["input_ids"]), wanted, atol=1e-5)


def test_a_crf_is_kept_and_transformers_opens_the_rest(data: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    train(data, tmp_path / "crf", labels={"crf": "yes"}, steps=10)
    ours = load_checkpoint(tmp_path / "crf")
    assert ours.model.config.head.crf and ours.model.transitions.abs().max() > 0
    theirs, notes = transformers.AutoModelForTokenClassification.from_pretrained(
        tmp_path / "crf", output_loading_info=True
    )
    assert set(notes["unexpected_keys"]) == {"crf.transitions"} and not notes["missing_keys"]
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.allclose(theirs.eval()(input_ids=ids).logits, ours.model(ids), atol=1e-5)


def test_a_tagger_goes_on_from_an_encoder_and_by_adapters(data: Path, run: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(example.text for example in read(data)), encoding="utf-8")
    tiny = {**TINY, "context": 16}
    langmill.train(
        "mlm", str(text), output=str(tmp_path / "mlm"), model=tiny, steps=4, batch=4, tensorboard=False
    )
    result = train(
        data, tmp_path / "full", from_checkpoint=str(tmp_path / "mlm"), model={}, steps=60, vocabulary=0
    )
    assert load_checkpoint(tmp_path / "full").model.config.head.kind == "tokens" and result.steps == 60
    for crf in ("no", "yes"):
        folder = tmp_path / f"lora-{crf}"
        train(
            data,
            folder,
            from_checkpoint=str(run),
            model={},
            steps=3,
            vocabulary=0,
            adapter={"rank": 2},
            labels={"crf": crf},
        )
        assert not (folder / "model.safetensors").exists()
        checkpoint = load_checkpoint(folder)
        assert checkpoint.model.config.head.crf == (crf == "yes")
        assert (
            TASK.evaluate(checkpoint, read(data)).figures["f1"] > 0.8
        )  # the head of the same labels is kept


def test_a_head_for_the_same_tags_keeps_what_is_known(crf_run: Path) -> None:
    old = load_checkpoint(crf_run)
    head = old.model.config.head
    tags = head.labels[::-1]
    new = put_head(old, dataclasses.replace(head, labels=tags), torch.Generator().manual_seed(0)).model
    one, other = head.labels.index("O"), head.labels.index("B-person")
    learned = old.model.transitions[one, other]
    assert learned != 0 and new.transitions[tags.index("O"), tags.index("B-person")] == learned
    assert torch.equal(new.transitions[-1, :-1], old.model.transitions[-1, :-1].flip(0))
    assert torch.equal(new.output.weight, old.model.output.weight.flip(0))
    plain = put_head(old, dataclasses.replace(head, crf=False), torch.Generator().manual_seed(0)).model
    assert plain.transitions is None and torch.equal(plain.output.weight, old.model.output.weight)


def test_words_are_found_and_a_model_of_them_segments(tmp_path: Path, capsys) -> None:
    data = write_words(tmp_path / "words.txt")
    train(data, tmp_path / "words", tokenizer="char")
    checkpoint = load_checkpoint(tmp_path / "words")
    assert checkpoint.model.config.head.labels == ("B", "M", "E", "S")
    assert checkpoint.model.config.head.scheme == "BMES"
    (result,) = TASK.predict(checkpoint, ["我们去看电影，爱 北京"])
    assert result.words == ("我们", "去", "看电影", "，", "爱", "北京")
    assert result.summary("…") == "我们 去 看电影 ， 爱 北京"
    segment = model_segmenter(checkpoint)
    assert segment("我们爱天安门") == ["我们", "爱", "天安门"]
    assert "".join(segment(" 我 们，\n")) == " 我 们，\n" and segment("") == []
    (tmp_path / "text.txt").write_text("我们爱天安门。A mill.\n北京，我们去看电影\n", encoding="utf-8")
    given = [
        "data",
        "words",
        tmp_path / "text.txt",
        "-o",
        tmp_path / "out.txt",
        "--segmenter",
        tmp_path / "words",
    ]
    line = CommandLine(capsys)
    assert line(*given).status == 0
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["我们 爱 天安门", "a mill", "北京 我们 去 看电影"]
    assert "--dictionary" in line(*given, "--overwrite", "--tags").error


def test_only_models_that_find_words_segment(run: Path) -> None:
    with pytest.raises(ConfigError, match="words are found by a model that was trained to"):
        model_segmenter(load_checkpoint(run))


def test_parts_of_speech(tmp_path: Path) -> None:
    path = tmp_path / "pos.conll"
    path.write_text("The\tDET\nmills\tNOUN\nturn\tVERB\n\n" * 60 + "It\tPRON\nis\tVERB\n\n", encoding="utf-8")
    examples = read(path)
    head = TASK.head(examples, TrainSettings())
    assert head.labels == tuple(f"{mark}-{name}" for name in ("DET", "NOUN", "PRON", "VERB") for mark in "BI")


def test_evaluate_reads_columns_as_train_does(tmp_path: Path, capsys) -> None:
    path = tmp_path / "rows.conll"
    path.write_text("Ada\tB-P\tx\nsang\tO\ty\n\n" * 30, encoding="utf-8")
    train(path, tmp_path / "run", held_out_data=str(path), steps=40, **{"data.tag_column": 2})
    said = CommandLine(capsys)(
        "evaluate", tmp_path / "run", path, "--tag-column", 2, "--no-references", "--json"
    )
    assert json.loads(said.out)["f1"] == 1 and list(json.loads(said.out)["per_type"]) == ["P"]


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        ("Ada\tB-P\nLee\tE-P\nsang\tO\n\nBob\tS-P\n\n", "BIOES"),
        ("Ada\tB-P\nM\tM-P\nLee\tE-P\nsang\tO\n\n", "BMES"),
        ("Ada\tI-P\nLee\tI-P\nsang\tO\n\n", "BIO"),
        ("Ada\tB-P\nLee\tI-P\nsang\tO\n\n", "BIO"),
    ],
)
def test_the_scheme_is_that_of_the_data(rows: str, scheme: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_text(rows, encoding="utf-8")
    head = TASK.head(read(path), TrainSettings())
    assert head.scheme == scheme and head.labels[0] == "O"
    asked = TrainSettings().model_copy(
        update={"labels": TrainSettings().labels.model_copy(update={"scheme": "BIOES"})}
    )
    assert TASK.head(read(path), asked).labels == ("O", "B-P", "I-P", "E-P", "S-P")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"several": "yes"}, "--labels.several has no effect on ner"),
        ({"weights": "balanced"}, "--labels.weights has no effect on ner"),
        ({"crf": "yes", "focus": 2}, "--labels.crf yes scores whole texts"),
    ],
)
def test_settings_without_effect(labels: dict[str, object], message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train(data, tmp_path / "run", labels=labels)


def test_the_model_that_is_trained_where_none_is_asked_for(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "auto", model={}, vocabulary=0, steps=2, batch=0)
    checkpoint = load_checkpoint(tmp_path / "auto")
    config = checkpoint.model.config
    assert checkpoint.tokenizer is not None and checkpoint.tokenizer.kind == "char"
    assert (
        config.body.kind == "lstm" and (config.body.layers, config.body.width) == (1, 128) and config.head.crf
    )


def test_what_is_asked_for_is_not_chosen_otherwise() -> None:
    asked = resolve(TrainSettings, {"model": {"width": 64}, "labels": {"focus": 2.0}, "batch": 8})
    found = choose_model(asked)
    assert (found.model.family, found.model.width, found.batch, found.labels.crf) == ("lstm", 64, 8, "auto")
    for named in ({"model": {"family": "bert"}}, {"from_checkpoint": "x"}):
        settings = resolve(TrainSettings, named)
        assert choose_model(settings) is settings


def test_nothing_to_find(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text("".join(f'{{"text": "text {n}", "entities": []}}\n' for n in range(20)), encoding="utf-8")
    with pytest.raises(DataError, match="no text has a span with a label"):
        train(path, tmp_path / "run")


def test_figures_by_hand() -> None:
    examples = [TaggedExample("abcdef", (Span(0, 2, "A"), Span(3, 5, "B"))), TaggedExample("x", ())]
    found = assess([[(0, 2, "A"), (3, 6, "B")], []], examples)
    assert found.figures["f1"] == found.figures["precision"] == found.figures["recall"] == 0.5
    assert found.right.tolist() == [False, True]
    assert found.score(torch.tensor([0, 0]).numpy()) == 0.5
    results = [Tagged("abcdef", (Entity("ab", "A", 0, 2, 1.0),)), Tagged("x", ())]
    scored = TASK.score(results, [[(0, 2, "A"), (3, 5, "B")], []])
    assert (scored["precision"], scored["recall"]) == (1.0, 0.5)
    with pytest.raises(DataError, match="2 results and 1 references"):
        TASK.score(results, [[]])


def test_words_of_a_text_with_gaps() -> None:
    entities = [Entity("ab", "_", 0, 2, 1.0), Entity("d", "_", 4, 5, 1.0)]
    assert words_of("ab c d efg", [entities[0]]) == ["ab", "c", "d", "efg"]


def test_dictionary_of_spans() -> None:
    def example(text: str, *spans: Span) -> TaggedExample:
        return TaggedExample(text, spans, (), True)

    learned = [
        example("Ada met Bob", Span(0, 3, "P"), Span(8, 11, "P")),
        example("New York is far", Span(0, 8, "L")),
        example("Will sang", Span(0, 4, "P")),
        example("Will he? Will it?"),
    ]
    found = tag_by_dictionary(
        learned, [example("Ada and Will saw New York", Span(0, 3, "P"), Span(17, 25, "L"))]
    )
    assert found == [[(0, 3, "P"), (17, 25, "L")]]  # Will is a name in one place of three
    words = [example("我们爱", Span(0, 2, "_"), Span(2, 3, "_"))]
    cut = tag_by_dictionary(words, [example("我们去", Span(0, 2, "_"), Span(2, 3, "_"))])
    assert cut == [[(0, 2, "_"), (2, 3, "_")]]  # what is not known is a word by itself


def test_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    langmill_command = CommandLine(capsys)
    said = langmill_command("predict", run, "Ada met Bob in Rome.")
    assert "15-19" in said.out and "地点 📍" in said.out and "Rome" in said.out
    said = langmill_command("predict", run, "Ada met Bob in Rome.", "--json")
    (row,) = [json.loads(line) for line in said.out.splitlines()]
    assert row["entities"][2] == {**row["entities"][2], "text": "Rome", "begin": 15, "end": 19}
    fresh = write_entities(tmp_path / "fresh.jsonl", 40, seed=9)
    tree = json.loads(langmill_command("evaluate", run, fresh, "--json", "--no-references").out)
    assert {"precision", "recall", "f1", "per_type", "examples", "interval"} <= tree.keys()
    assert tree["examples"] == 40 and tree["interval"][0] <= tree["f1"] <= tree["interval"][1]


def test_rows_keep_where_their_tags_stand(run: Path, data: Path) -> None:
    checkpoint = load_checkpoint(run)
    assert checkpoint.tokenizer is not None
    encoded = TASK.encode(
        read(data)[:3], checkpoint.tokenizer, checkpoint.model.config.head, limit=512, segments=False
    )
    assert isinstance(encoded, Encoded) and len(encoded.windows) == len(encoded.rows) == 3
    assert dataclasses.replace(encoded, rows=encoded.rows[:1]).places is encoded.places


def test_tags_and_a_crf_are_for_tokens() -> None:
    for wrong in ({"crf": True}, {"scheme": "BIO"}):
        with pytest.raises(ConfigError, match="tags and a CRF are for tokens, not for a head of kind 'text'"):
            HeadConfig(kind="text", labels=("a", "b"), **wrong)


def test_transitions_are_not_moved_as_matrices_of_layers_are(crf_run: Path) -> None:
    model = load_checkpoint(crf_run).model
    assert not is_matrix("transitions", model.transitions, model)
    assert is_matrix("body.encoder.layers.0.forwards.weight_input", torch.zeros(2, 2), model)
