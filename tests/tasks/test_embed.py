"""Learning vectors of texts: from pairs, scores and single texts; and using them."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from small_runs import weights

import langmill
from langmill.checkpoint import load_checkpoint
from langmill.checkpoint.sentences import SentencePooling
from langmill.core.errors import ConfigError, DataError
from langmill.tasks.embed import Embedding, encode
from langmill.text.documents import ReadReport
from langmill.training.settings import DataSettings

THINGS = "mill wheel river stone grain miller bread water".split()
CHINESE = dict(zip(THINGS, "磨 轮 河 石 谷 工 包 水".split()))
SIZES = {"layers": 1, "width": 32, "context": 24}
COMMON = {"tokenizer": "char", "device": "cpu", "batch": 16, "tensorboard": False, "model": SIZES}


def write_pairs(path, *, rows=96, scored=False, seed=0):
    """Write pairs of three things in two languages; scored: by how many they share."""
    draw = random.Random(seed)
    lines = []
    for _ in range(rows):
        things = draw.sample(THINGS, 3)
        if not scored:
            lines.append({"text": " ".join(things), "positive": "".join(CHINESE[each] for each in things)})
            continue
        other = draw.sample(THINGS, 3)
        lines.append(
            {
                "sentence1": " ".join(things),
                "sentence2": " ".join(other),
                "score": len({*things} & {*other}),
            }
        )
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def train(data, folder, **settings):
    asked = {**COMMON, "steps": 80, "evaluate_every": 80, **settings}
    return langmill.train("embed", str(data), output=str(folder), **asked)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


@pytest.fixture(scope="module")
def run(pairs):
    return train(pairs, pairs.parent / "run", held_out_data=str(pairs))


def test_pairs_in_two_languages_are_learned(run):
    assert list(run.metrics) == ["mrr", "recall_at_1", "recall_at_5", "recall_at_10"]
    assert run.metrics["mrr"] > 0.8


def test_a_run_is_a_folder_of_sentence_transformers(run):
    checkpoint = load_checkpoint(run.folder)
    assert checkpoint.pooling == SentencePooling("mean", True, 24)
    assert not any("lm_head" in name for name in weights(checkpoint.folder))


def test_vectors_do_not_depend_on_their_company(run):
    checkpoint = load_checkpoint(run.folder)
    texts = ["mill", "river stone grain", "磨轮河", "water", "bread mill river"]
    together, cut = encode(checkpoint, texts)
    assert together.shape == (5, 32) and together.dtype == np.float32 and cut[0] == 0
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)
    for text, vector in zip(texts, together):
        np.testing.assert_allclose(encode(checkpoint, [text])[0][0], vector, atol=1e-5)
    plain = replace(checkpoint, pooling=SentencePooling("mean", normalise=False))
    assert np.linalg.norm(encode(plain, texts)[0], axis=1).max() > 1.5
    assert encode(checkpoint, [])[0].shape == (0, 32)


def test_long_texts_are_cut_and_counted(run):
    checkpoint = load_checkpoint(run.folder)
    found, cut = encode(checkpoint, ["mill " * 20, "mill " * 5 + "water "])
    assert cut == [100 - 24, 31 - 24]
    assert encode(checkpoint, [""])[0].shape == (1, 32)
    np.testing.assert_allclose(found[0], encode(checkpoint, [("mill " * 20)[:24]])[0][0], atol=1e-5)


def test_predict_and_score(run):
    model = langmill.load(run.folder)
    found = model.predict("mill river")
    assert len(found.vector) == 32
    assert found.summary("mill river").endswith("… (32 numbers, length 1.0000)\tmill river")
    assert found.columns() == {"vector": list(found.vector)}
    task = Embedding()
    assert task.score([found], [found.vector])["cosine"] == pytest.approx(1.0)
    with pytest.raises(DataError, match="1 results and 0 references"):
        task.score([found], [])


def test_scores_are_learned(tmp_path):
    data = write_pairs(tmp_path / "scored.jsonl", scored=True)
    run = train(data, tmp_path / "run", held_out_data=str(data))
    assert list(run.metrics) == ["spearman", "pearson"]
    assert run.metrics["spearman"] > 0.7


def test_single_texts_are_told_apart(tmp_path, pairs):
    lines = [json.loads(line)["text"] for line in pairs.read_text(encoding="utf-8").splitlines()]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    losses = []
    for every in (2, 4):  # however often it is evaluated on the way
        run = train(tmp_path / "lines.txt", tmp_path / str(every), steps=4, evaluate_every=every)
        assert list(run.metrics) == ["loss"]
        rows = (tmp_path / str(every) / "metrics.jsonl").read_text().splitlines()
        losses.append([row["loss"] for row in map(json.loads, rows) if row["kind"] == "train"])
    assert losses[0] == losses[1] and len(losses[0]) > 1
    assert load_checkpoint(run.folder).model.config.encoder.dropout == 0.1


def test_single_texts_need_dropout(tmp_path, run):
    (tmp_path / "lines.txt").write_text("\n".join(f"mill {n}" for n in range(40)))
    with pytest.raises(ConfigError, match="has no dropout, by which a text is told from itself"):
        train(tmp_path / "lines.txt", tmp_path / "run", from_checkpoint=run.folder, tokenizer="bpe", model={})


@pytest.mark.parametrize(("family", "pooling"), [("lstm", "mean"), ("gpt2", "last"), ("qwen3", "last")])
def test_every_kind_of_model(tmp_path, pairs, family, pooling):
    run = train(pairs, tmp_path, steps=2, evaluate_every=2, model={**SIZES, "family": family})
    checkpoint = load_checkpoint(run.folder)
    assert checkpoint.pooling == SentencePooling(pooling, True, 24)
    assert encode(checkpoint, ["mill"])[0].shape == (1, 32)


def test_going_on_keeps_pooling_and_weights(tmp_path, pairs, run):
    asked = {"from_checkpoint": run.folder, "steps": 1, "evaluate_every": 1, "tokenizer": "bpe", "model": {}}
    more = train(pairs, tmp_path / "more", **asked, optimizer={"learning_rate": 1e-12})
    before, after = (load_checkpoint(each.folder) for each in (run, more))
    assert after.pooling == before.pooling
    np.testing.assert_allclose(encode(after, ["mill"])[0], encode(before, ["mill"])[0], atol=2e-2)
    other = train(pairs, tmp_path / "first", **asked, embed={"pooling": "first"})
    assert load_checkpoint(other.folder).pooling == SentencePooling("first", True, 24)


def test_resumed_is_uninterrupted(tmp_path, pairs):
    """Each epoch of 96 pairs is six batches: the break is within one. Some pairs have a negative of their own."""
    rows = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    for row in rows[::2]:
        row["negatives"] = [row["text"][::-1]]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    rate = {"warmup": 0, "decay": 0}  # the same in a longer run
    asked = {"held_out_data": str(pairs), "embed": {"sizes": (8,)}, "evaluate_every": 4, "optimizer": rate}
    train(data, tmp_path / "whole", steps=14, **asked)
    train(data, tmp_path / "parts", steps=8, **asked)
    train(data, tmp_path / "parts", steps=14, resume=True, **asked)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys() and all((whole[name] == parts[name]).all() for name in whole)


def test_an_adapter_keeps_the_pooling(tmp_path, pairs, run):
    asked = {"from_checkpoint": run.folder, "steps": 3, "evaluate_every": 3, "tokenizer": "bpe", "model": {}}
    adapted = train(pairs, tmp_path / "lora", **asked, adapter={"rank": 2}, embed={"pooling": "last"})
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["task_type"] == (
        "FEATURE_EXTRACTION"
    )
    checkpoint = load_checkpoint(adapted.folder)
    assert checkpoint.pooling == SentencePooling("last", True, 24)
    assert not checkpoint.model.config.has_output


def test_read_keeps_what_is_told_apart(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.tsv").write_text("en\tzh\nmill\t磨\n", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"query": "q", "passage": "p", "negatives": ["n", "m"]}\n')
    task, report = Embedding(), ReadReport()
    found = list(
        task.read([str(tmp_path / name) for name in ("a.txt", "b.tsv", "c.jsonl")], DataSettings(), report)
    )
    assert [(each.text, each.positive, each.negatives) for each in found] == [
        ("one", "one", ()),
        ("two", "two", ()),
        ("mill", "磨", ()),
        ("q", "p", ("n", "m")),
    ]
    assert (report.files, report.documents) == (3, 4)
    assert task.texts(found[0]) == ("one",) and task.texts(found[3]) == ("q", "p", "n", "m")
    (tmp_path / "d.jsonl").write_text('{"text": "alone", "id": 7}\n')
    (alone,) = task.read([str(tmp_path / "d.jsonl")], DataSettings(), report, answers=False)
    assert (task.question(alone), alone.fields["id"]) == ("alone", 7)


@pytest.mark.parametrize("size", [0, 33])
def test_sizes_that_vectors_do_not_have_are_refused(tmp_path, pairs, size):
    with pytest.raises(ConfigError, match=f"--embed.sizes {size}: vectors of this model have 32 numbers"):
        train(pairs, tmp_path / "run", steps=2, embed={"sizes": (8, size)})
    assert not (tmp_path / "run").exists()


def test_what_a_short_vector_costs(pairs, run, command):
    said = command("evaluate", run.folder, run.folder, pairs, "--size", 4, "--no-references", "--json")
    found = json.loads(said.out)
    assert found["checkpoint"] == f"{run.folder} (4 numbers)" and found["against"]["checkpoint"] == run.folder
    short, whole = (each["mrr"] for each in (found, found["against"]))
    assert short < whole
    assert "vectors of this model have 32" in command("evaluate", run.folder, pairs, "--size", 99).error
