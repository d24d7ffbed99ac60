"""Where a token stands: rotary angles and positions within padded or packed rows. [models]"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from langmill.models.config import StackConfig


def rotary_rates(config: StackConfig) -> Tensor:
    """Return the angle in radians that one position adds to each pair of channels, (C / 2,).

    Su et al. 2021 (arXiv:2104.09864), section 3.4.2, with `config.rotary_scaling` applied.
    """
    channels = torch.arange(0, config.head_width, 2, dtype=torch.float32)
    rates = 1.0 / config.rotary_base ** (channels / config.head_width)
    scaling = config.rotary_scaling
    if scaling is None:
        return rates
    if scaling.kind == "linear":
        return rates / scaling.factor
    turns = scaling.trained_positions * rates / (2 * math.pi)
    span = scaling.high_frequency - scaling.low_frequency
    keep = ((turns - scaling.low_frequency) / span).clamp(0, 1)
    return keep * rates + (1 - keep) * rates / scaling.factor


def rotary_table(positions: Tensor, rates: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cos and signed sin, each (*positions.shape, C), as `fused.rotate_heads` wants them."""
    angles = positions[..., None].float() * rates  # (..., C / 2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1).to(dtype), torch.cat([-sin, sin], dim=-1).to(dtype)
