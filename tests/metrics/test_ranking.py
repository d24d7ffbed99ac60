"""Ranking scores: exact by hand, nDCG and average precision against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from langmill.core.errors import DataError
from langmill.metrics.ranking import (
    average_precision_at_hits,
    discounted_gain,
    ranking_scores,
    recall_at,
    reciprocal_rank,
)


def test_one_query_by_hand():
    found = [0, 1, 0, 1]
    assert [recall_at(found, k, relevant=3) for k in (1, 2, 4, 9)] == [0, 1 / 3, 2 / 3, 2 / 3]
    assert reciprocal_rank(found) == 1 / 2
    assert average_precision_at_hits(found, relevant=3) == pytest.approx((1 / 2 + 2 / 4) / 3)
    best = 1 + 1 / math.log2(3) + 1 / 2
    assert discounted_gain(found, 4, wanted=[1, 1, 1]) == pytest.approx(
        (1 / math.log2(3) + 1 / math.log2(5)) / best
    )
    assert discounted_gain([1, 3], 1, wanted=[1, 3, 2]) == pytest.approx(1 / 3)


def test_nothing_found_is_0():
    for found in ([], [0, 0]):
        assert recall_at(found, 5, relevant=2) == reciprocal_rank(found) == 0
        assert average_precision_at_hits(found, relevant=2) == discounted_gain(found, 5, wanted=[1, 1]) == 0


def test_full_rankings_equal_scikit_learn():
    generator = np.random.default_rng(1)
    for _ in range(300):
        count = int(generator.integers(2, 20))
        grades = generator.integers(0, 4, size=count)
        grades[0] = 1
        scores = generator.permutation(count).astype(float)
        found = grades[np.argsort(-scores)]
        for k in (1, 3, 50):
            expected = reference.ndcg_score([grades], [scores], k=k)
            assert discounted_gain(found, k, wanted=grades) == pytest.approx(expected, abs=1e-12)
        expected = reference.average_precision_score(grades > 0, scores)
        mine = average_precision_at_hits(found, relevant=int((grades > 0).sum()))
        assert mine == pytest.approx(expected, abs=1e-12)


def test_scores_come_by_query_in_order():
    found, wanted = [[0, 1], [2, 0], [0, 0]], [[1], [2, 1], [1]]
    scores = ranking_scores(found, wanted=wanted, cutoffs=(1, 2))
    assert list(scores) == ["recall@1", "ndcg@1", "recall@2", "ndcg@2", "mrr", "map"]
    assert scores["recall@1"].tolist() == [0, 0.5, 0]
    assert scores["recall@2"].tolist() == [1, 0.5, 0]
    assert scores["mrr"].tolist() == [0.5, 1, 0]
    assert scores["map"].tolist() == [0.5, 0.5, 0]
    assert scores["ndcg@1"].tolist() == [0, 1, 0]


def test_what_cannot_be_scored_is_an_error():
    with pytest.raises(DataError, match="0 examples"):
        ranking_scores([])
    with pytest.raises(DataError, match=r"nothing is relevant to query 1 \(from 0\)"):
        ranking_scores([[1], [0, 0]])
