"""A language model asked for labels: prompts, the examples in them, calibration, figures."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from evaluation_samples import make_model

from langmill.checkpoint import Checkpoint, load_checkpoint, put_head, save_checkpoint
from langmill.cli.main import main
from langmill.core.errors import ConfigError, DataError
from langmill.evaluation.few_shot import (
    CONTENT_FREE,
    FewShotSettings,
    calibrated,
    context_of,
    draw_shots,
    evaluate_few_shot,
    label_scores,
)
from langmill.evaluation.prompts import PROMPTS, Prompt, choose_prompt, read_label_words, spell_labels
from langmill.models.heads import HeadConfig
from langmill.text.labelled import ClassExample
from langmill.tokens import train_tokenizer

LABELS = ("bad", "good")
TEMPLATE = "Text: {text}\nLabel: {label}"


def rows(count: int, *, first: int = 0) -> list[ClassExample]:
    """Return examples, one in four of them bad."""
    return [ClassExample(f"film {first + n}", (LABELS[n % 4 > 0],), source=f"f:{n}") for n in range(count)]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    letters = " ".join(PROMPTS[task][language].template for task in PROMPTS for language in ("en", "zh"))
    tokenizer = train_tokenizer(
        [letters + "film 0123456789 good bad fine poor N/A [MASK] negative positive 好坏正负面"], kind="char"
    )
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
    model = make_model(tokenizer.vocabulary_size, context=256, seed=3)
    return Checkpoint(model, tokenizer)


def by_hand(
    checkpoint: Checkpoint, context: str, words: tuple[str, ...], *, mean: bool = False
) -> np.ndarray:
    """Return the log-probability of each word after a context, by a forward pass each; a character is a token."""
    found = []
    stem = context.rstrip()
    for word in words:
        ids = checkpoint.tokenizer.encode(context + word)
        with torch.no_grad():
            logs = torch.log_softmax(
                checkpoint.model.score(checkpoint.model.decode(torch.tensor([ids])))[0], -1
            )
        picked = [float(logs[at - 1, ids[at]]) for at in range(len(stem), len(ids))]
        found.append(np.mean(picked) if mean else np.sum(picked))
    return np.array(found)


@pytest.mark.parametrize(
    ("shots", "normalise", "chat"), [(0, False, False), (3, False, False), (2, True, True)]
)
def test_answers_are_the_likeliest_labels(checkpoint, shots, normalise, chat):
    settings = FewShotSettings(shots=shots, template=TEMPLATE, normalise=normalise, chat=chat, calibrate=True)
    examples, train = rows(24), rows(12, first=50)
    result = evaluate_few_shot(checkpoint, "m", examples, train, settings)
    drawn, left, _ = draw_shots(examples, train, shots, 0)
    assert left == examples
    turns = [(f"Text: {shot.text}\nLabel: ", shot.labels[0]) for shot in drawn]

    def scores(text: str) -> np.ndarray:
        context = context_of(turns, f"Text: {text}\nLabel: ", checkpoint.tokenizer if chat else None)
        return by_hand(checkpoint, context, LABELS, mean=normalise)

    plain = np.array([scores(example.text) for example in examples])
    neutral = np.exp([scores(text) for text in CONTENT_FREE])
    mean = (neutral / neutral.sum(1, keepdims=True)).mean(0)
    truth = np.array([LABELS.index(example.labels[0]) for example in examples])
    baseline, found = result.baselines[0], result.assessment
    assert baseline.name == "not calibrated"
    assert baseline.figures["accuracy"] == (plain.argmax(1) == truth).mean()
    assert found.right.tolist() == ((np.exp(plain) / mean).argmax(1) == truth).tolist()
    assert result.examples == 24 and result.interval is not None
    tree = result.to_dict()
    assert {"accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro", "per_class", "ece"} <= set(
        tree
    )
    assert ("in the chat template" in tree["notes"][0]) == chat
    if not shots:
        assert "no examples (zero-shot)" in tree["notes"][0]


def test_calibration_by_hand():
    # After nothing "a" has 0.9 and 0.7, so 0.8: 0.75 of it is less than expected, 0.25 of "b" more than 0.2.
    neutral = np.log([[0.9, 0.1], [0.07, 0.03]])
    assert np.exp(calibrated(np.log([[0.75, 0.25]]), neutral)) == pytest.approx(
        np.array([[0.75 / 0.8, 0.25 / 0.2]])
    )


def test_reuse_gives_the_scores_of_single_prompts(checkpoint):
    contexts = [
        "Text: film 1\nLabel: good\n\nText: film 2\nLabel: ",
        "Text: film 1\nLabel: good\n\nText: film 33\nLabel: ",
    ]
    scores, cut = label_scores(checkpoint.model, checkpoint.tokenizer, contexts, LABELS)
    assert scores == pytest.approx(
        np.array([by_hand(checkpoint, each, LABELS) for each in contexts]), abs=1e-4
    )
    assert cut == [False, False]


def test_long_prompts_are_counted(checkpoint, capsys):
    examples = [*rows(3), ClassExample("film " * 80, ("good",))]
    result = evaluate_few_shot(checkpoint, "m", examples, [], FewShotSettings(template=TEMPLATE))
    assert "1 of 4 prompts are longer than the model looks back" in result.notes[1]
    assert "1 of 4 prompts" in capsys.readouterr().err


def test_examples_are_drawn_label_by_label():
    train = rows(40)
    shots, left, origin = draw_shots(rows(8, first=100), train, 5, 1)
    assert sorted(Counter(shot.labels[0] for shot in shots).values()) == [2, 3]
    assert len(left) == 8 and origin == "5 examples drawn with seed 1 from the training data"
    assert draw_shots(rows(8, first=100), train, 5, 1)[0] == shots
    assert draw_shots(rows(8, first=100), train, 5, 2)[0] != shots
    assert len({shot.text for shot in shots}) == 5


def test_an_example_is_never_asked_about():
    shots, left, origin = draw_shots(rows(12), [], 4, 0)
    assert not {e.text for e in shots} & {e.text for e in left}
    assert len(left) == 8 and "left out of the evaluation" in origin
    shots, left, _ = draw_shots(rows(12), rows(20), 8, 0)
    assert {e.text for e in shots} == {f"film {n}" for n in range(12, 20)} and len(left) == 12
    with pytest.raises(DataError, match="--shots 9: there are 8 examples to draw from"):
        draw_shots(rows(12), rows(20), 9, 0)
    with pytest.raises(DataError, match="--shots 12: there are 12 examples"):
        draw_shots(rows(12), [], 12, 0)


def test_a_prompt_is_examples_and_a_question(checkpoint):
    turns = [("Text: a\nLabel: ", "good"), ("Text: b\nLabel: ", "bad")]
    question = "Text: c\nLabel: "
    assert (
        context_of(turns, question, None) == "Text: a\nLabel: good\n\nText: b\nLabel: bad\n\nText: c\nLabel: "
    )
    assert context_of(turns[:1], question, checkpoint.tokenizer) == (
        "<user>Text: a\nLabel:\n<assistant>good\n<user>Text: c\nLabel:\n<assistant>"
    )


@pytest.mark.parametrize(
    ("labels", "chinese", "expected"),
    [
        (("negative", "positive"), False, "Review: {text}\nSentiment: {label}"),
        (("neg", "pos"), True, "评论：{text}\n情感：{label}"),
        (("ham", "spam"), False, "Message: {text}\nType: {label}"),
        (("Business", "Sci/Tech", "Sports", "World"), False, "Article: {text}\nTopic: {label}"),
        (("1", "2"), False, "Text: {text}\nLabel: {label}"),
    ],
)
def test_a_prompt_suits_the_labels(labels, chinese, expected):
    assert choose_prompt("", labels, chinese=chinese, pairs=False).template == expected


def test_templates_and_words_of_the_user():
    prompt = choose_prompt(r"{text}\n= {label}", ("a", "b"), chinese=False, pairs=False)
    assert prompt.before("x {y}") == "x {y}\n= "
    assert choose_prompt("topic", ("a", "b"), chinese=True, pairs=False).template.startswith("新闻")
    assert (
        choose_prompt("", ("a", "b"), chinese=False, pairs=True).before("x", "y")
        == "First: x\nSecond: y\nLabel: "
    )
    assert spell_labels(("neg", "other"), PROMPTS["sentiment"]["en"], {}) == ["negative", "other"]
    assert spell_labels(("neg", "pos"), prompt, read_label_words("pos=yes, neg=no")) == ["no", "yes"]


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("sentimnet", "is neither a template.*did you mean sentiment?"),
        ("{txt}: {label}", r"\{txt\} is none of .* did you mean text"),
        ("{label}", r"has no \{text\}"),
        ("{text}", r"has no \{label\}"),
        ("{label}: {text}", r"must end with \{label\}"),
        ("{label} {text} {label}", "have it once"),
        ("{text} {pair} {label}", "the rows have one text each"),
        ("{text} {label", "write {{ and }} for braces"),
    ],
)
def test_templates_that_cannot_be_used(template, fault):
    with pytest.raises(ConfigError, match=fault):
        choose_prompt(template, ("a", "b"), chinese=False, pairs=False)


def test_words_that_cannot_be_used(checkpoint):
    prompt = Prompt(TEMPLATE)
    with pytest.raises(
        ConfigError, match="has no word for 'good'; the labels are bad, good; did you mean goood"
    ):
        spell_labels(LABELS, prompt, {"bad": "x", "goood": "y"})
    with pytest.raises(DataError, match="'bad' and another are both spelled 'x'"):
        spell_labels(LABELS, prompt, {"bad": "x", "good": "x"})
    for text, fault in (
        ("bad", "'bad' is no label with its word"),
        ("a=1,a=2", "names 'a' twice"),
        ("a=", "'a='"),
    ):
        with pytest.raises(ConfigError, match=fault):
            read_label_words(text)
    row = ClassExample("x", ("a", "b"), source="f:9")
    with pytest.raises(DataError, match="f:9: 2 labels; a language model is asked for one"):
        evaluate_few_shot(checkpoint, "m", [row], [], FewShotSettings())


@pytest.fixture
def files(tmp_path, checkpoint):
    """Return a checkpoint's folder and a file of 20 labelled rows."""
    save_checkpoint(tmp_path / "model", checkpoint)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": e.text, "label": e.labels[0]}) + "\n" for e in rows(20)))
    return tmp_path / "model", data


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_the_command(capsys, files):
    model, data = files
    arguments = ("--shots", 4, "--calibrate", "--label-words", "bad=poor,good=fine")
    status, out, _ = call(capsys, model, data, *arguments, "--against", model, "--json")
    assert status == 0
    tree = json.loads(out)
    assert (tree["task"], tree["examples"]) == ("classify", 16)
    assert tree["baseline"]["not calibrated"]["accuracy"] >= 0
    assert "labels poor, fine; 4 examples drawn with seed 0 from the data" in tree["notes"][0]
    assert tree["against"]["difference"] == 0
    status, out, _ = call(capsys, model, data, *arguments)
    assert status == 0 and "not calibrated" in out


def test_simple_models_stand_beside(capsys, files, tmp_path):
    model, data = files
    train = tmp_path / "train.jsonl"
    learned = [{"text": e.text, "label": e.labels[0]} for e in rows(8, first=40)]
    train.write_text("".join(json.dumps(row) + "\n" for row in learned))
    _, out, _ = call(capsys, model, data, "--shots", 0, "--json")
    alone = json.loads(out)["baseline"]
    assert [*alone] == ["commonest label"] and alone["commonest label"]["accuracy"] == 0.75
    assert alone["commonest label"]["note"] == "of the evaluated texts themselves"
    _, out, _ = call(capsys, model, data, "--shots", 1, "--train-data", train, "--json")
    fitted = json.loads(out)["baseline"]
    assert [*fitted] == ["commonest label", "TF-IDF"] and "8 examples" in fitted["TF-IDF"]["note"]
    assert fitted["commonest label"]["accuracy"] == 0.75
    train.write_text(json.dumps(learned[-1]))  # one label: nothing to tell apart
    _, out, _ = call(capsys, model, data, "--shots", 1, "--train-data", train, "--json")
    assert [*json.loads(out)["baseline"]] == ["commonest label"]
    status, out, _ = call(capsys, model, data, "--shots", 0, "--no-references", "--json")
    assert status == 0 and "baseline" not in json.loads(out)


def test_a_classifier_is_not_asked(capsys, files, tmp_path):
    model, data = files
    headed = put_head(
        load_checkpoint(model),
        HeadConfig(kind="text", labels=LABELS, pooling="last", bias=False),
        torch.Generator(),
    )
    save_checkpoint(tmp_path / "headed", headed)
    for names in ((tmp_path / "headed", data), (model, data, "--against", tmp_path / "headed")):
        status, _, err = call(capsys, *names, "--shots", 0)
        assert status == 2
        assert "headed is none: leave --shots out" in err


def test_the_commands_mistakes(capsys, files):
    model, data = files
    for arguments, fault in (
        (("--calibrate",), "--calibrate says how a language model is asked; add --shots 0"),
        (("--shots", 2, "--template", "{text}"), "has no {label}"),
        (("--shots", 2, "--context", 9), "--context and --stride are of language models' scores on text"),
        (("--shots", 2, "--report", data.with_suffix(".html")), "--report is of classifiers"),
        (("--shots", 30), "--shots 30: there are 20 examples to draw from"),
    ):
        status, out, err = call(capsys, model, data, *arguments)
        assert (status, out) == (2, "")
        assert fault in err
