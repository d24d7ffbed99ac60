"""An interpolated n-gram language model with modified Kneser-Ney smoothing, in numpy. [models]

The baseline that a neural model has to beat: counts of every n-gram up to some order over ids (bytes,
characters or tokens), smoothed as in Chen and Goodman 1998, An Empirical Study of Smoothing Techniques
for Language Modeling (TR-10-98), section 3. With h the k-1 ids before w, h' the same without its
first, and c the adjusted count of an n-gram:

    p_k(w | h) = (c(h w) - D_k(c(h w))) / sum_v c(h v)  +  gamma_k(h) p_(k-1)(w | h')
    gamma_k(h) = (D_k1 N1(h) + D_k2 N2(h) + D_k3+ N3+(h)) / sum_v c(h v)

N1(h), N2(h), N3+(h) being how many ids follow h once, twice, oftener, and p_0 = 1 / V. The adjusted
count is how often an n-gram occurs at the highest order, and in how many left contexts it occurs below it
(their equation 25); what begins a document has no left context and keeps its own count. Each order's
discounts are Y = n1 / (n1 + 2 n2), D_1 = 1 - 2 Y n2 / n1, D_2 = 2 - 3 Y n3 / n2,
D_3+ = 3 - 4 Y n4 / n3 (equation 26), n1 to n4 being how many n-grams have adjusted counts 1 to 4.
A context never seen gives way to the shorter one, so the probabilities of all V ids always sum to 1.

What a text was so far is known by its state: the numbers of the n-grams, of 1 to order - 1 ids, that end
with it, -1 for one never seen. Shape letters: B rows, T ids, N states, D = order - 1 numbers, V vocabulary.

Measured on the source of Python 3.11's standard library without its tests (11.7 MB, and 0.42 MB held out
by a hash of each file), in bits per byte: over bytes, order 4 2.124, 5 1.895, 6 1.802, 8 1.695, 10 1.643,
12 1.614; over 4,096 BPE tokens, order 2 1.933, 3 1.677, 4 1.613, 5 1.586, 6 1.575. Without the
continuation counts order 6 over bytes gives 1.986, and interpolated Witten-Bell 2.012. On prose order 8 is
the best over bytes (Tiny Shakespeare 2.168, 2.108, 2.098, 2.104 at 5, 6, 8, 10), and over Chinese
characters order 5 is. Hence `default_order`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from langmill.core.errors import ConfigError, DataError

SMALL_VOCABULARY = 512
"""Up to here ids are taken for bytes or letters, which need longer contexts than tokens do."""

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""For an order with too few n-grams to estimate its own, as for a vocabulary of bytes at order 1."""

_NONE = np.iinfo(np.int64).max
"""A key that no n-gram has; it sorts last."""

_WINDOW = 1 << 20
"""Ids scored at a time, to bound memory."""

COUNTING_BYTES, NGRAM_BYTES = 64, 28
"""Memory of an id while it is counted, and of an n-gram that is kept, at most; 2 million random ids of which no
n-gram repeats took 173 bytes an id at order 5, 257 at order 8, and 16 MB of text 42 and 52."""

MOST_IDS = np.iinfo(np.int32).max
"""Numbers of n-grams are 32 bits wide while they are counted."""

Ids = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Numbers = TypeVar("Numbers", npt.NDArray[np.int32], npt.NDArray[np.int64])


def default_order(vocabulary: int) -> int:
    """Return the order that serves `vocabulary` ids well: 8 for bytes and letters, 5 for tokens."""
    return 8 if vocabulary <= SMALL_VOCABULARY else 5


@dataclass(frozen=True)
class Level:
    """The n-grams of one order. Every array ends in one entry more, which index -1 (unseen) picks.

    An n-gram's number is its place in `keys`; its key is `number of its context * V + last id`, where the
    context is numbered at the order below. There, unseen means: counted 0, total 1, backoff 1.
    """

    keys: npt.NDArray[np.int64]
    counts: Ids
    """Adjusted count of every n-gram."""
    totals: Floats
    """Sum of the counts of what follows every context (1 where nothing does)."""
    backoff: Floats
    """gamma of every context: the share left to the order below (1 where nothing follows)."""
    discounts: Floats
    """(0, D_1, D_2, D_3+)."""

    def find(self, context: Ids, ids: Ids, vocabulary: int) -> npt.NDArray[np.int64]:
        """Return the number of each n-gram (context, id), -1 where it was never seen."""
        key = _keys(context, ids, vocabulary)
        place = np.searchsorted(self.keys, key)
        return np.where((self.keys[place] == key) & (key != _NONE), place, -1)

    def mix(self, probability: Floats, context: Ids, ngram: Ids) -> Floats:
        """Return p_k from p_(k-1) of the same ids, given the numbers of contexts and n-grams."""
        counts = self.counts[ngram]
        own = (counts - self.discounts[np.minimum(counts, 3)]) / self.totals[context]
        return own + self.backoff[context] * probability

    def followers(self, context: Ids, vocabulary: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return what follows contexts (N,): for each n-gram, which context it is of, and its number."""
        known = np.maximum(context, 0)
        begins, ends = (np.searchsorted(self.keys, (known + more) * vocabulary) for more in (0, 1))
        counts = np.where(context < 0, 0, ends - begins)
        row = np.repeat(np.arange(len(context)), counts)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return row, place + np.repeat(begins, counts)


@dataclass(frozen=True)
class NgramModel:
    """A trained model over ids in [0, vocabulary); the same documents give the same model."""

    vocabulary: int
    order: int
    levels: tuple[Level, ...]
    start: int
    """The id that stands before every document, and may end the one before; `vocabulary`: none has that use."""

    @classmethod
    def train(
        cls,
        documents: Iterable[Ids],
        *,
        vocabulary: int,
        order: int | None = None,
        start: int | None = None,
    ) -> NgramModel:
        """Count and smooth the n-grams of `documents`, arrays of ids in [0, vocabulary).

        order: the longest n-gram, 1 or more; by default `default_order(vocabulary)`. An n-gram never
        reaches over a document's beginning, which is a context of its own. start: the id that marks it and
        is, as in `batches.shards`, what follows the document before; by default no id of the vocabulary,
        and nothing tells where a document ends. Memory is about 45 bytes an id while counting and 12 to 28
        for each different n-gram, and at most COUNTING_BYTES + (order - 1) NGRAM_BYTES an id.
        Raises DataError for an id outside the vocabulary or when there are no ids at all.
        """
        order = default_order(vocabulary) if order is None else order
        start = vocabulary if start is None else start
        if order < 1 or vocabulary < 1:
            raise ConfigError(f"order and vocabulary must be at least 1, given {order} and {vocabulary}")
        stream = _stream(documents, vocabulary, start)
        if not np.any(stream != start):
            raise DataError("no text to count n-grams in: every document is empty")
        if len(stream) > MOST_IDS:
            raise DataError(
                f"{len(stream):,} ids are too many to count n-grams in; give at most {MOST_IDS:,}"
            )
        counted = _count(stream, vocabulary, order, start)
        return cls.smooth(counted, vocabulary=vocabulary, start=start)

    @classmethod
    def smooth(
        cls,
        counted: Iterable[tuple[npt.NDArray[np.int64], Ids]],
        *,
        vocabulary: int,
        start: int,
        discounts: Floats | None = None,
    ) -> NgramModel:
        """Return the model of the keys and adjusted counts of every order, the lowest first.

        discounts: (order, 3), by default estimated from the counts.
        """
        levels: list[Level] = []
        contexts = 1
        for keys, counts in counted:
            own = _discounts(counts) if discounts is None else np.append(0.0, discounts[len(levels)])
            levels.append(_level(keys, counts, own, contexts=contexts, vocabulary=vocabulary))
            # At order 1 a number is the id itself, and the start symbol is one more context.
            contexts = len(keys) if len(levels) > 1 else vocabulary + 1
        return cls(vocabulary, len(levels), tuple(levels), start)

    @property
    def ngrams(self) -> int:
        """How many different n-grams of all orders the model keeps."""
        return sum(len(level.keys) - 1 for level in self.levels)

    def logprobs(self, ids: Ids) -> Floats:
        """Return the natural log-probability of each of a document's ids given all before it, `(T,)`."""
        return self.logprobs_each([ids])[0]

    def logprobs_each(self, documents: Sequence[Ids]) -> list[Floats]:
        """Return `logprobs` of every document; faster than one by one where there are many."""
        stream = _stream(documents, self.vocabulary, self.start)
        out = np.empty(len(stream), dtype=np.float64)
        for first in range(0, len(stream), _WINDOW):
            # What a probability depends on reaches order - 1 ids back and no further.
            before = max(0, first - self.order + 1)
            out[first : first + _WINDOW] = self._score(stream[before : first + _WINDOW])[first - before :]
        ends = np.cumsum([len(document) + 1 for document in documents])
        return [out[end - len(document) : end] for document, end in zip(documents, ends)]

    def probabilities(self, context: Ids) -> Floats:
        """Return the probability of every id `(vocabulary,)` after `context`, the document so far."""
        stream = _stream([context], self.vocabulary, self.start)[-max(1, self.order - 1) :]
        return self.rows(self.states(stream[None])[0, -1:])[0]

    def states(
        self,
        ids: Ids,
        *,
        past: npt.NDArray[np.int64] | None = None,
        fresh: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.int64]:
        """Return the state after each of ids (B, T), -1 being padding: (B, T, D).

        past: the states (B, D) before the first ids. fresh: (B, T), where what stands before an id is not to be seen.
        """
        out = np.empty((*ids.shape, self.order - 1), np.int64)
        for place, (_, ngram) in zip(range(self.order - 1), self._walk(ids, past, fresh)):
            # Where a document begins, nothing but that shows.
            out[..., place] = np.where(ids == self.start, -1, ngram) if place else ngram
        return out

    def chosen(self, states: npt.NDArray[np.int64], ids: Ids) -> Floats:
        """Return the natural log-probability of each of ids (N,) after states (N, D)."""
        probability = np.full(len(ids), 1 / self.vocabulary)
        for place, level in enumerate(self.levels):
            context = states[:, place - 1] if place else np.zeros(len(ids), np.int64)
            probability = level.mix(probability, context, level.find(context, ids, self.vocabulary))
        return np.log(probability)

    def rows(self, states: npt.NDArray[np.int64]) -> Floats:
        """Return the probability of every id after states (N, D), (N, V).

        Order 1 is a row of all ids, the same for every state; the longer orders add to what they have seen.
        """
        share = np.ones(len(states))  # what the orders above leave
        added = []
        for place in range(self.order - 1, 0, -1):
            level, context = self.levels[place], states[:, place - 1]
            row, ngram = level.followers(context, self.vocabulary)
            counts = level.counts[ngram]
            own = (counts - level.discounts[np.minimum(counts, 3)]) / level.totals[context[row]]
            added.append((row, level.keys[ngram] % self.vocabulary, own * share[row]))
            share = share * level.backoff[context]
        out = share[:, None] * self._unigrams
        for row, ids, own in added:
            out[row, ids] += own  # a context has an id once
        return out

    @functools.cached_property
    def _unigrams(self) -> Floats:
        everything = np.arange(self.vocabulary)
        lowest = np.full(self.vocabulary, 1 / self.vocabulary)
        return self.levels[0].mix(lowest, np.zeros_like(everything), everything)

    def _walk(
        self,
        ids: Ids,
        past: npt.NDArray[np.int64] | None = None,
        fresh: npt.NDArray[np.bool_] | None = None,
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Yield, order by order, the numbers of the context before and the n-gram up to each id; see `states`."""
        ngram = ids.astype(np.int64)
        yield np.zeros_like(ngram), ngram
        for place, level in enumerate(self.levels[1:]):
            context = _shift(np.where(ids == self.start, -1, ngram) if place else ngram)
            if past is not None:
                context[..., 0] = past[:, place]
            if fresh is not None:
                context[fresh] = -1
            ngram = level.find(context, ids, self.vocabulary)
            yield context, ngram

    def _score(self, stream: Ids) -> Floats:
        """Return the log-probability of every id of `stream`, 0 at a start that is no id."""
        inside = stream < self.vocabulary
        probability = np.full(np.count_nonzero(inside), 1 / self.vocabulary)
        for level, (context, ngram) in zip(self.levels, self._walk(stream)):
            probability = level.mix(probability, context[inside], ngram[inside])
        out = np.zeros(len(stream))
        out[inside] = np.log(probability)
        return out


def _stream(documents: Iterable[Ids], vocabulary: int, start: int) -> Ids:
    """Join documents, each behind one `start`."""
    kind = np.min_scalar_type(vocabulary)
    parts: list[Ids] = []
    for number, document in enumerate(documents, start=1):
        ids = np.asarray(document)
        if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
            raise DataError(f"document {number}: expected one row of ids, given {ids.dtype} {ids.shape}")
        if len(ids) and not (ids.min() >= 0 and ids.max() < vocabulary):
            wrong = ids[(ids < 0) | (ids >= vocabulary)][0]
            raise DataError(f"document {number}: id {wrong} is outside the vocabulary, 0 to {vocabulary - 1}")
        parts += [np.array([start], dtype=kind), ids.astype(kind)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=kind)


def _shift(numbers: Numbers) -> Numbers:
    """Return for every place, along the last axis, the number at the one before it; none (-1) at the first."""
    out = np.empty_like(numbers)
    out[..., :1], out[..., 1:] = -1, numbers[..., :-1]
    return out


def _keys(context: Ids, ids: Ids, vocabulary: int) -> npt.NDArray[np.int64]:
    """Return the key of each n-gram; none where its context is, at padding, and at a start that is no id."""
    key = context.astype(np.int64)
    key *= vocabulary
    key += ids
    key[(context < 0) | (ids < 0) | (ids >= vocabulary)] = _NONE
    return key


def _count(
    stream: Ids, vocabulary: int, order: int, start: int
) -> Iterator[tuple[npt.NDArray[np.int64], Ids]]:
    """Yield the keys and adjusted counts of orders 1 to `order`."""
    # At order 1 a number is the id itself, unseen ids included.
    ngram = stream.astype(np.int32)
    keys = np.arange(vocabulary)
    occurrences: Ids = np.bincount(stream[1:], minlength=vocabulary + 1)[:vocabulary]
    for length in range(2, order + 1):
        context = _shift(ngram if length == 2 else np.where(stream == start, np.int32(-1), ngram))
        longer = _keys(context, stream, vocabulary)
        del context
        longer_keys, longer_occurrences, longer_ngram, suffixes = _unique(longer, ngram)
        # One longer n-gram for each left context; none where a document's start is the first symbol.
        lefts = np.bincount(suffixes, minlength=len(keys))
        yield keys, np.where(lefts > 0, lefts, occurrences)
        keys, occurrences, ngram = longer_keys, longer_occurrences, longer_ngram
    yield keys, occurrences


def _unique(
    key: npt.NDArray[np.int64], suffix: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], Ids, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Number the different keys in their order, `_NONE` aside.

    Returns the keys, how often each occurs, the number at every position (-1 where none), and the
    suffix of each key (the number, one order below, of the n-gram without its first id).
    """
    place = np.argsort(key)
    ranked = key[place]
    end = int(np.searchsorted(ranked, _NONE))
    place, ranked = place[:end], ranked[:end]
    first = np.ones(end, dtype=bool)
    np.not_equal(ranked[1:], ranked[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    numbers = np.full(len(key), -1, dtype=np.int32)
    numbers[place] = np.cumsum(first, dtype=np.int32) - np.int32(1)
    return ranked[starts], np.diff(np.append(starts, end)), numbers, suffix[place[starts]]


def _level(
    keys: npt.NDArray[np.int64], counts: Ids, discounts: Floats, *, contexts: int, vocabulary: int
) -> Level:
    """Smooth the counts of one order; `contexts` is how many numbers there are at the order below."""
    context = keys // vocabulary
    totals: Floats = np.bincount(context, weights=counts, minlength=contexts + 1).astype(np.float64)
    taken = np.bincount(context, weights=discounts[np.minimum(counts, 3)], minlength=contexts + 1)
    followed = totals > 0
    totals[~followed] = 1
    return Level(
        keys=np.append(keys, _NONE),
        counts=np.append(counts, 0).astype(np.int32),
        totals=totals,
        backoff=np.where(followed, taken / totals, 1.0),
        discounts=discounts,
    )


def _discounts(counts: Ids) -> Floats:
    """Return (0, D_1, D_2, D_3+) by Chen and Goodman's estimate, or the fallback where it has no sense."""
    _, n1, n2, n3, n4, _ = (int(n) for n in np.bincount(np.minimum(counts, 5), minlength=6))
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        # Below 0 a discount would add, above its count it would take more than there is.
        if all(0 < discount <= count for discount, count in zip(found, (1, 2, 3))):
            return np.array((0.0, *found))
    return np.array((0.0, *FALLBACK_DISCOUNTS))
