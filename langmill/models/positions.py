"""Where a token stands: rotary angles and positions within padded or packed rows. [models]"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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


def sinusoids(positions: int, width: int) -> Tensor:
    """Return the table (positions, width) of Vaswani et al. 2017 (arXiv:1706.03762), section 3.5.

    Sines fill the first half of the channels and cosines the second, as Marian lays them out; the paper
    alternates them, which a permutation of the channels undoes.
    """
    rates = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(positions)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class RelativeBias(nn.Module):
    """A learned bias for the distance from query to key, in buckets that widen with the distance.

    Raffel et al. 2020 (arXiv:1910.10683), section 2.1. Half of the buckets hold one distance each, the
    other half grow logarithmically up to `relative_distance`; an encoder halves them between what
    stands before and behind.
    """

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.both_ways = not config.causal
        self.distance = config.relative_distance
        self.table = nn.Embedding(config.relative_buckets, config.heads)

    def bucket(self, offsets: Tensor) -> Tensor:
        """Return the bucket of each key's place minus its query's, any shape."""
        buckets = self.table.num_embeddings
        first: Tensor | int = 0
        if self.both_ways:
            buckets //= 2
            first = (offsets > 0).long() * buckets
            far = offsets.abs()
        else:
            far = (-offsets).clamp(min=0)
        exact = buckets // 2
        steps = (far / exact).clamp(min=1).log() / math.log(self.distance / exact) * (buckets - exact)
        return first + torch.where(far < exact, far, (exact + steps.long()).clamp(max=buckets - 1))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the bias (1, H, T, S) of places `queries` (T,) that look at places `keys` (S,)."""
        return self.table(self.bucket(keys - queries[:, None])).permute(2, 0, 1)[None]
