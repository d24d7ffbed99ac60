"""Texts with parts taken out, and what an encoder-decoder is to write about them. [batches]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langmill.batches.batch import TokenBatch
from langmill.batches.masking import IGNORED

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class PairBatch:
    """Sources and what is to be written about them. B rows of S source tokens and T target tokens."""

    source: Tensor
    """(B, S)."""
    source_valid: Tensor | None
    """(B, S), False at padding, which is on the right; None without any."""
    ids: Tensor
    """(B, T), what the decoder reads: the start token, then the target less its last token."""
    targets: Tensor
    """(B, T), what it should say at each place; IGNORED (-100) where nothing is asked."""

    def to(self, device: torch.device) -> PairBatch:
        """Return the batch on `device`."""
        return self._each(lambda x: x.to(device, non_blocking=True))

    def split(self, rows: int) -> list[PairBatch]:
        """Return the batch in parts of at most `rows` rows, in order."""
        if rows >= len(self.ids):
            return [self]
        return [self._each(lambda x, i=i: x[i : i + rows]) for i in range(0, len(self.ids), rows)]

    def _each(self, change) -> PairBatch:
        valid = None if self.source_valid is None else change(self.source_valid)
        return PairBatch(change(self.source), valid, change(self.ids), change(self.targets))

    @property
    def tokens(self) -> int:
        """Places in the batch, on both sides."""
        return self.source.numel() + self.ids.numel()


def pad_pairs(sources: Sequence[Ids], targets: Sequence[Ids], *, start: int, pad: int) -> PairBatch:
    """Return pairs as one batch, each side padded on the right to its longest."""
    longest = max(map(len, sources)), max(map(len, targets))
    source = np.full((len(sources), longest[0]), pad, np.int64)
    valid = np.zeros(source.shape, bool)
    wanted = np.full((len(targets), longest[1]), IGNORED, np.int64)
    for row, (a, b) in enumerate(zip(sources, targets, strict=True)):
        source[row, : len(a)], valid[row, : len(a)], wanted[row, : len(b)] = a, True, b
    ids = np.full(wanted.shape, start, np.int64)
    ids[:, 1:] = np.where(wanted[:, :-1] == IGNORED, pad, wanted[:, :-1])
    padded = torch.from_numpy(valid) if not valid.all() else None
    return PairBatch(torch.from_numpy(source), padded, torch.from_numpy(ids), torch.from_numpy(wanted))


def random_parts(total: int, parts: int, generator: np.random.Generator) -> Ids:
    """Return `parts` lengths of at least 1 that add up to `total`, all such lists equally likely."""
    cuts = np.sort(generator.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


@dataclass(frozen=True)
class SpanCorruption:
    """T5's task: spans are replaced by sentinels, and the target spells them out.

    Raffel et al. 2020 (arXiv:1910.10683), section 3.1.4. A source of n tokens loses
    round(n · share) of them in spans of `span` on average; the target is each span after its sentinel,
    and the end token.
    """

    sentinels: tuple[int, ...]
    end: int
    start: int
    """What the decoder begins with."""
    pad: int
    share: float = 0.15
    span: float = 3.0

    def __call__(self, batch: TokenBatch, generator: np.random.Generator) -> PairBatch:
        """Return the rows of a packed batch as pairs. All rows have the same lengths."""
        pairs = [self.corrupt(row, generator) for row in batch.ids.numpy()]
        return pad_pairs([a for a, _ in pairs], [b for _, b in pairs], start=self.start, pad=self.pad)

    def corrupt(self, ids: Ids, generator: np.random.Generator) -> tuple[Ids, Ids]:
        """Return source and target of one text of at least 2 tokens."""
        noise = min(max(round(len(ids) * self.share), 1), len(ids) - 1)
        spans = min(max(round(noise / self.span), 1), len(self.sentinels), len(ids) - noise)
        taken, kept = (random_parts(n, spans, generator) for n in (noise, len(ids) - noise))
        source, target, place = [], [], 0
        for sentinel, keep, take in zip(self.sentinels, kept, taken):
            source += [ids[place : place + keep], [sentinel]]
            target += [[sentinel], ids[place + keep : place + keep + take]]
            place += keep + take
        return np.concatenate([*source, [self.end]]), np.concatenate([*target, [self.end]])


@dataclass(frozen=True)
class Infilling:
    """BART's task: spans become one mask each, sentences change places, and the target is the text.

    Lewis et al. 2020 (arXiv:1910.13461), section 2.2: lengths of spans are Poisson(3), and a span of
    length 0 puts a mask between two tokens.
    """

    mask: int
    end: int
    start: int
    """What the decoder begins with."""
    pad: int
    stops: frozenset[int]
    """Tokens that end a sentence."""
    share: float = 0.3
    span: float = 3.0
    shuffle: bool = True

    def __call__(self, batch: TokenBatch, generator: np.random.Generator) -> PairBatch:
        """Return the rows of a packed batch as pairs."""
        rows = list(batch.ids.numpy())
        targets = [np.append(row, self.end) for row in rows]
        sources = [np.append(self.corrupt(row, generator), self.end) for row in rows]
        return pad_pairs(sources, targets, start=self.start, pad=self.pad)

    def corrupt(self, ids: Ids, generator: np.random.Generator) -> Ids:
        """Return the source of one text."""
        if self.shuffle:
            ends = np.flatnonzero(np.isin(ids[:-1], np.fromiter(self.stops, np.int64))) + 1
            sentences = np.split(ids, ends)
            ids = np.concatenate([sentences[i] for i in generator.permutation(len(sentences))])
        left = round(len(ids) * self.share)
        lengths: list[int] = []
        while left > 0:
            lengths.append(min(int(generator.poisson(self.span)), left))
            left -= lengths[-1]
        hidden = sum(lengths)
        # Of the places between what stays and the spans, as many are spans: every order is equally likely.
        slots = np.zeros(len(ids) - hidden + len(lengths), bool)
        slots[generator.choice(len(slots), len(lengths), replace=False)] = True
        out, place, spans = [], 0, iter(generator.permutation(lengths))
        for is_span in slots:
            if is_span:
                out.append(self.mask)
                place += int(next(spans))
            else:
                out.append(int(ids[place]))
                place += 1
        return np.asarray(out, np.int64)
