"""The language model's objective: each token from those before it. [objectives]"""

from __future__ import annotations

import torch
from torch import Tensor

from langmill.batches.batch import TokenBatch
from langmill.models.protocol import LanguageModel
from langmill.objectives.cross_entropy import IGNORED, linear_cross_entropy
from langmill.objectives.logprobs import model_logprobs


def next_token(model: LanguageModel, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return (loss_sum, count): the summed nats over `batch.targets` and how many are counted."""
    counted = batch.targets != IGNORED
    states = model.before_output(model.decode(batch.ids, starts=batch.starts))  # (B, T, D)
    if model.output is None:
        return -model_logprobs(model, states[counted], batch.targets[counted]).sum(), counted.sum()
    with torch.autocast(states.device.type, enabled=False):
        loss = linear_cross_entropy(
            states, model.output.weight.to(states.dtype), batch.targets, bias=model.output.bias
        )
    return loss, counted.sum()
