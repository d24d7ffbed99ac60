"""How a text is continued. Imports no torch, for the command line's help. [generation]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

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
    min_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens before which no text ends."""
    no_repeat_ngram: Annotated[int, Field(ge=0)] = 0
    """No run of so many tokens comes twice in a text; 0: no such rule."""
    beams: Annotated[int, Field(ge=1)] = 1
    """Above 1: beam search, which looks for the likeliest text with so many candidates at a time."""
    length_penalty: float = 1.0
    """Beams are judged by their log-probability over length to this power; above 0 favours long texts."""
    early_stopping: Literal["no", "yes", "never"] = "no"
    """End a beam search when enough texts have ended (yes), when the best beam cannot improve as it is (no), or at
    any length (never)."""
    alternatives: Annotated[int, Field(ge=1)] = 1
    """Texts to return for each prompt of a beam search, at most as many as beams."""

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("a stop string must not be empty")
        return stop

    @model_validator(mode="after")
    def _beams_fit(self) -> SamplingSettings:
        if self.alternatives > self.beams:
            raise ValueError(f"alternatives ({self.alternatives}) must not be more than beams ({self.beams})")
        return self

    @property
    def greedy(self) -> bool:
        """The likeliest token is always taken."""
        return self.temperature == 0


OTHER_NAMES = {
    "num_beams": "beams",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
    "no_repeat_ngram_size": "no_repeat_ngram",
}
"""Keys of a generation_config.json that are settings of ours."""


def sampling_settings(recommended: Mapping[str, Any], given: Mapping[str, Any]) -> SamplingSettings:
    """Return the settings that are `given`, over those that a checkpoint recommends, over our own.

    recommended: its generation_config.json, where Hugging Face checkpoints say how they want to be sampled;
    what it says of sampling counts only if it says do_sample.
    """
    sampled = ("temperature", "top_k", "top_p", "min_p") if recommended.get("do_sample") else ()
    names = (*sampled, "repetition_penalty", *OTHER_NAMES)
    wanted = {
        OTHER_NAMES.get(name, name): recommended[name] for name in names if recommended.get(name) is not None
    }
    if "early_stopping" in wanted:
        wanted["early_stopping"] = {True: "yes", False: "no"}.get(wanted["early_stopping"], "never")
    resolve(SamplingSettings, wanted, source="generation_config.json")  # its mistakes are not the user's
    return resolve(SamplingSettings, {**wanted, **given})
