"""From a time budget to a plan: model size, batch, context and steps. [training]

The choice rests on one measurement of the machine and on figures from docs/log.md: which size
reached the lowest held-out loss for a given number of floating-point operations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from langmill.core.log import format_count, format_seconds
from langmill.training.settings import TrainSettings


@dataclass(frozen=True)
class Plan:
    """What a run is going to do, with every choice made."""

    settings: TrainSettings
    parameters: int
    tokens: int
    corpus_tokens: int
    flops_per_token: float
    expected_seconds: float
    peak_flops: float
    precision: str
    """In what matrices are multiplied."""
    family: str = ""
    """The model's layout; empty: the one that is asked for."""
    row_tokens: float = 0.0
    """Tokens of a row on average; 0: rows are as long as the context."""
    trained: int = 0
    """Weights beside which the other parameters are held fast; 0: all are trained."""

    @property
    def sizes(self) -> str:
        """The model's, in words; recurrent networks have no heads."""
        model = self.settings.model
        heads = f" {model.heads} heads," if model.heads else ""
        return f"{model.layers} layers, width {model.width},{heads} context {model.context}"

    @property
    def row_length(self) -> str:
        """Tokens of a row, in words."""
        return f"about {self.row_tokens:.0f}" if self.row_tokens else str(self.settings.model.context)

    @property
    def figures(self) -> dict[str, int]:
        """What run.yaml says of the plan."""
        return {"steps": self.settings.steps, "tokens": self.tokens, "parameters": self.parameters}

    @property
    def seconds(self) -> float:
        """Time in the loop: as measured under a budget, else a guess from the operations."""
        guess = self.tokens * self.flops_per_token / (self.peak_flops * EFFICIENCY[self.precision])
        return self.expected_seconds or guess

    def lines(self, *, resumed: bool = False) -> list[str]:
        """Return the plan as lines for people. resumed: under a budget it is for the rest of a run."""
        model, settings = self.settings.model, self.settings
        epochs = self.tokens / max(1, self.corpus_tokens)
        adapter = self.settings.adapter
        lines = [
            f"model    {self.family or model.family}: {self.sizes}: {format_count(self.parameters)} parameters",
            f"steps    {'about ' if self.expected_seconds else ''}{settings.steps}{' more' if resumed and self.expected_seconds else ''} of {settings.batch} rows × {self.row_length} tokens"
            f" = {format_count(self.tokens)} tokens, {epochs:.2g} passes over the corpus,"
            f" {self.precision} products",
        ]
        if self.trained:
            lines.append(
                f"adapter  {adapter.kind} of rank {adapter.rank}: {format_count(self.trained)} of"
                f" {format_count(self.parameters)} weights trained"
            )
        if self.expected_seconds:
            lines.append(
                f"time     about {format_seconds(self.expected_seconds)} of training, which decides: as many steps as fit"
            )
            if settings.steps < FEW_STEPS:
                lines.append(
                    "         too few steps to learn much: give more time, or a smaller model or context"
                )
        return lines


FEW_STEPS = 20
SHAPES = ((1, 64), (2, 64), (2, 96), (2, 128), (3, 128), (4, 128), (3, 192), (4, 192), (4, 256), (5, 320), (6, 384),
          (8, 512), (10, 640), (12, 768), (16, 1024), (20, 1280), (24, 1600), (28, 2048), (32, 2560))  # fmt: skip
"""Layers and width that a plan chooses from, small to large."""


def block_weights(layers: int, width: int) -> int:
    """Weights of the blocks: about 12 width² a layer, attention and feed-forward together."""
    return 12 * layers * width**2


def flops_per_token(weights: int, *, layers: int, width: int, context: int, fast: int = 0) -> float:
    """Operations to train on one token: 6 a weight, and attention's 6 · layers · context · width.

    Kaplan et al. 2020 (arXiv:2001.08361), table 1, forward and backward; the causal half is not done.
    weights: those that multiply, the output layer included and the input embedding not. fast: how many of
    them are held fast, and need no gradient of their own, a third of the work.
    """
    return 6 * weights - 2 * fast + 6 * layers * context * width


EFFICIENCY = {"float32": 0.45, "bfloat16": 0.25}
"""Share of the measured peak that training small models reaches, for a first guess: by the products' precision,
for what is not a product takes the same time beside faster ones."""


def best_shape(flops: float, *, vocabulary: int, corpus_tokens: int, context: int) -> tuple[int, int]:
    """Return (layers, width) of the model to train with `flops` operations in all.

    The loss is lowest near a fixed ratio of tokens to weights (Hoffmann et al. 2022,
    arXiv:2203.15556), which for runs this short is far lower than for long ones: docs/log.md has the
    figures. A small corpus limits the size too: a model of more weights than MOST_WEIGHTS_PER_TOKEN
    times the corpus's tokens only memorises it.
    """
    best, miss = SHAPES[0], math.inf
    for layers, width in SHAPES:
        blocks = block_weights(layers, width)
        if blocks > MOST_WEIGHTS_PER_TOKEN * corpus_tokens and best != SHAPES[0]:
            break
        tokens = flops / flops_per_token(
            blocks + vocabulary * width, layers=layers, width=width, context=context
        )
        if abs(math.log(tokens / blocks / TOKENS_PER_WEIGHT)) < miss:
            best, miss = (layers, width), abs(math.log(tokens / blocks / TOKENS_PER_WEIGHT))
    return best


DEFAULT_SHAPE = (4, 256)
"""Layers and width when neither a budget nor the user says."""
TOKENS_PER_WEIGHT = 3.0
"""Training tokens for each weight of the blocks, where the loss for the operations spent is lowest."""
MOST_WEIGHTS_PER_TOKEN = 3.0
"""Weights of the blocks, at most, for each token of the corpus."""
STEPS_WANTED = 1000
"""Steps that a small run divides its tokens into; fewer, larger steps use a machine better."""
LEAST_STEP_TOKENS = 768
"""Tokens in a step of the shortest runs: more steps are worth more to them than fuller ones."""
TRIAL_STEPS = 4
"""Steps measured before the number of steps is fixed."""


def choose_context(settings: TrainSettings, *, bytes_per_token: float, seconds: float) -> int:
    """Return how far back the model looks: about a thousand bytes, less for the shortest runs."""
    if settings.model.context:
        return settings.model.context
    wanted = 256 if bytes_per_token > 1.5 else 128
    if seconds and seconds < 60:
        wanted //= 2
    return wanted * 2 if seconds > 1200 else wanted


def choose_batch(settings: TrainSettings, *, context: float, tokens: float) -> int:
    """Return rows a step: `tokens` in about STEPS_WANTED steps, but LEAST_STEP_TOKENS at least in each.

    A multiple of 4, as matrix products like it, unless a row alone is longer than a step.
    """
    if settings.batch:
        return settings.batch
    rows = min(max(tokens / STEPS_WANTED, LEAST_STEP_TOKENS), 1 << 19) / context
    return max(1, round(rows)) if rows < 4 else 4 * round(rows / 4)


def fill_model(settings: TrainSettings, *, layers: int, width: int, context: int) -> TrainSettings:
    """Return `settings` with the model's open sizes filled in."""
    model = settings.model
    width = model.width or (width if not model.heads else -(-width // model.heads) * model.heads)
    heads = model.heads
    if not heads:
        heads = max(2, width // 64)
        while width % heads:
            heads -= 1
    filled = {"layers": model.layers or layers, "width": width, "heads": heads, "context": context}
    return settings.model_copy(update={"model": model.model_copy(update=filled)})


def fill_rates(settings: TrainSettings, *, width: int, tuning: bool = False) -> TrainSettings:
    """Return `settings` with the optimiser and open learning rates filled in: 0.11 / √width for AdamW, 0.02 for Muon.

    The embeddings' rate falls with the width as in Yang et al. 2022 (arXiv:2203.03466); Muon's needs
    no scaling, a step's spectral size being fixed. A model that is already trained moves by a tenth. An
    adapter, which is new, gets 1 / width: A's inputs are as many as the width, and AdamW's rate for a matrix falls
    with them (Yang et al. 2022); docs/log.md has what was measured. tuning: a checkpoint learns from rows with answers,
    of which there are few: AdamW comes as far as Muon, in half the time a step, and its rate falls with the width.
    """
    wanted = settings.optimizer
    if wanted.kind == "auto":
        wanted = wanted.model_copy(update={"kind": "adamw" if tuning else "muon"})
    share, few = 0.1 if settings.from_checkpoint else 1.0, tuning and wanted.kind == "adamw"
    if settings.adapter.rank:
        usual = (0.4 if few else 1.0) / width
    elif few:
        usual = 0.03 / width
    else:
        usual = share * (0.11 if wanted.kind == "muon" else 0.011) / math.sqrt(width)
    rate = wanted.learning_rate or usual
    rates = {"learning_rate": rate, "matrix_learning_rate": wanted.matrix_learning_rate or share * 0.02}
    return settings.model_copy(update={"optimizer": wanted.model_copy(update=rates)})


def wanted_steps(settings: TrainSettings, *, step_tokens: float, corpus_tokens: int) -> int:
    """Return the steps that --steps, --tokens or --epochs ask for; 0 when none of them does."""
    if settings.steps:
        return settings.steps
    tokens = settings.tokens or settings.epochs * corpus_tokens
    return math.ceil(tokens / step_tokens)
