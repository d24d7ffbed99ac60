"""Continuing texts: prompts in, text out. [generation]

Shape letters: B rows of the batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from langmill.core.errors import ConfigError, DataError, LangmillError
from langmill.core.log import warn
from langmill.generation.decoder import Decoder, Scores, choose_decoder
from langmill.generation.sampling import draw, filtered, row_generator
from langmill.generation.settings import SamplingSettings
from langmill.generation.streaming import TextStream
from langmill.models.cache import Cache
from langmill.models.transformer import Transformer

PREFILL_TOKENS = 2048
"""Prompt positions read at once, which bounds the memory that a long prompt takes."""
BATCH_ROWS = 8
"""Prompts generated together, unless the caller says otherwise."""


class TextCodec(Protocol):
    """The part of a tokenizer that generation needs."""

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eos_id(self) -> int | None: ...

    def encode(self, text: str, *, special: bool = False) -> list[int]: ...

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str: ...


@dataclass(frozen=True)
class Generation:
    """The continuation of one prompt."""

    text: str
    """Without the prompt, and without the stop string if one ended it."""
    tokens: tuple[int, ...]
    """Every token generated, those of a stop string included, the end token not."""
    logprobs: tuple[float, ...]
    """Natural log of each token's probability under the model, before any filter or temperature."""
    finish_reason: Literal["stop", "length"]
    """"stop": the end token or a stop string; "length": max_tokens, or the end of the model's context."""
    prompt_tokens: int


@dataclass
class _Row:
    """A prompt being continued."""

    index: int
    prompt: list[int]
    limit: int  # tokens to generate at most
    generator: torch.Generator
    stream: TextStream
    on_text: Callable[[str], None] | None
    last: int = 0  # the token to feed next
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None

    def accept(self, token: int, logprob: float, ends: Collection[int]) -> None:
        """Take the chosen token."""
        if math.isnan(logprob):
            raise LangmillError(
                "the model's scores are not numbers (NaN): its weights are damaged or have diverged"
            )
        self.last = token
        if token in ends:
            self.finish_reason = "stop"
        else:
            self.tokens.append(token)
            self.logprobs.append(logprob)
            self._say(self.stream.push(token))
            if self.stream.stopped:
                self.finish_reason = "stop"
            elif len(self.tokens) == self.limit:
                self.finish_reason = "length"
        if self.finish_reason:
            self._say(self.stream.finish())
            if self.stream.stopped:
                self.finish_reason = "stop"

    def _say(self, text: str) -> None:
        if text and self.on_text:
            self.on_text(text)

    def result(self) -> Generation:
        assert self.finish_reason
        return Generation(
            self.stream.text, tuple(self.tokens), tuple(self.logprobs), self.finish_reason, len(self.prompt)
        )


def generate(
    model: Transformer,
    tokenizer: TextCodec,
    prompts: Sequence[str] | Sequence[list[int]],
    settings: SamplingSettings | None = None,
    *,
    on_text: Callable[[str], None] | None = None,
    end_ids: Collection[int] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> list[Generation]:
    """Continue each prompt, text or token ids, and return the continuations in the same order.

    An empty prompt starts from the tokenizer's bos token, or else its eos token, which separates the
    documents of a training corpus. A row's tokens do not depend on the other rows (except that equal
    prompts sample different texts), nor on `batch_rows`, the number of prompts generated together.

    on_text: called with each piece of text as soon as it is certain; for a single prompt only.
    end_ids: the tokens that end a text; by default the tokenizer's eos token.

    Raises DataError when a prompt fills the model's context, has an id that is no token, or is empty
    where the tokenizer has neither bos nor eos; ConfigError when several prompts are to be streamed.
    """
    settings = settings or SamplingSettings()
    if on_text and len(prompts) != 1:
        raise ConfigError(f"text can be streamed for one prompt at a time; {len(prompts)} were given")
    if end_ids is None:
        end_ids = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    rows = _make_rows(
        model, tokenizer, [prompt_ids(tokenizer, prompt) for prompt in prompts], settings, on_text
    )
    by_length = sorted(rows, key=lambda row: len(row.prompt))
    training = model.training
    model.eval()
    try:
        for begin in range(0, len(rows), batch_rows):
            _continue(model, by_length[begin : begin + batch_rows], settings, end_ids)
    finally:
        model.train(training)
    short = [row for row in rows if row.limit < settings.max_tokens and row.finish_reason == "length"]
    if short:
        warn(
            f"{len(short)} of {len(rows)} texts ended with the model's context of {_positions(model)} tokens, "
            f"before max_tokens ({settings.max_tokens})"
        )
    return [row.result() for row in rows]


def end_tokens(tokenizer: TextCodec, generation_config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the tokens that end a text: the tokenizer's eos and those of a checkpoint's generation_config.json."""
    named = generation_config.get("eos_token_id")
    ends = {tokenizer.eos_id} | set(named if isinstance(named, list) else [named])
    return tuple(sorted(end for end in ends if end is not None))


def prompt_ids(tokenizer: TextCodec, prompt: str | list[int]) -> list[int]:
    """Return the tokens that a prompt stands for.

    A text begins with the bos token if the tokenizer puts one there by itself; no other token is added.
    """
    if not isinstance(prompt, str):
        ids = [int(number) for number in prompt]
    else:
        ids = tokenizer.encode(prompt)
        if tokenizer.encode(prompt, special=True)[:1] == [tokenizer.bos_id] != ids[:1]:
            ids = [tokenizer.bos_id, *ids]  # type: ignore[list-item]
    if ids:
        return ids
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    if start is None:
        raise DataError(
            "the prompt is empty, and the tokenizer has no bos or eos token to start from; give a prompt"
        )
    return [start]


def _positions(model: Transformer) -> int:
    assert model.config.decoder is not None, "only a decoder generates"
    return model.config.decoder.max_positions


def check_ids(ids: Sequence[int], vocabulary: int) -> None:
    """Raise a DataError if some id has no token."""
    wrong = [number for number in ids if not 0 <= number < vocabulary]
    if wrong:
        raise DataError(
            f"token id {wrong[0]} is not in the model's vocabulary; ids go from 0 to {vocabulary - 1}"
        )


def _make_rows(
    model: Transformer,
    tokenizer: TextCodec,
    prompts: list[list[int]],
    settings: SamplingSettings,
    on_text: Callable[[str], None] | None,
) -> list[_Row]:
    positions = _positions(model)
    rows: list[_Row] = []
    copies: Counter[tuple[int, ...]] = Counter()
    for index, prompt in enumerate(prompts):
        check_ids(prompt, model.config.vocabulary)
        if len(prompt) >= positions:
            raise DataError(
                f"prompt {index + 1} has {len(prompt)} tokens; the model reads {positions}, the generated ones "
                f"included, so a prompt may have {positions - 1}: shorten it"
            )
        generator = row_generator(settings.seed, prompt, copies[tuple(prompt)])
        copies[tuple(prompt)] += 1
        stream = TextStream(tokenizer.decode, prompt, stop=settings.stop)
        limit = min(settings.max_tokens, positions - len(prompt))
        rows.append(_Row(index, prompt, limit, generator, stream, on_text))
    return rows


@torch.inference_mode()
def _continue(
    model: Transformer, rows: list[_Row], settings: SamplingSettings, ends: Collection[int]
) -> None:
    """Generate until every row has finished."""
    longest = max(len(row.prompt) for row in rows)
    cache = model.new_cache(len(rows), longest + max(row.limit for row in rows) - 1)
    scores = prefill(model, [row.prompt for row in rows], cache)
    seen = _seen(rows, model) if settings.repetition_penalty != 1 else None
    decoder: Decoder | None = None
    try:
        while True:
            chosen = choose(scores, settings, seen=seen, generators=[row.generator for row in rows])
            logprobs = scores.logits.gather(1, chosen[:, None])[:, 0] - scores.log_total
            for row, token, logprob in zip(rows, chosen.tolist(), logprobs.tolist()):
                if not row.finish_reason:
                    row.accept(token, logprob, ends)
            if seen is not None:
                seen.scatter_(1, chosen[:, None], True)
            alive = [i for i, row in enumerate(rows) if not row.finish_reason]
            if not alive:
                return
            if len(alive) < len(rows):
                kept = torch.tensor(alive, device=scores.logits.device)
                cache.reorder(kept)
                rows = [rows[i] for i in alive]
                seen = None if seen is None else seen[kept]
            decoder = decoder or choose_decoder(model, len(rows))
            scores = decoder.step([row.last for row in rows], cache)
    finally:
        if decoder:
            decoder.close()


def prefill(model: Transformer, prompts: Sequence[Sequence[int]], cache: Cache) -> Scores:
    """Read the prompts, padded on the left to one length, into an empty cache; score what follows them."""
    longest = max(map(len, prompts))
    device = model.output.weight.device
    ids = torch.tensor(
        [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device
    )  # (B, T)
    valid: Tensor | None = None
    if any(len(prompt) < longest for prompt in prompts):
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        valid = torch.arange(longest, device=device) >= longest - lengths[:, None]
    for begin in range(0, longest, PREFILL_TOKENS):
        end = begin + PREFILL_TOKENS
        states = model.decode(
            ids[:, begin:end], valid=None if valid is None else valid[:, begin:end], cache=cache
        )
    return Scores.of(model.score(states[:, -1]))


def choose(
    scores: Scores, settings: SamplingSettings, *, seen: Tensor | None, generators: Sequence[torch.Generator]
) -> Tensor:
    """Return the next token of each row, (B,). seen: (B, V), see `penalise_repetition`."""
    if settings.greedy:
        return scores.best if seen is None else filtered(scores.logits, seen, settings).argmax(-1)
    return draw(filtered(scores.logits, seen, settings), generators)


def _seen(rows: list[_Row], model: Transformer) -> Tensor:
    """Return which tokens each row's prompt holds, (B, V); padding is not among them."""
    seen = torch.zeros(
        len(rows), model.config.vocabulary, dtype=torch.bool, device=model.output.weight.device
    )
    for marks, row in zip(seen, rows):
        marks[row.prompt] = True
    return seen
