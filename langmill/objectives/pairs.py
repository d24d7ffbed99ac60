"""The encoder-decoder's objective: the target from the source and the target so far. [objectives]"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from langmill.batches.corruption import PairBatch
from langmill.objectives.cross_entropy import IGNORED, linear_cross_entropy


def pair_states(model: Any, batch: PairBatch) -> Tensor:
    """Return what the output layer reads at every place of the target, (B, T, D)."""
    memory = model.encode(batch.source, valid=batch.source_valid)
    states = model.decode(batch.ids, memory=memory, memory_valid=batch.source_valid)
    return model.before_output(states)


def target_tokens(model: Any, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """Return (loss_sum, count): the summed nats over `batch.targets` and how many are counted."""
    states = pair_states(model, batch)
    with torch.autocast(states.device.type, enabled=False):
        loss = linear_cross_entropy(
            states, model.output.weight.to(states.dtype), batch.targets, bias=model.output.bias
        )
    return loss, (batch.targets != IGNORED).sum()
