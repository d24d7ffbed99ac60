"""Bootstrap intervals: exact where the answer is known, honest coverage on a toy."""

from __future__ import annotations

import numpy as np
import pytest

from langmill.core.errors import ConfigError, DataError
from langmill.metrics import bootstrap
from langmill.metrics.bootstrap import MINIMUM_UNITS, paired_interval, ratio_interval


def test_interval_of_equal_ratios_is_that_ratio_exactly():
    interval = ratio_interval([3.0, 6.0, 12.0, 24.0, 1.5], [2, 4, 8, 16, 1])
    assert (interval.low, interval.high) == (1.5, 1.5)
    assert (interval.level, interval.unit, interval.units) == (0.95, "document", 5)


def test_interval_is_the_percentiles_of_ratios_of_sums_drawn_by_hand():
    above, below = [5.0, 1.0, 9.0, 4.0, 4.0, 7.0], [2.0, 3.0, 4.0, 1.0, 6.0, 5.0]
    draws = np.random.default_rng(7).integers(6, size=(1000, 6))
    ratios = [sum(above[i] for i in draw) / sum(below[i] for i in draw) for draw in draws]
    interval = ratio_interval(above, below, resamples=1000, seed=7, level=0.9)
    assert interval.low == pytest.approx(np.quantile(ratios, 0.05), rel=1e-12)
    assert interval.high == pytest.approx(np.quantile(ratios, 0.95), rel=1e-12)
    assert interval.resamples == 1000


def test_same_seed_same_interval_and_another_seed_another():
    generator = np.random.default_rng(0)
    above, below = generator.uniform(1, 9, 30), generator.uniform(1, 9, 30)
    assert ratio_interval(above, below, seed=3) == ratio_interval(above, below, seed=3)
    assert ratio_interval(above, below, seed=3) != ratio_interval(above, below, seed=4)


def test_drawing_in_small_portions_changes_nothing(monkeypatch):
    above, below = np.arange(1.0, 11.0), np.arange(10.0, 0.0, -1)
    whole = ratio_interval(above, below, resamples=1000)
    monkeypatch.setattr(bootstrap, "_CELLS", 70)
    assert ratio_interval(above, below, resamples=1000) == whole


def test_95_percent_intervals_cover_the_truth_about_95_times_in_100():
    generator = np.random.default_rng(11)
    trials, documents, truth, covered = 300, 60, 2.0, 0
    for trial in range(trials):
        lengths = generator.integers(50, 500, documents)
        bits = lengths * generator.normal(truth, 0.3, documents)
        interval = ratio_interval(bits, lengths, resamples=1000, seed=trial)
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / trials <= 0.98  # a standard error is 0.013; percentiles err to the low side


def test_more_documents_give_a_narrower_interval():
    generator = np.random.default_rng(5)
    ratios = generator.normal(2, 0.3, 1600)
    few, many = (ratio_interval(ratios[:n], np.ones(n)) for n in (100, 1600))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.25)


def test_empty_units_are_left_out():
    with_empty = ratio_interval([1.0, 0.0, 2.0, 3.0, 4.0, 6.0], [1, 0, 1, 1, 1, 1])
    assert with_empty == ratio_interval([1.0, 2.0, 3.0, 4.0, 6.0], [1, 1, 1, 1, 1])
    assert with_empty.units == 5


def test_paired_interval_of_a_constant_advantage_is_exact():
    below = np.array([8.0, 16.0, 4.0, 32.0, 64.0])
    b = np.array([11.0, 40.0, 5.0, 99.0, 70.0])
    result = paired_interval(b - below / 4, b, below)
    assert result.difference == -0.25
    assert result.interval.low == pytest.approx(-0.25, abs=1e-12)
    assert result.interval.high == pytest.approx(-0.25, abs=1e-12)
    assert result.lower_share == 1.0
    assert result.p_value == pytest.approx(2 / 2001)


def test_a_system_against_itself_is_no_difference():
    result = paired_interval([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0], [1, 2, 2, 2, 3])
    assert (result.difference, result.interval.low, result.interval.high) == (0.0, 0.0, 0.0)
    assert (result.lower_share, result.p_value) == (0.5, 1.0)


def test_pairing_sees_what_two_separate_intervals_cannot():
    generator = np.random.default_rng(2)
    below = np.ones(50)
    b = generator.normal(2, 0.5, 50)
    a = b - generator.normal(0.05, 0.02, 50)
    alone_a, alone_b = ratio_interval(a, below), ratio_interval(b, below)
    assert alone_a.high > alone_b.low
    result = paired_interval(a, b, below)
    assert result.interval.high < 0
    assert result.p_value < 0.01
    swapped = paired_interval(b, a, below)
    assert swapped.difference == pytest.approx(-result.difference)
    assert (swapped.lower_share, swapped.p_value) == (0.0, result.p_value)


@pytest.mark.parametrize("noise_seed", [1, 2, 3])
def test_p_value_is_large_for_noise(noise_seed):
    generator = np.random.default_rng(noise_seed)
    b = generator.normal(2, 0.5, 40)
    jitter = generator.normal(0, 0.1, 40)
    result = paired_interval(b + jitter - jitter.mean(), b, np.ones(40))
    assert result.interval.low < 0 < result.interval.high
    assert result.p_value > 0.5


def test_too_few_units_say_what_to_do():
    with pytest.raises(DataError, match=f"4 documents .* {MINIMUM_UNITS} are needed; give contiguous blocks"):
        ratio_interval([1.0] * 4, [1] * 4)
    with pytest.raises(DataError, match="0 documents"):
        ratio_interval([0.0] * 9, [0] * 9)


def test_errors_name_the_fault():
    good = [1.0, 2.0, 3.0, 4.0, 5.0]
    with pytest.raises(ConfigError, match="between 0 and 1, given 95"):
        ratio_interval(good, good, level=95)
    with pytest.raises(ConfigError, match="resamples must be at least 1, given 0"):
        ratio_interval(good, good, resamples=0)
    with pytest.raises(DataError, match="same units"):
        paired_interval(good, good[:4], good)
    with pytest.raises(DataError, match="not a number"):
        ratio_interval([float("nan"), *good[1:]], good)
    with pytest.raises(DataError, match="0 or more"):
        ratio_interval(good, [-1, 2, 3, 4, 5])
    with pytest.raises(DataError, match="numerators must be 0 too"):
        ratio_interval(good, [0, 2, 3, 4, 5])
