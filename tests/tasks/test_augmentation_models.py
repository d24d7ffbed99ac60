"""Augmentation by word vectors, by a masked model, by translation there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from augmented_samples import CONLL, REVIEWS, read_jsonl, write_jsonl

from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.core.errors import ConfigError
from langmill.models.config import (
    TransformerConfig,
    default_decoder,
    default_encoder,
    default_encoder_decoder,
)
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.tasks.augmentation import augment, begins_word, fillings, synonyms, translator
from langmill.text.augment import Place
from langmill.text.augment_settings import AugmentSettings
from langmill.text.tagged import read_columns
from langmill.tokens.tokenizer import SpecialTokens, Tokenizer
from langmill.tokens.train import train_tokenizer
from langmill.vectors.formats import write_vectors
from langmill.vectors.table import WordVectors

pytest.importorskip("rjieba")
pytest.importorskip("stopwordsiso")
TEXTS = [row["text"] for row in REVIEWS]


def checkpoint(folder: Path, make, *, kind: str = "char", context: int = 64) -> Path:
    """Write a model with drawn weights."""
    specials = SpecialTokens(pad="[PAD]", mask="[MASK]", eos="</s>", unk="[UNK]")
    tokenizer = train_tokenizer([str(text) for text in TEXTS] * 3, kind=kind, specials=specials)  # type: ignore[arg-type]
    config: TransformerConfig = make(tokenizer.vocabulary_size, layers=1, width=16, heads=2, context=context)
    model, generator = Transformer(config), torch.Generator().manual_seed(0)
    initialise(model, generator, scheme="unit")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    save_checkpoint(folder, Checkpoint(model, tokenizer))
    return folder


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Return a file in which each pair of words points the same way."""
    words = ["clean", "tidy", "staff", "people", "干净", "整洁", "flew", "sailed", "slowly", "fast"]
    matrix = np.zeros((10, 5), np.float32)
    matrix[np.arange(10), np.arange(10) // 2] = 1
    matrix += np.linspace(0, 0.1, 10, dtype=np.float32)[:, None]
    write_vectors(tmp_path / "words.vec", WordVectors(words, matrix))
    return tmp_path / "words.vec"


def test_synonyms_are_near(vectors: Path) -> None:
    suggest = synonyms(str(vectors), 0.9)
    places = [Place("", "Clean", ""), Place("", "whale", ""), Place("", "干净", "")]
    assert [[word for word, _ in found] for found in suggest(places)] == [["tidy"], [], ["整洁"]]
    assert len(synonyms(str(vectors), -1.0)(places)[0]) == 9


def test_synonyms_and_insertions(tmp_path: Path, vectors: Path) -> None:
    source, output = write_jsonl(tmp_path / "in.jsonl", REVIEWS), tmp_path / "out.jsonl"
    settings = AugmentSettings(vectors=str(vectors), operations="synonym", share=1.0, similarity=0.9)
    report = augment("classify", source, output, settings)
    assert [row["text"] for row in read_jsonl(output) if row.get("augmented")] == [
        "The room was very tidy, and the people were kind.",
        "房间不大，但是很整洁，服务也很周到。",
    ]
    assert report.short == 1, "the third row has no word with a vector"
    settings = AugmentSettings(vectors=str(vectors), operations="insert", share=0.1, similarity=0.9, seed=3)
    augment("classify", source, output, settings)
    (new, *_) = [row["text"] for row in read_jsonl(output) if row.get("augmented")]
    assert len(new.split()) == len(TEXTS[0].split()) + 1  # type: ignore[attr-defined]
    assert {"tidy", "people"} & set(new.replace(",", "").replace(".", "").split())


def test_synonyms_in_columns(tmp_path: Path, vectors: Path) -> None:
    (tmp_path / "in.conll").write_text(CONLL, encoding="utf-8")
    settings = AugmentSettings(vectors=str(vectors), operations="synonym", share=1.0, similarity=0.9)
    augment("ner", tmp_path / "in.conll", tmp_path / "out.conll", settings)
    _, new, _ = (each.rows for each in read_columns(tmp_path / "out.conll"))
    assert new[2:4] == (("sailed", "_", "O"), ("fast", "_", "O"))


@pytest.mark.parametrize("kind", ["char", "bpe", "wordpiece", "unigram"])
def test_contextual_replacement(tmp_path: Path, kind: str) -> None:
    """With drawn weights the words are senseless, but they are words in the places of words."""
    folder = checkpoint(tmp_path / "mlm", default_encoder, kind=kind, context=32)
    source, output = write_jsonl(tmp_path / "in.jsonl", REVIEWS * 2), tmp_path / "out.jsonl"
    report = augment(
        "classify", source, output, AugmentSettings(model=str(folder), operations="contextual", per_row=2)
    )
    assert report.read == 6 and set(report.augmented) <= {"contextual"}
    for row in read_jsonl(output):
        assert row["label"] in ("good", "好", "bad") and "[MASK]" not in row["text"]
        if row["id"] == 3:
            assert "Nobody" in row["text"]


def test_a_masked_model_sees_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text is cut to the model's context; a candidate that is no whole word is left out."""
    suggest = fillings(str(checkpoint(tmp_path / "mlm", default_encoder, context=24)))
    (found,) = suggest([Place("很" * 500, "干净", "大" * 500)])
    assert len(found) == 5 and all(0 <= weight <= 1 for _, weight in found)
    assert suggest([Place("the ", "room", " was")]) == [[]], "characters are no words"
    with pytest.raises(ConfigError, match="is no masked language model"):
        fillings(str(checkpoint(tmp_path / "lm", default_decoder)))


def test_which_tokens_begin_words() -> None:
    def trained(kind: str) -> Tokenizer:
        return train_tokenizer(["the room the rooms roomy"] * 50, kind=kind, vocabulary=300)  # type: ignore[arg-type]

    pieces = trained("wordpiece")
    found = {
        pieces.token(number): begins_word(pieces, number, spaced=True)
        for number in range(pieces.vocabulary_size)
    }
    assert found["the"] and not found["##o"]
    pairs = trained("bpe")
    spaced = {pairs.decode([number]): number for number in range(pairs.vocabulary_size)}
    assert begins_word(pairs, spaced[" room"], spaced=True)
    assert not begins_word(pairs, spaced["the"], spaced=True) and begins_word(
        pairs, spaced["the"], spaced=False
    )
    parts = trained("unigram")
    marked = {
        begins_word(parts, number, spaced=True): parts.token(number)
        for number in range(parts.vocabulary_size)
    }
    assert marked[True].startswith("▁") and not marked[False].startswith("▁")


def test_back_translation(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "pair", default_encoder_decoder)
    source, output = write_jsonl(tmp_path / "in.jsonl", REVIEWS), tmp_path / "out.jsonl"
    settings = AugmentSettings(
        translate_to=str(folder), translate_back=str(folder), operations="translate", per_row=2
    )
    report = augment("classify", source, output, settings)
    new = [row for row in read_jsonl(output) if row.get("augmented")]
    assert 0 < len(new) == report.augmented["translate"] <= 3, "twice the same is written once"
    labels = {row["id"]: row["label"] for row in REVIEWS}
    assert all(row["augmented"] == "translate" and row["label"] == labels[row["id"]] for row in new)
    augment("classify", source, tmp_path / "again.jsonl", settings)
    assert read_jsonl(tmp_path / "again.jsonl") == read_jsonl(output)
    with pytest.raises(ConfigError, match="is no translation model"):
        translator(str(checkpoint(tmp_path / "lm", default_decoder)), "")


def test_translation_goes_there_and_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sentence by sentence, white space and the label before the text kept."""
    from langmill.tasks import augmentation

    def fake(folder: str, prefix: str):
        return lambda texts: [f"{folder}{text.upper()}" for text in texts]

    monkeypatch.setattr(augmentation, "translator", fake)
    (tmp_path / "in.txt").write_text("__label__x Good day.  Sit down!\n", encoding="utf-8")
    settings = AugmentSettings(translate_to=">", translate_back="<", operations="translate", only_new=True)
    augment("classify", tmp_path / "in.txt", tmp_path / "out.txt", settings)
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "__label__x <>GOOD DAY.  <>SIT DOWN!\n"
