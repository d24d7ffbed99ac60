"""Log-probabilities of continuations of contexts; what several have in common is read once. [evaluation]

Requests form a tree. All read the same beginning (the examples of a few-shot prompt), those with one context read that
together (the text to classify), and each goes on alone (the words of its label). Each part is read once, into a cache
that is copied where the tree branches, and only continuations are scored.

Shape letters: B rows, T tokens, D width, N scored tokens, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langmill.core.errors import CheckpointError, DataError
from langmill.evaluation.windows import Report, choose_reach
from langmill.generation.generate import prompt_ids
from langmill.models.protocol import device_of
from langmill.objectives.cross_entropy import chunk_rows
from langmill.tokens.tokenizer import Tokenizer

CACHE_TOKENS = {"cpu": 4096, "cuda": 65_536}
"""Places of a batch's cache, which bounds its memory; any other device takes the CPU's."""

Ids = Sequence[int]


@dataclass(frozen=True)
class Continuation:
    """How likely a continuation is after its context."""

    logprob: float
    """Natural log-probability of all its tokens."""
    greedy: bool
    """Each of its tokens is the likeliest at its place."""
    tokens: int
    """How many it has."""
    cut: int = 0
    """Tokens at the beginning of the context that the model did not look back to."""


def encode_continuations(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Return the ids of contexts and of their continuations.

    As lm-evaluation-harness has it: white space at the end of a context belongs to the continuation, and both are
    encoded as one text, whose tokens beyond as many as the context alone has are the continuation's. A context begins
    as a prompt does (`prompt_ids`): an empty one is the token that begins a document.
    Raises DataError for an empty continuation.
    """
    contexts = {context: context.rstrip() for context, _ in pairs}
    heads = {text: (prompt_ids(tokenizer, text), len(tokenizer.encode(text))) for text in contexts.values()}
    wholes = tokenizer.encode_batch([context + continuation for context, continuation in pairs])
    found = []
    for (context, continuation), whole in zip(pairs, wholes):
        if not continuation:
            raise DataError(f"nothing to score after {context[-40:]!r}: the continuation is empty")
        ids, length = heads[contexts[context]]
        found.append((ids, whole[min(length, len(whole) - 1) :]))  # one token at least, should all merge
    return found


@dataclass(frozen=True)
class _Request:
    """A context with its continuation."""

    ids: list[int]
    first: int
    """The place of the continuation's first token."""


@dataclass(frozen=True)
class _Group:
    """Requests of one context."""

    members: list[int]
    trunk: int
    """Tokens that all of them read: the context, and what their continuations begin with alike."""
    rest: int
    """Tokens that one of them reads beyond these, at most."""


def score_continuations(
    model: Any, requests: Sequence[tuple[Ids, Ids]], *, report: Report | None = None
) -> list[Continuation]:
    """Score continuations after their contexts, both token ids, neither empty.

    Where both are longer than the model looks back, the context loses its beginning; a request's score depends on
    nothing but itself. report: is told of progress in requests.
    Raises DataError for a continuation that is longer still, ConfigError for a model that is no decoder,
    CheckpointError where scores are not finite.
    """
    choose_reach(model)  # raises where the model predicts no next token
    limit = model.config.decoder.max_positions
    rows, whole, cut = [], [], []
    for number, (context, continuation) in enumerate(requests):
        lost = max(0, len(context) + len(continuation) - limit - 1)
        if len(context) <= lost:
            raise DataError(
                f"a continuation of {len(continuation)} tokens is too long: the model reads {limit}"
            )
        rows.append(_Request([*context, *continuation][lost:], len(context) - lost))
        (cut if lost else whole).append(number)
    logprobs, greedy = np.zeros(len(rows)), np.ones(len(rows), bool)
    training, done = model.training, 0
    model.eval()
    try:
        for numbers in (whole, cut):  # what was cut has lost the beginning that the others share
            for batch, owners, values, best in _score_all(model, rows, numbers):
                np.add.at(logprobs, owners, values)
                np.logical_and.at(greedy, owners, best)
                done += len(batch)
                if report is not None:
                    report(done, len(rows))
    finally:
        model.train(training)
    return [
        Continuation(
            float(logprob), bool(best), len(continuation), len(context) + len(continuation) - len(row.ids)
        )
        for logprob, best, row, (context, continuation) in zip(logprobs, greedy, rows, requests)
    ]


Scored = tuple[list[int], np.ndarray, np.ndarray, np.ndarray]
"""Numbers of requests; and of each scored token (N,): its request, log-probability, and whether it is the likeliest."""


@torch.no_grad()
def _score_all(model: Any, rows: Sequence[_Request], numbers: Sequence[int]) -> Iterator[Scored]:
    """Yield the scores of some requests, a batch at a time."""
    contexts: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number in numbers:
        contexts[tuple(rows[number].ids[: rows[number].first])].append(number)
    groups = [_group(rows, members) for members in contexts.values()]
    shared = len(commonprefix([context[:-1] for context in contexts]))
    # Behind a shared beginning rows are padded in their middle, which not every model can tell from a distance.
    stack = model.config.decoder
    longest = max((len(rows[number].ids) for number in numbers), default=0)
    paddable = stack.positions != "relative" and not (stack.window and longest > stack.window)
    classes: dict[int, list[_Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: group.trunk):
        own = group.trunk - shared
        classes[own.bit_length() if paddable or not shared else own].append(group)
    device = device_of(model)
    limit = CACHE_TOKENS.get(device.type, CACHE_TOKENS["cpu"])
    for some in classes.values():
        slots = max(group.trunk for group in some) + max(group.rest for group in some)
        past = None
        if shared:
            past = model.new_cache(1, slots)
            beginning = rows[some[0].members[0]].ids[:shared]
            model.decode(torch.tensor([beginning], device=device), cache=past)
        for batch in _batches(some, max(1, limit // slots)):
            scored = _score_batch(model, rows, batch, past, shared)
            if not np.isfinite(scored[2]).all():
                raise CheckpointError(
                    "the model gives scores that are not finite numbers, so nothing can be compared; look at its"
                    " weights with `langmill doctor CKPT`"
                )
            yield scored


def _group(rows: Sequence[_Request], members: list[int]) -> _Group:
    """Return what requests of one context read together and apart; a request's last token is not read."""
    inputs = [rows[number].ids[:-1] for number in members]
    trunk = len(commonprefix(inputs))
    return _Group(members, trunk, max(map(len, inputs)) - trunk)


def _batches(groups: Sequence[_Group], limit: int) -> Iterator[list[_Group]]:
    """Yield groups of at most `limit` requests together, or single ones of more."""
    batch: list[_Group] = []
    for group in groups:
        if batch and sum(len(each.members) for each in batch) + len(group.members) > limit:
            yield batch
            batch = []
        batch.append(group)
    yield batch


def _score_batch(
    model: Any, rows: Sequence[_Request], groups: Sequence[_Group], past: Any, shared: int
) -> Scored:
    """Return the scores of groups; past: the cache of the first `shared` tokens of all, None where there are none."""
    device = device_of(model)
    firsts = [rows[group.members[0]].ids[shared : group.trunk] for group in groups]
    width, rest = max(map(len, firsts)), max(group.rest for group in groups)
    if past is not None:
        cache = copy(past)
        cache.repeat(len(groups))
    else:
        cache = model.new_cache(len(groups), width + rest) if rest else None
    lengths = torch.tensor([len(ids) for ids in firsts], device=device)
    valid = torch.arange(width, device=device) >= width - lengths[:, None]  # (B, T): padding on the left
    ids = torch.tensor([[0] * (width - len(ids)) + ids for ids in firsts], device=device)
    states = model.decode(ids, valid=None if bool(valid.all()) else valid, cache=cache)  # (B, T, D)
    members = [(place, number) for place, group in enumerate(groups) for number in group.members]
    trunks = [groups[place].trunk for place, _ in members]
    found = [
        _chosen(
            model,
            states,
            [
                (place, width - trunk + at, number, rows[number].ids[at + 1])
                for (place, number), trunk in zip(members, trunks)
                for at in range(rows[number].first - 1, trunk)
            ],
        )
    ]
    alone = [
        (place, number, trunk)
        for (place, number), trunk in zip(members, trunks)
        if len(rows[number].ids) - 1 > trunk
    ]
    if alone:
        cache.reorder(torch.tensor([place for place, _, _ in alone], device=device))
        tails = [rows[number].ids[trunk:-1] for _, number, trunk in alone]
        # Padded on the right: what is read there comes after all that is scored.
        ids = torch.tensor([tail + [0] * (max(map(len, tails)) - len(tail)) for tail in tails], device=device)
        states = model.decode(ids, cache=cache)
        places = [
            (row, at, number, rows[number].ids[trunk + at + 1])
            for row, ((_, number, trunk), tail) in enumerate(zip(alone, tails))
            for at in range(len(tail))
        ]
        found.append(_chosen(model, states, places))
    owners, values, best = (np.concatenate(parts) for parts in zip(*found))
    return [number for _, number in members], owners, values, best


def _chosen(
    model: Any, states: Tensor, places: Sequence[tuple[int, int, int, int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return owners, log-probabilities and whether none is likelier, (N,) each.

    states: (B, T, D). places: (row, column, owner, id of the next token) of each token to score.
    """
    table = torch.tensor(places, device=states.device)  # (N, 4)
    values = torch.empty(len(table), dtype=torch.float32, device=states.device)
    best = torch.empty(len(table), dtype=torch.bool, device=states.device)
    size = chunk_rows(model.config.vocabulary)
    for begin in range(0, len(table), size):
        row, column, _, target = table[begin : begin + size].unbind(1)
        logits = model.score(states[row, column]).float()  # (n, V)
        values[begin : begin + size] = logits.gather(1, target[:, None])[:, 0] - logits.logsumexp(1)
        best[begin : begin + size] = logits.argmax(1) == target
    return table[:, 2].cpu().numpy(), values.cpu().numpy().astype(np.float64), best.cpu().numpy()
