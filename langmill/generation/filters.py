"""What sampling may not choose: functions from logits to logits. [generation]

Shape letters: B rows, V vocabulary. Every function takes logits (B, V) and returns new ones, with -inf
where a token is ruled out; none rules out a row's most likely token. Applied in the order of this file,
they agree with Transformers' logits processors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CANDIDATES = 1024
"""`keep_top_p` sorts this many of the likeliest tokens first, and all of them only if these fall short."""


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that were seen less likely: positive logits are divided by `penalty`, negative ones multiplied.

    Keskar et al. 2019 (CTRL, arXiv:1909.05858, section 4.1), with their division turned round below zero,
    where it would reward. seen: (B, V), True for tokens of the row's prompt or of its text so far.

    >>> penalise_repetition(torch.tensor([[2.0, -1.0, 3.0]]), torch.tensor([[True, True, False]]), 2.0)
    tensor([[ 1., -2.,  3.]])
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def warm(logits: Tensor, temperature: float) -> Tensor:
    """Divide by `temperature` > 0 (Ackley et al. 1985): below 1 sharpens, above 1 flattens.

    >>> warm(torch.tensor([[1.0, 3.0]]), 0.5)
    tensor([[2., 6.]])
    """
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the `k` likeliest tokens, and those as likely as the last of them (Fan et al. 2018, arXiv:1805.04833).

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0, 2.0]]), 2)
    tensor([[-inf, 3., 2., 2.]])
    """
    if k >= logits.shape[-1]:
        return logits
    least = logits.topk(k).values[:, -1:]
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest likeliest tokens whose probabilities sum to `p` or more (Holtzman et al. 2020, arXiv:1904.09751).

    The token that crosses `p` is kept.

    >>> keep_top_p(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.6).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    if p >= 1:
        return logits
    total = logits.logsumexp(-1, keepdim=True)
    count = min(CANDIDATES, logits.shape[-1])
    while True:
        values, tokens = logits.topk(count)
        shares = (values - total).exp()
        reached = shares.cumsum(-1)
        if count == logits.shape[-1] or bool((reached[:, -1] >= p).all()):
            break
        count = logits.shape[-1]
    values = values.masked_fill(reached - shares >= p, -math.inf)
    return torch.full_like(logits, -math.inf).scatter(-1, tokens, values)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Keep tokens at least `share` times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082).

    >>> keep_min_p(torch.tensor([[0.5, 0.4, 0.1]]).log(), 0.5).exp()
    tensor([[0.5000, 0.4000, 0.0000]])
    """
    if share <= 0:
        return logits
    least = logits.amax(-1, keepdim=True) + math.log(share)
    return logits.masked_fill(logits < least, -math.inf)
