"""Whether a probability means what it says, and the temperature that makes it so. [metrics]

N is the number of examples, L that of labels. The truth is class ids `(N,)` where every example has one label
(probabilities by softmax), or flags `(N, L)` where it has several (by sigmoid, every label a yes or no of its own).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from langmill.metrics.classification import Flags, Floats, Integers, indicator, need_examples

BINS = 15
"""As in Guo et al. 2017."""

TEMPERATURES = (0.01, 100.0)
"""The search ends here: where nothing is wrong the best temperature would be 0, where all is noise infinite."""

_HALVINGS = 50
"""Leave the logarithm of the temperature known to 1e-14."""


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: predictions put into bins of equal width by their confidence."""

    edges: Floats
    """`(bins + 1,)` from 0 to 1; a bin holds confidences above its lower edge, up to its upper edge."""
    confidence: Floats
    """`(bins,)`, the mean in each bin; NaN in an empty one."""
    accuracy: Floats
    """`(bins,)`, the share that is right; NaN in an empty bin."""
    counts: Integers
    expected_error: float
    """The expected calibration error: |accuracy - confidence|, averaged over predictions."""
    maximum_error: float
    """The largest such gap of a bin."""


def probabilities_of(logits: npt.ArrayLike, *, temperature: float = 1.0, multilabel: bool = False) -> Floats:
    """Return the probabilities `(N, L)` of logits `(N, L)` over a temperature: softmax, or sigmoid of each label.

    >>> probabilities_of([[0.0, 0.0]]).tolist()
    [[0.5, 0.5]]
    """
    return np.exp(_log_probabilities(np.asarray(logits, dtype=np.float64) / temperature, multilabel))


def logits_of(probabilities: npt.ArrayLike, *, multilabel: bool = False) -> Floats:
    """Return logits that give probabilities `(N, L)` back, those at the bounds to within 1e-15.

    >>> logits_of([[0.5, 0.5]], multilabel=True).tolist()
    [[0.0, 0.0]]
    """
    chances = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-15, 1 - 1e-15)
    return np.log(chances) - (np.log1p(-chances) if multilabel else 0.0)


def reliability(probabilities: npt.ArrayLike, truth: npt.ArrayLike, *, bins: int = BINS) -> Reliability:
    """Return the reliability diagram and the expected calibration error.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2: confidence is the largest probability
    of an example, put into bins of equal width. With several labels an example, every label is a prediction and
    its confidence max(p, 1 - p). Raises DataError when there are no examples.
    """
    confidence, right = _confidence(probabilities, truth)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    filled = np.where(counts, counts, math.nan)
    mean = np.bincount(place, weights=confidence, minlength=bins) / filled
    share = np.bincount(place, weights=right, minlength=bins) / filled
    gaps = np.abs(share - mean)
    return Reliability(
        edges=edges,
        confidence=mean,
        accuracy=share,
        counts=counts,
        expected_error=float(np.nansum(gaps * counts) / counts.sum()),
        maximum_error=float(np.nanmax(gaps)),
    )


def expected_calibration_error(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the expected calibration error over 15 bins; see `reliability`.

    >>> round(expected_calibration_error([[0.9, 0.1], [0.9, 0.1]], [0, 1]), 12)
    0.4
    """
    return reliability(probabilities, truth).expected_error


def brier_score(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the squared distance from the truth, summed over labels and averaged over examples.

    Brier 1950: from 0 to 2 with one label an example, so twice the form for two classes that looks at one of
    them; with several labels from 0 to L. Raises DataError when there are no examples.

    >>> round(brier_score([[0.8, 0.2]], [0]), 12)
    0.08
    """
    values, holds = _pair(probabilities, truth)
    return float(np.square(values - holds).sum(axis=1).mean())


def negative_log_likelihood(
    logits: npt.ArrayLike, truth: npt.ArrayLike, *, temperature: float = 1.0
) -> float:
    """Return minus the log-probability of the truth in nats, averaged over examples.

    Raises DataError when there are no examples.
    """
    values, holds = _pair(logits, truth)
    return _loss(values / temperature, holds, _is_multilabel(truth))


def fit_temperature(logits: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the temperature with the least negative log-likelihood, within `TEMPERATURES`.

    logits: `(N, L)` of examples that the model was not trained on. Dividing them by the temperature changes no
    decision (Guo et al. 2017, section 4.2). Raises DataError when there are no examples.

    The loss is convex in 1 / T, as log-sum-exp is; so its slope there, which is
    mean(sum of p z - z of the truth), rises, and its zero is found by halving.
    """
    values, holds = _pair(logits, truth)
    multilabel = _is_multilabel(truth)
    low, high = (math.log(bound) for bound in TEMPERATURES)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        shares = probabilities_of(values, temperature=math.exp(middle), multilabel=multilabel)
        too_hot = float(((shares - holds) * values).sum()) < 0
        low, high = (low, middle) if too_hot else (middle, high)
    return math.exp((low + high) / 2)


def _loss(scaled: Floats, holds: Flags, multilabel: bool) -> float:
    logs = np.where(holds, _log_probabilities(scaled, multilabel), 0.0)
    if multilabel:
        logs += np.where(holds, 0.0, _log_probabilities(-scaled, multilabel))
    return float(-logs.sum(axis=1).mean())


def _log_probabilities(logits: Floats, multilabel: bool) -> Floats:
    """Return log-softmax or log-sigmoid without overflow."""
    if multilabel:
        return -np.logaddexp(0.0, -logits)
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _is_multilabel(truth: npt.ArrayLike) -> bool:
    return np.asarray(truth).ndim == 2


def _pair(values: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Floats, Flags]:
    """Return values `(N, L)` and the truth as flags `(N, L)`."""
    table = np.asarray(values, dtype=np.float64)
    need_examples(len(table))
    assert table.ndim == 2
    multilabel = _is_multilabel(truth)
    holds = np.asarray(truth, dtype=bool) if multilabel else indicator(truth, classes=table.shape[1])
    assert holds.shape == table.shape
    return table, holds


def _confidence(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Floats, Flags]:
    """Return how sure each prediction is, and whether it is right."""
    values, holds = _pair(probabilities, truth)
    if _is_multilabel(truth):
        return np.maximum(values, 1 - values).ravel(), ((values > 0.5) == holds).ravel()
    return values.max(axis=1), holds[np.arange(len(values)), values.argmax(axis=1)]
