"""Class scores equal scikit-learn's, exact where they can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from langmill.core.errors import DataError
from langmill.metrics.classification import (
    Score,
    accuracy,
    classification_scores,
    confusion_matrix,
    indicator,
    multilabel_scores,
    score_table,
)

AVERAGES = ("micro", "macro", "weighted")


def close(score: Score, expected: tuple) -> bool:
    """Compare with what scikit-learn's precision_recall_fscore_support returns."""
    return np.allclose([score.precision, score.recall, score.f1], expected[:3], rtol=0, atol=1e-14)


def test_scores_counted_by_hand():
    #        truth 0 0 0 1 1 2, of which class 2 is never predicted and class 3 never true
    table = classification_scores([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 3, 0], classes=5)
    assert table.per_class[0] == Score(2 / 3, 2 / 3, 2 / 3, 3)
    assert table.per_class[1] == Score(1 / 2, 1 / 2, 1 / 2, 2)
    assert table.per_class[2] == Score(0.0, 0.0, 0.0, 1)
    assert table.per_class[3] == Score(0.0, 0.0, 0.0, 0)
    assert table.per_class[4] == Score(0.0, 0.0, 0.0, 0)
    assert table.macro.f1 == pytest.approx((2 / 3 + 1 / 2) / 4), "class 4 occurs nowhere and does not count"
    assert table.micro == Score(0.5, 0.5, 0.5, 6)
    assert table.weighted.f1 == pytest.approx((3 * 2 / 3 + 2 * 1 / 2) / 6)


def test_1000_random_cases_equal_scikit_learn():
    generator = np.random.default_rng(3)
    for _ in range(1000):
        classes, count = int(generator.integers(1, 7)), int(generator.integers(1, 30))
        truth = generator.integers(classes, size=count)
        predicted = np.where(generator.random(count) < 0.5, truth, generator.integers(classes, size=count))
        table = classification_scores(truth, predicted, classes=classes)
        assert accuracy(truth, predicted) == reference.accuracy_score(truth, predicted)
        for average in AVERAGES:
            expected = reference.precision_recall_fscore_support(
                truth, predicted, average=average, zero_division=0
            )
            assert close(getattr(table, average), expected), average
        every = reference.precision_recall_fscore_support(
            truth, predicted, labels=range(classes), zero_division=0
        )
        for at in range(classes):
            assert close(table.per_class[at], [column[at] for column in every])
            assert table.per_class[at].support == every[3][at]


def test_averages_over_given_classes_equal_scikit_learn():
    generator = np.random.default_rng(4)
    for _ in range(200):
        truth, predicted = generator.integers(5, size=(2, 12))
        chosen = sorted(generator.choice(6, size=int(generator.integers(1, 6)), replace=False).tolist())
        table = classification_scores(truth, predicted, classes=6, averaged=chosen)
        for average in AVERAGES:
            expected = reference.precision_recall_fscore_support(
                truth, predicted, labels=chosen, average=average, zero_division=0
            )
            assert close(getattr(table, average), expected), (average, chosen)


def test_1000_random_multilabel_cases_equal_scikit_learn():
    generator = np.random.default_rng(5)
    for _ in range(1000):
        shape = (int(generator.integers(1, 12)), int(generator.integers(2, 6)))
        density = generator.random(shape[1])  # some labels hold nearly never
        truth = generator.random(shape) < density
        predicted = truth ^ (generator.random(shape) < 0.3)
        table = multilabel_scores(truth, predicted)
        assert accuracy(truth, predicted) == reference.accuracy_score(truth, predicted)
        for average in AVERAGES:
            expected = reference.precision_recall_fscore_support(
                truth, predicted, average=average, zero_division=0
            )
            assert close(getattr(table, average), expected), average


def test_confusion_matrix_equals_scikit_learn():
    truth, predicted = np.random.default_rng(6).integers(4, size=(2, 50))
    expected = reference.confusion_matrix(truth, predicted, labels=range(6))
    assert np.array_equal(confusion_matrix(truth, predicted, classes=6), expected)
    assert confusion_matrix([], [], classes=2).tolist() == [[0, 0], [0, 0]]


def test_a_single_class_is_perfect():
    table = classification_scores([0, 0, 0], [0, 0, 0], classes=1)
    assert table.micro == table.macro == table.weighted == table.per_class[0] == Score(1.0, 1.0, 1.0, 3)


def test_averages_of_nothing_are_0():
    nothing = Score(0.0, 0.0, 0.0, 0)
    table = score_table([], np.zeros((0, 3)))
    assert (table.micro, table.macro, table.weighted) == (nothing,) * 3
    assert classification_scores([0, 1], [1, 0], classes=3, averaged=[2]).macro == nothing
    assert multilabel_scores([[0, 0]], [[0, 0]]).micro == nothing


def test_no_examples_are_an_error():
    for call in (
        lambda: accuracy([], []),
        lambda: classification_scores([], [], classes=2),
        lambda: multilabel_scores(np.zeros((0, 3)), np.zeros((0, 3))),
    ):
        with pytest.raises(DataError, match="0 examples; give data with at least one"):
            call()


def test_ids_out_of_range_are_our_mistake():
    for ids in ([0, 2], [-1, 0]):
        with pytest.raises(AssertionError, match="out of range"):
            confusion_matrix(ids, [0, 1], classes=2)


def test_indicator_has_one_flag_a_row():
    assert indicator([2, 0], classes=3).tolist() == [[False, False, True], [True, False, False]]
