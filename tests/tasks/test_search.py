"""Passages of files, their index, and what is found in it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.checkpoint.sentences import SentencePooling
from langmill.core.errors import CheckpointError, ConfigError, DataError
from langmill.models.config import default_encoder
from langmill.models.initialise import initialise, without_scores
from langmill.models.transformer import Transformer
from langmill.tasks import search as module
from langmill.tasks.embed import encode
from langmill.tasks.search import Index, build_index, cut_text, fingerprint, search, top_k
from langmill.tokens import train_tokenizer

ENGLISH = "The mill turns the wheel.\nThe wheel turns the stone.\n\n\nBread is made of grain. Water drives it all.\n"
CHINESE = "磨坊在河边。轮子转动石头。\n\n面包是用谷物做的。\n"


def write_embedder(folder, *, seed=0):
    """Write a bare encoder with drawn weights that reads 40 characters."""
    tokenizer = train_tokenizer([ENGLISH, CHINESE, '"{}?abcdefghijklmnopqrstuvwxyz'], kind="char")
    model = Transformer(default_encoder(tokenizer.vocabulary_size, layers=1, width=16, heads=2, context=64))
    generator = torch.Generator().manual_seed(seed)
    initialise(model, generator, scheme="gpt2")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    pooling = SentencePooling("mean", True, 40)
    save_checkpoint(folder, Checkpoint(without_scores(model), tokenizer, pooling=pooling))
    return folder


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return str(write_embedder(tmp_path_factory.mktemp("embedder")))


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "en.txt").write_text(ENGLISH)
    (folder / "zh.md").write_text(CHINESE, encoding="utf-8")
    return folder


def test_passages_know_where_they_begin(embedder, notes, tmp_path):
    report = build_index(embedder, [str(notes)], tmp_path / "index")
    assert (report.files, report.passages, report.encoded) == (2, 6, 6)
    found = [(each.text, each.source) for each in Index.open(tmp_path / "index").passages()]
    en, zh = notes / "en.txt", notes / "zh.md"
    assert (
        found
        == [
            ("The mill turns the wheel.", f"{en}:1"),
            ("The wheel turns the stone.", f"{en}:2"),
            ("Bread is made of grain.", f"{en}:5"),
            ("Water drives it all.", f"{en}:5"),
            ("磨坊在河边。轮子转动石头。", f"{zh}:1"),
            ("面包是用谷物做的。", f"{zh}:3"),
        ][:4]
        + found[4:]
    )
    assert found[-1] == ("面包是用谷物做的。", f"{zh}:3")


def test_cut_texts_are_whole_and_short(embedder):
    tokenizer = load_checkpoint(embedder).tokenizer
    text = ENGLISH + "a" * 100 + CHINESE + "b. " * 40
    for maximum in (1, 5, 17, 40):
        parts = list(cut_text(text, tokenizer, maximum))
        assert "".join(part for _, part in parts) == text
        assert all(text[begin:].startswith(part) for begin, part in parts)
        assert max(len(tokenizer.encode(part)) for _, part in parts) <= max(maximum, 3)
    assert [part for _, part in cut_text("One. Two. Three.", tokenizer, 12)] == ["One. Two. ", "Three."]


def test_the_nearest_are_found(embedder, notes, tmp_path):
    build_index(embedder, [str(notes)], tmp_path / "index")
    index, checkpoint = Index.open(tmp_path / "index"), load_checkpoint(embedder)
    texts = [each.text for each in index.passages()]
    hits, others = search(index, checkpoint, [texts[3], "wheel"], count=3)
    assert (hits[0].text, len(hits)) == (texts[3], 3) and hits[0].score == pytest.approx(1, abs=1e-5)
    vectors, _ = encode(checkpoint, [*texts, "wheel"])
    order = np.argsort(-vectors[:-1] @ vectors[-1])[:3]
    assert [each.text for each in others] == [texts[n] for n in order]
    assert len(search(index, checkpoint, ["mill"], count=100)[0]) == len(texts)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_top_k_is_exact_whatever_the_blocks(monkeypatch, count):
    draw = np.random.default_rng(0)
    questions, vectors = (draw.integers(-2, 3, (n, 3)).astype(np.float32) for n in (4, 41))  # many ties
    monkeypatch.setattr(module, "BLOCK_PASSAGES", 7)
    scores, numbers = top_k(questions, vectors, count)
    whole = questions @ vectors.T
    order = np.argsort(-whole, axis=1, kind="stable")[:, :count]
    assert numbers.tolist() == order.tolist()
    assert scores.tolist() == np.take_along_axis(whole, order, 1).tolist()


def test_files_that_did_not_change_are_kept(embedder, notes, tmp_path, monkeypatch):
    index = tmp_path / "index"
    build_index(embedder, [str(notes)], index)
    before = Index.open(index).vectors()[:]
    (notes / "new.jsonl").write_text('{"text": "a stone"}\n{"text": "a mill"}\n')
    (notes / "zh.md").write_text("磨坊\n", encoding="utf-8")
    report = build_index(embedder, [str(notes)], index)
    assert (report.files, report.encoded) == (3, 3)
    after = Index.open(index)
    assert np.array_equal(after.vectors()[:4], before[:4])
    assert [each.source.rpartition("/")[2] for each in after.passages()][4:] == [
        "new.jsonl:1",
        "new.jsonl:2",
        "zh.md:1",
    ]
    (notes / "en.txt").unlink()
    assert build_index(embedder, [str(notes)], index).passages == 3
    fresh = tmp_path / "fresh"
    build_index(embedder, [str(notes)], fresh)
    np.testing.assert_allclose(Index.open(fresh).vectors()[:], Index.open(index).vectors()[:], atol=1e-5)


def test_another_model_is_refused(embedder, notes, tmp_path):
    index = tmp_path / "index"
    build_index(embedder, [str(notes)], index)
    other = write_embedder(tmp_path / "other", seed=1)
    assert fingerprint(load_checkpoint(other)) != fingerprint(load_checkpoint(embedder))
    with pytest.raises(DataError, match="was made by another model than"):
        search(Index.open(index), load_checkpoint(other), ["mill"])
    with pytest.raises(DataError, match="was made by another model than"):
        build_index(str(other), [str(notes)], index)
    assert build_index(str(other), [str(notes)], index, overwrite=True).encoded > 0
    (other / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    with pytest.raises(DataError, match="was made by another model than"):
        search(Index.open(index), load_checkpoint(other), ["mill"])


def test_mistakes(embedder, notes, tmp_path):
    index = tmp_path / "index"
    with pytest.raises(DataError, match="no index here; make one"):
        Index.open(index)
    with pytest.raises(ConfigError, match="--tokens 41: the model reads 40 tokens"):
        build_index(embedder, [str(notes)], index, tokens=41)
    with pytest.raises(DataError, match="holds something else than an index"):
        build_index(embedder, [str(notes)], notes)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="no text to search"):
        build_index(embedder, [str(tmp_path / "empty.txt")], index)
    build_index(embedder, [str(notes)], index, tokens=20)
    with pytest.raises(DataError, match="was made with tokens 20, not 40"):
        build_index(embedder, [str(notes)], index)
    facts = json.loads((index / "index.json").read_text(encoding="utf-8"))
    (index / "index.json").write_text(json.dumps({**facts, "version": 0}))
    with pytest.raises(DataError, match="not an index of this version"):
        Index.open(index)


def test_a_language_model_is_no_embedder(notes, tmp_path):
    tokenizer = train_tokenizer([ENGLISH], kind="char")
    model = Transformer(default_encoder(tokenizer.vocabulary_size, layers=1, width=16, heads=2, context=64))
    save_checkpoint(tmp_path / "mlm", Checkpoint(model, tokenizer))
    with pytest.raises(CheckpointError, match="makes no vectors of texts; take what `train embed` makes"):
        build_index(str(tmp_path / "mlm"), [str(notes)], tmp_path / "index")
