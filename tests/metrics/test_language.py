"""Bits per byte, bits per character, perplexity, and a score with its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from langmill.core.errors import ConfigError, DataError
from langmill.metrics.language import (
    Totals,
    bits_per_byte,
    bits_per_character,
    block_totals,
    language_score,
    perplexity,
)

LN2 = math.log(2)


def test_measures_by_hand():
    assert bits_per_byte(6 * LN2, 4) == pytest.approx(1.5)
    assert bits_per_character(6 * LN2, 2) == pytest.approx(3.0)
    assert perplexity(6 * LN2, 3) == pytest.approx(4.0)
    assert perplexity(0.0, 3) == 1.0


def test_perplexity_beyond_a_float_is_infinite():
    assert perplexity(1e6, 1) == math.inf


@pytest.mark.parametrize("measure", [bits_per_byte, bits_per_character, perplexity])
def test_nothing_to_score_is_an_error(measure):
    with pytest.raises(DataError, match="nothing to score"):
        measure(1.0, 0)


def test_score_adds_up_before_dividing():
    documents = [
        Totals(nats=10 * LN2, tokens=2, bytes=10, characters=10),
        Totals(nats=30 * LN2, tokens=8, bytes=90, characters=30),  # Chinese: three bytes a character
    ]
    score = language_score(documents)
    assert score.bits_per_byte == pytest.approx(40 / 100)
    assert score.bits_per_character == pytest.approx(40 / 40)
    assert score.perplexity == pytest.approx(2 ** (40 / 10))
    assert (score.tokens, score.bytes, score.characters, score.documents) == (10, 100, 40, 2)
    assert score.interval is None
    assert (
        score.interval_note
        == "2 documents with text, fewer than 5, and too little text for blocks: no interval"
    )


def test_interval_over_documents_is_in_bits_per_byte():
    documents = [Totals(nats=n * LN2, tokens=n, bytes=2 * n, characters=n) for n in (4, 8, 16, 32, 64)]
    score = language_score(documents, level=0.9, resamples=1000)
    assert score.interval is not None
    assert score.interval.low == pytest.approx(0.5)
    assert score.interval.high == pytest.approx(0.5)
    assert (score.interval.unit, score.interval.units, score.interval.level) == ("document", 5, 0.9)
    assert score.interval_note == ""


def test_one_document_is_resampled_in_blocks_and_says_so():
    generator = np.random.default_rng(1)
    nats = generator.uniform(1, 3, 4000)
    bytes_, characters = generator.integers(1, 9, 4000), np.ones(4000, dtype=int)
    blocks = block_totals(nats, bytes_, characters, block_tokens=100)
    document = Totals(float(nats.sum()), 4000, int(bytes_.sum()), 4000)
    score = language_score([document], blocks)
    assert score.interval is not None
    assert (score.interval.unit, score.interval.units) == ("block", 40)
    assert score.interval.low < score.bits_per_byte < score.interval.high
    assert score.interval_note == (
        "1 document with text, fewer than 5: the interval is over 40 contiguous blocks of the text"
    )


def test_blocks_are_not_used_where_there_are_documents_enough():
    documents = [Totals(LN2, 1, 1, 1)] * 5
    score = language_score(documents, [Totals(9.0, 1, 1, 1)] * 9)
    assert score.interval is not None
    assert score.interval.unit == "document"


def test_empty_documents_count_but_weigh_nothing():
    score = language_score([Totals(LN2, 1, 2, 2)] * 5 + [Totals(0.0, 0, 0, 0)])
    assert score.documents == 6
    assert score.bits_per_byte == pytest.approx(0.5)
    assert score.interval is not None
    assert score.interval.units == 5


def test_no_text_at_all_is_an_error():
    with pytest.raises(DataError, match="nothing to score"):
        language_score([])


@pytest.mark.parametrize(
    ("tokens", "sizes"),
    [(0, []), (1, [1]), (4, [4]), (5, [5]), (6, [6]), (7, [4, 3]), (8, [4, 4]), (14, [4, 4, 6])],
)
def test_block_sizes(tokens, sizes):
    blocks = block_totals(np.arange(tokens), np.full(tokens, 2), np.ones(tokens), block_tokens=4)
    assert [block.tokens for block in blocks] == sizes
    assert sum(block.nats for block in blocks) == sum(range(tokens))
    assert [block.bytes for block in blocks] == [2 * size for size in sizes]
    assert [block.characters for block in blocks] == sizes


def test_block_errors():
    with pytest.raises(DataError, match=r"one entry a token each, given shapes \(2,\), \(1,\), \(2,\)"):
        block_totals([1.0, 2.0], [1], [1, 1])
    with pytest.raises(ConfigError, match="at least 1, given 0"):
        block_totals([1.0], [1], [1], block_tokens=0)
