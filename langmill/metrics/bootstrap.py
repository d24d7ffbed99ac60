"""Confidence intervals by resampling documents with replacement. [metrics]

A corpus score such as bits per byte is a ratio of sums over documents, so its uncertainty is found by
drawing documents again: the percentile bootstrap (Efron and Tibshirani 1993, An Introduction to the
Bootstrap, chapter 13; section 10.7 on ratios of sums). Two systems scored on the same documents are
compared by drawing the documents once for both (Koehn 2004, Statistical Significance Tests for Machine
Translation Evaluation, section 4), which removes what the documents have in common.

Documents are the units because tokens within one are not independent. With fewer than `MINIMUM_UNITS`
documents there is too little to draw from: the caller then gives contiguous blocks of the documents as
units (the block bootstrap: Künsch 1989; chapter 8.6 of Efron and Tibshirani) and says so in `unit`.
Blocks of one document share its author and subject, so their interval says how far the score depends on
the passage, and nothing about other documents: it is narrower than one over documents would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from langmill.core.errors import ConfigError, DataError

MINIMUM_UNITS = 5
"""With fewer units than this no interval is given: resampling so few says next to nothing."""

RESAMPLES = 2_000
LEVEL = 0.95
_CELLS = 1 << 21
"""Drawn indices held at a time, to bound memory (16 MB) however many documents there are."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval from `low` to `high`, in the unit of the score."""

    low: float
    high: float
    level: float = LEVEL
    unit: str = "document"
    """What was resampled: "document", or "block" where there were too few documents."""
    units: int = 0
    resamples: int = RESAMPLES


@dataclass(frozen=True)
class PairedDifference:
    """How two systems differ on the same documents: a's score minus b's."""

    difference: float
    interval: Interval
    lower_share: float
    """Share of resamples in which a's score is the lower of the two (ties count half)."""
    p_value: float
    """Two-sided: twice the smaller share of resamples on either side of no difference, at most 1."""


def ratio_interval(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    unit: str = "document",
) -> Interval:
    """Return the interval of `sum(numerators) / sum(denominators)`, one entry of each a unit.

    numerators, denominators: `(units,)`, e.g. bits and bytes of every document; denominators >= 0.
    level: between 0 and 1. resamples: 1,000 or more for a 95 % interval.
    Units with denominator and numerator 0 are left out. Raises DataError when fewer than `MINIMUM_UNITS`
    remain.

    >>> interval = ratio_interval([10.0, 20.0, 30.0, 40.0, 50.0], [10, 20, 30, 40, 50])
    >>> (interval.low, interval.high, interval.units)
    (1.0, 1.0, 5)
    """
    above, below = _columns(numerators, denominators)
    columns = _filled(np.stack([above, below]))
    _check(columns, level=level, resamples=resamples)
    ratios = _draw_ratios(columns, resamples=resamples, seed=seed)[0]
    return percentile_interval(ratios, level=level, unit=unit, units=columns.shape[1])


def paired_interval(
    numerators_a: npt.ArrayLike,
    numerators_b: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    unit: str = "document",
) -> PairedDifference:
    """Compare two systems on the same units by the difference of their ratios of sums, a minus b.

    numerators_a, numerators_b: `(units,)`, e.g. the bits that each spends on every document;
    denominators: `(units,)`, what both share, e.g. the bytes. Raises as `ratio_interval` does.

    >>> a = [9.0, 19.0, 29.0, 39.0, 49.0]; b = [10.0, 20.0, 30.0, 40.0, 50.0]
    >>> result = paired_interval(a, b, [10, 10, 10, 10, 10])
    >>> (round(result.difference, 12), result.lower_share)
    (-0.1, 1.0)
    """
    above_a, below = _columns(numerators_a, denominators)
    above_b, _ = _columns(numerators_b, denominators)
    columns = _filled(np.stack([above_a, above_b, below]))
    _check(columns, level=level, resamples=resamples)
    ratios = _draw_ratios(columns, resamples=resamples, seed=seed)
    return paired_difference(
        float((above_a.sum() - above_b.sum()) / below.sum()),
        ratios[0] - ratios[1],
        level=level,
        unit=unit,
        units=columns.shape[1],
    )


def paired_difference(
    difference: float, drawn: Floats, *, level: float, unit: str, units: int
) -> PairedDifference:
    """Return what the differences `drawn` `(resamples,)` say of the `difference` on all units."""
    resamples = len(drawn)
    lower, higher = int((drawn < 0).sum()), int((drawn > 0).sum())
    ties = resamples - lower - higher
    # One is added to both counts, so that a finite number of draws never claims p = 0.
    smaller_side = (min(lower, higher) + ties + 1) / (resamples + 1)
    return PairedDifference(
        difference=difference,
        interval=percentile_interval(drawn, level=level, unit=unit, units=units),
        lower_share=(lower + ties / 2) / resamples,
        p_value=min(1.0, 2 * smaller_side),
    )


def percentile_interval(values: Floats, *, level: float, unit: str, units: int) -> Interval:
    """Return the middle `level` of what was drawn, `(resamples,)`."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level=level, unit=unit, units=units, resamples=len(values))


def draw_units(count: int, *, resamples: int, seed: int) -> Iterator[Indices]:
    """Yield indices of units drawn with replacement, `(some, count)`, `resamples` rows in all."""
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // count)
    for start in range(0, resamples, step):
        yield generator.integers(count, size=(min(step, resamples - start), count))


def _columns(numerators: npt.ArrayLike, denominators: npt.ArrayLike) -> tuple[Floats, Floats]:
    above = np.asarray(numerators, dtype=np.float64)
    below = np.asarray(denominators, dtype=np.float64)
    if above.ndim != 1 or above.shape != below.shape:
        raise DataError(
            f"the same units are needed above and below the line: given {above.shape} numerators and "
            f"{below.shape} denominators; score both systems on the same documents"
        )
    return above, below


def _filled(columns: Floats) -> Floats:
    """Leave out units that count nothing: a draw of them alone would have no ratio. `(C, units)`."""
    if not np.all(np.isfinite(columns)):
        raise DataError("a score is infinite or not a number; no interval can be drawn")
    empty = columns[-1] == 0
    if np.any(columns[-1] < 0) or np.any(columns[:, empty] != 0):
        raise DataError("denominators must be 0 or more, and where they are 0 the numerators must be 0 too")
    return columns[:, ~empty]


def _check(columns: Floats, *, level: float, resamples: int) -> None:
    check_settings(level=level, resamples=resamples)
    if columns.shape[1] < MINIMUM_UNITS:
        raise DataError(
            f"{columns.shape[1]} documents with text are too few for an interval, {MINIMUM_UNITS} are "
            "needed; give contiguous blocks of them as units"
        )


def check_settings(*, level: float, resamples: int) -> None:
    """Raise ConfigError for a level or a number of resamples that is out of range."""
    if not 0 < level < 1:
        raise ConfigError(f"a confidence level lies between 0 and 1, given {level}; 0.95 is usual")
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, given {resamples}; 1,000 or more are usual")


def _draw_ratios(columns: Floats, *, resamples: int, seed: int) -> Floats:
    """Draw the units of `columns` `(C, units)`; return the ratios `(C - 1, resamples)` to the last one."""
    return np.concatenate([sums[:-1] / sums[-1] for sums in _draw_sums(columns, resamples, seed)], axis=1)


def _draw_sums(columns: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield the sums of `columns` `(C, units)` over units drawn with replacement, `(C, some)`."""
    for drawn in draw_units(columns.shape[1], resamples=resamples, seed=seed):
        yield np.stack([column[drawn].sum(axis=1) for column in columns])
