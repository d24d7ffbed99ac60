"""The language model: the next token from those before it. [tasks]"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from langmill.batches.batch import TokenBatch
from langmill.batches.shards import Shards
from langmill.checkpoint import Checkpoint
from langmill.core.errors import ConfigError, DataError
from langmill.core.log import warn
from langmill.generation.generate import Generation, generate
from langmill.generation.settings import SamplingSettings
from langmill.models.config import default_decoder, gpt2_decoder
from langmill.models.initialise import initialise
from langmill.models.ngram_decoder import NgramDecoder
from langmill.models.transformer import Transformer
from langmill.objectives.next_token import next_token
from langmill.tasks.base import Lesson, Request, Text, Use, single_texts
from langmill.tasks.ngram import NGRAM, prepare_ngram
from langmill.tasks.practice import recurrent_families, sizes_of
from langmill.tasks.pretraining import prepare
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import ModelSettings

SAMPLE_TOKENS = 64
"""Length of the samples shown in training."""


def new_decoder(
    family: str, settings: ModelSettings, vocabulary: int, generator: torch.Generator
) -> Transformer:
    """Return a new decoder of a family, its sizes those of `settings`."""
    if family == "gpt2" and settings.kv_heads not in (0, settings.heads):
        raise ConfigError("--model.kv-heads: the gpt2 family has as many key/value heads as heads; use qwen3")
    make = gpt2_decoder if family == "gpt2" else default_decoder
    model = Transformer(make(vocabulary, **sizes_of(settings)))
    initialise(model, generator, scheme="gpt2" if family == "gpt2" else "unit")
    return model


class NextTokenPractice:
    """Rows as they are; every token is predicted from those before it in its document."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self.tokenizer, self.context = tokenizer, context

    def reshape(self, batch: TokenBatch, generator: np.random.Generator) -> TokenBatch:
        """Return the rows."""
        return batch

    def objective(self, model: Any, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Return the loss of the next token."""
        return next_token(model, batch)

    def measure(self, model: Any, batch: TokenBatch) -> dict[str, Tensor]:
        """Return the same as sums."""
        loss, count = next_token(model, batch)
        return {"loss": loss, "count": count}

    def sample(self, model: Any) -> str:
        """Return the beginning of a document."""
        settings = SamplingSettings(
            max_tokens=min(SAMPLE_TOKENS, self.context - 1), temperature=0.8, top_p=0.95, seed=1
        )
        return generate(model, self.tokenizer, [""], settings)[0].text


class LanguageModelling:
    """`langmill train lm`: pre-train a decoder on text, or go on training one."""

    name = "lm"
    use = Use(
        "decoder",
        "text-generation",
        "AutoModelForCausalLM",
        'model.generate("…", max_tokens=100).text',
        ("generate {} --prompt '…'", "evaluate {} TEXT"),
    )
    families: Mapping[str, Callable[[ModelSettings, int, torch.Generator], nn.Module]] = {
        **{name: partial(new_decoder, name) for name in ("qwen3", "gpt2")},
        **recurrent_families("decoder"),
    }
    fitted: tuple[str, ...] = (NGRAM,)
    roles: tuple[str, ...] = ()
    extra_tokens: tuple[str, ...] = ()
    own_settings: tuple[str, ...] = ()
    scores_text = True

    def learn(self, request: Request) -> Lesson:
        """Make the tokenizer, the tokens, the plan and, unless it is to be fitted, the model."""
        return (prepare_ngram if request.settings.model.family == NGRAM else prepare)(request, self)

    def check(self, model: Any, tokenizer: Tokenizer) -> None:
        """See that it is a decoder alone."""
        if isinstance(model, NgramDecoder):
            raise ConfigError(
                "lm goes on from weights, and --from names an n-gram model, which has none; count anew with --model ngram"
            )
        if model.config.decoder is None or model.config.encoder is not None:
            raise ConfigError("lm goes on from a decoder; this checkpoint has an encoder: use mlm or denoise")

    def practice(self, tokenizer: Tokenizer, shards: Shards, context: int) -> NextTokenPractice:
        """Return what a run needs."""
        return NextTokenPractice(tokenizer, context)

    def predict(self, checkpoint: Checkpoint, inputs: Sequence[Text]) -> list[Generation]:
        """Continue each text."""
        assert checkpoint.tokenizer is not None
        texts = single_texts(inputs)
        if any("[MASK]" in text for text in texts):
            warn(
                "this model continues texts and fills in no [MASK]; that takes an encoder, as `train mlm` makes"
            )
        return generate(checkpoint.model, checkpoint.tokenizer, texts, SamplingSettings())

    def score(self, results: Sequence[Generation], references: Sequence[str]) -> dict[str, float]:
        """Return the share of continuations that equal their reference, white space around them aside.

        How well a model predicts text, in bits per byte, is no matter of answers and references:
        `evaluation.language` asks the model for log-probabilities.
        """
        if len(results) != len(references):
            raise DataError(
                f"{len(results)} continuations and {len(references)} references; one for each is needed"
            )
        equal = [result.text.strip() == reference.strip() for result, reference in zip(results, references)]
        return {"exact_match": sum(equal) / max(1, len(equal))}
