"""How well vectors of texts find what belongs to a text, or say how alike two are; TF-IDF beside them. [tasks]

Shape letters: N pairs, Q different queries, C different candidates, D numbers of a vector.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import DataError
from langmill.metrics.association import spearman
from langmill.models.bag import count_pairs, weigh
from langmill.models.bag_features import Alphabet, all_ngrams
from langmill.tasks.assessment import Assessment, ratio_score
from langmill.text.labelled_pairs import TextPair
from langmill.tokens import train_tokenizer

Floats = NDArray[np.float32]
CUTOFFS = (1, 5, 10)
BLOCK_QUERIES = 256
"""Queries that are compared with all candidates at once."""


def kind_of_pairs(examples: Sequence[TextPair]) -> Literal["scored", "pairs", "single"]:
    """Return what is known of pairs: how alike they are, that they belong together, or of a text only itself.

    Raises DataError, naming the row, where some have a score and some do not, or one has a score and negatives.
    """
    scored = [example.score is not None for example in examples]
    if any(scored) and not all(scored):
        unscored = examples[scored.index(False)]
        raise DataError(
            f"{unscored.source}: no score, which other rows have; give all pairs a score, or leave that column out"
        )
    if scored[0]:
        if row := next((example for example in examples if example.negatives), None):
            raise DataError(
                f"{row.source}: a score and texts that do not belong; give pairs the one or the other"
            )
        return "scored"
    same = all(example.text == example.positive and not example.negatives for example in examples)
    return "single" if same else "pairs"


# ------------------------------------------------------------------------------------------------
# Finding what belongs together


@dataclass(frozen=True)
class Retrieval:
    """Every different first text of pairs asks for what belongs to it among all other texts."""

    queries: tuple[str, ...]
    candidates: tuple[str, ...]
    """Every text that belongs to some query, or is said not to."""
    pairs: NDArray[np.int64]
    """(N, 2), the numbers of each pair's query and of what belongs to it."""

    @classmethod
    def of(cls, examples: Sequence[TextPair]) -> Retrieval:
        """Return what pairs ask for."""
        queries = {text: i for i, text in enumerate(dict.fromkeys(each.text for each in examples))}
        belonging = [each.positive for each in examples]
        others = [text for each in examples for text in each.negatives]
        candidates = {text: i for i, text in enumerate(dict.fromkeys([*belonging, *others]))}
        pairs = np.array([(queries[each.text], candidates[each.positive]) for each in examples])
        return cls(tuple(queries), tuple(candidates), pairs)

    def ranks(self, compare: Callable[[NDArray[np.int64]], Floats]) -> NDArray[np.int64]:
        """Return the rank, from 1, of what belongs to each pair's query, (N,).

        compare: from numbers of queries (B,) to their likeness to all candidates (B, C). Whatever is as like counts as
        found before. What else belongs to the query, and the query itself, is left out of the list.
        """
        number = {text: i for i, text in enumerate(self.candidates)}
        known: dict[int, set[int]] = defaultdict(set)
        for query, candidate in self.pairs.tolist():
            known[query].add(candidate)
        for query, text in enumerate(self.queries):
            if text in number:
                known[query].add(number[text])
        ranks = np.zeros(len(self.pairs), np.int64)
        order = np.argsort(self.pairs[:, 0], kind="stable")
        for begin in range(0, len(order), BLOCK_QUERIES):
            rows = order[begin : begin + BLOCK_QUERIES]
            asked, place = np.unique(self.pairs[rows, 0], return_inverse=True)
            scores = compare(asked)[place]  # (B, C)
            own = scores[np.arange(len(rows)), self.pairs[rows, 1]]
            ranks[rows] = (scores >= own[:, None]).sum(1)
            for i, row in enumerate(rows):
                others = [c for c in known[self.pairs[row, 0]] if c != self.pairs[row, 1]]
                ranks[row] -= (scores[i, others] >= own[i]).sum()
        return ranks


def assess_ranks(ranks: NDArray[np.int64]) -> Assessment:
    """Return recall at some cutoffs and the mean reciprocal rank of ranks (N,), one of each a pair."""
    recall = {k: float((ranks <= k).mean()) for k in CUTOFFS}
    figures = {
        "mrr": float((1 / ranks).mean()),
        **{f"recall_at_{k}": share for k, share in recall.items()},
        "recall_at_k": {str(k): share for k, share in recall.items()},
    }
    return Assessment(figures, "mrr", ratio_score(1 / ranks, np.ones(len(ranks))), ranks == 1)


def assess_likeness(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> Assessment:
    """Return the correlations of likenesses with those that are wanted, each (N,).

    Spearman's is of the order alone; both None where one side is constant. Right is a pair that stands in the same half
    of both orders.
    """
    whole = spearman(found, wanted)
    defined = not math.isnan(whole)
    figures = {
        "spearman": whole if defined else None,
        "pearson": float(np.corrcoef(found, wanted)[0, 1]) if defined else None,
    }
    right = (found >= np.median(found)) == (wanted >= np.median(wanted))
    return Assessment(figures, "spearman", lambda chosen: spearman(found[chosen], wanted[chosen]), right)


def assess_pairs(examples: Sequence[TextPair], encode: Callable[[Sequence[str]], Floats]) -> Assessment:
    """Return the metrics of vectors by their cosine. encode: from texts to vectors (N, D) of any length."""
    kind = kind_of_pairs(examples)
    if kind == "single":
        raise DataError(
            f"{examples[0].source}: texts alone do not say which belong together; evaluate on rows with two texts"
        )
    if kind == "scored":
        texts = [text for example in examples for text in (example.text, example.positive)]
        vectors = unit(encode(texts))
        wanted = np.array([example.score for example in examples], dtype=np.float64)
        return assess_likeness((vectors[::2] * vectors[1::2]).sum(1).astype(np.float64), wanted)
    asked = Retrieval.of(examples)
    vectors = unit(encode([*asked.queries, *asked.candidates]))
    queries, candidates = np.split(vectors, [len(asked.queries)])
    return assess_ranks(asked.ranks(lambda numbers: queries[numbers] @ candidates.T))


def unit(vectors: Floats) -> Floats:
    """Return vectors made one long; 0 stays 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


# ------------------------------------------------------------------------------------------------
# What words alone can do


class WordVectors:
    """TF-IDF of words and pairs of words (Chinese: characters), as `bag` weighs them, of the very texts compared."""

    def __init__(self, texts: Sequence[str]) -> None:
        tokenizer = train_tokenizer(texts, kind="char")
        rows = [np.array(ids) for ids in tokenizer.encode_batch(texts)]
        keys, owners = all_ngrams(rows, Alphabet.of(tokenizer), 2, 0)[0]
        distinct, features = np.unique(keys, return_inverse=True)
        self.owners, self.features, counts = count_pairs(owners, features, len(distinct))
        spread = np.bincount(self.features, minlength=len(distinct))
        scale = np.log((1 + len(texts)) / (1 + spread)) + 1
        self.values = weigh(counts, self.owners, len(texts), scale[self.features], "tfidf")
        self.starts = np.searchsorted(self.owners, np.arange(len(texts) + 1))

    def of(self, text: int) -> slice:
        """Return where a text's features stand."""
        return slice(self.starts[text], self.starts[text + 1])

    def compare(self, queries: Iterable[int], begin: int) -> Floats:
        """Return the cosine of texts, by number, with all from number `begin` on, (B, C)."""
        count = len(self.starts) - 1 - begin
        inside = slice(self.starts[begin], None)
        rows = []
        for query in queries:
            weights = np.zeros(self.features.max(initial=-1) + 1, np.float32)
            own = self.of(query)
            weights[self.features[own]] = self.values[own]
            shares = weights[self.features[inside]] * self.values[inside]
            rows.append(np.bincount(self.owners[inside] - begin, shares, count))
        return np.array(rows, np.float32)


def tfidf_baseline(examples: Sequence[TextPair]) -> Assessment:
    """Return what the cosine of TF-IDF vectors makes of pairs; how rare words are is counted in these texts."""
    if kind_of_pairs(examples) == "scored":
        vectors = WordVectors([text for each in examples for text in (each.text, each.positive)])
        near = [vectors.compare([2 * n], 2 * n + 1)[0, 0] for n in range(len(examples))]
        return assess_likeness(np.array(near, np.float64), np.array([each.score for each in examples]))
    asked = Retrieval.of(examples)
    first = len(asked.queries)
    vectors = WordVectors([*asked.queries, *asked.candidates])
    return assess_ranks(asked.ranks(lambda numbers: vectors.compare(numbers.tolist(), first)))
