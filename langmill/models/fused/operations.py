"""The fused operations and their gradients. [models]

Shape letters: B batch, T tokens, D width, H heads, C head width, F hidden width, V vocabulary.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langmill.core.products import cpu_products, multiply, product, rounds_products, takes_one_dnn
from langmill.models.fused.library import library
from langmill.models.fused.recompute import recomputable


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can take these tensors: float32 on the CPU, outside torch.compile."""
    if torch.compiler.is_compiling() or any(
        t.device.type != "cpu" or t.dtype != torch.float32 for t in tensors
    ):
        return False
    return not torch.is_autocast_enabled("cpu") and library() is not None


def call(name: str, *arguments: Tensor | int | float | None) -> None:
    """Call a kernel: tensors by address, whole numbers as int64, others as float."""
    converted: list[Any] = []
    for argument in arguments:
        if argument is None:
            converted.append(None)
        elif isinstance(argument, Tensor):
            assert argument.is_contiguous()
            converted.append(ctypes.c_void_p(argument.data_ptr()))
        else:
            converted.append(
                ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument)
            )
    kernels = library()
    assert kernels is not None
    getattr(kernels, name)(*converted)


def scratch(weight: Tensor) -> Tensor:
    """Return a row of zeros a thread, to gather the gradient of `weight` in."""
    return weight.new_zeros(torch.get_num_threads(), weight.numel())


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float, layer: bool
    ):
        x = x.contiguous()
        y = None if y is None else y.contiguous()
        total = x if y is None else torch.empty_like(x)
        out = torch.empty_like(x)
        inverse = x.new_empty(x.shape[:-1])
        mean = torch.empty_like(inverse) if layer else None
        call("norm_forward", x, y, weight, bias, total, out, mean, inverse, inverse.numel(), x.shape[-1], eps)
        ctx.save_for_backward(total, weight, mean, inverse)
        ctx.added, ctx.biased = y is not None, bias is not None
        ctx.set_materialize_grads(False)
        kept = total.detach(), weight.detach(), bias, mean, inverse
        recomputable(out, lambda: _norm_again(*kept))
        return x.view_as(x) if y is None else total, out

    @staticmethod
    def backward(ctx: Any, through: Tensor | None, slope: Tensor | None) -> tuple[Any, ...]:
        total, weight, mean, inverse = ctx.saved_tensors
        if slope is None:
            return through, through if ctx.added else None, None, None, None, None
        slope = slope.contiguous()
        through = None if through is None else through.contiguous()
        rows, width = inverse.numel(), total.shape[-1]
        out, sums = torch.empty_like(total), weight.new_zeros(torch.get_num_threads(), 2, width)
        call("norm_backward", slope, through, total, weight, mean, inverse, out, sums, rows, width)
        weight_slope, bias_slope = sums.sum(0)
        return out, out if ctx.added else None, weight_slope, bias_slope if ctx.biased else None, None, None


def _norm_again(
    total: Tensor, weight: Tensor, bias: Tensor | None, mean: Tensor | None, inverse: Tensor
) -> Tensor:
    out = torch.empty_like(total)
    call("norm_again", total, weight, bias, mean, inverse, out, inverse.numel(), total.shape[-1])
    return out


def add_norm(norm: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return (x + y, norm(x + y)), the step between two layers of a pre-norm stack.

    x: the residual stream (B, T, D). y: what the last layer adds to it, None for nothing.
    """
    if isinstance(norm, nn.RMSNorm | nn.LayerNorm) and norm.weight is not None and usable(x, norm.weight):
        layer = isinstance(norm, nn.LayerNorm)
        return _AddNorm.apply(x, y, norm.weight, norm.bias if layer else None, norm.eps, layer)
    x = x if y is None else x + y
    return x, norm(x)


class _RotateHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
        # x (B, T, H, C), cos and sin (1 or B, T, C)
        x = x.contiguous()
        out = torch.empty_like(x)
        inverse = x.new_empty(x.shape[:3])
        sizes = x.shape[0] * x.shape[1], x.shape[2], x.shape[3], cos.shape[0] * cos.shape[1]
        call("rotate_heads_forward", x, weight, cos, sin, out, inverse, *sizes, eps)
        ctx.save_for_backward(x, weight, cos, sin, inverse)
        kept = x.detach(), None if weight is None else weight.detach(), cos, sin

        def again() -> Tensor:
            copy = torch.empty_like(x)
            call("rotate_heads_forward", *kept, copy, torch.empty_like(inverse), *sizes, eps)
            return copy

        if weight is not None:  # else the rotation alone is kept
            recomputable(out, again)
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        x, weight, cos, sin, inverse = ctx.saved_tensors
        slope = slope.contiguous()
        out = torch.empty_like(x)
        rows = None if weight is None else scratch(weight)
        sizes = x.shape[0] * x.shape[1], x.shape[2], x.shape[3], cos.shape[0] * cos.shape[1]
        call("rotate_heads_backward", slope, x, weight, cos, sin, inverse, out, rows, *sizes)
        return out, None if rows is None else rows.sum(0), None, None, None


def rotate_heads(x: Tensor, norm: nn.Module, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
    """Normalise each head's channels and rotate them by their position: (B, T, H, C) → (B, H, T, C).

    norm: RMS or layer norm over C, or Identity. rotary: cos and signed sin, each (1 or B, T, C), or
    None for positions of another kind.
    """
    plain = not isinstance(norm, nn.Identity | nn.RMSNorm)
    if rotary is None or plain or not usable(x, *rotary):
        x = norm(x).transpose(1, 2)  # (B, H, T, C)
        return x if rotary is None else rotate(x, rotary[0][:, None], rotary[1][:, None])
    weight, eps = (norm.weight, norm.eps) if isinstance(norm, nn.RMSNorm) else (None, 0.0)
    return _RotateHeads.apply(x, weight, *rotary, float(eps or 0.0)).transpose(1, 2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (channel c, channel c + C/2) of x (..., T, C) by its position's angle.

    cos: (..., T, C), the cosine of each channel's angle. sin: (..., T, C), the sine, negated in the
    first half; so that the pair's two products are one multiplication with the halves swapped.
    """
    half = x.shape[-1] // 2
    swapped = torch.cat([x[..., half:], x[..., :half]], dim=-1)
    return x * cos + swapped * sin


class _Attention(torch.autograd.Function):
    """PyTorch's own attention on the CPU, with its small products in float32.

    Under `core.products.cpu_products` they would round to bfloat16 one by one, which takes twice as long.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
    ) -> Tensor:
        with cpu_products(torch.float32):
            out, logs = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, 0.0, causal, attn_mask=mask, scale=scale
            )
        ctx.save_for_backward(query, key, value, out, logs, mask)
        ctx.causal, ctx.scale = causal, scale
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        *saved, mask = ctx.saved_tensors
        with cpu_products(torch.float32):
            slopes = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                slope, *saved, 0.0, ctx.causal, attn_mask=mask, scale=ctx.scale
            )
        return *slopes, None, None, None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None,
    causal: bool,
    scale: float = 0.0,
) -> Tensor:
    """Return softmax(scale · query · keyᵀ) · value, (B, H, T, C).

    query: (B, H, T, C). key, value: (B, K, S, C), where H is a multiple of K. mask: broadcast to
    (B, H, T, S); True where a query may look, or numbers that are added to the scores. causal: a query
    sees what stands at or before its own index. scale: 0 for C^-½.
    """
    grouped = key.shape[1] != query.shape[1]
    scale = scale or query.shape[-1] ** -0.5
    learned = mask is not None and mask.requires_grad  # the kernel gives no gradient for it
    if not (grouped or learned) and usable(query, key, value) and rounds_products():
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
        return _Attention.apply(query, key, value, mask, causal, scale)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=causal,
        scale=scale,
        enable_gqa=grouped,
    )


def linear(layer: nn.Module, x: Tensor, *, gelu: bool = False) -> Tensor:
    """Return layer(x), and GELU of it if asked, for x (..., D).

    A plain layer's product is `core.products.product`. Where no gradient is wanted GELU is taken on the way; and
    under `core.products.cpu_products` in bfloat16 the result is rounded too, as torch.autocast does.
    """
    if type(layer) is not nn.Linear:
        return F.gelu(layer(x)) if gelu else layer(x)
    if torch.is_grad_enabled() or not takes_one_dnn(x, layer.weight):
        y = product(x, layer.weight, layer.bias)
        return F.gelu(y) if gelu else y
    # Tensors in bfloat16 take two thirds of the time that rounding on the way does.
    dtype = torch.bfloat16 if rounds_products() else torch.float32
    bias = None if layer.bias is None else layer.bias.to(dtype)
    return multiply(x.to(dtype), layer.weight.to(dtype), bias, "gelu" if gelu else "none").float()


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gated: Tensor, up: Tensor) -> Tensor:
        gated, up = gated.contiguous(), up.contiguous()
        out = _computed("gate_forward", gated, up)
        ctx.save_for_backward(gated, up)
        kept = gated.detach(), up.detach()
        recomputable(out, lambda: _computed("gate_forward", *kept))
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor]:
        gated, up = ctx.saved_tensors
        gate_slope, up_slope = torch.empty_like(gated), torch.empty_like(up)
        call("gate_backward", slope.contiguous(), gated, up, gate_slope, up_slope, up.numel())
        return gate_slope, up_slope


def _computed(kernel: str, *inputs: Tensor) -> Tensor:
    out = torch.empty_like(inputs[0])
    call(kernel, *inputs, out, out.numel())
    return out


def gate(gated: Tensor, up: Tensor) -> Tensor:
    """Return silu(gated) · up, both (..., F)."""
    return _Gate.apply(gated, up) if usable(gated, up) else F.silu(gated) * up


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        out = _computed("gelu_forward", x)
        ctx.save_for_backward(x)
        kept = x.detach()
        recomputable(out, lambda: _computed("gelu_forward", kept))
        return out

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return _computed("gelu_backward", slope.contiguous(), *ctx.saved_tensors)


def gelu_tanh(x: Tensor) -> Tensor:
    """Return GELU(x), its error function approximated by a hyperbolic tangent."""
    return _Gelu.apply(x) if usable(x) else F.gelu(x, approximate="tanh")


def score_loss_(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy (n,) of each row of scores (n, V); overwrite them by its gradient.

    targets: (n,) int64 ids; a negative one asks nothing: loss 0, gradient 0.
    """
    if usable(scores) and scores.is_contiguous():
        losses = scores.new_empty(len(scores))
        call("cross_entropy", scores, targets.contiguous(), losses, *scores.shape)
        return losses
    counted = (targets >= 0)[:, None]
    wanted = targets.clamp(min=0)[:, None]  # (n, 1)
    logs = F.log_softmax(scores, dim=-1)
    losses = -(logs.gather(1, wanted) * counted)[:, 0]
    slope = logs.exp_().scatter_add_(1, wanted, logs.new_full((), -1.0).expand_as(wanted))
    scores.copy_(slope * counted)
    return losses
