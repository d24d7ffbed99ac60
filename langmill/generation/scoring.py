"""How likely a model finds a given text. [generation]

Shape letters: T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from langmill.core.errors import DataError
from langmill.models.transformer import Transformer

CHUNK_TOKENS = 256
"""Positions scored at once: logits (256, V) instead of (T, V)."""


def check_ids(ids: Sequence[int], vocabulary: int) -> None:
    """Raise a DataError if some id has no token."""
    wrong = [number for number in ids if not 0 <= number < vocabulary]
    if wrong:
        raise DataError(
            f"token id {wrong[0]} is not in the model's vocabulary; ids go from 0 to {vocabulary - 1}"
        )


@torch.inference_mode()
def score_tokens(model: Transformer, ids: Sequence[int] | Tensor, *, start_id: int | None) -> Tensor:
    """Return the natural log-probability of each token given those before it, (T,) float32 on the CPU.

    start_id: what the first token is conditioned on, the tokenizer's bos or else eos, which separates
    documents in training; None: the first token has nothing before it and its figure is NaN. A text
    longer than the model's positions is read in overlapping windows, in which every token sees at
    least the half of them that precedes it.
    """
    tokens = [int(number) for number in ids]
    check_ids(tokens, model.config.vocabulary)
    if not tokens:
        return torch.empty(0)
    row = tokens if start_id is None else [start_id, *tokens]  # row[i + 1] is predicted from row[: i + 1]
    assert model.config.decoder is not None, "only a decoder gives log-probabilities of tokens"
    window = model.config.decoder.max_positions
    parts = [torch.full((1,), torch.nan)] if start_id is None else []
    training = model.training
    model.eval()
    done = 0  # predictions made
    while done < len(row) - 1:
        begin = max(0, done - window // 2) if len(row) - 1 > window else 0
        end = min(len(row) - 1, begin + window)
        parts.append(_window(model, row[begin : end + 1], skip=done - begin))
        done = end
    model.train(training)
    return torch.cat(parts) if parts else torch.empty(0)


def _window(model: Transformer, row: list[int], *, skip: int) -> Tensor:
    """Return the log-probabilities of row[skip + 1 :] within one pass over `row`."""
    device = model.output.weight.device
    ids = torch.tensor(row, device=device)
    states = model.decode(ids[None, :-1])[0, skip:]  # (T, D)
    targets = ids[skip + 1 :]
    out = []
    for state, target in zip(states.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS)):
        logits = model.score(state).float()  # (CHUNK_TOKENS, V)
        out.append(logits.gather(1, target[:, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(out).cpu()
