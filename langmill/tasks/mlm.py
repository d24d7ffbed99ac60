"""The masked language model: hidden tokens from what stands around them. [tasks]"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from langmill.batches.batch import TokenBatch
from langmill.batches.masking import Mask, Masker, most_common
from langmill.batches.pairs import PairLayout
from langmill.batches.shards import Shards
from langmill.checkpoint import Checkpoint
from langmill.core.errors import ConfigError, DataError
from langmill.core.log import say
from langmill.models.config import bert_encoder, default_encoder
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.objectives.cross_entropy import IGNORED
from langmill.objectives.masked import hidden_states, masked_token
from langmill.tasks.base import Lesson, Request, Text, Use
from langmill.tasks.practice import recurrent_families, sizes_of
from langmill.tasks.pretraining import prepare
from langmill.text.segmentation import HAN, chinese_segmenter
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import ModelSettings

SHOWN = 5
"""Candidates shown for each hidden token."""
NO_SEGMENTS = "--mask.pairs: the two parts of a pair are told apart by segment embeddings"


@dataclass(frozen=True)
class Candidate:
    """A token that may stand in a hidden place."""

    token: str
    id: int
    probability: float


@dataclass(frozen=True)
class Filling:
    """What a model makes of a text with hidden tokens."""

    text: str
    """With the best candidate in every place."""
    masks: tuple[tuple[Candidate, ...], ...]
    """For each hidden token its likeliest candidates, best first."""
    pair: str = ""
    """Of two texts that were read together the second, filled in likewise."""


def new_encoder(
    family: str, settings: ModelSettings, vocabulary: int, generator: torch.Generator
) -> Transformer:
    """Return a new encoder of a family, its sizes those of `settings`."""
    if family == "bert" and settings.kv_heads not in (0, settings.heads):
        raise ConfigError(
            "--model.kv-heads: the bert family has as many key/value heads as heads; use eurobert"
        )
    make = bert_encoder if family == "bert" else default_encoder
    model = Transformer(make(vocabulary, **sizes_of(settings)))
    initialise(model, generator, scheme="gpt2" if family == "bert" else "unit")
    return model


def sums_over(
    model: Any, states: Tensor, targets: Tensor, *, guess: int, impossible: Tensor | None = None
) -> dict[str, Tensor]:
    """Return sums over targets (...,) that are not IGNORED: loss, count, how many are found, and how many `guess` finds.

    states: what the output layer reads, (..., D). impossible: (V,), True for tokens that no target is, which
    are then left out of the prediction.
    """
    asked = targets != IGNORED
    targets = targets[asked]
    scores = model.output(states[asked]).float()
    if impossible is not None:
        scores = scores.masked_fill(impossible, -math.inf)
    logs = scores.log_softmax(-1)
    return {
        "loss": -logs.gather(1, targets[:, None]).sum(),
        "count": asked.sum(),
        "accuracy": (logs.argmax(-1) == targets).sum(),
        "accuracy_of_commonest_token": (targets == guess).sum(),
    }


class MaskedPractice:
    """Rows in which tokens are hidden, others each time; pairs: the rows are cut into pairs first."""

    def __init__(self, tokenizer: Tokenizer, shards: Shards, mask: Mask, *, pairs: bool = False) -> None:
        self.tokenizer = tokenizer
        self.layout = PairLayout(tokenizer) if pairs else None
        self.masker = Masker(tokenizer, mask)
        self.guess = most_common(shards.train.tokens)
        self.shown = shards.held_out.tokens[:64].astype(np.int64)
        if (
            mask.unit != "token"
            and chinese_segmenter() is None
            and HAN.search(tokenizer.decode(self.shown.tolist()))
        ):
            say("Chinese words are taken to be single characters: rjieba is not installed (langmill[zh])")

    def reshape(self, batch: TokenBatch, generator: np.random.Generator) -> TokenBatch:
        """Hide tokens."""
        if self.layout is not None:
            batch = self.layout(batch, generator)
        return self.masker(batch, generator)

    def objective(self, model: Any, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Return the loss of the hidden tokens."""
        return masked_token(model, batch)

    def measure(self, model: Any, batch: TokenBatch) -> dict[str, Tensor]:
        """Return loss, tokens found, and how many the commonest token would have found."""
        return sums_over(model, *hidden_states(model, batch), guess=self.guess)

    def sample(self, model: Any) -> str:
        """Return a held-out text with every eighth token hidden and filled in."""
        ids = torch.tensor(self.shown)
        hidden = ids.clone()
        hidden[4::8] = self.masker.mask_id
        with torch.no_grad():
            device = model.output.weight.device
            best = model.score(model.encode(hidden[None].to(device)))[0].argmax(-1).cpu()
        parts = [
            f"[{self.tokenizer.decode([number])}]"
            if hidden[i] == self.masker.mask_id
            else self.tokenizer.decode([number])
            for i, number in enumerate(torch.where(hidden == self.masker.mask_id, best, ids).tolist())
        ]
        return "".join(parts)


class MaskedLanguageModelling:
    """`langmill train mlm`: pre-train an encoder on text, or go on training one."""

    name = "mlm"
    use = Use(
        "encoder",
        "fill-mask",
        "AutoModelForMaskedLM",
        'model.predict("… [MASK] …").text',
        ("predict {} '… [MASK] …'",),
    )
    families: Mapping[str, Callable[[ModelSettings, int, torch.Generator], nn.Module]] = {
        **{name: partial(new_encoder, name) for name in ("eurobert", "bert")},
        **recurrent_families("encoder"),
    }
    fitted: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("mask",)
    extra_tokens: tuple[str, ...] = ()
    own_settings: tuple[str, ...] = ("mask",)
    scores_text = False

    def __init__(self, mask: Mask | None = None, *, pairs: bool = False) -> None:
        self.mask, self.pairs = mask or Mask(), pairs
        if pairs:
            self.roles = ("mask", "cls", "sep")
            self.families = {"bert": self.families["bert"]}

    def learn(self, request: Request) -> Lesson:
        """Make the tokenizer, the tokens, the plan and the model."""
        wanted = request.settings.mask
        family = request.settings.model.family
        if wanted.pairs and family in self.families and family != "bert":
            raise ConfigError(f"{NO_SEGMENTS}, which {family} has not; use --model bert")
        return prepare(request, MaskedLanguageModelling(Mask(wanted.share, wanted.unit), pairs=wanted.pairs))

    def check(self, model: Any, tokenizer: Tokenizer) -> None:
        """See that it is an encoder with an output layer and a mask token."""
        if model.config.encoder is None or model.config.decoder is not None:
            raise ConfigError("mlm goes on from an encoder; this checkpoint has a decoder: use lm or denoise")
        if not model.config.has_output:
            raise ConfigError("this checkpoint has no layer that scores tokens, which mlm trains")
        if self.pairs and model.config.encoder.segments < 2:
            raise ConfigError(f"{NO_SEGMENTS}, which this checkpoint has not")
        if lacking := [role for role in self.roles if getattr(tokenizer.specials, role) is None]:
            raise ConfigError(f"this checkpoint's tokenizer has no {lacking[0]} token, which mlm needs")

    def practice(self, tokenizer: Tokenizer, shards: Shards, context: int) -> MaskedPractice:
        """Return what a run needs."""
        return MaskedPractice(tokenizer, shards, self.mask, pairs=self.pairs)

    @torch.no_grad()
    def predict(self, checkpoint: Checkpoint, inputs: Sequence[Text]) -> list[Filling]:
        """Fill the mask tokens of each text or pair; all of one at once, each from the others hidden.

        Raises DataError where a text has no mask token or is too long.
        """
        model, tokenizer = checkpoint.model, checkpoint.tokenizer
        assert tokenizer is not None
        if not model.config.has_output:
            raise ConfigError(
                "this checkpoint gives states (for embeddings) and has no layer that scores tokens, so it fills in no"
                " [MASK]; take one that was trained to, such as `train mlm` makes"
            )
        results = []
        for text in inputs:
            ids, segments, second = masked_ids(tokenizer, text)
            assert tokenizer.mask_id is not None
            limit = model.config.output_stack.max_positions
            if len(ids) > limit:
                raise DataError(f"a text has {len(ids)} tokens; the model reads {limit}: shorten it")
            tensor = torch.tensor([ids], device=model.output.weight.device)
            places = (tensor[0] == tokenizer.mask_id).nonzero()[:, 0]
            known = max(segments) < model.config.output_stack.segments
            kinds = torch.tensor([segments], device=tensor.device) if known else None
            states = model.encode(tensor, segments=kinds)[0, places]
            shares, best = model.score(states).float().softmax(-1).topk(min(SHOWN, model.config.vocabulary))
            for place, number in zip(places.tolist(), best[:, 0].tolist()):
                ids[place] = number
            masks = tuple(
                tuple(
                    Candidate(tokenizer.decode([number]), number, share)
                    for number, share in zip(row, chances)
                )
                for row, chances in zip(best.tolist(), shares.tolist())
            )
            results.append(Filling(tokenizer.decode(ids[:second]), masks, tokenizer.decode(ids[second:])))
        return results

    def score(self, results: Sequence[Filling], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the share of hidden tokens whose best candidate equals the reference, white space aside."""
        if len(results) != len(references):
            raise DataError(
                f"{len(results)} results and {len(references)} references; one for each is needed"
            )
        pairs = [
            (mask[0].token.strip(), word.strip())
            for result, wanted in zip(results, references)
            for mask, word in zip(result.masks, wanted, strict=True)
        ]
        return {"accuracy": sum(a == b for a, b in pairs) / max(1, len(pairs))}


def masked_ids(tokenizer: Tokenizer, text: Text) -> tuple[list[int], list[int], int]:
    """Return the ids and segments of a text or pair, and where in them its second text begins.

    `[MASK]`, `<mask>` or the tokenizer's own mask token hide tokens. Raises DataError where none does.
    """
    own = tokenizer.specials.mask
    if own is None:
        raise ConfigError("this checkpoint's tokenizer has no mask token, so nothing can be filled in")
    parts = [text] if isinstance(text, str) else list(text)
    for name in ("[MASK]", "<mask>", "<|mask|>"):
        parts = [part.replace(name, own) for part in parts]
    # Byte-level tokens carry the space before them, so the mask takes it over.
    if tokenizer.kind == "bpe":
        parts = [part.replace(f" {own}", own) for part in parts]
    if isinstance(text, str):
        ids = tokenizer.encode(parts[0], special=True)
        segments, second = [0] * len(ids), len(ids)
    else:
        pair = tokenizer.encode_pair(*parts)
        ids, segments, second = pair.ids, pair.segments, pair.second
    if tokenizer.mask_id not in ids:
        raise DataError(f"no [MASK] in {' '.join(parts)[:60]!r}; write it where a token is to be filled in")
    return ids, segments, second


@torch.no_grad()
def pseudo_logprobs(checkpoint: Checkpoint, text: str) -> np.ndarray:
    """Return the natural log-probability of each token given all the others, (T,): each hidden in turn.

    Salazar et al. 2020 (arXiv:1910.14659); exp of the mean, negated, is the pseudo-perplexity.
    """
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    assert tokenizer is not None and tokenizer.mask_id is not None
    ids = torch.tensor(tokenizer.encode(text, special=True), device=model.output.weight.device)
    places = torch.tensor([i for i, number in enumerate(ids.tolist()) if not tokenizer.is_special(number)])
    out = []
    for part in places.split(64):
        rows = ids.repeat(len(part), 1)
        rows[torch.arange(len(part)), part] = tokenizer.mask_id
        states = model.encode(rows)[torch.arange(len(part)), part]
        logs = model.score(states).float().log_softmax(-1)
        out += logs.gather(1, ids[part][:, None])[:, 0].tolist()
    return np.array(out)


def pseudo_perplexity(checkpoint: Checkpoint, text: str) -> float:
    """Return exp of the mean surprise of `pseudo_logprobs`."""
    return math.exp(-pseudo_logprobs(checkpoint, text).mean())
