"""Products by oneDNN against torch's own, and their gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from langmill.core import products
from langmill.core.products import cpu_products, product, takes_one_dnn, weight_gradient

needs_one_dnn = pytest.mark.skipif(products.ONE_DNN is None, reason="torch has no oneDNN here")


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def results(multiply, *shape: int, biased: bool, out: int) -> list[Tensor]:
    x, weight = random(*shape, seed=1), random(out, shape[-1], seed=2)
    bias = random(out, seed=3) if biased else None
    y = multiply(x, weight, bias)
    (y * random(*y.shape, seed=4).detach()).sum().backward()
    return [y.detach(), x.grad, weight.grad, *([bias.grad] if biased else [])]


@needs_one_dnn
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    "out", [12, 80]
)  # narrower and wider than the input: the two ways of `weight_gradient`
@pytest.mark.parametrize("capability", ["AVX2", "AVX512"])
def test_value_and_gradients(
    monkeypatch: pytest.MonkeyPatch, biased: bool, out: int, capability: str
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    given: list[tuple[int, ...]] = []
    own = products.ONE_DNN
    monkeypatch.setattr(
        products, "ONE_DNN", lambda x, *rest: (given.append(tuple(x.shape)), own(x, *rest))[1]
    )
    ours = results(product, 3, 20, 48, biased=biased, out=out)
    expected = results(F.linear, 3, 20, 48, biased=biased, out=out)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert len(given) == (3 if capability == "AVX512" else 2)


@needs_one_dnn
def test_only_the_gradients_that_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = random(20, 48, seed=1).detach(), random(80, 48, seed=2)
    product(x, weight).sum().backward()
    assert x.grad is None
    torch.testing.assert_close(weight.grad, x.sum(0).expand(80, 48), rtol=1e-5, atol=1e-5)
    frozen = weight.detach()
    assert not product(x, frozen).requires_grad
    monkeypatch.setattr(products, "weight_gradient", None)  # as of an adapter's base: it must not be computed
    moved = x.clone().requires_grad_()
    product(moved, frozen).sum().backward()
    torch.testing.assert_close(moved.grad, frozen.sum(0).expand(20, 48), rtol=1e-5, atol=1e-5)


@needs_one_dnn
def test_what_is_left_to_torch() -> None:
    many, few, weight = torch.randn(32, 8), torch.randn(2, 8), torch.randn(4, 8)
    assert takes_one_dnn(many, weight)
    assert not takes_one_dnn(few, weight)
    assert not takes_one_dnn(many.double(), weight.double())
    assert not takes_one_dnn(torch.empty(0, 8), weight)
    assert not takes_one_dnn(torch.empty(4, 0), torch.empty(3, 0))
    with torch.autocast("cpu", torch.bfloat16):
        assert not takes_one_dnn(many, weight)
        assert product(many, weight).dtype == torch.bfloat16
    torch.testing.assert_close(product(few, weight), few @ weight.t())
    assert product(many.double(), weight.double()).dtype == torch.float64
    with cpu_products(torch.bfloat16):
        assert torch.equal(product(many, weight), F.linear(many, weight))
        assert torch.equal(weight_gradient(many, many), many.t() @ many)
