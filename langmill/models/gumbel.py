"""Gumbel noise: a random choice as a function of the scores and of noise that does not depend on them. [models]

To reparameterise a draw is to move its chance out of what is learned: instead of drawing from a
distribution that depends on the scores, noise of a fixed distribution is drawn and the result computed
from both. With the noise held fast that is a function, and a gradient can flow to the scores.

Shape letters: V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from langmill.core.errors import ConfigError


def gumbel_noise(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Return a draw of Gumbel(0, 1), -log E with E exponential, for each of the logits, on their device."""
    waits = torch.empty(logits.shape, dtype=torch.float64, device=generator.device)
    return -waits.exponential_(generator=generator).log().to(logits.device)


def gumbel_softmax(
    logits: Tensor, temperature: float, generator: torch.Generator, *, hard: bool = False
) -> Tensor:
    """Return soft one-hot vectors (..., V): softmax((logits + Gumbel noise) / temperature).

    The argmax of logits + noise is an exact draw from softmax(logits) but has no gradient; softened, it has
    one (Jang et al. 2017, arXiv:1611.01144, section 2.2; Maddison et al. 2017, arXiv:1611.00712). The lower
    the temperature the nearer to a draw and the larger the gradient's variance; the higher, the nearer to
    uniform. hard: give the one-hot draw itself, with the soft one's gradient ("straight-through").

    Raises ConfigError where temperature is not above 0.
    """
    if temperature <= 0:
        raise ConfigError(f"temperature {temperature} is not allowed: it must be above 0")
    soft = ((logits + gumbel_noise(logits, generator).to(logits.dtype)) / temperature).softmax(-1)
    if not hard:
        return soft
    drawn = F.one_hot(soft.detach().argmax(-1), logits.shape[-1]).to(soft.dtype)
    return drawn + (soft - soft.detach())
