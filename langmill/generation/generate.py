"""Continuing texts: prompts in, text out. [generation]

Shape letters: B rows of the batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from langmill.core.errors import CheckpointError, ConfigError, DataError, LangmillError
from langmill.core.log import warn
from langmill.generation.beam import BeamSettings, Hypothesis, beam_search
from langmill.generation.decoder import Scores, choose_decoder
from langmill.generation.filters import penalise_repetition
from langmill.generation.rules import TokenRules, restrict_
from langmill.generation.sampling import draw, filtered, row_generator
from langmill.generation.settings import SamplingSettings
from langmill.generation.streaming import TextStream
from langmill.models.cache import Cache
from langmill.models.heads import ANSWERERS
from langmill.models.protocol import device_of
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
    score: float | None = None
    """Of a beam search: the sum of log-probabilities over the length to the length penalty."""
    alternatives: tuple[Generation, ...] = ()
    """Further texts of a beam search, best first."""


@dataclass
class _Row:
    """A prompt being continued."""

    index: int
    source: list[int]  # what an encoder reads; empty for a decoder
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
            self.stream.text,
            tuple(self.tokens),
            tuple(self.logprobs),
            self.finish_reason,
            len(self.source or self.prompt),
        )


def generate(
    model: Transformer,
    tokenizer: TextCodec,
    prompts: Sequence[str] | Sequence[list[int]],
    settings: SamplingSettings | None = None,
    *,
    on_text: Callable[[str], None] | None = None,
    rules: TokenRules | None = None,
    batch_rows: int = BATCH_ROWS,
) -> list[Generation]:
    """Continue each prompt, text or token ids, and return the continuations in the same order.

    An encoder-decoder reads the prompts and writes what answers them, beginning with `rules.start`.
    An empty prompt starts from the tokenizer's bos token, or else its eos token, which separates the
    documents of a training corpus. A row's tokens do not depend on the other rows (except that equal
    prompts sample different texts), nor on `batch_rows`, the number of prompts generated together.

    on_text: called with each piece of text as soon as it is certain; for a single prompt only.
    rules: the tokens that begin and end a text; by default the tokenizer's eos token ends it.

    Raises DataError when a prompt fills the model's context, has an id that is no token, or is empty
    where the tokenizer has neither bos nor eos; ConfigError when several prompts are to be streamed.
    """
    settings = settings or SamplingSettings()
    if on_text and len(prompts) != 1:
        raise ConfigError(f"text can be streamed for one prompt at a time; {len(prompts)} were given")
    if rules is None:
        rules = TokenRules(ends=() if tokenizer.eos_id is None else (tokenizer.eos_id,))
    rows = _make_rows(model, tokenizer, prompts, settings, rules, on_text)
    by_length = sorted(rows, key=lambda row: len(row.source or row.prompt))
    results: dict[int, Generation] = {}
    training = model.training
    model.eval()
    try:
        for begin in range(0, len(rows), batch_rows):
            some = by_length[begin : begin + batch_rows]
            if settings.beams > 1:
                results |= _search(model, some, settings, rules)
            else:
                _continue(model, some, settings, rules)
                results |= {row.index: row.result() for row in some}
    finally:
        model.train(training)
    short = [row for row in rows if row.limit < settings.max_tokens and row.finish_reason == "length"]
    if short:
        warn(
            f"{len(short)} of {len(rows)} texts ended with the model's context of {positions_of(model)} tokens, "
            f"before max_tokens ({settings.max_tokens})"
        )
    return [results[index] for index in range(len(rows))]


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


def positions_of(model: Transformer) -> int:
    """Return how many tokens a text may have, or raise ConfigError where the model generates none."""
    config = model.config
    head = getattr(config, "head", None)
    if config.decoder is not None and config.has_output and head is None:
        return config.decoder.max_positions
    plain = "an encoder, which fills in masked tokens" if config.has_output else "a maker of vectors of texts"
    what = plain if head is None else ANSWERERS[head.kind]
    raise ConfigError(
        f"this checkpoint is {what}, and generates no text; ask it with `langmill predict`, or take a decoder, as"
        " `langmill train lm` makes"
    )


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
    prompts: Sequence[str] | Sequence[list[int]],
    settings: SamplingSettings,
    rules: TokenRules,
    on_text: Callable[[str], None] | None,
) -> list[_Row]:
    positions = positions_of(model)
    rows: list[_Row] = []
    copies: Counter[tuple[int, ...]] = Counter()
    for index, given in enumerate(cast(Sequence[str | list[int]], prompts)):
        source: list[int] = []
        if model.encoder is None:
            prompt = prompt_ids(tokenizer, given)
        else:
            source, prompt = source_ids(model, tokenizer, given, index + 1), _beginning(rules)
        check_ids(prompt, model.config.vocabulary)
        if len(prompt) >= positions:
            raise DataError(
                f"prompt {index + 1} has {len(prompt)} tokens; the model reads {positions}, the generated ones "
                f"included, so a prompt may have {positions - 1}: shorten it"
            )
        generator = row_generator(settings.seed, source or prompt, copies[tuple(source or prompt)])
        copies[tuple(source or prompt)] += 1
        stream = TextStream(tokenizer.decode, [] if source else prompt, stop=settings.stop)
        limit = min(settings.max_tokens, positions - len(prompt))
        rows.append(_Row(index, source, prompt, limit, generator, stream, on_text))
    return rows


def source_ids(model: Transformer, tokenizer: TextCodec, prompt: str | list[int], number: int) -> list[int]:
    """Return what an encoder reads for a prompt: its tokens and those that the tokenizer puts around a text."""
    ids = (
        tokenizer.encode(prompt, special=True) if isinstance(prompt, str) else [int(each) for each in prompt]
    )
    check_ids(ids, model.config.vocabulary)
    assert model.config.encoder is not None
    limit = model.config.encoder.max_positions
    if not ids:
        raise DataError(f"prompt {number} is empty; an encoder-decoder answers a text: give one")
    if model.config.encoder.positions != "relative" and len(ids) > limit:
        raise DataError(f"prompt {number} has {len(ids)} tokens; the model reads {limit}: shorten it")
    return ids


def _beginning(rules: TokenRules) -> list[int]:
    if rules.start is None:
        raise CheckpointError(
            "config.json says no decoder_start_token_id, with which an encoder-decoder's text begins; add it"
        )
    return [rules.start]


def _read(model: Transformer, rows: list[_Row], slots: int) -> Cache:
    """Return an empty cache, with what the encoder makes of the rows' sources if there is one."""
    if model.encoder is None:
        return model.new_cache(len(rows), slots)
    device = device_of(model)
    longest = max(len(row.source) for row in rows)
    ids = torch.tensor([row.source + [0] * (longest - len(row.source)) for row in rows], device=device)
    lengths = torch.tensor([len(row.source) for row in rows], device=device)
    valid = torch.arange(longest, device=device) < lengths[:, None]  # (B, S)
    padded = valid if not bool(valid.all()) else None
    memory = model.encode(ids, valid=padded)
    return model.new_cache(len(rows), slots, memory=memory, memory_valid=padded)


def _ruled(settings: SamplingSettings, rules: TokenRules) -> bool:
    """Whether some token is ruled out at some point."""
    return bool(
        settings.min_tokens
        or settings.no_repeat_ngram
        or rules.first is not None
        or rules.last
        or rules.banned
    )


@torch.inference_mode()
def _continue(model: Transformer, rows: list[_Row], settings: SamplingSettings, rules: TokenRules) -> None:
    """Generate until every row has finished."""
    longest = max(len(row.prompt) for row in rows)
    cache = _read(model, rows, longest + max(row.limit for row in rows) - 1)
    scores = prefill(model, [row.prompt for row in rows], cache)
    seen = _seen(rows, model) if settings.repetition_penalty != 1 else None
    # Before the first text is said: the kernels may have to be compiled, and say so.
    decoder = choose_decoder(model, len(rows)) if max(row.limit for row in rows) > 1 else None
    ruled = _ruled(settings, rules)
    generated = 0
    try:
        while True:
            allowed = scores
            if ruled:
                logits = scores.logits.clone()
                _restrict(logits, [row.prompt + row.tokens for row in rows], rows, settings, rules, generated)
                allowed = Scores.of(logits)
            chosen = choose(allowed, settings, seen=seen, generators=[row.generator for row in rows])
            logprobs = scores.logits.gather(1, chosen[:, None])[:, 0] - scores.log_total
            for row, token, logprob in zip(rows, chosen.tolist(), logprobs.tolist()):
                if not row.finish_reason:
                    row.accept(token, logprob, rules.ends)
            generated += 1
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
            assert decoder is not None
            scores = decoder.step([row.last for row in rows], cache)
    finally:
        if decoder:
            decoder.close()


def _restrict(
    scores: Tensor,
    histories: list[list[int]],
    rows: list[_Row],
    settings: SamplingSettings,
    rules: TokenRules,
    generated: int,
) -> None:
    restrict_(
        scores,
        rules,
        histories,
        generated=generated,
        limit=max(row.limit for row in rows),
        min_tokens=settings.min_tokens,
        no_repeat_ngram=settings.no_repeat_ngram,
    )


@torch.inference_mode()
def _search(
    model: Transformer, rows: list[_Row], settings: SamplingSettings, rules: TokenRules
) -> dict[int, Generation]:
    """Return the results of a beam search for rows, by their index."""
    longest, limit = max(len(row.prompt) for row in rows), min(row.limit for row in rows)
    cache = _read(model, rows, longest + limit - 1)
    if longest > 1:
        scores = prefill(model, [row.prompt for row in rows], cache)
    decoder = choose_decoder(model, len(rows) * settings.beams)

    def restrict(logs: Tensor, beams: list[list[int]], places: list[int], generated: int) -> None:
        histories = [rows[place].prompt + tokens for place, tokens in zip(places, beams)]
        if settings.repetition_penalty != 1:
            seen = torch.zeros_like(logs, dtype=torch.bool)
            for marks, history in zip(seen, histories):
                marks[history] = True
            logs.copy_(penalise_repetition(logs, seen, settings.repetition_penalty))
        _restrict(logs, histories, rows, settings, rules, generated)

    ruled = _ruled(settings, rules) or settings.repetition_penalty != 1
    wanted = BeamSettings(
        settings.beams, limit, frozenset(rules.ends), settings.length_penalty, settings.early_stopping
    )
    try:
        if longest == 1:  # as an encoder-decoder's texts begin: a step, at which the decoder is faster
            scores = decoder.step([row.prompt[0] for row in rows], cache)
        found = beam_search(decoder.step, scores, cache, wanted, restrict=restrict if ruled else None)
    finally:
        decoder.close()
    results = {}
    for row, hypotheses in zip(rows, found):
        best, *others = (_spelt(row, each) for each in hypotheses[: settings.alternatives])
        if row.on_text:
            row.on_text(best.text)
        results[row.index] = replace(best, alternatives=tuple(others))
    return results


def _spelt(row: _Row, hypothesis: Hypothesis) -> Generation:
    """Return a hypothesis as text, cut where a stop string ends it."""
    stream = TextStream(row.stream.decode, row.stream.ids, stop=row.stream.stop)
    count = 0
    while count < len(hypothesis.tokens) and not stream.stopped:
        stream.push(hypothesis.tokens[count])
        count += 1
    stream.finish()
    return Generation(
        stream.text,
        hypothesis.tokens[:count],
        hypothesis.logprobs[:count],
        "stop" if stream.stopped else hypothesis.finish_reason,
        len(row.source or row.prompt),
        hypothesis.score,
    )


def prefill(model: Transformer, prompts: Sequence[Sequence[int]], cache: Cache) -> Scores:
    """Read the prompts, padded on the left to one length, into an empty cache; score what follows them."""
    longest = max(map(len, prompts))
    device = device_of(model)
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
    seen = torch.zeros(len(rows), model.config.vocabulary, dtype=torch.bool, device=device_of(model))
    for marks, row in zip(seen, rows):
        marks[row.prompt] = True
    return seen
