"""Packed rows in the layout of sentence pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from langmill.batches.batch import TokenBatch
from langmill.batches.masking import IGNORED, Mask, Masker
from langmill.batches.pairs import PairLayout, sentence_ends
from langmill.tokens.tokenizer import SpecialTokens, Tokenizer
from langmill.tokens.train import train_tokenizer

TEXT = "One two three. Four five six! 春眠不觉晓。处处闻啼鸟。 "
NAMES = SpecialTokens(eos="</s>", pad="<pad>", cls="<cls>", sep="<sep>", mask="<mask>")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], kind="bpe", vocabulary=300, specials=NAMES)


def rows(tokenizer: Tokenizer, *texts: str) -> TokenBatch:
    """Return one row of documents, each behind the token that opens it."""
    ids, starts = [], []
    for text in texts:
        own = [tokenizer.eos_id, *tokenizer.encode(text)]
        starts += [len(ids)] * len(own)
        ids += own
    row = torch.tensor([ids])
    return TokenBatch(row, row, torch.tensor([starts]) if len(texts) > 1 else None)


def test_sentences_end_in_both_scripts(tokenizer: Tokenizer) -> None:
    ends = sentence_ends(tokenizer)
    for text, expected in ((".", True), ("。", True), ("a", False), ("春", False)):
        assert ends[tokenizer.encode(text)[-1]] == expected


def test_a_document_becomes_a_pair(tokenizer: Tokenizer) -> None:
    batch = rows(tokenizer, TEXT)
    cuts = set()
    for seed in range(20):
        made = PairLayout(tokenizer)(batch, np.random.default_rng(seed))
        assert made.ids.shape == batch.ids.shape and made.starts is None and made.segments is not None
        ids, segments = made.ids[0].tolist(), made.segments[0].tolist()
        middle = ids.index(tokenizer.sep_id)
        assert ids[0] == tokenizer.cls_id and ids[-1] == tokenizer.sep_id
        assert segments == [0] * (middle + 1) + [1] * (len(ids) - middle - 1)
        first, second = tokenizer.decode(ids[1:middle]), tokenizer.decode(ids[middle + 1 : -1])
        assert TEXT.startswith(first + second), "nothing is lost but the end"
        assert first[-1] in ".!。"
        cuts.add(middle)
    assert len(cuts) > 1


def test_documents_stay_apart(tokenizer: Tokenizer) -> None:
    batch = rows(tokenizer, TEXT, "x", TEXT, "ab")
    made = PairLayout(tokenizer)(batch, np.random.default_rng(0))
    assert made.starts is not None and made.segments is not None
    ids, starts = made.ids[0], made.starts[0]
    begins = (ids == tokenizer.cls_id).nonzero()[:, 0].tolist()
    assert len(begins) == 2 and begins[0] == 0, "one token is no pair, and the last had no room"
    assert set(starts[: begins[1]].tolist()) == {0}
    assert int((ids == tokenizer.sep_id).sum()) == 4
    filled = ids == tokenizer.pad_id
    assert torch.equal(starts[filled], filled.nonzero()[:, 0]), "what fills up looks at itself"
    hidden = Masker(tokenizer, Mask(0.5, "token"))(made, np.random.default_rng(0))
    special = torch.tensor([tokenizer.is_special(number) for number in ids.tolist()])
    assert (hidden.targets[0][special] == IGNORED).all() and hidden.segments is made.segments


def test_batches_carry_segments() -> None:
    ids = torch.arange(12).view(4, 3)
    batch = TokenBatch(ids, ids, None, ids % 2)
    parts = batch.to(torch.device("cpu")).split(3)
    assert [len(part.ids) for part in parts] == [3, 1]
    assert torch.equal(parts[1].segments, ids[3:] % 2) and parts[1].starts is None  # type: ignore[arg-type]
