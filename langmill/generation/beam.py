"""Beam search: the likeliest texts, several at a time. [generation]

Shape letters: M texts (prompts), N beams a text, V vocabulary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from langmill.generation.decoder import Scores
from langmill.models.protocol import PastState

NEVER_CHOSEN = -1e9
"""The score of beams that are copies of another one, before their first token tells them apart."""

EarlyStopping = Literal["no", "yes", "never"]


@dataclass(frozen=True)
class Hypothesis:
    """One way to continue a prompt."""

    tokens: tuple[int, ...]
    """Without the end token."""
    logprobs: tuple[float, ...]
    """Each token's."""
    score: float
    """The sum of the tokens' log-probabilities, the end token's included, over their number to the length penalty."""
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class BeamSettings:
    """How widely and for how long to search."""

    beams: int
    limit: int
    """Tokens to generate at most, the end token included."""
    ends: frozenset[int]
    length_penalty: float = 1.0
    """Above 0 favours long texts, 0 judges the plain sum, which favours short ones (Wu et al. 2016)."""
    early_stopping: EarlyStopping = "no"
    """yes: stop when as many texts have ended as there are beams. no: stop when the best one still running could
    not end better at its present length. never: at no length up to `limit`."""


Candidate = tuple[float, int, int]
"""The sum of log-probabilities, the beam, the token."""


@dataclass
class Search:
    """The state of one prompt's search."""

    index: int
    running: list[list[int]]
    """The tokens of each beam."""
    sums: list[list[float]]
    """The log-probability of each beam after each of its tokens."""
    ended: list[Hypothesis] = field(default_factory=list)
    """At most as many as there are beams, best first."""

    def end(self, candidate: Candidate, settings: BeamSettings) -> None:
        """Note a text that ended, if it is among the best."""
        value, beam, token = candidate
        tokens, sums = [*self.running[beam], token], [0.0, *self.sums[beam], value]
        stopped = token in settings.ends
        count = len(tokens) - stopped
        logprobs = tuple(after - before for before, after in itertools.pairwise(sums[: count + 1]))
        score = value / len(tokens) ** settings.length_penalty
        self.ended.append(Hypothesis(tuple(tokens[:count]), logprobs, score, "stop" if stopped else "length"))
        self.ended.sort(key=lambda each: -each.score)  # stable: of equals the earlier one
        del self.ended[settings.beams :]

    def over(self, best: float, length: int, settings: BeamSettings) -> bool:
        """Whether the search can end: best is the highest sum among the running beams, of `length` tokens."""
        if len(self.ended) < settings.beams:
            return False
        if settings.early_stopping == "yes":
            return True
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            length = settings.limit
        return best / length**settings.length_penalty <= self.ended[-1].score


Restrict = Callable[[Tensor, list[list[int]], list[int], int], None]
"""(log-probabilities (M · N, V), the beams' new tokens, the prompt of each, how many tokens they are): rule tokens
out, in place."""


@torch.inference_mode()
def beam_search(
    step: Callable[[Sequence[int], Any], Scores],
    scores: Scores,
    cache: PastState,
    settings: BeamSettings,
    *,
    restrict: Restrict | None = None,
) -> list[list[Hypothesis]]:
    """Return, for each of the prompts that `cache` holds, the best hypotheses, best first.

    scores: what the model says after the prompts, (M, V). step: feeds one token a row to the model; its
    cache then has N rows a prompt, side by side. As in Transformers, a text that ends counts only among
    the first N candidates, and of 2N (one N more for each end token) the first N that do not end go on.
    """
    count = settings.beams
    width = count * max(2, 1 + len(settings.ends))
    searches = [Search(index, [[]] * count, [[]] * count) for index in range(len(scores.logits))]
    results: list[list[Hypothesis]] = [[] for _ in searches]
    cache.repeat(count)
    logs = (scores.logits - scores.log_total[:, None]).repeat_interleave(count, 0)  # (M · N, V)
    sums = logs.new_full((len(searches), count), NEVER_CHOSEN)
    sums[:, 0] = 0.0
    for length in range(1, settings.limit + 1):
        if restrict is not None:
            beams_now = [tokens for search in searches for tokens in search.running]
            places = [search.index for search in searches for _ in search.running]
            restrict(logs, beams_now, places, length - 1)
        values, beams, tokens = best_candidates(logs.unflatten(0, (-1, count)), sums, width)
        rows: list[int] = []
        alive: list[Search] = []
        kept: list[list[float]] = []
        for place, search in enumerate(searches):
            candidates = list(zip(values[place], beams[place], tokens[place], strict=True))
            chosen = advance(search, candidates, length, settings)
            if length == settings.limit or search.over(chosen[0][0], length, settings):
                results[search.index] = search.ended
                continue
            rows.extend(place * count + beam for _, beam, _ in chosen)
            search.running = [[*search.running[beam], token] for _, beam, token in chosen]
            search.sums = [[*search.sums[beam], value] for value, beam, _ in chosen]
            alive.append(search)
            kept.append([value for value, _, _ in chosen])
        searches = alive
        if not searches:
            break
        cache.reorder(torch.tensor(rows, device=logs.device))
        sums = torch.tensor(kept, device=logs.device)
        scores = step([tokens[-1] for search in searches for tokens in search.running], cache)
        logs = scores.logits.sub_(scores.log_total[:, None])  # in place: a new table is slow to come by
    return results


def best_candidates(logs: Tensor, sums: Tensor, width: int) -> tuple[list, list, list]:
    """Return each prompt's `width` best continuations: their sums, beams and tokens, best first.

    logs: (M, N, V). sums: (M, N). No beam contributes more than `width`, so each is cut to them first,
    which is far cheaper than to search all N · V at once.
    """
    width = min(width, logs.shape[1] * logs.shape[2])
    each = min(width, logs.shape[2])
    values, tokens = largest(logs, each)  # (M, N, each)
    values = (values + sums[..., None]).flatten(1)
    values, places = values.topk(width, dim=-1)  # (M, width)
    tokens = tokens.flatten(1).gather(1, places)
    return values.tolist(), (places // each).tolist(), tokens.tolist()


PIECE = 64


def largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest of x (..., V) and their places, in order: `topk`, for long rows and few of them.

    They lie in the `count` pieces of PIECE numbers with the largest maxima, so that one pass over x is enough.

    >>> [part.tolist() for part in largest(torch.tensor([1.0, 7.0, 3.0]), 2)]
    [[7.0, 3.0], [1, 2]]
    """
    pieces = x.shape[-1] // PIECE
    if pieces <= 2 * count:
        return x.topk(count, dim=-1)
    whole, inside = pieces * PIECE, torch.arange(PIECE, device=x.device)
    tops = x[..., :whole].unflatten(-1, (pieces, PIECE)).amax(-1)
    best = tops.topk(count, dim=-1).indices[..., None]  # (..., count, 1)
    rest = torch.arange(whole, x.shape[-1], device=x.device).expand(*x.shape[:-1], -1)
    places = torch.cat([(best * PIECE + inside).flatten(-2), rest], dim=-1)
    values, order = x.gather(-1, places).topk(count, dim=-1)
    return values, places.gather(-1, order)


def advance(
    search: Search, candidates: list[Candidate], length: int, settings: BeamSettings
) -> list[Candidate]:
    """Note the candidates that end; return those that go on, as many as there are beams."""
    going_on: list[Candidate] = []
    for rank, (value, beam, token) in enumerate(candidates):
        if token in settings.ends or length == settings.limit:
            if rank < settings.beams:
                search.end((value, beam, token), settings)
        elif len(going_on) < settings.beams:
            going_on.append((value, beam, token))
    while len(going_on) < settings.beams:  # a vocabulary of little more than end tokens
        going_on.append((-math.inf, *(going_on[0][1:] if going_on else candidates[0][1:])))
    return going_on
