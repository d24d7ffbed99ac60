"""Intervals of any score, and whether one system is really better than another on the same examples. [metrics]

`bootstrap` resamples ratios of sums, such as bits per byte, accuracy or mean F1. Here the score may be any function
of the examples that are drawn: macro F1, the F1 of spans over a corpus, ROC AUC, Spearman's correlation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from langmill.core.errors import DataError
from langmill.metrics.bootstrap import (
    LEVEL,
    MINIMUM_UNITS,
    RESAMPLES,
    Floats,
    Indices,
    Interval,
    PairedDifference,
    check_settings,
    draw_units,
    paired_difference,
    percentile_interval,
)

IndexedScore = Callable[[Indices], float]
"""Returns the score of the examples with these indices; one may occur several times. NaN: not defined for them."""


@dataclass(frozen=True)
class McNemar:
    """How two systems differ in what they get right."""

    only_a: int
    """Examples that only a has right."""
    only_b: int
    p_value: float
    """Two-sided and exact: how likely so uneven a split is if each such example were a toss of a coin."""


def score_interval(
    score: IndexedScore,
    count: int,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    unit: str = "example",
) -> Interval:
    """Return the percentile bootstrap interval of a score of `count` examples (units, such as sentences).

    Draws for which the score is not defined are left out; `resamples` of the interval says how many were not.
    Raises DataError with fewer than `MINIMUM_UNITS` examples, or where fewer than half of the draws have a score.

    >>> right = np.array([1, 1, 1, 0, 1, 1, 0, 1])
    >>> interval = score_interval(lambda drawn: right[drawn].mean(), len(right))
    >>> (interval.low, interval.high)
    (0.5, 1.0)
    """
    drawn = _draw([score], count, level=level, resamples=resamples, seed=seed)[0]
    return percentile_interval(drawn, level=level, unit=unit, units=count)


def score_difference(
    score_a: IndexedScore,
    score_b: IndexedScore,
    count: int,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    unit: str = "example",
) -> PairedDifference:
    """Compare two systems on the same `count` examples, a's score minus b's: the paired bootstrap.

    Koehn 2004; see `bootstrap`. Both are scored on the same draws. Raises as `score_interval` does.
    """
    a, b = _draw([score_a, score_b], count, level=level, resamples=resamples, seed=seed)
    every = np.arange(count)
    return paired_difference(
        float(score_a(every)) - float(score_b(every)), a - b, level=level, unit=unit, units=count
    )


def mcnemar(right_a: npt.ArrayLike, right_b: npt.ArrayLike) -> McNemar:
    """Compare what two systems have right of the same examples, by McNemar's test in its exact form.

    McNemar 1947; Dietterich 1998, "Approximate Statistical Tests for Comparing Supervised Classification Learning
    Algorithms". right_a, right_b: `(N,)`, true where the system is right. p is 1 where they never differ.

    >>> mcnemar([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1, 1])
    McNemar(only_a=5, only_b=1, p_value=0.21875)
    """
    a, b = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    assert a.ndim == 1 and a.shape == b.shape
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return McNemar(only_a, only_b, _sign_test(only_a, only_b))


def _sign_test(one: int, other: int) -> float:
    """Return the two-sided binomial probability of a split at least as uneven, with even chances."""
    count, fewer = one + other, min(one, other)
    ways = total = 1  # whole numbers, so exact; (n over k) = (n over k - 1) (n - k + 1) / k
    for k in range(1, fewer + 1):
        ways = ways * (count - k + 1) // k
        total += ways
    return min(1.0, 2 * total / 2**count)


def _draw(scores: list[IndexedScore], count: int, *, level: float, resamples: int, seed: int) -> Floats:
    """Return the scores of the draws for which all are defined, `(len(scores), resamples or fewer)`."""
    check_settings(level=level, resamples=resamples)
    if count < MINIMUM_UNITS:
        raise DataError(
            f"{count} examples are too few for an interval, {MINIMUM_UNITS} are needed; score more of them"
        )
    rows = (row for drawn in draw_units(count, resamples=resamples, seed=seed) for row in drawn)
    values = np.array([[score(row) for score in scores] for row in rows], dtype=np.float64).T
    defined = values[:, ~np.isnan(values).any(axis=0)]
    if 2 * defined.shape[1] < resamples:
        raise DataError(
            f"the score is defined in only {defined.shape[1]} of {resamples} resamples of {count} examples:"
            " too little for an interval; score more examples of every class"
        )
    return defined
