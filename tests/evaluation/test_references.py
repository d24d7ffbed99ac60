"""References: xz to the byte, the n-gram model over bytes, and what the notes say."""

from __future__ import annotations

import lzma
import math

import numpy as np
import pytest

from langmill.core.errors import ConfigError, DataError
from langmill.evaluation import references as module
from langmill.evaluation.references import ngram_reference, references, xz_each, xz_together
from langmill.models.ngram import NgramModel

ENGLISH = "It is a truth universally acknowledged, that a single man must be in want of a wife. "
CHINESE = "满纸荒唐言，一把辛酸泪。都云作者痴，谁解其中味？"


def varied(seed, words=400):
    """Return a text of drawn words, neither constant nor random bytes."""
    generator = np.random.default_rng(seed)
    pieces = [*ENGLISH.split(), *CHINESE, "\n"]
    return " ".join(pieces[i] for i in generator.integers(len(pieces), size=words))


DOCUMENTS = ["a", ENGLISH, CHINESE * 3, *[varied(seed) for seed in range(6)], varied(9, words=30_000)]


def test_xz_each_is_lzma_preset_9_to_the_byte():
    data = [document.encode() for document in DOCUMENTS]
    compressed = sum(len(lzma.compress(document, preset=9)) for document in data)
    result = xz_each(DOCUMENTS)
    assert result.bits_per_byte == 8 * compressed / sum(map(len, data))
    assert result.name == "xz -9 per document"
    assert result.note == f"each of 10 documents compressed by itself, {sum(map(len, data)):,} bytes in all"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_document_by_itself_is_to_the_byte(document):
    data = document.encode()
    assert xz_each([document]).bits_per_byte == 8 * len(lzma.compress(data, preset=9)) / len(data)


def test_xz_together_is_one_file_whatever_the_pieces(monkeypatch):
    data = "".join(DOCUMENTS).encode()
    expected = 8 * len(lzma.compress(data, preset=9)) / len(data)
    assert xz_together(DOCUMENTS).bits_per_byte == expected
    monkeypatch.setattr(module, "_PIECE_CHARACTERS", 1000)
    assert xz_together(iter(DOCUMENTS)).bits_per_byte == expected
    assert xz_together(DOCUMENTS).bits_per_byte < xz_each(DOCUMENTS).bits_per_byte


def test_empty_documents_have_nothing_to_compress():
    assert xz_each(["", ENGLISH, ""]) == xz_each([ENGLISH])
    assert xz_together(["", ENGLISH]) == xz_together([ENGLISH])
    assert xz_each([ENGLISH]).note.startswith("each of 1 document compressed")


@pytest.mark.parametrize("batch_bytes", [1, 3000, 1 << 22])
def test_ngram_reference_is_the_model_over_bytes(monkeypatch, batch_bytes):
    monkeypatch.setattr(module, "_BATCH_BYTES", batch_bytes)
    train, held_out = [varied(1), varied(2)], [varied(3), "", CHINESE]
    model = NgramModel.train([np.frombuffer(t.encode(), np.uint8) for t in train], vocabulary=256, order=4)
    nats = -sum(model.logprobs(np.frombuffer(t.encode(), np.uint8)).sum() for t in held_out)
    (result,) = ngram_reference(train, held_out, order=4)
    assert result.bits_per_byte == pytest.approx(nats / math.log(2) / sum(len(t.encode()) for t in held_out))
    assert result.name == "4-gram"
    assert result.note == (
        f"over bytes, modified Kneser-Ney, {sum(len(t.encode()) for t in train):,} bytes of training text"
    )


@pytest.mark.parametrize(("limit", "cut"), [(299, True), (300, False), (301, False)])
def test_training_text_is_cut_where_told_and_the_note_says_so(limit, cut):
    train = ["b" * 100, "中" * 50, "", "c" * 50, ""]
    (result,) = ngram_reference(train, [ENGLISH], order=2, training_bytes=limit)
    seen = (
        f"the first {limit} bytes of training text (more was given)" if cut else "300 bytes of training text"
    )
    assert result.note.endswith(", " + seen)


def test_training_text_at_the_limit_is_not_read_on():
    def texts():
        yield "x" * 10
        yield "y" * 10
        raise AssertionError("read beyond what was needed")

    (result,) = ngram_reference(texts(), ["xyz"], order=2, training_bytes=10)
    assert "the first 10 bytes" in result.note


def test_references_in_order_and_in_sense():
    train = [varied(seed) for seed in range(40)]
    each, together, ngram = references(train, [varied(101), varied(102)])
    assert [each.name, together.name, ngram.name] == ["xz -9 per document", "xz -9 all together", "8-gram"]
    assert ngram.bits_per_byte < together.bits_per_byte < each.bits_per_byte < 8


def test_without_training_text_only_xz_remains():
    assert [each.name for each in references([], [ENGLISH])] == ["xz -9 per document", "xz -9 all together"]
    assert len(references([""], [ENGLISH])) == 2


def test_lone_surrogates_stop_nothing():
    assert len(references(["ab\ud800c"], ["\udfffx"])) == 3


def test_errors_name_the_fault():
    with pytest.raises(DataError, match="held-out text is empty"):
        references([ENGLISH], ["", ""])
    with pytest.raises(DataError, match="held-out text is empty"):
        ngram_reference([ENGLISH], [""])
    with pytest.raises(ConfigError, match="training_bytes must be at least 1, given 0"):
        ngram_reference([ENGLISH], [ENGLISH], training_bytes=0)
