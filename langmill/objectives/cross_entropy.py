"""Cross-entropy of a large vocabulary without its full table of scores. [objectives]"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from langmill.core.products import product, weight_gradient
from langmill.models.fused import score_loss_

IGNORED = -100
"""A target that takes no part in the loss."""

CHUNK_BYTES = 1 << 27
"""How large a block of scores may grow: 128 MiB."""


def chunk_rows(vocabulary: int) -> int:
    """Return how many tokens are scored at once, at least 64."""
    return max(64, CHUNK_BYTES // (4 * vocabulary))


class _LinearCrossEntropy(torch.autograd.Function):
    """Scores, loss and gradients of a block of tokens at a time.

    The gradient of a softmax is known as soon as its scores are, so both gradients are finished on
    the way forward and a block's scores are never kept; backward only scales them.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        # states (N, D), weight (V, D), bias (V,), targets (N,)
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        states_grad = torch.empty_like(states) if wants_states else None
        weight_grad: Tensor | None = None
        bias_grad = torch.zeros_like(bias) if bias is not None and wants_bias else None
        total = states.new_zeros((), dtype=torch.float32)
        blocks = -(-len(states) // chunk_rows(weight.shape[0]))
        rows = -(-len(states) // blocks) if blocks else 1
        for begin in range(0, len(states), rows):
            x, y = states[begin : begin + rows], targets[begin : begin + rows]
            slope = product(
                x, weight, bias
            ).float()  # the scores (n, V), until their gradient takes their place
            total += score_loss_(slope, y).sum()
            if not (wants_states or wants_weight or wants_bias):
                continue
            slope = slope.to(x.dtype)
            if states_grad is not None:
                states_grad[begin : begin + rows] = product(slope, weight.to(x.dtype).t())
            if wants_weight and weight_grad is None:  # no zeros to write first, nor to add to
                weight_grad = weight_gradient(slope.to(weight.dtype), x.to(weight.dtype))
            elif weight_grad is not None:
                weight_grad.addmm_(slope.t().to(weight.dtype), x.to(weight.dtype))
            if bias_grad is not None:
                bias_grad += slope.sum(0)
        ctx.gradients = states_grad, weight_grad, bias_grad
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        states_grad, weight_grad, bias_grad = (None if g is None else g.mul_(slope) for g in ctx.gradients)
        ctx.gradients = None
        return states_grad, weight_grad, bias_grad, None


def linear_cross_entropy(
    states: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = None
) -> Tensor:
    """Return the summed cross-entropy, in nats, of `targets` under softmax(states · weightᵀ + bias).

    states: (..., D). weight: (V, D). targets: (...), ids in [0, V) or IGNORED. bias: (V,). Gives a
    float32 scalar that backward may pass once. Peak memory beyond the inputs and their gradients is
    three blocks of CHUNK_BYTES, however many tokens there are.
    """
    if torch.is_autocast_enabled(states.device.type):
        dtype = torch.get_autocast_dtype(states.device.type)
        states = states.to(dtype)
    return _LinearCrossEntropy.apply(states.flatten(0, -2), weight, bias, targets.flatten())
