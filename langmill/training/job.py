"""What a task hands to the loop. [training]"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from langmill.batches.packing import LoaderState


class Batch(Protocol):
    """Rows of examples, as tensors on one device."""

    def to(self, device: torch.device) -> Any:
        """Return the batch on `device`."""

    def split(self, rows: int) -> list[Any]:
        """Return the batch in parts of at most `rows` rows."""

    @property
    def tokens(self) -> int:
        """Places at which the model works."""


class Loader(Protocol):
    """An endless source of batches that a small state resumes."""

    state: LoaderState

    def take(self) -> Any:
        """Return the next batch."""


Watch = Callable[[float, dict[str, float]], bool]
"""Is told of each evaluation on the way, as (share of the run that is done, figures); True ends the run, as a signal does."""
WATCHED = "its watch"
"""What has then interrupted it."""


@dataclass
class Job:
    """One training run, whatever its task."""

    model: nn.Module
    loader: Loader
    objective: Callable[[Any, Any], tuple[Tensor, Tensor]]
    """(model, batch) → (loss_sum, count)."""
    evaluate: Callable[[Any], dict[str, float]]
    """Quick held-out metrics; the first says which weights are better."""
    save_model: Callable[[Path, Any], None]
    """Write the checkpoint's weights into the run's folder, atomically."""
    steps: int
    micro_batch: int
    flops_per_token: float
    peak_flops: float = 0.0
    """What the machine reaches in a large matrix product; 0: not measured."""
    sample: Callable[[Any], str] | None = None
    """A short text from the model as it is."""
    units_per_nat: tuple[str, float] = ("loss", 1.0)
    """What progress shows beside the loss in nats a token: a name and a factor (bits a byte)."""
    compile_stack: Callable[[Any], None] | None = None
    """Compiles the model's heavy part in place; None: run as it is."""
    rises: bool = False
    """Whether the first metric improves by rising."""
    keeps_best: bool = False
    """Whether the run ends with the best weights that an evaluation met, rather than with the last."""
    examples: int = 0
    """How many held-out examples the first metric is a share of, as accuracy is; 0: it is none."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the model card should say."""

    def luck(self, best: float) -> float:
        """Return by how much a metric may fall short of the `best` (with its sign turned) and be no worse: its standard error.

        On a few hundred examples the best of ten evaluations is often luck, and weights from before the rate fell; so the
        latest within a standard error are kept (the one-standard-error rule, Breiman et al. 1984, section 3.4.3).
        """
        share = min(max(-best, 0.0), 1.0)
        return math.sqrt(share * (1 - share) / self.examples) if self.examples and self.rises else 0.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    steps: int
    tokens: int
    seconds: float
    metrics: dict[str, float]
    interrupted: str = ""
    """The signal that ended it early, or WATCHED; empty: it ran to its end."""
    skipped_steps: int = 0
    rollbacks: int = 0
