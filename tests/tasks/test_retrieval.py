"""Ranks of what belongs together, correlations, and TF-IDF."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from langmill.core.errors import DataError
from langmill.tasks.retrieval import (
    Retrieval,
    WordVectors,
    assess_likeness,
    assess_pairs,
    kind_of_pairs,
    tfidf_baseline,
)
from langmill.text.labelled_pairs import TextPair

PLACES = {"a": (1, 0), "b": (0, 1), "A": (1, 0.1), "B": (0.9, 0.5), "C": (0, 3)}


def encode(texts):
    return np.array([PLACES[text] for text in texts], np.float32)


def test_ranks_by_hand():
    # a: A, B, C; b: C, B, A.
    found = assess_pairs([TextPair("a", "A"), TextPair("b", "B", ("C",))], encode)
    assert found.right.tolist() == [True, False]
    assert found.main == "mrr"
    assert found.figures["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert found.figures["recall_at_k"] == {"1": 0.5, "5": 1.0, "10": 1.0}
    assert found.figures["recall_at_1"] == 0.5
    assert found.score(np.array([1, 1])) == 0.5


def test_what_else_belongs_to_a_query_is_not_counted_against_it():
    found = assess_pairs([TextPair("a", "A"), TextPair("a", "B"), TextPair("b", "C")], encode)
    assert found.right.tolist() == [True, True, True]


def test_the_query_itself_is_not_found():
    found = assess_pairs([TextPair("a", "A"), TextPair("A", "a"), TextPair("B", "C")], encode)
    assert found.right.tolist() == [True, True, False]


def test_equal_likeness_counts_as_found_before():
    pairs = [TextPair("a", "A"), TextPair("b", "B")]
    found = assess_pairs(pairs, lambda texts: np.ones((len(texts), 2), np.float32))
    assert found.figures["mrr"] == 0.5 and not found.right.any()


def test_many_queries_are_compared_in_blocks():
    draw = np.random.default_rng(0)
    table = {f"{kind}{n}": draw.normal(size=8) for kind in "qc" for n in range(600)}
    pairs = [TextPair(f"q{n}", f"c{n}") for n in range(600)]
    asked = Retrieval.of(pairs)
    queries = np.array([table[text] for text in asked.queries])
    candidates = np.array([table[text] for text in asked.candidates])
    ranks = asked.ranks(lambda numbers: (queries[numbers] @ candidates.T).astype(np.float32))
    scores = queries @ candidates.T
    assert ranks.tolist() == [(scores[n] >= scores[n, n]).sum() for n in range(600)]


def test_likeness():
    found = assess_likeness(np.array([0.1, 0.5, 0.9, 0.4]), np.array([1.0, 3.0, 4.0, 2.0]))
    assert found.figures["spearman"] == pytest.approx(1.0)
    assert found.figures["pearson"] == pytest.approx(np.corrcoef([0.1, 0.5, 0.9, 0.4], [1, 3, 4, 2])[0, 1])
    assert found.right.all()
    flat = assess_likeness(np.zeros(3), np.arange(3.0))
    assert flat.figures == {"spearman": None, "pearson": None}


def test_scored_pairs_by_their_cosine():
    pairs = [TextPair("a", "A", score=5), TextPair("a", "B", score=3), TextPair("a", "C", score=0)]
    assert assess_pairs(pairs, encode).figures["spearman"] == pytest.approx(1.0)


def test_kinds_and_mistakes():
    scored, plain, single = (
        TextPair("a", "A", score=1.0),
        TextPair("a", "A", source="f:2"),
        TextPair("a", "a"),
    )
    assert [kind_of_pairs([each]) for each in (scored, plain, single)] == ["scored", "pairs", "single"]
    assert kind_of_pairs([single, plain]) == "pairs"
    with pytest.raises(DataError, match=r"^f:2: no score, which other rows have"):
        kind_of_pairs([scored, plain])
    with pytest.raises(DataError, match=r"^g:1: a score and texts that do not belong"):
        kind_of_pairs([TextPair("a", "A", ("B",), 1.0, "g:1")])
    with pytest.raises(DataError, match="do not say which belong together"):
        assess_pairs([single], encode)


TEXTS = [
    "the mill turns the wheel",
    "a wheel of the mill",
    "raw text into models",
    "the text",
    "one command line, one mill",
]


def test_word_vectors_are_those_of_scikit_learn():
    vectors = WordVectors(TEXTS)
    theirs = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\w+|,")
    wanted = theirs.fit_transform(TEXTS).toarray()
    found = vectors.compare([0, 3], 1)
    np.testing.assert_allclose(found, (wanted @ wanted.T)[[0, 3], 1:], atol=1e-6)
    assert 0 < found[0, 0] < 1


def test_baseline_finds_shared_words_in_both_languages():
    pairs = [
        TextPair("where is the mill", "the mill stands by the river"),
        TextPair("who sings", "she sings at night"),
        TextPair("磨坊在哪里", "磨坊在河边"),
        TextPair("谁在唱歌", "她晚上唱歌"),
    ]
    assert tfidf_baseline(pairs).figures["recall_at_1"] == 1.0
    scored = [TextPair("a b", "a b", score=2), TextPair("a b", "a c", score=1), TextPair("a b", "d", score=0)]
    assert tfidf_baseline(scored).figures["spearman"] == pytest.approx(1.0)
