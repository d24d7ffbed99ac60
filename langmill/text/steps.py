"""What cleaning is made of: steps that change a document, keep it, or reject it with a named reason. [text]"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step made of a document."""

    text: str
    """The document, changed or not; of a rejected one, the text that was rejected."""
    reason: str = ""
    """Why it is rejected, in few words that serve as a name for counting; empty: it is kept."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was changed within it, by name: `e-mail` → 2, `mojibake` → 1."""


class Step(Protocol):
    """One step of a pipeline; the same text always gives the same outcome."""

    name: str

    def __call__(self, text: str) -> Outcome:
        """Return what becomes of a document."""
