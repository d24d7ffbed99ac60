"""Calibration: exact by hand, temperatures against scipy's minimiser, gains where logits were spoilt."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics as reference

from langmill.core.errors import DataError
from langmill.metrics.calibration import (
    BINS,
    TEMPERATURES,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities_of,
    reliability,
)


def drawn_labels(probabilities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw a class from each row of probabilities: the truth for which they are calibrated."""
    return (probabilities.cumsum(axis=1) < generator.random((len(probabilities), 1))).sum(axis=1)


def test_reliability_by_hand():
    probabilities = [[0.95, 0.05], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]
    result = reliability(probabilities, [0, 1, 0, 1], bins=10)
    assert result.edges.tolist() == pytest.approx(np.arange(11) / 10)
    assert result.counts.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1, 1], "an upper edge belongs to its bin"
    assert result.accuracy[[4, 5, 8, 9]].tolist() == [0, 1, 0, 1]
    assert result.confidence[[4, 5, 8, 9]].tolist() == [0.5, 0.6, 0.9, 0.95]
    assert np.isnan(result.accuracy[0]) and np.isnan(result.confidence[0])
    assert result.expected_error == pytest.approx((0.5 + 0.4 + 0.9 + 0.05) / 4)
    assert result.maximum_error == pytest.approx(0.9)


def test_error_equals_the_definition_written_out():
    generator = np.random.default_rng(1)
    for _ in range(200):
        probabilities = generator.dirichlet(np.ones(3) / 2, size=40)
        truth = generator.integers(3, size=40)
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
        expected = 0.0
        for m in range(1, BINS + 1):
            inside = (confidence > (m - 1) / BINS) & (confidence <= m / BINS)
            if inside.any():
                expected += inside.sum() / 40 * abs(right[inside].mean() - confidence[inside].mean())
        assert expected_calibration_error(probabilities, truth) == pytest.approx(expected, abs=1e-12)


def test_several_labels_are_predictions_of_their_own():
    # With confidence 0.9 and 0.6 right, with 0.8 wrong, with 0.55 right.
    result = reliability([[0.9, 0.2], [0.4, 0.55]], [[1, 1], [0, 1]], bins=10)
    assert np.flatnonzero(result.counts).tolist() == [5, 7, 8] and result.counts[5] == 2
    assert result.expected_error == pytest.approx((0.1 + 0.4 + 0.8 + 0.45) / 4)


def test_certainty_falls_into_the_last_bin():
    assert reliability([[1.0, 0.0], [0.0, 1.0]], [0, 1]).counts[-1] == 2
    assert expected_calibration_error([[1.0, 0.0], [0.0, 1.0]], [0, 1]) == 0.0


def test_brier_score_equals_scikit_learn():
    generator = np.random.default_rng(2)
    probabilities, truth = generator.dirichlet(np.ones(4), size=50), generator.integers(4, size=50)
    expected = np.mean([np.square(row - np.eye(4)[y]).sum() for row, y in zip(probabilities, truth)])
    assert brier_score(probabilities, truth) == pytest.approx(expected, abs=1e-14)
    positive = generator.random(50)
    binary = reference.brier_score_loss(truth % 2, positive)
    both = np.stack([1 - positive, positive], axis=1)
    assert brier_score(both, truth % 2) == pytest.approx(2 * binary, abs=1e-14)
    assert brier_score([[0.5, 0.9]], [[1, 0]]) == pytest.approx(0.25 + 0.81)


def test_negative_log_likelihood_equals_scikit_learn():
    generator = np.random.default_rng(3)
    logits, truth = generator.normal(0, 3, (40, 5)), generator.integers(5, size=40)
    expected = reference.log_loss(truth, probabilities_of(logits, temperature=2.0), labels=range(5))
    assert negative_log_likelihood(logits, truth, temperature=2.0) == pytest.approx(expected, abs=1e-12)
    flags = generator.random((40, 5)) < 0.4
    chances = probabilities_of(logits, multilabel=True)
    by_label = [reference.log_loss(flags[:, at], chances[:, at], labels=[0, 1]) for at in range(5)]
    assert negative_log_likelihood(logits, flags) == pytest.approx(sum(by_label), abs=1e-12)


def test_probabilities_do_not_overflow():
    assert probabilities_of([[1000.0, 0.0]]).tolist() == [[1.0, 0.0]]
    assert probabilities_of([[1000.0, -1000.0]], multilabel=True).tolist() == [[1.0, 0.0]]
    assert negative_log_likelihood([[0.0, 1000.0]], [0]) == 1000.0


@pytest.mark.parametrize("multilabel", [False, True])
def test_temperature_is_where_scipy_finds_the_least_loss(multilabel):
    generator = np.random.default_rng(4)
    for _ in range(20):
        logits = generator.normal(0, generator.uniform(0.5, 6), (60, 4)) + generator.normal(0, 50)
        if multilabel:
            logits -= logits.mean()
            truth = generator.random((60, 4)) < 1 / (1 + np.exp(-logits / 2))
        else:
            truth = drawn_labels(probabilities_of(logits / 2), generator)
        found = fit_temperature(logits, truth)
        best = minimize_scalar(
            lambda log, z, y: negative_log_likelihood(z, y, temperature=math.exp(log)),
            args=(logits, truth),
            bounds=tuple(np.log(TEMPERATURES)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert found == pytest.approx(math.exp(best.x), rel=1e-4)
        assert negative_log_likelihood(logits, truth, temperature=found) <= best.fun + 1e-12


def test_temperature_mends_logits_that_were_made_too_sure():
    generator = np.random.default_rng(5)
    honest = generator.normal(0, 2, (20_000, 3))
    truth = drawn_labels(probabilities_of(honest), generator)
    logits = honest * 2.5
    temperature = fit_temperature(logits, truth)
    assert temperature == pytest.approx(2.5, rel=0.03)
    before = expected_calibration_error(probabilities_of(logits), truth)
    after = expected_calibration_error(probabilities_of(logits, temperature=temperature), truth)
    assert before > 0.1 and after < 0.01


def test_temperature_stays_within_bounds_where_there_is_no_best_one():
    low, high = TEMPERATURES
    assert low <= fit_temperature([[1.0, 0.0], [0.0, 1.0]], [0, 1]) < 0.2, "nothing is wrong"
    assert fit_temperature([[1.0, 0.0], [0.0, 1.0]], [1, 0]) == pytest.approx(high), "all is wrong"


def test_no_examples_are_an_error():
    for call in (reliability, brier_score, negative_log_likelihood, fit_temperature):
        with pytest.raises(DataError, match="0 examples"):
            call(np.zeros((0, 2)), [])
