"""The fused kernels against the plain PyTorch that stands beside each of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from langmill.models.fused import add_norm, gate, library, operations, rotate_heads, score_loss_
from langmill.models.positions import rotary_table

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
def test_add_norm(monkeypatch: pytest.MonkeyPatch, rows: int, pending: bool) -> None:
    def work() -> list[Tensor]:
        norm = nn.RMSNorm(96, eps=1e-5)
        norm.weight.data = random(96, seed=3, grad=False)
        x, y = random(2, rows, 96, seed=1), random(2, rows, 96, seed=2)
        total, out = add_norm(norm, x, y if pending else None)
        (total * random(2, rows, 96, seed=4) + out * random(2, rows, 96, seed=5)).sum().backward()
        grads = [x.grad, norm.weight.grad, *([y.grad] if pending else [])]
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
