"""A classifier whose probabilities mean what they say: saved with its scores divided by a temperature. [tasks]"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from langmill.metrics.calibration import fit_temperature
from langmill.models.bag import BagClassifier

LEAST = 100
"""Held-out examples below which no temperature is fitted."""


def best_temperature(logits: NDArray[np.float32], truth: NDArray[np.bool_], *, several: bool) -> float:
    """Return the temperature under which the truth (N, L) is likeliest by logits (N, L) (Guo et al. 2017, section 4.2).

    several: any number of labels may hold. 1 where there are too few examples, and where every label is right: the surer
    a model is, the likelier is then the truth.
    """
    target = truth if several else truth.argmax(1)
    right = (logits > 0 if several else logits.argmax(1)) == target
    return 1.0 if len(truth) < LEAST or right.all() else fit_temperature(logits, target)


def output_layer(model: Any) -> list[Tensor]:
    """Return the weights in which a classifier's scores are linear."""
    layer = model if isinstance(model, BagClassifier) else model.output
    return [layer.weight] if layer.bias is None else [layer.weight, layer.bias]


def divide_scores(model: Any, temperature: float) -> None:
    """Divide the scores that a classifier gives, by its weights."""
    for p in output_layer(model):
        p.data.div_(temperature)


def save_calibrated(task: Any, save: Callable[[Path, Any], None], folder: Path, model: Any) -> None:
    """Write a model with its scores divided by the task's temperature; in memory it stays what is trained.

    As the division is in the weights, Transformers gives the same scores, and who opens the folder there has calibrated
    probabilities too. No label changes.
    """
    before = [p.detach().clone() for p in output_layer(model)]
    try:
        divide_scores(model, task.temperature)
        save(folder, model)
    finally:
        for p, own in zip(output_layer(model), before):
            p.data.copy_(own)
