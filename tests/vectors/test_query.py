"""Questions to word vectors, by hand and beside gensim. [tests]"""

from __future__ import annotations

import numpy as np
import pytest
from vector_samples import WORDS, buckets_of, some_pieces

from langmill.core.errors import DataError
from langmill.vectors import query
from langmill.vectors.query import (
    analogy,
    most_similar,
    odd_one_out,
    similarity,
    vector_of,
    vectors_of,
)
from langmill.vectors.table import Subwords, WordVectors

PLANE = WordVectors(
    ["man", "king", "woman", "queen", "whale", "鲸"],
    np.float32([[1, 0, 0], [1, 1, 0], [0.9, 0, 1], [0.9, 1, 1], [-1, -1, 0.2], [0, 0, 0]]),
)


def test_likeness_by_hand() -> None:
    assert similarity(PLANE, "man", "king") == pytest.approx(np.sqrt(0.5))
    assert similarity(PLANE, "whale", "whale") == pytest.approx(1)
    assert similarity(PLANE, "鲸", "man") == 0  # of zeros, not a division by them


def test_similar_words_by_hand() -> None:
    found = most_similar(PLANE, ["king"], top=2)
    assert [word for word, _ in found] == ["queen", "man"]
    assert [score for _, score in found] == pytest.approx([1.9 / np.sqrt(2 * 2.81), np.sqrt(0.5)])
    assert [word for word, _ in most_similar(PLANE, ["king"], ["woman"])] == ["man", "鲸", "queen", "whale"]
    assert len(most_similar(PLANE, ["king"], top=99)) == 5


def test_analogies_by_hand() -> None:
    for method in ("add", "multiply"):
        assert analogy(PLANE, "man", "king", "woman", top=1, method=method)[0].word == "queen"
    cosine = {pair: (1 + similarity(PLANE, "queen", pair)) / 2 for pair in ("man", "king", "woman")}
    expected = cosine["king"] * cosine["woman"] / (cosine["man"] + 0.001)
    assert analogy(PLANE, "man", "king", "woman", method="multiply")[0].score == pytest.approx(expected)


def test_the_odd_one_by_hand() -> None:
    found = odd_one_out(PLANE, ["king", "whale", "queen", "man"])
    assert found[0].word == "whale" and found[0].score < 0 < found[1].score
    with pytest.raises(DataError, match="at least three words"):
        odd_one_out(PLANE, ["king", "man"])


def test_equal_scores_come_in_the_order_of_the_vocabulary() -> None:
    vectors = WordVectors(list("abcdef"), np.float32([[1, 0], [0, 1], [1, 1], [1, 1], [1, 1], [-1, 0]]))
    assert [word for word, _ in most_similar(vectors, ["a"], top=2)] == ["c", "d"]


def test_unknown_words_are_named_with_those_spelled_alike() -> None:
    with pytest.raises(DataError) as caught:
        vectors_of(PLANE, ["kimg", "man", "鲸鱼", "Queen", "zzz"])
    assert str(caught.value) == (
        "'Queen' is not among the 6 words of these vectors; did you mean queen?; 'kimg' is not among the 6 words of"
        " these vectors; did you mean king?; 'zzz' is not among the 6 words of these vectors; '鲸鱼' is not among the 6"
        " words of these vectors; did you mean 鲸?"
    )
    with pytest.raises(DataError, match="name at least one"):
        most_similar(PLANE, [])
    with pytest.raises(DataError, match="at least 1 word, given 0"):
        most_similar(PLANE, ["king"], top=0)


def test_an_unknown_word_is_the_mean_of_its_pieces() -> None:
    vectors = some_pieces()
    assert vectors.subwords is not None
    rows = buckets_of("北京人", 2, 4, 50)
    np.testing.assert_allclose(vector_of(vectors, "北京人"), vectors.subwords.matrix[rows].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(vector_of(vectors, "北京"), vectors.matrix[WORDS.index("北京")])
    assert most_similar(vectors, ["北京人"], top=1)[0].word in WORDS
    untouched = WordVectors(
        ["a"], np.ones((1, 2), np.float32), subwords=Subwords(np.zeros((9, 2), np.float32))
    )
    with pytest.raises(DataError, match="'北京' is not among"):
        vector_of(untouched, "北京")


def test_answers_are_gensims(monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = pytest.importorskip("gensim.models.keyedvectors")
    random = np.random.default_rng(5)
    words = [f"词{number}" for number in range(300)]
    vectors = WordVectors(words, random.normal(size=(300, 20)).astype(np.float32))
    theirs = keyed.KeyedVectors(20)
    theirs.add_vectors(words, vectors.matrix)
    monkeypatch.setattr(query, "EPSILON", 1e-6)
    for _ in range(20):
        chosen = [str(word) for word in random.choice(words, 5, replace=False)]
        positive, negative = chosen[:3], chosen[3:]
        same(most_similar(vectors, positive, negative), theirs.most_similar(positive, negative))
        same(most_similar(vectors, positive), theirs.most_similar(positive))
        same(most_similar(vectors, [], negative), theirs.most_similar([], negative))
        same(
            most_similar(vectors, positive, negative, method="multiply"),
            theirs.most_similar_cosmul(positive, negative),
        )
        assert odd_one_out(vectors, chosen)[0].word == theirs.doesnt_match(chosen)
        assert similarity(vectors, *chosen[:2]) == pytest.approx(theirs.similarity(*chosen[:2]), abs=1e-6)


def same(ours: list[query.Scored], theirs: list[tuple[str, float]]) -> None:
    assert [word for word, _ in ours] == [word for word, _ in theirs]
    np.testing.assert_allclose([score for _, score in ours], [score for _, score in theirs], rtol=1e-5)
