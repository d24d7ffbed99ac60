"""Spearman's correlation beside scipy's, and intervals by hand. [tests]"""

from __future__ import annotations

import math

import numpy as np
import pytest

from langmill.metrics.association import average_ranks, share_interval, spearman, spearman_interval


@pytest.mark.parametrize("values", [3, 7, 1000])
def test_spearman_is_scipys_with_ties_and_without(values: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(values)
    for _ in range(5):
        one, other = random.integers(0, values, 50), random.integers(0, values, 50)
        np.testing.assert_allclose(average_ranks(one), stats.rankdata(one))
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


def test_spearman_where_there_is_nothing_to_correlate() -> None:
    assert spearman([1, 2, 3], [10, 20, 400]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([], [])) and math.isnan(spearman([1], [1]))


def test_intervals_by_hand() -> None:
    low, high = spearman_interval(0.5, 103)  # standard error sqrt(1.125 / 100)
    reach = 1.959963984540054 * math.sqrt(0.01125)
    assert (math.atanh(high) - math.atanh(0.5), math.atanh(0.5) - math.atanh(low)) == pytest.approx(
        (reach, reach)
    )
    assert spearman_interval(0.9, 3) == (-1, 1) == spearman_interval(math.nan, 0)
    assert spearman_interval(1.0, 9) == (1, 1)
    assert share_interval(5, 10) == pytest.approx((0.2365931, 0.7634069), abs=1e-6)
    assert share_interval(0, 0) == (0, 1)


def test_the_interval_of_spearman_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    truth = 6 / math.pi * math.asin(0.6 / 2)  # of a normal distribution whose correlation is 0.6
    inside = 0
    for _ in range(400):
        one, noise = random.normal(size=(2, 60))
        low, high = spearman_interval(spearman(one, 0.6 * one + 0.8 * noise), 60)
        inside += low < truth < high
    assert 0.92 < inside / 400 < 0.98
