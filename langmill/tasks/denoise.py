"""Denoising: an encoder-decoder writes what was taken out of a text. [tasks]"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from langmill.batches.batch import TokenBatch
from langmill.batches.corruption import Infilling, PairBatch, SpanCorruption
from langmill.batches.masking import most_common
from langmill.batches.pairs import sentence_ends
from langmill.batches.shards import Shards
from langmill.checkpoint import Checkpoint
from langmill.checkpoint.folder import start_id
from langmill.core.errors import ConfigError, DataError
from langmill.generation.generate import Generation, generate
from langmill.generation.rules import TokenRules, token_rules
from langmill.generation.settings import SamplingSettings
from langmill.models.config import bart_encoder_decoder, default_encoder_decoder
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.objectives.cross_entropy import IGNORED
from langmill.objectives.pairs import pair_states, target_tokens
from langmill.tasks.base import Lesson, Request, Text, Use, single_texts
from langmill.tasks.mlm import sums_over
from langmill.tasks.practice import recurrent_families, sizes_of
from langmill.tasks.pretraining import prepare
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import ModelSettings, SpanSettings

SENTINELS = 100
"""Sentinels that a tokenizer trained for this task has, as T5's has."""


def sentinel(number: int) -> str:
    """Return the name of a sentinel token."""
    return f"<extra_id_{number}>"


def new_pair(
    family: str, settings: ModelSettings, vocabulary: int, generator: torch.Generator
) -> Transformer:
    """Return a new encoder-decoder of a family, both stacks with the sizes of `settings`."""
    if settings.kv_heads not in (0, settings.heads):
        raise ConfigError(f"--model.kv-heads: the {family} family has as many key/value heads as heads")
    make = bart_encoder_decoder if family == "bart" else default_encoder_decoder
    sizes = sizes_of(settings)
    del sizes["kv_heads"]
    sizes["context"] += 1  # the end token
    model = Transformer(make(vocabulary, **sizes))
    initialise(model, generator, scheme="gpt2" if family == "bart" else "unit")
    return model


class DenoisingPractice:
    """Rows with parts taken out, others each time."""

    def __init__(self, tokenizer: Tokenizer, shards: Shards, corrupt: SpanCorruption | Infilling) -> None:
        self.tokenizer, self.corrupt = tokenizer, corrupt
        specials = [tokenizer.is_special(number) for number in range(tokenizer.vocabulary_size)]
        self.special = torch.tensor(specials)
        self.guess = most_common(shards.train.tokens)
        self.shown = shards.held_out.tokens[:48].astype(np.int64)

    def reshape(self, batch: TokenBatch, generator: np.random.Generator) -> PairBatch:
        """Take parts out."""
        return self.corrupt(batch, generator)

    def objective(self, model: Any, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Return the loss of the target."""
        return target_tokens(model, batch)

    def measure(self, model: Any, batch: PairBatch) -> dict[str, Tensor]:
        """Return loss, tokens found, and how many the commonest token would have found, of what was taken out.

        Sentinels and the end come as they must, and are left out on both sides: a span may end after any
        token, so that a sentinel is everywhere the likeliest single token.
        """
        special = self.special.to(batch.targets.device)
        text = torch.where(special[batch.targets.clamp(min=0)], IGNORED, batch.targets)
        return sums_over(
            model, pair_states(model, batch), text, guess=self.guess, impossible=self.impossible(model)
        )

    def impossible(self, model: Any) -> Tensor:
        """Return which tokens are no text, (V,): special ones, and those of a padded vocabulary."""
        weight = model.output.weight
        mask = torch.ones(len(weight), dtype=torch.bool)
        mask[: len(self.special)] = self.special
        return mask.to(weight.device)

    def sample(self, model: Any) -> str:
        """Return a held-out text with parts taken out, and what the model writes about it."""
        row = TokenBatch(torch.from_numpy(self.shown)[None], torch.empty(0))
        pair = self.corrupt(row, np.random.default_rng(1))
        settings = SamplingSettings(max_tokens=64, temperature=0)
        rules = TokenRules(ends=(self.corrupt.end,), start=self.corrupt.start)
        source = pair.source[0].tolist()
        (answer,) = generate(model, self.tokenizer, [source], settings, rules=rules)
        written = self.tokenizer.decode(list(answer.tokens), skip_special=False)
        return f"{self.tokenizer.decode(source, skip_special=False)} → {written}"


class Denoising:
    """`langmill train denoise`: pre-train an encoder-decoder on text, or go on training one."""

    name = "denoise"
    use = Use(
        "encoder-decoder",
        "text2text-generation",
        "AutoModelForSeq2SeqLM",
        'model.predict("…").text',
        ("predict {} '… <extra_id_0> …'",),
    )
    families: Mapping[str, Callable[[ModelSettings, int, torch.Generator], nn.Module]] = {
        **{name: partial(new_pair, name) for name in ("t5", "bart")},
        **recurrent_families("pair"),
    }
    fitted: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("mask",)
    extra_tokens: tuple[str, ...] = tuple(sentinel(number) for number in range(SENTINELS))
    own_settings: tuple[str, ...] = ("spans",)
    scores_text = False

    def __init__(self, spans: SpanSettings | None = None) -> None:
        self.spans = spans or SpanSettings()

    def learn(self, request: Request) -> Lesson:
        """Make the tokenizer, the tokens, the plan and the model."""
        return prepare(request, Denoising(request.settings.spans))

    def check(self, model: Any, tokenizer: Tokenizer) -> None:
        """See that it is an encoder-decoder."""
        if model.config.encoder is None or model.config.decoder is None:
            raise ConfigError("denoise goes on from an encoder-decoder; for this checkpoint use lm or mlm")

    def practice(self, tokenizer: Tokenizer, shards: Shards, context: int) -> DenoisingPractice:
        """Return what a run needs: T5's task where the tokenizer has sentinels for it, else BART's."""
        return DenoisingPractice(tokenizer, shards, corruption_for(tokenizer, self.spans))

    def predict(self, checkpoint: Checkpoint, inputs: Sequence[Text]) -> list[Generation]:
        """Write an answer to each text, greedily."""
        tokenizer = checkpoint.tokenizer
        assert tokenizer is not None
        rules = token_rules(tokenizer.eos_id, checkpoint.config, checkpoint.generation)
        settings = SamplingSettings(temperature=0)
        return generate(checkpoint.model, tokenizer, single_texts(inputs), settings, rules=rules)

    def score(self, results: Sequence[Generation], references: Sequence[str]) -> dict[str, float]:
        """Return the share of answers that equal their reference, white space around them aside."""
        if len(results) != len(references):
            raise DataError(
                f"{len(results)} answers and {len(references)} references; one for each is needed"
            )
        equal = [result.text.strip() == reference.strip() for result, reference in zip(results, references)]
        return {"exact_match": sum(equal) / max(1, len(equal))}


def corruption_for(tokenizer: Tokenizer, spans: SpanSettings) -> SpanCorruption | Infilling:
    """Return the task that a tokenizer has tokens for.

    By default half of a text is taken out, in long spans, as in UL2's extreme denoising (Tay et al. 2022,
    arXiv:2205.05131, section 3.1.2): in runs of minutes a model so trained is the better one at T5's own
    short spans too, because a step asks it for four times as many tokens (docs/log.md).
    """
    end, pad = tokenizer.eos_id, tokenizer.pad_id
    if end is None or pad is None:
        raise ConfigError(
            "denoise needs a tokenizer with an eos and a pad token; bpe, char and unigram have them"
        )
    found = [tokenizer.backend.token_to_id(sentinel(number)) for number in range(SENTINELS)]
    sentinels = tuple(number for number in found if number is not None)
    if sentinels:
        start = start_id("t5", end, pad)
        return SpanCorruption(sentinels, end, start, pad, spans.share or 0.5, spans.length or 16.0)
    if tokenizer.mask_id is None:
        raise ConfigError("denoise needs a tokenizer with sentinels (<extra_id_0> …) or a mask token")
    stops = frozenset(np.flatnonzero(sentence_ends(tokenizer)).tolist())
    start = start_id("bart", end, pad)
    return Infilling(tokenizer.mask_id, end, start, pad, stops, spans.share or 0.3, spans.length or 3.0)
