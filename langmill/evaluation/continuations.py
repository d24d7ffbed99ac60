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
    rows: list[_Request] = []
    whole: list[int] = []
    cut: list[int] = []
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
    if not contexts:
        return
    device = device_of(model)
    limit = CACHE_TOKENS.get(device.type, CACHE_TOKENS["cpu"])
    groups = [group for members in contexts.values() for group in _groups(rows, members, limit)]
    shared = shared_length([context[:-1] for context in contexts])
    # Behind a shared beginning rows are padded in their middle, which not every model can tell from a distance.
    stack = model.config.decoder
    longest = max(len(rows[number].ids) for number in numbers)
    paddable = stack.positions != "relative" and not (stack.window and longest > stack.window)
    classes: dict[int, list[_Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: group.trunk):
        own = group.trunk - shared
        classes[own.bit_length() if paddable or not shared else own].append(group)
    for some in classes.values():
        slots = max(group.trunk for group in some) + max(group.rest for group in some)
        past = None
        if shared:
            past = model.new_cache(1, slots)
            beginning = rows[some[0].members[0]].ids[:shared]
            model.decode(torch.tensor([beginning], device=device), cache=past)
        for batch in _batches(some, max(1, limit // slots)):
            yield _score_batch(model, rows, batch, past, shared)


def shared_length(rows: Sequence[tuple[int, ...]]) -> int:
    """Return how many ids all rows begin with alike.

    >>> shared_length([(1, 2, 3), (1, 2), (1, 2, 4)])
    2
    """
    low, high = min(rows), max(rows)  # what the first in order and the last share, all between them do
    return next((i for i, pair in enumerate(zip(low, high)) if pair[0] != pair[1]), min(len(low), len(high)))


def _groups(rows: Sequence[_Request], members: list[int], limit: int) -> Iterator[_Group]:
    """Yield requests of one context in groups of at most `limit` places; a request's last token is not read.

    Where they have less in common than one of them reads alone, each is a group.
    """
    inputs = [tuple(rows[number].ids[:-1]) for number in members]
    trunk = shared_length(inputs)
    rest = max(map(len, inputs)) - trunk
    if rest > trunk:
        yield from (_Group([number], len(ids), 0) for number, ids in zip(members, inputs))
        return
    most = max(1, limit // (trunk + rest))
    yield from (_Group(members[i : i + most], trunk, rest) for i in range(0, len(members), most))


def _batches(groups: Sequence[_Group], limit: int) -> Iterator[list[_Group]]:
    """Yield groups of at most `limit` requests together, or single ones of more."""
    batch: list[_Group] = []
    for group in groups:
        if batch and sum(len(each.members) for each in batch) + len(group.members) > limit:
            yield batch
            batch = []
        batch.append(group)
    yield batch


Place = tuple[int, int, int, int]
"""Row and column of a state, the request whose next token it predicts, and that token."""


def _score_batch(
    model: Any, rows: Sequence[_Request], groups: Sequence[_Group], past: Any, shared: int
) -> Scored:
    """Return the scores of groups; past: the cache of the first `shared` tokens of all, None where there are none."""
    device = device_of(model)
    trunks = [rows[group.members[0]].ids[shared : group.trunk] for group in groups]
    width, rest = max(map(len, trunks)), max(group.rest for group in groups)
    if past is not None:
        cache = copy(past)
        cache.repeat(len(groups))
    else:
        cache = model.new_cache(len(groups), width + rest) if rest else None
    lengths = torch.tensor([len(trunk) for trunk in trunks], device=device)
    valid = torch.arange(width, device=device) >= width - lengths[:, None]  # (B, T): padding on the left
    ids = torch.tensor([[0] * (width - len(trunk)) + trunk for trunk in trunks], device=device)
    states = model.decode(ids, valid=None if bool(valid.all()) else valid, cache=cache)  # (B, T, D)
    places = [
        (row, width - group.trunk + at, number, rows[number].ids[at + 1])
        for row, group in enumerate(groups)
        for number in group.members
        for at in range(rows[number].first - 1, group.trunk)
    ]
    found = [_chosen(model, states, places)]
    alone = [
        (row, number, rows[number].ids[group.trunk :])
        for row, group in enumerate(groups)
        for number in group.members
        if len(rows[number].ids) - 1 > group.trunk
    ]
    if alone:
        cache.reorder(torch.tensor([row for row, _, _ in alone], device=device))
        width = max(len(tail) for _, _, tail in alone) - 1
        # Padded on the right: what is read there comes after all that is scored.
        ids = torch.tensor([tail[:-1] + [0] * (width - len(tail) + 1) for _, _, tail in alone], device=device)
        states = model.decode(ids, cache=cache)
        places = [
            (row, at, number, token)
            for row, (_, number, tail) in enumerate(alone)
            for at, token in enumerate(tail[1:])
        ]
        found.append(_chosen(model, states, places))
    owners, values, best = (np.concatenate(parts) for parts in zip(*found))
    return [number for group in groups for number in group.members], owners, values, best


def _chosen(model: Any, states: Tensor, places: Sequence[Place]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the request, the log-probability and whether no other token is likelier, (N,) each, for states (B, T, D).

    Raises CheckpointError where scores are not finite.
    """
    table = torch.tensor(places, device=states.device)  # (N, 4)
    # Many labels ask for the same state: it is scored once.
    spots, which = table[:, :2].unique(dim=0, return_inverse=True)
    values = torch.empty(len(table), device=states.device)
    best = torch.empty(len(table), dtype=torch.bool, device=states.device)
    size = chunk_rows(model.config.vocabulary)
    for begin in range(0, len(spots), size):
        row, column = spots[begin : begin + size].unbind(1)
        logits = model.score(states[row, column]).float()  # (n, V)
        here = ((which >= begin) & (which < begin + size)).nonzero()[:, 0]
        of, target = which[here] - begin, table[here, 3]
        values[here] = logits[of, target] - logits.logsumexp(1)[of]
        best[here] = logits.argmax(1)[of] == target
    if not bool(values.isfinite().all()):
        raise CheckpointError(
            "the model gives scores that are not finite numbers, so nothing can be compared; look at its weights with"
            " `langmill doctor CKPT`"
        )
    return table[:, 2].cpu().numpy(), values.cpu().numpy().astype(np.float64), best.cpu().numpy()
