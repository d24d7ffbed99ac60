"""Log-probabilities of whole documents, however long, by windows that overlap. [evaluation]

A document is read in windows of `context` tokens that begin `stride` apart, and each window scores the
tokens that no earlier one has: all of the first, then `stride` at a time. So every token beyond the
first window is predicted from at least `context - stride + 1` tokens before it, each token is counted
once, and the figure depends on nothing but document, context and stride: not on batches, and not on
which documents stand beside it.

Shape letters: B windows of a batch, T tokens of the longest, D width, N scored tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from langmill.core.errors import CheckpointError, ConfigError
from langmill.models.protocol import device_of
from langmill.objectives.logprobs import model_logprobs

LONGEST_CONTEXT = 2048
"""The context unless told otherwise is what the model can look back over, but no more than this."""
BATCH_TOKENS = {"cpu": 8192, "cuda": 65_536}
"""Tokens read in one forward pass, padding included; any other device takes the CPU's."""

Floats = npt.NDArray[np.float64]
Report = Callable[[int, int], None]
"""Is told how many tokens are scored, and of how many."""


@dataclass(frozen=True)
class Reach:
    """How far back a score looks: windows of `context` tokens, `stride` apart."""

    context: int
    stride: int


def choose_reach(model: nn.Module, *, context: int | None = None, stride: int | None = None) -> Reach:
    """Return the windows for a model: by default all it can look back over (at most 2,048), half overlapping.

    Raises ConfigError when the model cannot look back so far, or does not predict the next token.
    """
    config: Any = getattr(model, "config", None)
    stack = getattr(config, "decoder", None)
    states_only = not getattr(config, "has_output", True)
    if config is not None and (stack is None or states_only or getattr(config, "encoder", None) is not None):
        raise ConfigError(
            "the checkpoint does not predict a text's next token; give a decoder, such as `train lm` makes"
        )
    limit = getattr(stack, "max_positions", None)
    if context is None:
        context = min(limit or LONGEST_CONTEXT, LONGEST_CONTEXT)
    if context < 1 or (limit is not None and context > limit):
        allowed = f"1 to {limit}, over which this model can look back" if limit else "at least 1"
        raise ConfigError(f"--context {context} is not allowed; it must be {allowed}")
    if stride is None:
        stride = max(1, context // 2)
    if not 1 <= stride <= context:
        raise ConfigError(f"--stride {stride} is not allowed; it must be 1 to the context, {context}")
    return Reach(context, stride)


def windows(targets: int, reach: Reach) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, end, first) of each window over `targets` tokens to predict.

    A window reads the inputs from `begin` up to `end` and counts its targets from `first` up to `end`;
    target i is what follows input i.

    >>> list(windows(7, Reach(context=4, stride=2)))
    [(0, 4, 0), (2, 6, 4), (4, 7, 6)]
    """
    begin = end = 0
    while end < targets:
        first, end = end, min(begin + reach.context, targets)
        yield begin, end, first
        begin += reach.stride


def document_logprobs(
    model: nn.Module,
    documents: Sequence[npt.NDArray[np.int32]],
    *,
    start: int | None,
    reach: Reach,
    batch_tokens: int | None = None,
    report: Report | None = None,
) -> list[Floats]:
    """Return, for each document, the natural log-probability of each of its tokens, (tokens,).

    documents: their ids, (tokens,). start: the id before a document's first token. Without one (None)
    nothing says what the first token may be, and it counts as drawn evenly from the vocabulary, 1 / V.
    batch_tokens: in one forward pass. Raises CheckpointError where the model's scores are not finite.
    """
    device, config = device_of(model), cast(Any, model.config)
    texts, results = [], []
    for ids in documents:
        texts.append(ids if start is None else np.concatenate([np.array([start], np.int32), ids]))
        results.append(np.full(len(ids), -np.log(config.vocabulary)))
    skipped = 1 if start is None else 0  # the first token has no place among the targets
    pieces = [
        (number, *window) for number, text in enumerate(texts) for window in windows(len(text) - 1, reach)
    ]
    # Long ones first: rows of a batch are of a length, and what does not fit into memory shows at once.
    pieces.sort(key=lambda piece: piece[1] - piece[2])
    done, total = 0, sum(map(len, documents))
    limit = batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"])
    training = model.training
    model.eval()
    try:
        for batch in _batches(pieces, limit):
            values = _score_batch(model, texts, batch, device)
            if not np.isfinite(values).all():
                raise CheckpointError(
                    "the model gives scores that are not finite numbers, so nothing can be counted; "
                    "look at its weights with `langmill doctor CKPT`"
                )
            for number, _, end, first in batch:
                results[number][first + skipped : end + skipped] = values[: end - first]
                values = values[end - first :]
                done += end - first
            if report is not None:
                report(done, total)
    finally:
        model.train(training)
    return results


Piece = tuple[int, int, int, int]
"""The number of a document, and a window of it."""


def _batches(pieces: list[Piece], limit: int) -> Iterator[list[Piece]]:
    """Yield runs of pieces, the longest of each first, of about `limit` tokens with their padding."""
    begin = 0
    while begin < len(pieces):
        _, start, end, _ = pieces[begin]
        rows = max(1, limit // (end - start))
        yield pieces[begin : begin + rows]
        begin += rows


@torch.no_grad()
def _score_batch(model: Any, texts: list[Any], batch: list[Piece], device: torch.device) -> Floats:
    """Return the log-probabilities of what the windows of `batch` count, one after another, (N,).

    Short rows are padded on the right with any id: a causal model's states do not depend on what
    follows, so no mask is needed and attention keeps its fastest kernel.
    """
    _, begin, end, _ = batch[0]
    ids = np.zeros((len(batch), end - begin), np.int64)
    targets, counted = np.zeros_like(ids), np.zeros(ids.shape, bool)
    for row, (number, begin, end, first) in enumerate(batch):
        ids[row, : end - begin] = texts[number][begin:end]
        targets[row, : end - begin] = texts[number][begin + 1 : end + 1]
        counted[row, first - begin : end - begin] = True
    states = model.decode(torch.from_numpy(ids).to(device))  # (B, T, D)
    chosen = states[torch.from_numpy(counted).to(device)]  # (N, D)
    wanted = torch.from_numpy(targets[counted]).to(device)
    logprobs = model_logprobs(model, chosen, wanted)
    return logprobs.cpu().numpy().astype(np.float64)
