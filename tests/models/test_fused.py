"""The fused kernels against the plain PyTorch that stands beside each of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from langmill.core import products
from langmill.core.products import cpu_products
from langmill.models import transformer
from langmill.models.config import default_decoder, gpt2_decoder
from langmill.models.fused import (
    add_norm,
    attend,
    gate,
    gelu_tanh,
    library,
    linear,
    operations,
    rotate_heads,
    score_loss_,
)
from langmill.models.initialise import initialise
from langmill.models.positions import rotary_table
from langmill.models.transformer import Transformer

needs_kernels = pytest.mark.skipif(library.library() is None, reason="no C compiler with OpenMP here")


def both(monkeypatch: pytest.MonkeyPatch, work) -> tuple[list[Tensor], list[Tensor]]:
    """Return the results of `work` with the kernels and without."""
    fused = work()
    with monkeypatch.context() as patch:
        patch.setattr(operations, "library", lambda: None)
        plain = work()
    return fused, plain


def assert_close(pair: tuple[list[Tensor], list[Tensor]], tolerance: float = 2e-5) -> None:
    for ours, theirs in zip(*pair, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max()) <= tolerance * max(1.0, float(theirs.abs().max()))


def random(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


@needs_kernels
@pytest.mark.parametrize("rows", [1, 7, 900])
@pytest.mark.parametrize("pending", [True, False])
@pytest.mark.parametrize("kind", ["rms", "layer", "layer without bias"])
def test_add_norm(monkeypatch: pytest.MonkeyPatch, rows: int, pending: bool, kind: str) -> None:
    def work() -> list[Tensor]:
        norm: nn.Module = nn.RMSNorm(96, eps=1e-5)
        if kind != "rms":
            norm = nn.LayerNorm(96, bias=kind == "layer")
        for seed, weight in enumerate(norm.parameters()):
            weight.data = random(96, seed=6 + seed, grad=False)
        x, y = random(2, rows, 96, seed=1), random(2, rows, 96, seed=2)
        total, out = add_norm(norm, x, y if pending else None)
        (total * random(2, rows, 96, seed=4) + out * random(2, rows, 96, seed=5)).sum().backward()
        grads = [x.grad, *[p.grad for p in norm.parameters()], *([y.grad] if pending else [])]
        return [total.detach(), out.detach(), *[g for g in grads if g is not None]]

    assert_close(both(monkeypatch, work))


@needs_kernels
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("table_rows", [1, 3])
def test_rotate_heads(monkeypatch: pytest.MonkeyPatch, normed: bool, table_rows: int) -> None:
    def work() -> list[Tensor]:
        norm: nn.Module = nn.RMSNorm(16, eps=1e-6) if normed else nn.Identity()
        if normed:
            norm.weight.data = random(16, seed=3, grad=False)
        positions = torch.arange(5)[None] + torch.arange(table_rows)[:, None] * 7
        x = random(3, 5, 4, 16, seed=1)
        out = rotate_heads(
            x,
            norm,
            rotary_table(positions, torch.rand(8, generator=torch.Generator().manual_seed(2)), torch.float32),
        )
        (out * random(3, 4, 5, 16, seed=4)).sum().backward()
        return [out.detach(), x.grad, *[p.grad for p in norm.parameters()]]

    assert_close(both(monkeypatch, work))


@needs_kernels
def test_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> list[Tensor]:
        x = random(3, 5000, seed=1)
        x.data[0, :5] = torch.tensor([-90.0, 90.0, 0.0, -5.0, 1e4])
        out = gelu_tanh(x)
        (out * random(3, 5000, seed=3)).sum().backward()
        return [out.detach(), x.grad]

    assert_close(both(monkeypatch, work))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
def test_linear_without_gradient(monkeypatch: pytest.MonkeyPatch, bias: bool, gelu: bool) -> None:
    layer = nn.Linear(48, 80, bias=bias)
    x = random(2, 20, 48, seed=1)
    expected = layer(x) if not gelu else nn.functional.gelu(layer(x))
    asked: list[tuple[torch.dtype, ...]] = []
    own = products.ONE_DNN
    if own is not None:
        monkeypatch.setattr(
            products, "ONE_DNN", lambda *given: (asked.append((given[0].dtype,)), own(*given))[1]
        )
    with torch.no_grad():
        torch.testing.assert_close(linear(layer, x, gelu=gelu), expected, rtol=1e-5, atol=1e-5)
        with cpu_products(torch.bfloat16):
            rounded = linear(layer, x, gelu=gelu)
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, expected, rtol=2e-2, atol=2e-2)
        linear(layer, x[:, :4], gelu=gelu)  # so few rows are left to torch
    assert len(asked) == (0 if own is None else 2)
    assert linear(layer, x, gelu=gelu).requires_grad


@needs_kernels
@pytest.mark.parametrize("masked", [True, False])
def test_attention_keeps_float32_where_products_round(monkeypatch: pytest.MonkeyPatch, masked: bool) -> None:
    mask = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(8)) > 0.3
    mask |= torch.eye(40, dtype=torch.bool)

    def work() -> list[Tensor]:
        parts = [random(2, 3, 40, 16, seed=seed) for seed in (1, 2, 3)]
        out = attend(*parts, mask=mask if masked else None, causal=not masked)
        (out * random(2, 3, 40, 16, seed=4)).sum().backward()
        return [out.detach(), *[p.grad for p in parts]]

    exact = work()
    with cpu_products(torch.bfloat16):
        assert_close((work(), exact), tolerance=1e-6)


@needs_kernels
@pytest.mark.parametrize("family", [gpt2_decoder, default_decoder])
def test_what_is_computed_again_is_not_kept(monkeypatch: pytest.MonkeyPatch, family) -> None:
    model = Transformer(family(50, layers=2, width=32, heads=2, context=16))
    initialise(model, torch.Generator().manual_seed(0))
    ids = torch.randint(50, (3, 16), generator=torch.Generator().manual_seed(1))

    def work() -> list[Tensor]:
        model.zero_grad()
        states = model.decode(ids)
        states.square().sum().backward()
        return [states.detach(), *[p.grad.clone() for p in model.parameters() if p.grad is not None]]

    monkeypatch.setattr(transformer, "RECOMPUTE_NUMBERS", 0)
    again: list[str] = []
    called = operations.call
    with monkeypatch.context() as patch:
        patch.setattr(operations, "call", lambda name, *rest: (again.append(name), called(name, *rest))[1])
        lean = work()
    with monkeypatch.context() as patch:
        patch.setattr(operations, "recomputable", lambda out, again: None)
        assert all(torch.equal(a, b) for a, b in zip(lean, work(), strict=True))
    inputs = 4 if family is gpt2_decoder else 5  # query, key, value, up and, in the other, gate
    assert again.count("norm_again") == 2 * inputs


@needs_kernels
def test_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> list[Tensor]:
        a, b = random(3, 5000, seed=1), random(3, 5000, seed=2)
        a.data[0, :3] = torch.tensor([-90.0, 90.0, 0.0])
        out = gate(a, b)
        (out * random(3, 5000, seed=3)).sum().backward()
        return [out.detach(), a.grad, b.grad]

    assert_close(both(monkeypatch, work))


@needs_kernels
def test_score_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> list[Tensor]:
        scores = random(50, 300, seed=1, grad=False) * 20
        targets = torch.randint(300, (50,), generator=torch.Generator().manual_seed(2))
        targets[::7] = -100
        return [score_loss_(scores, targets), scores]

    fused, plain = both(monkeypatch, work)
    assert_close((fused, plain))
    assert float(plain[0][0]) == 0.0
    assert float(plain[1][0].abs().max()) == 0.0


@needs_kernels
def test_not_finite_stays_visible() -> None:
    scores = torch.zeros(2, 8)
    scores[0, 3] = float("nan")
    losses = score_loss_(scores, torch.tensor([1, 1]))
    assert torch.isnan(losses[0])
    assert torch.isfinite(losses[1])


@needs_kernels
def test_small_numbers_are_not_flushed_to_zero() -> None:
    # Linking with fast math would switch the whole process to it.
    assert float(torch.tensor([1e-39]) * 0.5) > 0
