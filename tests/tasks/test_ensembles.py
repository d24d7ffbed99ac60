"""Several checkpoints that answer as one: by hand, against a single one, and what cannot be joined."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import CommandLine

import langmill
from langmill.checkpoint import (
    Checkpoint,
    Ensemble,
    load_checkpoint,
    open_checkpoint,
    put_head,
    save_checkpoint,
)
from langmill.checkpoint.ensembles import join
from langmill.checkpoint.locate import member_names
from langmill.core.errors import CheckpointError
from langmill.models.config import bert_encoder
from langmill.models.heads import HeadConfig
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.tasks.bags import fit_texts
from langmill.tasks.classify import Classifying
from langmill.tasks.ner import Tagging
from langmill.tasks.qa import QuestionAnswering
from langmill.tasks.qa_answers import THRESHOLD
from langmill.text.labelled_questions import QuestionExample
from langmill.tokens.tokenizer import SpecialTokens
from langmill.tokens.train import train_tokenizer

TEXTS = ["a great film", "一部难看的电影", "dull and 精彩 , both", "great " * 40]
SPECIALS = SpecialTokens(eos="<eos>", pad="<pad>", cls="<cls>", sep="<sep>")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def made(head: HeadConfig, *, seed: int = 0, kind: str = "char") -> Checkpoint:
    """Return a tiny model under a head, with random weights of some size."""
    tokenizer = train_tokenizer([*TEXTS, *["well ... no"] * 9], kind=kind, vocabulary=300, specials=SPECIALS)
    generator = torch.Generator().manual_seed(seed)
    body = Transformer(bert_encoder(tokenizer.vocabulary_size, layers=1, width=16, heads=2, context=64))
    initialise(body, generator, scheme="gpt2")
    checkpoint = put_head(Checkpoint(body.eval(), tokenizer), head, generator)
    with torch.no_grad():
        for p in checkpoint.model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator)
    checkpoint.model.eval()
    return checkpoint


def permuted(checkpoint: Checkpoint) -> Checkpoint:
    """Return the same model with its labels in another order."""
    head = checkpoint.model.config.head
    other = put_head(
        checkpoint, replace(head, labels=(*head.labels[1:], head.labels[0])), torch.Generator().manual_seed(9)
    )
    other.model.eval()
    return other


def text_head(*labels: str, several: bool = False) -> HeadConfig:
    return HeadConfig(
        kind="text", labels=labels or ("bad", "good", "so so"), multi_label=several, transform="tanh"
    )


def together(*members: Checkpoint) -> Ensemble:
    return join([f"m{n}" for n in range(len(members))], members)


def table(results: Any, labels: Any) -> np.ndarray:
    return np.array([[found.probabilities[label] for label in labels] for found in results])


@pytest.mark.parametrize("several", [False, True])
def test_probabilities_are_the_mean(several: bool) -> None:
    one, other = (
        made(text_head(several=several)),
        permuted(made(text_head(several=several), seed=1, kind="bpe")),
    )
    labels, task = one.model.config.head.labels, Classifying()
    first, second, both = (
        table(task.predict(each, TEXTS), labels) for each in (one, other, together(one, other))
    )
    assert abs(first - second).max() > 0.05
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-5)
    assert task.predict(together(one, other), []) == []


@pytest.mark.parametrize("several", [False, True])
def test_a_classifier_with_itself_is_itself(several: bool) -> None:
    one = made(text_head(several=several))
    alone, twice = (Classifying().predict(each, TEXTS) for each in (one, together(one, permuted(one))))
    assert [each.labels for each in alone] == [each.labels for each in twice]
    assert [each.cut for each in alone] == [each.cut for each in twice] and alone[3].cut > 0
    labels = one.model.config.head.labels
    np.testing.assert_allclose(table(alone, labels), table(twice, labels), rtol=1e-5)


def test_a_bag_of_ngrams_and_a_transformer() -> None:
    labels = ("bad", "good", "so so")
    bag = fit_texts(
        "tfidf", [(text,) for text in TEXTS[:3]], np.array([1, 0, 2]), HeadConfig(kind="text", labels=labels)
    )
    other, task = made(text_head()), Classifying()
    first, second, both = (
        table(task.predict(each, TEXTS), labels) for each in (bag, other, together(bag, other))
    )
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-5)


@pytest.mark.parametrize("crf", [False, True])
def test_taggers_pool_their_chains(crf: bool) -> None:
    head = HeadConfig(kind="tokens", labels=TAGS, scheme="BIO", crf=crf)
    one, other, task = made(head), made(head, seed=1), Tagging()
    alone, twice = (task.predict(each, TEXTS) for each in (one, together(one, permuted(one))))
    assert any(found.entities for found in alone)
    for a, b in zip(alone, twice):
        assert [(e.begin, e.end, e.label) for e in a.entities] == [
            (e.begin, e.end, e.label) for e in b.entities
        ]
        assert [e.score for e in a.entities] == pytest.approx([e.score for e in b.entities], rel=1e-4)
    both = together(one, other)
    scores = [task.outputs(each, TEXTS)[0][0] for each in (one, other, both)]
    np.testing.assert_allclose(scores[2], (scores[0] + scores[1]) / 2, rtol=1e-5)
    if crf:
        wanted = (one.model.transitions + other.model.transitions) / 2
        torch.testing.assert_close(both.model.transitions, wanted.detach())
    plain = made(replace(head, crf=False), seed=2)
    mixed = together(one, plain).model.transitions
    assert mixed is None if not crf else torch.equal(mixed, one.model.transitions.detach() / 2)


def test_taggers_that_tag_other_places(capsys: pytest.CaptureFixture[str]) -> None:
    head = HeadConfig(kind="tokens", labels=TAGS, scheme="BIO")
    one, other, task = made(head), made(head, seed=1, kind="bpe"), Tagging()
    texts = ["a great film", "well ... no"]  # of BPE's tokens one is all three full stops
    (scores, places), (alone, own) = (task.outputs(each, texts) for each in (together(one, other), one))
    assert [len(each.extents) for each in places] == [len(each.extents) for each in own] == [3, 5]
    assert not np.array_equal(scores[0], alone[0]) and np.array_equal(scores[1], alone[1])
    assert "of 1 text the members tag other places" in capsys.readouterr().err


def asked_of(pairs: list[tuple[str, str]]) -> list[QuestionExample]:
    return [QuestionExample("", *pair) for pair in pairs]


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_answers_by_mean_probability(threshold: float | None) -> None:
    one, other, task = (
        made(HeadConfig(kind="span")),
        made(HeadConfig(kind="span"), seed=1),
        QuestionAnswering(),
    )
    if threshold is not None:
        one.decisions[THRESHOLD], other.decisions[THRESHOLD] = threshold, threshold + 1
    asked = [("what ?", "dull and 精彩 , both"), ("great ?", "a great film")]
    alone, twice = (task.predict(each, asked) for each in (one, together(one, one)))
    for a, b in zip(alone, twice):
        assert (a.text, a.begin, a.end) == (b.text, b.begin, b.end)
        assert a.probability == pytest.approx(b.probability, rel=1e-4)
    both = together(one, other)
    assert both.decisions == ({} if threshold is None else {THRESHOLD: threshold + 0.5})
    scores = [task.outputs(each, asked_of(asked))[0] for each in (one, other, both)]
    chances = []
    for found in scores[:2]:  # softmax over the candidates, no answer among them where that can be said
        logs = {**found.spans, **({} if threshold is None else {(0, 0): found.none})}
        total = sum(map(math.exp, logs.values()))
        chances.append({piece: math.exp(score) / total for piece, score in logs.items()})
    best, log_chance = next(iter(scores[2].spans.items()))
    assert math.exp(log_chance) == pytest.approx(sum(each.get(best, 0) for each in chances) / 2)
    if threshold is not None:
        assert math.exp(scores[2].none) == pytest.approx((chances[0][0, 0] + chances[1][0, 0]) / 2)


def test_names_of_several(tmp_path: Path) -> None:
    for name in ("a", "b", "c+d", "seeds/seed-2", "seeds/seed-10"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "seeds" / "seed-3").mkdir()  # a run that has saved nothing
    at = str(tmp_path)
    assert member_names(f"{at}/a+{at}/b") == (f"{at}/a", f"{at}/b")
    assert member_names(f"{at}/c+d") == (f"{at}/c+d",)
    seeds = (f"{at}/seeds/seed-2", f"{at}/seeds/seed-10")
    assert member_names(f"{at}/seeds") == seeds
    assert member_names(f"{at}/a+{at}/seeds") == (f"{at}/a", *seeds)
    assert member_names("org/a+org/b") == ("org/a", "org/b")
    with pytest.raises(CheckpointError, match=r"nothing stands on one side of a \+"):
        member_names(f"{at}/a+")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (text_head("bad", "good", "ok"), "m0 and m1 have different labels ('ok' is of one alone)"),
        (text_head(several=True), "m0 and m1 are made for different tasks"),
        (HeadConfig(kind="span"), "m0 and m1 are made for different tasks"),
    ],
)
def test_what_does_not_go_together(other: HeadConfig, message: str) -> None:
    with pytest.raises(CheckpointError) as error:
        together(made(text_head()), made(other))
    assert str(error.value).startswith(message)


def test_a_model_without_labels_is_no_member() -> None:
    plain = made(text_head())
    body = Checkpoint(plain.model.body, plain.tokenizer, family="bert")
    with pytest.raises(
        CheckpointError, match="m1: this model has no labels; several checkpoints answer as one only"
    ):
        together(plain, body)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, labels = CommandLine(capsys), ("bad", "good", "so so")
    data = tmp_path / "rows.jsonl"
    rows = [{"text": f"{text} {n}", "label": labels[n % 3]} for n, text in enumerate(TEXTS[:3] * 8)]
    data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    for n in range(2):
        save_checkpoint(tmp_path / "runs" / f"seed-{n}", made(text_head(), seed=n))
    one, other = (str(tmp_path / "runs" / f"seed-{n}") for n in range(2))
    said = line("predict", f"{one}+{other}", "a great film", "--json")
    found = [langmill.load(each).predict("a great film").probabilities for each in (one, other)]
    for label, chance in json.loads(said.out)["probabilities"].items():
        assert chance == pytest.approx((found[0][label] + found[1][label]) / 2, rel=1e-5)
    said = line("predict", tmp_path / "runs", "a great film", "--json")
    assert "runs: the ensemble of seed-0, seed-1" in said.err and said.status == 0
    said = line("evaluate", f"{one}+{one}", one, data, "--json", "--no-references")
    tree = json.loads(said.out)
    assert tree["checkpoint"] == f"{one}+{one}" and tree["against"]["difference"] == 0
    said = line("evaluate", one, f"{one}+{other}", data, "--json", "--train-data", data)
    assert json.loads(said.out)["against"]["checkpoint"] == f"{one}+{other}"
    assert "no such folder" in line("predict", f"{one}+{tmp_path}/missing", "x").error
    assert "2 checkpoints where one is wanted" in line("generate", f"{one}+{other}", "--prompt", "x").error
    both = langmill.load(f"{one}+{other}")
    assert isinstance(both.checkpoint, Ensemble)
    with pytest.raises(CheckpointError, match="an ensemble has no logits of its own"):
        both.logits([[1, 2]])
    with pytest.raises(CheckpointError, match="no folder holds as one"):
        both.save(tmp_path / "saved")
    assert open_checkpoint(one).folder == load_checkpoint(one).folder == Path(one)


def test_the_members_are_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "a", made(text_head()))
    calls: list[Any] = []
    monkeypatch.setattr(
        "langmill.checkpoint.ensembles.load_checkpoint",
        lambda name, **more: (calls.append(name), load_checkpoint(name, **more))[1],
    )
    found = open_checkpoint(f"{tmp_path}/a+{tmp_path}/a")
    assert len(calls) == 1 and isinstance(found, Ensemble) and len(found.members) == 2
    assert math.isclose(sum(Classifying().predict(found, ["a film"])[0].probabilities.values()), 1)
