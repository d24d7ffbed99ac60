"""Rank correlation and shares, with intervals. [metrics]"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
"""Within so many standard errors lies 95 % of a normal distribution."""


def average_ranks(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return each value's rank from 1; equal values share the mean of theirs.

    >>> average_ranks([10, 30, 20, 30]).tolist()
    [1.0, 3.5, 2.0, 3.5]
    """
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def spearman(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation, ties included: Pearson's of the ranks.

    NaN where one side is constant or there are less than two values.

    >>> spearman([1, 2, 3, 4], [1, 2, 4, 3])
    0.8
    """
    a, b = (average_ranks(values) for values in (one, other))
    assert a.shape == b.shape
    if len(a) < 2:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def spearman_interval(correlation: float, count: int) -> tuple[float, float]:
    """Return a 95 % interval of Spearman's correlation of `count` pairs.

    Fisher's transformation with the standard error sqrt((1 + r² / 2) / (n - 3)) of Bonett and Wright 2000,
    "Sample size requirements for estimating Pearson, Kendall and Spearman correlations". Up to three pairs say
    nothing: (-1, 1).
    """
    if count <= 3 or not abs(correlation) < 1:
        return (correlation, correlation) if count > 3 and abs(correlation) == 1 else (-1.0, 1.0)
    reach = Z95 * math.sqrt((1 + correlation**2 / 2) / (count - 3))
    return math.tanh(math.atanh(correlation) - reach), math.tanh(math.atanh(correlation) + reach)


def share_interval(hits: int, count: int) -> tuple[float, float]:
    """Return a 95 % interval of a share (Wilson 1927); (0, 1) of nothing.

    >>> [round(bound, 4) for bound in share_interval(0, 10)]
    [0.0, 0.2775]
    """
    if not count:
        return 0.0, 1.0
    share, weight = hits / count, Z95**2 / count
    middle = (share + weight / 2) / (1 + weight)
    reach = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return max(0.0, middle - reach), min(1.0, middle + reach)
