"""How well a language model predicts a text: bits per byte, bits per character, perplexity. [metrics]

Bits per byte compares models with different tokenizers, and with file compressors: it is the length of
the text coded by the model, over its length in UTF-8. Perplexity per token holds only between models that
cut the text alike. Log-probabilities are natural (nats) everywhere; only the results are in bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from langmill.core.errors import ConfigError, DataError
from langmill.metrics.bootstrap import LEVEL, MINIMUM_UNITS, RESAMPLES, Interval, ratio_interval

BLOCK_TOKENS = 512
"""Length of the blocks that stand in for documents where these are fewer than `MINIMUM_UNITS`."""


@dataclass(frozen=True)
class Totals:
    """What was counted over one document, or over one contiguous block of it."""

    nats: float
    """Minus the summed natural log-probabilities of the scored tokens."""
    tokens: int
    bytes: int
    """Length of the scored text in UTF-8."""
    characters: int


@dataclass(frozen=True)
class LanguageScore:
    """The score of a language model on a set of documents."""

    bits_per_byte: float
    bits_per_character: float
    perplexity: float
    """Per token; depends on the tokenizer."""
    tokens: int
    bytes: int
    characters: int
    documents: int
    interval: Interval | None
    """Of bits per byte; None where there is too little text to say."""
    interval_note: str = ""
    """Why the interval is over blocks, or missing; empty when it is over documents."""


def bits_per_byte(nats_total: float, bytes: int) -> float:
    """Return the bits that a model spends per byte of UTF-8 text.

    >>> bits_per_byte(8 * math.log(2), 4)
    2.0
    """
    return _bits_per(nats_total, bytes, "bytes")


def bits_per_character(nats_total: float, characters: int) -> float:
    """Return the bits that a model spends per character (Unicode code point).

    >>> bits_per_character(8 * math.log(2), 2)
    4.0
    """
    return _bits_per(nats_total, characters, "characters")


def perplexity(nats_total: float, tokens: int) -> float:
    """Return the exponential of the mean negative log-likelihood per token; infinite beyond a float.

    >>> round(perplexity(3 * math.log(10), 3), 9)
    10.0
    """
    _need(tokens, "tokens")
    try:
        return math.exp(nats_total / tokens)
    except OverflowError:
        return math.inf


def language_score(
    documents: Sequence[Totals],
    blocks: Sequence[Totals] = (),
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LanguageScore:
    """Add up `documents` into a score with a bootstrap interval of bits per byte.

    blocks: the same text in contiguous blocks (see `block_totals`), resampled instead of the documents
    where these are fewer than `MINIMUM_UNITS`. Documents without any byte are counted and resampled as
    nothing. Raises DataError when there is no text at all.
    """
    nats = math.fsum(each.nats for each in documents)
    tokens, length = sum(each.tokens for each in documents), sum(each.bytes for each in documents)
    characters = sum(each.characters for each in documents)
    units, unit, note = _units(documents, blocks)
    interval = None
    if units:
        bits = [each.nats / math.log(2) for each in units]
        lengths = [each.bytes for each in units]
        interval = ratio_interval(bits, lengths, level=level, resamples=resamples, seed=seed, unit=unit)
    return LanguageScore(
        bits_per_byte=bits_per_byte(nats, length),
        bits_per_character=bits_per_character(nats, characters),
        perplexity=perplexity(nats, tokens),
        tokens=tokens,
        bytes=length,
        characters=characters,
        documents=len(documents),
        interval=interval,
        interval_note=note,
    )


def block_totals(
    nats: npt.ArrayLike,
    bytes: npt.ArrayLike,
    characters: npt.ArrayLike,
    *,
    block_tokens: int = BLOCK_TOKENS,
) -> list[Totals]:
    """Cut one document's tokens into contiguous blocks of `block_tokens` and count each.

    nats, bytes, characters: `(tokens,)`, what each token costs and covers. A rest shorter than half a
    block joins the block before it, so that no unit is tiny; the blocks add up to the document.

    >>> [block.tokens for block in block_totals([1.0] * 9, [1] * 9, [1] * 9, block_tokens=4)]
    [4, 5]
    """
    if block_tokens < 1:
        raise ConfigError(f"block_tokens must be at least 1, given {block_tokens}")
    columns = [np.asarray(column) for column in (nats, bytes, characters)]
    tokens = len(columns[0])
    if any(column.shape != (tokens,) for column in columns):
        shapes = ", ".join(str(column.shape) for column in columns)
        raise DataError(f"nats, bytes and characters need one entry a token each, given shapes {shapes}")
    starts = np.arange(0, max(1, tokens - block_tokens // 2), block_tokens) if tokens else np.arange(0)
    sizes = np.diff(np.append(starts, tokens))
    sums = [np.add.reduceat(column, starts) if tokens else column for column in columns]
    return [
        Totals(float(cost), int(size), int(length), int(letters))
        for cost, size, length, letters in zip(sums[0], sizes, sums[1], sums[2])
    ]


def _units(documents: Sequence[Totals], blocks: Sequence[Totals]) -> tuple[Sequence[Totals], str, str]:
    """Return what to resample (empty: nothing can be), what it is called, and a note for the reader."""
    filled = sum(each.bytes > 0 for each in documents)
    if filled >= MINIMUM_UNITS:
        return documents, "document", ""
    few = f"{filled} document{'' if filled == 1 else 's'} with text, fewer than {MINIMUM_UNITS}"
    if sum(each.bytes > 0 for each in blocks) >= MINIMUM_UNITS:
        return blocks, "block", f"{few}: the interval is over {len(blocks)} contiguous blocks of the text"
    return (), "", f"{few}, and too little text for blocks: no interval"


def _bits_per(nats_total: float, count: int, what: str) -> float:
    _need(count, what)
    return nats_total / math.log(2) / count


def _need(count: int, what: str) -> None:
    if count <= 0:
        raise DataError(f"nothing to score: the text has {count} {what}; give a text that is not empty")
