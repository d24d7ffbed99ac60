"""Gumbel noise: an exact draw, its soft form and the gradient."""

from __future__ import annotations

import pytest
import torch

from langmill.core.errors import ConfigError
from langmill.generation.sampling import gumbel_max
from langmill.models.gumbel import gumbel_noise, gumbel_softmax

LOGITS = torch.tensor([1.5, 0.0, -1.0, 0.7, -torch.inf, -2.5])
DRAWS = 40_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chi_square(tokens: torch.Tensor, logits: torch.Tensor) -> float:
    """Return the sum of (found - expected)^2 / expected over the tokens that can be drawn."""
    expected = logits.softmax(-1) * len(tokens)
    found = tokens.bincount(minlength=len(logits)).double()
    assert found[expected == 0].sum() == 0  # what has probability 0 is never drawn
    return float(((found - expected) ** 2 / expected)[expected > 0].sum())


def test_the_argmax_is_a_draw_from_the_softmax() -> None:
    tokens = gumbel_max(LOGITS.expand(DRAWS, -1), generator())
    assert chi_square(tokens, LOGITS) < 13.28  # 4 degrees of freedom, 1 in 100
    assert chi_square(tokens, LOGITS / 1.1) > 40  # and the test would see a temperature of 1.1
    assert torch.equal(tokens, gumbel_max(LOGITS.expand(DRAWS, -1), generator()))


def test_the_noise_has_the_mean_and_variance_of_gumbel() -> None:
    noise = gumbel_noise(torch.zeros(200_000), generator())
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)  # Euler's constant
    assert noise.var().item() == pytest.approx(torch.pi**2 / 6, abs=0.03)


@pytest.mark.parametrize("hard", [False, True])
def test_soft_and_hard_choose_as_the_argmax(hard: bool) -> None:
    rows = LOGITS.expand(DRAWS, -1)
    chosen = gumbel_softmax(rows, 0.5, generator(), hard=hard)
    torch.testing.assert_close(chosen.sum(-1), torch.ones(DRAWS))
    assert torch.equal(chosen.argmax(-1), gumbel_max(rows, generator()))
    if hard:
        assert set(chosen.unique().tolist()) == {0.0, 1.0}


def test_temperature_limits() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0]).expand(50, 3)
    cold = gumbel_softmax(logits, 1e-4, generator())
    torch.testing.assert_close(cold, gumbel_softmax(logits, 1.0, generator(), hard=True), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        gumbel_softmax(logits, 1e5, generator()), torch.full((50, 3), 1 / 3), atol=1e-3, rtol=0
    )
    for temperature in (0.0, -1.0):
        with pytest.raises(ConfigError, match="must be above 0"):
            gumbel_softmax(logits, temperature, generator())


def test_the_gradient_is_that_of_a_function_of_the_logits() -> None:
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gumbel_softmax(x, 0.7, generator(3)), (logits,))


def test_straight_through_has_the_soft_gradient() -> None:
    worth = torch.tensor([1.0, 3.0, -2.0])
    slopes = []
    for hard in (False, True):
        logits = torch.tensor([0.3, -0.2, 0.9], requires_grad=True)
        (gumbel_softmax(logits, 0.7, generator(3), hard=hard) * worth).sum().backward()
        slopes.append(logits.grad)
    assert slopes[0] is not None and bool(slopes[0].any())
    torch.testing.assert_close(slopes[0], slopes[1])


def test_the_slope_climbs_to_the_better_choice() -> None:
    """Learning by the hard draw alone moves probability to what is worth most."""
    logits = torch.zeros(3, requires_grad=True)
    chance = generator(1)
    for _ in range(200):
        worth = (gumbel_softmax(logits, 1.0, chance, hard=True) * torch.tensor([0.0, 1.0, 0.2])).sum()
        (slope,) = torch.autograd.grad(worth, logits)
        logits = (logits + 0.2 * slope).detach().requires_grad_()
    assert logits.softmax(-1)[1] > 0.8
