"""What a score can tell apart, whatever the threshold: ROC and precision-recall curves, and their areas. [metrics]

With more than two classes, each is set against the rest, and the mean over classes is the score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from langmill.metrics.association import average_ranks
from langmill.metrics.classification import Flags, Floats


@dataclass(frozen=True)
class Curve:
    """The points of a curve, from the highest threshold to the lowest; examples with equal scores share a point."""

    x: Floats
    y: Floats
    thresholds: Floats
    """An example is taken for positive where its score is at least this; the first, infinite, takes none."""


def roc_curve(truth: npt.ArrayLike, scores: npt.ArrayLike) -> Curve:
    """Return the share of negatives that are taken for positive (x) and that of positives (y), from 0 to 1.

    truth: `(N,)`, true for positives. scores: `(N,)`, higher for what is rather positive. A share of nothing is
    NaN.

    >>> curve = roc_curve([0, 1, 0, 1], [0.1, 0.4, 0.35, 0.8])
    >>> (curve.x.tolist(), curve.y.tolist())
    ([0.0, 0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0, 1.0])
    """
    right, taken, thresholds = _cumulative(truth, scores)
    positives, negatives = right[-1], taken[-1] - right[-1]
    return Curve(
        (taken - right) / (negatives or math.nan),
        right / (positives or math.nan),
        thresholds,
    )


def precision_recall_curve(truth: npt.ArrayLike, scores: npt.ArrayLike) -> Curve:
    """Return recall (x) and precision (y); where none is taken for positive, precision is 1.

    truth, scores: as of `roc_curve`. Recall without positives is NaN.
    """
    right, taken, thresholds = _cumulative(truth, scores)
    precision = np.concatenate([[1.0], right[1:] / taken[1:]])
    return Curve(right / (right[-1] or math.nan), precision, thresholds)


def roc_auc(truth: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Return the area under the ROC curve: how often a positive scores higher than a negative, ties half.

    From the rank sum (Mann and Whitney 1947; Hanley and McNeil 1982). NaN where a side is empty.

    >>> roc_auc([0, 1, 0, 1], [0.1, 0.4, 0.35, 0.8])
    1.0
    >>> roc_auc([0, 1], [0.5, 0.5])
    0.5
    """
    positive = np.asarray(truth, dtype=bool)
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return math.nan
    rank_sum = float(average_ranks(scores)[positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(truth: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Return the precision at every step of the recall, averaged by its width; without interpolation.

    As scikit-learn's, but NaN instead of 0 where nothing is positive.

    >>> round(average_precision([0, 1, 0, 1], [0.1, 0.4, 0.45, 0.8]), 4)
    0.8333
    """
    curve = precision_recall_curve(truth, scores)
    return float(np.diff(curve.x) @ curve.y[1:]) if len(curve.x) > 1 else math.nan


def per_class(
    measure: Callable[[Flags, Floats], float], truth: npt.ArrayLike, scores: npt.ArrayLike
) -> Floats:
    """Return `roc_auc` or `average_precision` of each class against the rest, `(L,)`.

    truth: `(N, L)`, true where the class holds (see `classification.indicator`). scores: `(N, L)`. Their mean
    without the NaN (`numpy.nanmean`) is the macro average over the classes that can be judged.
    """
    holds, values = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64)
    assert holds.ndim == 2 and holds.shape == values.shape
    return np.array([measure(holds[:, at], values[:, at]) for at in range(holds.shape[1])], dtype=np.float64)


def _cumulative(truth: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return, by falling threshold, how many positives and how many examples score at least that much."""
    positive, values = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64)
    assert positive.ndim == 1 and positive.shape == values.shape
    order = np.argsort(-values)
    values = values[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])
    right = np.cumsum(positive[order])[last]
    return (
        np.concatenate([[0.0], right]),
        np.concatenate([[0.0], last + 1.0]),
        np.concatenate([[math.inf], values[last]]),
    )
