"""What a task's answers are worth, in a form that intervals and comparisons are made from. [tasks]"""

from __future__ import annotations

from collections.abc import Mapping
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
    """The figure that stands for all: sum(numerators) / sum(denominators)."""
    numerators: NDArray[np.float64]
    """(examples,)."""
    denominators: NDArray[np.float64]
    """(examples,)."""
    right: NDArray[np.bool_]
    """(examples,), whether an example is answered entirely right."""
