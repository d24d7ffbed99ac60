"""A language model's score on held-out text, and two models' difference. [evaluation]

What is counted: every token of the text, each once, given those before it in the same document (see
`windows`); the first is predicted from the token that begins a document. The end of a document is not
predicted and not counted: it stands for no byte of the text, and not every model has a token for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from langmill.checkpoint import Checkpoint
from langmill.core.errors import CheckpointError, DataError
from langmill.evaluation.texts import read_texts
from langmill.evaluation.windows import Floats, Reach, Report, choose_reach, document_logprobs
from langmill.metrics.bootstrap import LEVEL, MINIMUM_UNITS, RESAMPLES, PairedDifference, paired_interval
from langmill.metrics.language import BLOCK_TOKENS, LanguageScore, Totals, block_totals, language_score
from langmill.text.documents import ReadReport, cut_parts, plural
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import DataSettings

ROUND_TRIP_CHARACTERS = 1_000_000
"""So much of the text, at most, is decoded again to see whether the tokenizer loses any of it."""

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class TextScore(LanguageScore):
    """A score, and what it was made of."""

    reach: Reach
    names: tuple[str, ...]
    """What each document is called."""
    per_document: tuple[Totals, ...] = field(repr=False)
    spans: tuple[tuple[Floats, npt.NDArray[np.int64]], ...] = field(repr=False, compare=False, default=())
    """Where there are fewer than `MINIMUM_UNITS` documents: nats and bytes of each token, by document."""
    notes: tuple[str, ...] = ()
    """What a reader must know beside the figures."""


def document_start(tokenizer: Tokenizer) -> int | None:
    """Return the id from which a document's first token is predicted: the tokenizer's bos, else its eos."""
    return tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id


def evaluate_texts(
    model: nn.Module,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    context: int | None = None,
    stride: int | None = None,
    names: Sequence[str] | None = None,
    report: Report | None = None,
) -> TextScore:
    """Score `model` on documents, with a bootstrap interval of bits per byte.

    context, stride: in tokens; by default what the model can look back over (at most 2,048), and half
    of it. names: of the documents, by default their numbers. report: is told of the progress.
    Raises DataError when there is no text, ConfigError when the model does not look back so far.
    """
    reach = choose_reach(model, context=context, stride=stride)
    filled = sum(bool(text) for text in texts)
    if not filled:
        raise DataError("nothing to score: no document has any text; give a text that is not empty")
    start = document_start(tokenizer)
    few = filled < MINIMUM_UNITS
    ids = [_encode(tokenizer, text) for text in texts]
    logprobs = document_logprobs(model, ids, start=start, reach=reach, report=report)
    totals = [
        Totals(-math.fsum(values), len(values), len(text.encode()), len(text))
        for values, text in zip(logprobs, texts)
    ]
    blocks: list[Totals] = []
    spans: list[tuple[Floats, npt.NDArray[np.int64]]] = []
    for text, values in zip(texts, logprobs) if few else ():
        lengths, letters = token_extents(tokenizer, text)
        assert len(lengths) == len(values), "the tokenizer gives other ids with offsets than without"
        spans.append((-values, lengths))
        blocks += block_totals(-values, lengths, letters)
    return TextScore(
        **vars(language_score(totals, blocks)),
        reach=reach,
        names=tuple(names)
        if names is not None
        else tuple(f"document {number}" for number in range(1, len(texts) + 1)),
        per_document=tuple(totals),
        spans=tuple(spans),
        notes=tuple(_notes(tokenizer, texts, ids, start)),
    )


def evaluate_files(
    checkpoint: Checkpoint,
    paths: Sequence[str | Path],
    *,
    reading: DataSettings | None = None,
    context: int | None = None,
    stride: int | None = None,
    read: ReadReport | None = None,
    report: Report | None = None,
) -> TextScore:
    """Score a checkpoint on the documents of files, folders and globs; see `evaluate_texts`.

    read: counts what is read and what is left out.
    """
    texts = read_texts(paths, reading=reading, report=read)
    return evaluate_texts(
        checkpoint.model,
        need_tokenizer(checkpoint),
        texts.texts,
        context=context,
        stride=stride,
        names=texts.names,
        report=report,
    )


def logprobs(model: nn.Module, tokenizer: Tokenizer, text: str) -> Floats:
    """Return the natural log-probability of each token of `text` given those before it, (tokens,).

    The first is given the token that begins a document (where there is none it counts as drawn evenly
    from the vocabulary). A text longer than the model's context is scored by the windows of `evaluate`.
    """
    ids = _encode(tokenizer, text)
    return document_logprobs(model, [ids], start=document_start(tokenizer), reach=choose_reach(model))[0]


def need_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Return the checkpoint's tokenizer, or say that it has none."""
    if checkpoint.tokenizer is None:
        raise CheckpointError(
            f"{checkpoint.folder}: has no tokenizer.json, so it cannot read text; put its tokenizer there"
        )
    return checkpoint.tokenizer


def compare(
    a: TextScore, b: TextScore, *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference | None:
    """Return how a's bits per byte differ from b's on the same documents; None with too little text to say.

    With fewer than `MINIMUM_UNITS` documents the units are blocks of bytes, the same for both models: a
    token that lies across a cut counts on either side by its share of bytes.
    Raises DataError when the two were not scored on the same documents.
    """
    lengths = [each.bytes for each in a.per_document]
    if lengths != [each.bytes for each in b.per_document]:
        raise DataError(
            "two scores can be compared on the same documents only; score both checkpoints on the same text"
        )
    if sum(length > 0 for length in lengths) >= MINIMUM_UNITS:
        ours, theirs = ([each.nats for each in score.per_document] for score in (a, b))
        unit = "document"
    else:
        block_bytes = max(1, round(BLOCK_TOKENS * a.bytes / max(a.tokens, b.tokens)))
        cuts = [_cuts(length, block_bytes) for length in lengths]
        if sum(len(each) - 1 for each in cuts) < MINIMUM_UNITS:
            return None
        ours, theirs = (_nats_between(score.spans, cuts) for score in (a, b))
        lengths = [int(length) for each in cuts for length in np.diff(each)]
        unit = "block"
    ours, theirs = ([nats / math.log(2) for nats in column] for column in (ours, theirs))
    return paired_interval(ours, theirs, lengths, level=LEVEL, resamples=resamples, seed=seed, unit=unit)


def _cuts(length: int, block: int) -> npt.NDArray[np.int64]:
    """Return where blocks of a document begin, and its end; a rest under half a block joins the last."""
    starts = np.arange(0, max(1, length - block // 2), block) if length else np.arange(0)
    return np.append(starts, length)


def _nats_between(
    spans: Sequence[tuple[Floats, npt.NDArray[np.int64]]], cuts: Sequence[npt.NDArray[np.int64]]
) -> list[float]:
    """Return the nats of each block; between the ends of tokens they rise evenly."""
    out: list[float] = []
    for (nats, lengths), places in zip(spans, cuts):
        ends = np.append(0, lengths.cumsum())
        sums = np.append(0.0, nats.cumsum())
        # A token without bytes of its own (a further piece of a character) costs where the one before ends.
        last = np.append(ends[1:] > ends[:-1], True)
        ends, sums = ends[last], sums[last]
        sums[0] = 0.0  # at the very beginning nothing is spent
        out += np.diff(np.interp(places, ends, sums)).tolist()
    return out


def token_extents(tokenizer: Tokenizer, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how many bytes of UTF-8 and how many characters each token of `text` stands for, (tokens,) each.

    They add up to the text: what no token covers (blanks that a WordPiece drops) goes to the token after
    it, at the end to the last; a character in several tokens goes to the first of them.
    """
    parts = [_part_extents(tokenizer, part) for part, _ in cut_parts([text])] or [
        _part_extents(tokenizer, "")
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _part_extents(tokenizer: Tokenizer, text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    ends = np.array([end for _, _, end in tokenizer.encode_offsets(text)], np.int64)
    if not len(ends):
        return ends, ends
    ends = np.maximum.accumulate(ends)
    ends[-1] = len(text)
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    bytes_before = np.append(0, widths.cumsum())
    return np.diff(bytes_before[ends], prepend=0), np.diff(ends, prepend=0)


def _encode(tokenizer: Tokenizer, text: str) -> Ids:
    """Return the ids of a document; a long one is tokenized in the parts in which readers give it."""
    parts = tokenizer.encode_batch([part for part, _ in cut_parts([text])])
    return np.concatenate([np.empty(0, np.int32), *(np.asarray(part, np.int32) for part in parts)])


def _notes(tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[Ids], start: int | None) -> list[str]:
    notes = []
    if start is None:
        notes.append("the tokenizer has no token that begins a document: first tokens count as drawn evenly")
    lossy = looked = characters = 0
    for text, tokens in zip(texts, ids):
        if looked and characters + len(text) > ROUND_TRIP_CHARACTERS:
            break
        looked += 1
        characters += len(text)
        lossy += tokenizer.decode(tokens.tolist(), skip_special=False) != text
    if lossy:
        notes.append(
            f"the tokenizer ({tokenizer.kind}) loses part of the text: {lossy} of {plural(looked, 'document')} "
            "looked at are not what their tokens decode to; bits per byte are over the original bytes, and too "
            "low by what is lost"
        )
    return notes
