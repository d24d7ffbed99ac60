"""Accuracy, precision, recall and F1 of classes, with one label an example or several. [metrics]

Everything follows from three counts a class: how often it was predicted rightly, predicted, and true. Where one
of them leaves nothing to divide by, the score is 0, as with scikit-learn's `zero_division=0`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from langmill.core.errors import DataError

Name = TypeVar("Name", bound=Hashable)
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """How well one class, or an average of classes, is found; each share between 0 and 1."""

    precision: float
    recall: float
    f1: float
    support: int
    """How often the class is true; of an average, the sum over its classes."""


@dataclass(frozen=True)
class ScoreTable(Generic[Name]):
    """The scores of all classes, and their averages."""

    per_class: dict[Name, Score]
    micro: Score
    """Of the counts added up: every decision weighs the same."""
    macro: Score
    """The mean over classes: every class weighs the same. Its F1 is the mean of the F1s, not that of the means."""
    weighted: Score
    """The mean over classes, each weighed by its support."""


def score_of_counts(correct: int, predicted: int, actual: int) -> Score:
    """Return the score of a class that was predicted rightly, predicted, and true so often.

    >>> score_of_counts(3, 4, 6)
    Score(precision=0.75, recall=0.5, f1=0.6, support=6)
    """
    return Score(
        precision=correct / predicted if predicted else 0.0,
        recall=correct / actual if actual else 0.0,
        f1=2 * correct / (predicted + actual) if predicted + actual else 0.0,
        support=int(actual),
    )


def score_table(
    names: Sequence[Name],
    counts: npt.ArrayLike,
    *,
    averaged: Sequence[Name] | None = None,
) -> ScoreTable[Name]:
    """Return the scores of the classes `names` and their averages.

    counts: `(classes, 3)`, of each class how often it was predicted rightly, predicted, and true.
    averaged: the classes that the averages are over; None: all. The averages over no class are 0.
    """
    rows = [(int(c), int(p), int(a)) for c, p, a in np.asarray(counts).reshape(len(names), 3)]
    per_class = {name: score_of_counts(*row) for name, row in zip(names, rows)}
    chosen = set(names if averaged is None else averaged)
    scores = [score for name, score in per_class.items() if name in chosen]
    sums = [sum(column) for column in zip(*(row for name, row in zip(names, rows) if name in chosen))]
    return ScoreTable(
        per_class=per_class,
        micro=score_of_counts(*sums) if sums else score_of_counts(0, 0, 0),
        macro=_mean(scores, [1] * len(scores)),
        weighted=_mean(scores, [score.support for score in scores]),
    )


def accuracy(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the share of examples that are right.

    truth, predicted: class ids `(N,)`, or flags `(N, L)` of several labels an example, all of which must be
    right (scikit-learn's subset accuracy). Raises DataError when there are none.

    >>> accuracy([0, 1, 2, 2], [0, 1, 1, 2])
    0.75
    >>> accuracy([[1, 0], [1, 1]], [[1, 0], [0, 1]])
    0.5
    """
    right = np.asarray(truth) == np.asarray(predicted)
    need_examples(len(right))
    return float(right.reshape(len(right), -1).all(axis=1).mean())


def confusion_matrix(truth: npt.ArrayLike, predicted: npt.ArrayLike, *, classes: int) -> Integers:
    """Count examples by their true class (row) and their predicted one (column), `(classes, classes)`.

    truth, predicted: class ids `(N,)` from 0 to `classes` - 1.

    >>> confusion_matrix([0, 1, 1], [0, 1, 0], classes=2).tolist()
    [[1, 0], [1, 1]]
    """
    rows, columns = (_class_ids(ids, classes) for ids in (truth, predicted))
    assert rows.shape == columns.shape
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def classification_scores(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    classes: int,
    averaged: Sequence[int] | None = None,
) -> ScoreTable[int]:
    """Return the scores of the classes 0 to `classes` - 1 with one label an example.

    truth, predicted: class ids `(N,)`. averaged: the classes that the averages are over; None: those that occur
    in either, as in scikit-learn (the micro average is then the accuracy). Raises DataError when there are no
    examples.
    """
    matrix = confusion_matrix(truth, predicted, classes=classes)
    need_examples(int(matrix.sum()))
    counts = np.stack([matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)], axis=1)
    if averaged is None:
        averaged = np.flatnonzero(counts.any(axis=1)).tolist()
    return score_table(range(classes), counts, averaged=averaged)


def multilabel_scores(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> ScoreTable[int]:
    """Return the scores of the labels 0 to L - 1 with several an example; the averages are over all of them.

    truth, predicted: `(N, L)`, true where the label holds. Raises DataError when there are no examples.
    """
    holds, said = np.asarray(truth, dtype=bool), np.asarray(predicted, dtype=bool)
    assert holds.ndim == 2 and holds.shape == said.shape
    need_examples(len(holds))
    counts = np.stack([columns.sum(axis=0) for columns in (holds & said, said, holds)], axis=1)
    return score_table(range(holds.shape[1]), counts)


def indicator(truth: npt.ArrayLike, *, classes: int) -> Flags:
    """Return class ids `(N,)` as flags `(N, classes)`, one true in each row."""
    return _class_ids(truth, classes)[:, None] == np.arange(classes)


def need_examples(count: int) -> None:
    """Raise DataError where there is nothing to score."""
    if not count:
        raise DataError("there is nothing to score: 0 examples; give data with at least one example")


def _class_ids(ids: npt.ArrayLike, classes: int) -> Integers:
    array = np.asarray(ids, dtype=np.int64)
    assert array.ndim == 1
    assert not len(array) or (array.min() >= 0 and array.max() < classes), "a class id is out of range"
    return array


def _mean(scores: Sequence[Score], weights: Sequence[int]) -> Score:
    columns = [(score.precision, score.recall, score.f1) for score in scores]
    means = np.average(columns, axis=0, weights=weights) if sum(weights) else np.zeros(3)
    precision, recall, f1 = means.tolist()
    return Score(precision, recall, f1, support=sum(score.support for score in scores))
