"""Log-probabilities of given tokens without the full table of scores. [objectives]"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from langmill.core.products import product
from langmill.objectives.cross_entropy import chunk_rows


def model_logprobs(model: Any, states: Tensor, targets: Tensor) -> Tensor:
    """Return each target's natural log-probability under a language model, (...), for states (..., D); float32."""
    if model.output is None:
        return model.chosen_logprobs(states, targets)
    return token_logprobs(states, model.output.weight, targets, bias=model.output.bias)


@torch.no_grad()
def token_logprobs(states: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """Return each target's natural log-probability under softmax(states · weightᵀ + bias), (...), float32.

    states: (..., D). weight: (V, D). targets: (...), ids in [0, V). bias: (V,). Scores are made for a
    block of tokens at a time, so memory beyond the inputs is two blocks of `CHUNK_BYTES`.

    >>> token_logprobs(torch.zeros(3, 2), torch.ones(4, 2), torch.tensor([0, 1, 3])).exp()
    tensor([0.2500, 0.2500, 0.2500])
    """
    flat, ids = states.flatten(0, -2), targets.flatten()
    out = torch.empty(len(flat), dtype=torch.float32, device=states.device)
    rows = chunk_rows(weight.shape[0])
    for begin in range(0, len(flat), rows):
        logits = product(flat[begin : begin + rows], weight, bias).float()  # (n, V)
        chosen = logits.gather(1, ids[begin : begin + rows, None])[:, 0]
        out[begin : begin + rows] = chosen - logits.logsumexp(1)
    return out.view(targets.shape)
