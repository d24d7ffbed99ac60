"""How a text is continued. Imports no torch, for the command line's help. [generation]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from langmill.core.config import Settings, resolve


class SamplingSettings(Settings):
    """How a text is continued."""

    max_tokens: Annotated[int, Field(ge=1)] = 200
    """Tokens to generate at most."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Below 1 prefers likely tokens, above 1 evens them out; 0 always takes the likeliest (greedy)."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Choose among the k likeliest tokens; 0: among all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Choose among the fewest likeliest tokens that sum to this probability."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Choose among tokens at least this fraction as likely as the likeliest."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Above 1 makes tokens of the prompt and of the text so far less likely."""
    stop: tuple[str, ...] = ()
    """End before the first of these strings."""
    seed: int = 0
    """Equal seeds give equal texts."""

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("a stop string must not be empty")
        return stop

    @property
    def greedy(self) -> bool:
        """The likeliest token is always taken."""
        return self.temperature == 0


def sampling_settings(recommended: Mapping[str, Any], given: Mapping[str, Any]) -> SamplingSettings:
    """Return the settings that are `given`, over those that a checkpoint recommends, over our own.

    recommended: its generation_config.json, where Hugging Face checkpoints say how they want to be sampled;
    what it says of sampling counts only if it says do_sample.
    """
    sampled = ("temperature", "top_k", "top_p", "min_p") if recommended.get("do_sample") else ()
    names = (*sampled, "repetition_penalty")
    wanted = {name: recommended[name] for name in names if recommended.get(name) is not None}
    resolve(SamplingSettings, wanted, source="generation_config.json")  # its mistakes are not the user's
    return resolve(SamplingSettings, {**wanted, **given})
