"""Chunked cross-entropy against torch's on the full table of scores: value and every gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from langmill.objectives import cross_entropy
from langmill.objectives.cross_entropy import IGNORED, chunk_rows, linear_cross_entropy


def problem(tokens: int, *, width: int = 12, vocabulary: int = 37, bias: bool = True) -> list[Tensor | None]:
    """Return (states, weight, bias) that need gradients, and targets of which some are ignored."""
    generator = torch.Generator().manual_seed(tokens)
    states = torch.randn(tokens, width, generator=generator)
    weight = torch.randn(vocabulary, width, generator=generator)
    offset = torch.randn(vocabulary, generator=generator) if bias else None
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    targets[::5] = IGNORED
    for tensor in (states, weight, offset):
        if tensor is not None:
            tensor.requires_grad_()
    return [states, weight, offset, targets]


def gradients(loss: Tensor, *tensors: Tensor | None) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [t for t in tensors if t is not None]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("one_chunk", [True, False])
def test_equals_torch(monkeypatch: pytest.MonkeyPatch, tokens: int, bias: bool, one_chunk: bool) -> None:
    if not one_chunk:
        monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 1)  # 64 tokens a chunk
    states, weight, offset, targets = problem(tokens, bias=bias)
    ours = linear_cross_entropy(states, weight, targets, bias=offset)  # type: ignore[arg-type]
    full = F.linear(states, weight, offset)  # type: ignore[arg-type]
    theirs = F.cross_entropy(full, targets, ignore_index=IGNORED, reduction="sum")  # type: ignore[arg-type]
    torch.testing.assert_close(ours, theirs)
    # A loss is scaled before it goes back: gradients must be scaled with it.
    for mine, right in zip(
        gradients(ours * 0.3, states, weight, offset), gradients(theirs * 0.3, states, weight, offset)
    ):
        torch.testing.assert_close(mine, right)


def test_ignored_targets_pull_at_nothing() -> None:
    states, weight, _, targets = problem(20, bias=False)
    assert targets is not None and states is not None and weight is not None
    targets[:] = IGNORED
    loss = linear_cross_entropy(states, weight, targets)
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients(loss, states, weight))


def test_any_shape_of_states() -> None:
    states, weight, offset, targets = problem(24)
    assert states is not None and weight is not None and targets is not None
    flat = linear_cross_entropy(states, weight, targets, bias=offset)
    assert torch.equal(
        flat, linear_cross_entropy(states.view(2, 3, 4, -1), weight, targets.view(2, 3, 4), bias=offset)
    )


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_one_gradient_alone(needed: int) -> None:
    tensors = problem(30)
    for index in range(3):
        tensors[index] = tensors[index].detach().requires_grad_(index == needed)  # type: ignore[union-attr]
    states, weight, offset, targets = tensors
    ours = linear_cross_entropy(states, weight, targets, bias=offset)  # type: ignore[arg-type]
    theirs = F.cross_entropy(F.linear(states, weight, offset), targets, ignore_index=IGNORED, reduction="sum")  # type: ignore[arg-type]
    torch.testing.assert_close(gradients(ours, tensors[needed]), gradients(theirs, tensors[needed]))


def test_without_gradients_the_value_is_the_same() -> None:
    states, weight, offset, targets = problem(50)
    with_gradient = linear_cross_entropy(states, weight, targets, bias=offset)  # type: ignore[arg-type]
    with torch.no_grad():
        without = linear_cross_entropy(states, weight, targets, bias=offset)  # type: ignore[arg-type]
    torch.testing.assert_close(with_gradient.detach(), without)


def test_scores_far_apart_stay_finite() -> None:
    states = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0]])
    loss = linear_cross_entropy(states, weight, torch.tensor([0, 0]))
    assert float(loss.detach()) == pytest.approx(2000.0)
    (gradient,) = gradients(loss, states)
    torch.testing.assert_close(gradient, torch.tensor([[0.0], [-2.0]]))


def test_by_hand() -> None:
    # two scores, 0 and ln 3: probabilities 1/4 and 3/4
    loss = linear_cross_entropy(torch.ones(1, 1), torch.tensor([[0.0], [1.0986123]]), torch.tensor([0]))
    assert float(loss) == pytest.approx(1.3862944)


def test_a_chunk_is_bounded_but_never_tiny() -> None:
    assert chunk_rows(1 << 10) * 4 * (1 << 10) <= cross_entropy.CHUNK_BYTES
    assert chunk_rows(1 << 30) == 64
