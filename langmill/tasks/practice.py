"""What a task that learns from plain text has to say for itself. [tasks]"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from langmill.batches.batch import TokenBatch
from langmill.batches.packing import LoaderState, PackedLoader
from langmill.batches.shards import Shards
from langmill.models.initialise import initialise_recurrent
from langmill.models.recurrent import Recurrent, RecurrentConfig
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import ModelSettings

MICRO_TOKENS = {"cpu": 8192, "cuda": 65_536, "mps": 8192}
"""Tokens in one forward pass when --micro-batch does not say."""
SCORE_TOKENS = {**MICRO_TOKENS, "cpu": 2048}
"""The same where nothing is learned: so much of a layer's work stays in a processor's cache."""


def sizes_of(settings: ModelSettings) -> dict[str, Any]:
    """Return the sizes of a new model, under the names that the functions of `models.config` give them."""
    names = {"layers", "width", "heads", "kv_heads", "hidden", "context", "dropout"}
    return settings.model_dump(include=names)


def new_recurrent(
    kind: Literal["lstm", "gru"],
    role: Literal["decoder", "encoder", "pair"],
    settings: ModelSettings,
    vocabulary: int,
    generator: torch.Generator,
) -> Recurrent:
    """Return a new recurrent network, its sizes those of `settings`."""
    config = RecurrentConfig(
        vocabulary=vocabulary,
        kind=kind,
        role=role,
        attention=settings.attention,
        layers=settings.layers,
        width=settings.width,
        hidden=settings.hidden,
        dropout=settings.dropout,
        embed_dropout=settings.embed_dropout,
        weight_drop=settings.weight_drop,
        max_positions=settings.context + (role == "pair"),  # the end token
    )
    model = Recurrent(config)
    initialise_recurrent(model, generator)
    return model


def recurrent_families(
    role: Literal["decoder", "encoder", "pair"],
) -> dict[str, Callable[[ModelSettings, int, torch.Generator], nn.Module]]:
    """Return the recurrent layouts of a role, by name."""
    return {"lstm": partial(new_recurrent, "lstm", role), "gru": partial(new_recurrent, "gru", role)}


class Practice(Protocol):
    """What a task makes of packed text in one run."""

    def reshape(self, batch: TokenBatch, generator: np.random.Generator) -> Any:
        """Return the task's batch for packed rows; chance comes from `generator` alone."""

    def objective(self, model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """Return (loss_sum, count)."""

    def measure(self, model: Any, batch: Any) -> dict[str, Tensor]:
        """Return sums over a batch: `loss` in nats, `count`, and what else is shown divided by `count`."""

    def sample(self, model: Any) -> str:
        """Return a short text that shows what the model can do."""


class StepTask(Protocol):
    """A task whose models learn step by step."""

    name: str
    families: Mapping[str, Callable[[ModelSettings, int, torch.Generator], nn.Module]]
    """The layouts that it trains from scratch, the default first: (settings with every size known, vocabulary,
    generator) → a new model."""
    fitted: tuple[str, ...]
    """Further layouts, which are fitted in one go."""
    own_settings: tuple[str, ...]
    """The groups of settings that not every task follows, and it does."""

    def check(self, model: Any, tokenizer: Tokenizer) -> None:
        """Raise ConfigError where this task cannot go on from a checkpoint."""


class PretrainingTask(StepTask, Protocol):
    """A task that learns from plain text."""

    roles: tuple[str, ...]
    """Roles of `SpecialTokens` that its tokenizers have beyond the usual ones."""
    extra_tokens: tuple[str, ...]
    """Further special tokens that its tokenizers have."""
    scores_text: bool
    """Whether every token is predicted once, so that the loss says bits per byte."""

    def practice(self, tokenizer: Tokenizer, shards: Shards, context: int) -> Practice:
        """Return what the run needs."""


class PracticeLoader:
    """A task's batches of packed rows. What is drawn for a batch depends on the seed and its place alone."""

    def __init__(self, rows: PackedLoader, practice: Practice) -> None:
        self.rows, self.practice = rows, practice

    @property
    def state(self) -> LoaderState:
        """Where the rows stand; there is nothing else to remember."""
        return self.rows.state

    @state.setter
    def state(self, state: LoaderState) -> None:
        self.rows.state = state

    def take(self) -> Any:
        """Return the next batch."""
        place = self.state.epoch, self.state.rows
        batch = self.rows.take()
        assert batch is not None
        return self.practice.reshape(batch, np.random.default_rng([self.rows.seed, *place, self.rows.rank]))
