"""The masked language model's objective: hidden tokens from both sides. [objectives]"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from langmill.batches.batch import TokenBatch
from langmill.objectives.cross_entropy import IGNORED, linear_cross_entropy


def hidden_states(model: Any, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return what the output layer reads at the hidden places, (n, D), and what they should say, (n,)."""
    states = model.encode(batch.ids, starts=batch.starts)  # (B, T, D)
    asked = batch.targets != IGNORED
    return model.before_output(states[asked]), batch.targets[asked]


def masked_token(model: Any, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return (loss_sum, count): the summed nats over `batch.targets` and how many are counted.

    Only the hidden places are scored, a seventh of all (Devlin et al. 2019, section 3.1).
    """
    states, targets = hidden_states(model, batch)
    with torch.autocast(states.device.type, enabled=False):
        loss = linear_cross_entropy(
            states, model.output.weight.to(states.dtype), targets, bias=model.output.bias
        )
    return loss, torch.tensor(len(targets), device=states.device)
