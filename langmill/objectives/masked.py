"""The masked language model's objective: hidden tokens from both sides. [objectives]"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from langmill.batches.batch import TokenBatch
from langmill.objectives.cross_entropy import IGNORED, linear_cross_entropy

ROUND = 128


def hidden_states(model: Any, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return what the output layer reads at the hidden places, (n, D), and what they should say, (n,).

    n is rounded up with places that ask nothing (IGNORED): libraries prepare their products for each new
    shape, which on a CPU takes longer than the product.
    """
    states = model.encode(batch.ids, starts=batch.starts, segments=batch.segments)
    states = states.flatten(0, 1)  # (B * T, D)
    targets = batch.targets.flatten()
    places = (targets != IGNORED).nonzero()[:, 0]
    spare = -len(places) % ROUND
    asked = torch.cat([targets[places], targets.new_full((spare,), IGNORED)])
    return model.before_output(states[torch.cat([places, places.new_zeros(spare)])]), asked


def masked_token(model: Any, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return (loss_sum, count): the summed nats over `batch.targets` and how many are counted.

    Only the hidden places are scored, a seventh of all (Devlin et al. 2019, section 3.1).
    """
    states, targets = hidden_states(model, batch)
    with torch.autocast(states.device.type, enabled=False):
        loss = linear_cross_entropy(
            states, model.output.weight.to(states.dtype), targets, bias=model.output.bias
        )
    return loss, (targets != IGNORED).sum()
