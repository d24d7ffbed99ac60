"""Products of matrices on the CPU: which library multiplies, in which precision. [core]

torch asks MKL for products in float32. On processors that are not Intel's, MKL leaves AVX-512 alone and
with it half of what they can do; oneDNN, which comes with torch as well, does not.

Shape letters: N rows, D inputs, E outputs.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

PRECISION_SWITCH = getattr(torch.backends.mkldnn, "matmul", None)
"""torch's switch for the precision of products on the CPU; not before torch 2.9."""

ONE_DNN = (
    getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")
    else None
)
"""oneDNN's product with what follows it, as torch.compile uses it; it has no gradient."""

ONE_DNN_ROWS = 16
"""From so many rows on. Below, as in generation, reading the weights is what takes the time."""


@contextlib.contextmanager
def cpu_products(dtype: torch.dtype) -> Iterator[None]:
    """While this lasts, products of float32 matrices on the CPU round their factors to `dtype` (sums do not).

    It is to a CPU what TensorFloat-32 is to a GPU: tensors stay float32. GPUs have torch.autocast instead.
    """
    if PRECISION_SWITCH is None:
        yield
        return
    before = PRECISION_SWITCH.fp32_precision
    PRECISION_SWITCH.fp32_precision = "bf16" if dtype == torch.bfloat16 else "ieee"
    try:
        yield
    finally:
        PRECISION_SWITCH.fp32_precision = before


def rounds_products() -> bool:
    """Whether products on the CPU round their factors now; see `cpu_products`."""
    return PRECISION_SWITCH is not None and PRECISION_SWITCH.fp32_precision == "bf16"


def takes_one_dnn(x: Tensor, other: Tensor) -> bool:
    """Whether oneDNN can multiply x (N, D) by another matrix: many rows of float32 on the CPU, outside torch.compile."""
    return (
        ONE_DNN is not None
        and x.device.type == other.device.type == "cpu"
        and x.dtype == other.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and x.numel() >= ONE_DNN_ROWS * x.shape[-1] > 0
    )


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None, after: str = "none") -> Tensor:
    """Return after(x · weightᵀ + bias), (..., E), by oneDNN and without gradient.

    after: "none" or "gelu". bfloat16 factors give a bfloat16 result.
    """
    assert ONE_DNN is not None
    return ONE_DNN(x, weight, bias, after, [], "none" if after == "gelu" else "")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = slope.flatten(0, -2)  # (N, E)
        x_slope = multiply(slope, weight.t()) if wants_x else None
        weight_slope = weight_gradient(rows, x.flatten(0, -2)) if wants_weight else None
        return x_slope, weight_slope, rows.sum(0) if wants_bias else None


def weight_gradient(slope: Tensor, x: Tensor) -> Tensor:
    """Return slopeᵀ · x, (E, D), for slope (N, E) and x (N, D), without gradient.

    oneDNN copies its first factor where that lies across, so the smaller one comes first. With AVX2 alone the copy
    costs more than oneDNN gains.
    """
    if (
        torch.backends.cpu.get_cpu_capability() != "AVX512"
        or rounds_products()
        or not takes_one_dnn(x, slope)
    ):
        return slope.t() @ x
    return multiply(slope.t(), x.t()) if slope.shape[1] <= x.shape[1] else multiply(x.t(), slope.t()).t()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x · weightᵀ + bias, (..., E), for x (..., D), weight (E, D) and bias (E,): F.linear, faster on CPUs.

    Where products round to bfloat16 torch goes to oneDNN by itself.
    """
    if takes_one_dnn(x, weight) and not rounds_products():
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            return _Product.apply(x, weight, bias)
        return multiply(x, weight, bias)
    return F.linear(x, weight, bias)
