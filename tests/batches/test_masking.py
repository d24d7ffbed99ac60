"""What is hidden from a masked language model, and how."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from langmill.batches.batch import TokenBatch
from langmill.batches.masking import IGNORED, Mask, Masker, most_common
from langmill.text import segmentation
from langmill.tokens.tokenizer import SpecialTokens, Tokenizer
from langmill.tokens.train import train_tokenizer

TEXT = "The quick brown foxes aren't jumping; they've been sleeping. 春眠不觉晓，处处闻啼鸟。 " * 6


def trained(kind: str, vocabulary: int = 330) -> Tokenizer:
    names = {"pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]", "eos": "</s>"}
    return train_tokenizer([TEXT], kind=kind, vocabulary=vocabulary, specials=SpecialTokens(**names))  # type: ignore[arg-type]


def batch_of(tokenizer: Tokenizer, rows: int = 40) -> TokenBatch:
    ids = tokenizer.encode(TEXT)[:120]
    ids[7] = tokenizer.eos_id or 0
    tensor = torch.tensor([ids] * rows)
    return TokenBatch(tensor, tensor.clone(), torch.zeros_like(tensor))


@pytest.mark.parametrize("unit", ["token", "word", "span"])
@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
def test_shares(kind: str, unit: str) -> None:
    tokenizer = trained(kind)
    batch = batch_of(tokenizer)
    hidden = Masker(tokenizer, Mask(0.3, unit))(batch, np.random.default_rng(0))  # type: ignore[arg-type]
    asked = hidden.targets != IGNORED
    assert torch.equal(hidden.targets[asked], batch.ids[asked])
    assert torch.equal(hidden.ids[~asked], batch.ids[~asked])
    assert not asked[:, 7].any(), "a special token is never asked for"
    share = asked.sum(1) / 119
    assert 0.29 < float(share.mean()) < 0.4 and len(set(share.tolist())) <= 12
    found = hidden.ids[asked]
    masked = float((found == tokenizer.mask_id).float().mean())
    kept = float((found == batch.ids[asked]).float().mean())
    assert masked == pytest.approx(0.8, abs=0.03)
    assert kept == pytest.approx(0.1, abs=0.03)
    assert hidden.starts is batch.starts


def test_the_same_chance_hides_the_same() -> None:
    tokenizer = trained("bpe")
    masker, batch = Masker(tokenizer, Mask()), batch_of(tokenizer)
    first, again, other = (masker(batch, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.ids, again.ids)
    assert not torch.equal(first.ids, other.ids)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char", "unigram"])
def test_words_are_hidden_whole(kind: str) -> None:
    """Of every word's tokens all are asked for or none."""
    tokenizer = trained(kind, 400)
    masker = Masker(tokenizer, Mask(0.4, "word"))
    ids = np.array(tokenizer.encode(TEXT)[:150])
    numbers = masker.word_numbers(ids)
    assert (np.diff(numbers) >= 0).all()
    chosen = masker.choose(ids, np.random.default_rng(3))
    for number in np.unique(numbers):
        assert len(set(chosen[numbers == number].tolist())) == 1


def test_words_of_byte_level_tokens() -> None:
    tokenizer = trained("bpe")
    ids = tokenizer.encode("foxes aren't 春眠")
    masker = Masker(tokenizer, Mask())
    numbers = masker.word_numbers(np.array(ids))
    spelt = {}
    for number, token in zip(numbers.tolist(), ids):
        spelt[number] = spelt.get(number, b"") + tokenizer.piece(token)
    words = [piece.decode().strip() for piece in spelt.values()]
    assert words[:2] == ["foxes", "aren't"]
    assert "".join(words[2:]) == "春眠"


def test_a_row_that_begins_within_a_word() -> None:
    tokenizer = trained("wordpiece", 400)
    vocabulary = range(tokenizer.vocabulary_size)
    [within, *_] = [number for number in vocabulary if tokenizer.token(number).startswith("##")]
    [whole, *_] = [n for n in vocabulary if tokenizer.token(n).isalpha()]
    masker = Masker(tokenizer, Mask(1.0))
    assert masker.word_numbers(np.array([within, within, whole, within])).tolist() == [0, 0, 1, 1]
    assert masker.choose(np.array([within, whole]), np.random.default_rng(0)).all()


def test_a_special_token_parts_words() -> None:
    tokenizer = trained("char")
    [a, b] = tokenizer.encode("ab")
    numbers = Masker(tokenizer, Mask()).word_numbers(np.array([a, tokenizer.eos_id, b]))
    assert len(set(numbers.tolist())) == 3


def test_a_row_of_special_tokens_asks_nothing() -> None:
    tokenizer = trained("char")
    row = torch.full((1, 4), tokenizer.eos_id)
    assert (
        Masker(tokenizer, Mask())(TokenBatch(row, row), np.random.default_rng(0)).targets == IGNORED
    ).all()


def test_most_common() -> None:
    assert most_common([3, 1, 3, 2]) == 3


def test_segmentation_covers_the_text() -> None:
    text = "Don't stop,  3.5% of 处处闻啼鸟 é\n"
    parts = [text[a:b] for a, b in segmentation.words(text)]
    assert "".join(parts) == text
    assert {"Don't", "stop", ",", "é"} <= set(parts)
