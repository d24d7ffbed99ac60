"""What a task's answers are worth, in a form that intervals and comparisons are made from. [tasks]"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Assessment:
    """Metrics of a model's answers to examples."""

    figures: Mapping[str, Any]
    """By name: numbers, or a table by class."""
    main: str
    """The name of the figure that stands for all."""
    score: Callable[[NDArray[np.int64]], float]
    """The main figure of the examples with these numbers, some of them several times."""
    right: NDArray[np.bool_]
    """(examples,), whether an example is answered entirely right."""
    logits: NDArray[np.floating] | None = None
    """(examples, labels), of a classifier."""


def ratio_score(numerators: NDArray[Any], denominators: NDArray[Any]) -> Callable[[NDArray[np.int64]], float]:
    """Return the score sum(numerators) / sum(denominators), one of each an example; nan where there is nothing.

    >>> ratio_score(np.array([1, 0]), np.array([1, 1]))(np.array([0, 0, 1, 1]))
    0.5
    """

    def score(chosen: NDArray[np.int64]) -> float:
        below = denominators[chosen].sum()
        return float(numerators[chosen].sum() / below) if below else float("nan")

    return score
