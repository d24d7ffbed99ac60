"""Intervals and comparisons of any score: equal to those of ratios, to scipy's tests, and honest in the limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from langmill.core.errors import ConfigError, DataError
from langmill.metrics.association import spearman
from langmill.metrics.bootstrap import paired_interval, ratio_interval
from langmill.metrics.classification import classification_scores
from langmill.metrics.curves import roc_auc
from langmill.metrics.significance import McNemar, mcnemar, score_difference, score_interval


def test_a_mean_has_the_interval_of_a_ratio_of_sums():
    values = np.random.default_rng(1).normal(size=40)
    general = score_interval(lambda drawn: float(values[drawn].mean()), 40, seed=3, unit="document")
    special = ratio_interval(values, np.ones(40), seed=3)
    assert (general.low, general.high) == pytest.approx((special.low, special.high), abs=1e-12)
    assert (general.unit, general.units, general.resamples) == ("document", 40, 2000)


def test_a_difference_of_means_is_that_of_ratios_of_sums():
    a, b = np.random.default_rng(2).normal(size=(2, 40))
    general = score_difference(lambda drawn: float(a[drawn].mean()), lambda drawn: float(b[drawn].mean()), 40)
    special = paired_interval(a, b, np.ones(40))
    assert general.difference == pytest.approx(special.difference)
    assert general.interval.low == pytest.approx(special.interval.low)
    assert (general.lower_share, general.p_value) == (special.lower_share, special.p_value)
    assert general.interval.unit == "example"


def test_interval_of_macro_f1_is_drawn_as_by_hand():
    truth, predicted = np.random.default_rng(3).integers(3, size=(2, 25))

    def macro(drawn):
        return classification_scores(truth[drawn], predicted[drawn], classes=3).macro.f1

    interval = score_interval(macro, 25, resamples=300, seed=5, level=0.9)
    by_hand = [macro(row) for row in np.random.default_rng(5).integers(25, size=(300, 25))]
    assert interval.low == np.quantile(by_hand, 0.05)
    assert interval.high == pytest.approx(np.quantile(by_hand, 0.95))


def test_a_better_system_is_told_from_an_equal_one():
    generator = np.random.default_rng(4)
    truth = generator.integers(4, size=400)
    guess = generator.integers(4, size=400)
    good, same, better = (np.where(generator.random(400) < share, truth, guess) for share in (0.6, 0.6, 0.9))

    def macro(predicted):
        return lambda drawn: classification_scores(truth[drawn], predicted[drawn], classes=4).macro.f1

    real = score_difference(macro(better), macro(good), 400, resamples=500)
    assert real.difference > 0.1 and real.interval.low > 0 and real.p_value < 0.01
    chance = score_difference(macro(same), macro(good), 400, resamples=500)
    assert chance.interval.low < 0 < chance.interval.high and chance.p_value > 0.05


def test_draws_without_a_score_are_left_out_and_counted():
    truth, scores = np.array([1, 0, 0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3, 0.95, 0.5])
    interval = score_interval(lambda drawn: roc_auc(truth[drawn], scores[drawn]), 6, resamples=1000)
    # The one positive is missing from a draw of six with the chance (5 / 6) ** 6 = 0.335.
    assert interval.resamples == pytest.approx(1000 * (1 - (5 / 6) ** 6), abs=60)
    assert not math.isnan(interval.low)
    with pytest.raises(DataError, match="defined in only 0 of 2000 resamples of 6 examples"):
        score_interval(lambda drawn: spearman(np.ones(6), scores[drawn]), 6)


def test_a_draw_needs_a_score_of_both_systems():
    def never_without_the_first(drawn):
        return float(drawn.mean()) if 0 in drawn else math.nan

    result = score_difference(never_without_the_first, lambda drawn: 0.0, 8, resamples=1000)
    assert result.interval.resamples == pytest.approx(1000 * (1 - (7 / 8) ** 8), abs=60)
    assert result.interval.low > 0 and result.lower_share == 0


def test_errors_name_the_fault():
    with pytest.raises(DataError, match="4 examples are too few for an interval, 5 are needed"):
        score_interval(lambda drawn: 1.0, 4)
    with pytest.raises(DataError, match="0 examples are too few"):
        score_difference(lambda drawn: 1.0, lambda drawn: 1.0, 0)
    with pytest.raises(ConfigError, match="between 0 and 1, given 95"):
        score_interval(lambda drawn: 1.0, 9, level=95)
    with pytest.raises(ConfigError, match="at least 1, given 0"):
        score_interval(lambda drawn: 1.0, 9, resamples=0)


def test_mcnemar_equals_the_binomial_test_of_scipy():
    generator = np.random.default_rng(6)
    for count in (1, 2, 7, 40, 300, 5000):
        a, b = generator.random((2, count)) < [[0.8], [0.77]]
        result = mcnemar(a, b)
        assert result.only_a == sum(x and not y for x, y in zip(a, b))
        assert result.only_b == sum(y and not x for x, y in zip(a, b))
        differ = result.only_a + result.only_b
        expected = stats.binomtest(result.only_a, differ, 0.5).pvalue if differ else 1.0
        assert result.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_without_a_difference_and_with_every_difference():
    assert mcnemar([True, False], [True, False]) == McNemar(0, 0, 1.0)
    assert mcnemar([], []).p_value == 1.0
    assert mcnemar([1] * 10, [0] * 10).p_value == 2 / 2**10
    assert mcnemar([1, 0], [0, 1]).p_value == 1.0
    assert mcnemar([1] * 2000, [0] * 2000).p_value == 0.0, "too small for a float, and no error"
