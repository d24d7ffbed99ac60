"""ROC and precision-recall curves equal scikit-learn's; ties share a point."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn import metrics as reference

from langmill.metrics.classification import indicator
from langmill.metrics.curves import (
    average_precision,
    per_class,
    precision_recall_curve,
    roc_auc,
    roc_curve,
)


def random_cases(count: int, seed: int):
    """Yield truth and scores with many ties, both classes present."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        size = int(generator.integers(2, 30))
        truth = generator.random(size) < generator.random()
        truth[:2] = [False, True]
        yield truth, np.round(generator.random(size) + 0.3 * truth, int(generator.integers(1, 4)))


def test_areas_equal_scikit_learn_in_1000_random_cases():
    for truth, scores in random_cases(1000, seed=1):
        assert roc_auc(truth, scores) == pytest.approx(reference.roc_auc_score(truth, scores), abs=1e-12)
        expected = reference.average_precision_score(truth, scores)
        assert average_precision(truth, scores) == pytest.approx(expected, abs=1e-12)


def test_curves_equal_scikit_learn():
    for truth, scores in random_cases(200, seed=2):
        curve = roc_curve(truth, scores)
        for mine, theirs in zip(
            (curve.x, curve.y, curve.thresholds),
            reference.roc_curve(truth, scores, drop_intermediate=False),
        ):
            assert np.allclose(mine, theirs, rtol=0, atol=1e-14)
        curve = precision_recall_curve(truth, scores)
        precision, recall, thresholds = reference.precision_recall_curve(truth, scores)
        assert np.allclose(curve.x, recall[::-1], rtol=0, atol=1e-14)
        assert np.allclose(curve.y, precision[::-1], rtol=0, atol=1e-14)
        assert np.array_equal(curve.thresholds[1:], thresholds[::-1])


def test_area_is_the_share_of_pairs_in_order_with_ties_half():
    truth, scores = [1, 0, 1, 0, 1], [0.3, 0.3, 0.9, 0.5, 0.5]
    pairs = [
        (a > b) + (a == b) / 2
        for (a, one), (b, other) in itertools.product(zip(scores, truth), repeat=2)
        if one and not other
    ]
    assert roc_auc(truth, scores) == sum(pairs) / len(pairs) == 4 / 6
    curve = roc_curve(truth, scores)
    assert roc_auc(truth, scores) == pytest.approx(reference.auc(curve.x, curve.y))


def test_all_scores_equal_say_nothing():
    assert roc_auc([0, 1, 1], [0.5] * 3) == 0.5
    assert average_precision([0, 1, 1], [0.5] * 3) == pytest.approx(2 / 3)
    assert roc_curve([0, 1, 1], [0.5] * 3).thresholds.tolist() == [math.inf, 0.5]


def test_one_class_alone_is_not_defined():
    for truth in ([1, 1], [0, 0], []):
        assert math.isnan(roc_auc(truth, np.arange(len(truth))))
    assert math.isnan(average_precision([0, 0], [0.1, 0.2]))
    assert math.isnan(average_precision([], []))
    assert average_precision([1, 1], [0.1, 0.2]) == 1.0
    assert np.isnan(roc_curve([1, 1], [0.1, 0.2]).x).all()


def test_classes_against_the_rest_equal_scikit_learn():
    generator = np.random.default_rng(7)
    truth = np.concatenate([np.arange(4), generator.integers(4, size=60)])
    scores = generator.dirichlet(np.ones(4), size=64) + 0.3 * np.eye(4)[truth]
    scores /= scores.sum(axis=1, keepdims=True)
    flags = indicator(truth, classes=4)
    expected = reference.roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    assert per_class(roc_auc, flags, scores).mean() == pytest.approx(expected, abs=1e-12)
    expected = reference.average_precision_score(flags, scores, average="macro")
    assert per_class(average_precision, flags, scores).mean() == pytest.approx(expected, abs=1e-12)
    absent = per_class(roc_auc, indicator([0, 0, 1], classes=3), np.eye(3))
    assert np.isnan(absent).tolist() == [False, False, True]
