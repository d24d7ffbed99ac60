"""Choosing the next token. [generation]

Shape letters: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from langmill.core.files import digest
from langmill.generation.filters import keep_min_p, keep_top_k, keep_top_p, penalise_repetition, warm
from langmill.generation.settings import SamplingSettings
from langmill.models.gumbel import gumbel_noise


def row_generator(seed: int, prompt: Sequence[int], copy: int) -> torch.Generator:
    """Return the source of chance of one row.

    It depends on the seed, the row's own prompt and how often that prompt stood before it in the same
    request (`copy`): so a row's text does not change with its neighbours, and repeated prompts differ.
    """
    text = digest(str(seed), ",".join(map(str, prompt)), str(copy))
    return torch.Generator().manual_seed(int(text[:15], 16))


def filtered(logits: Tensor, seen: Tensor | None, settings: SamplingSettings) -> Tensor:
    """Apply what `settings` asks for to logits (B, V). seen: see `penalise_repetition`; None without a penalty."""
    if seen is not None and settings.repetition_penalty != 1:
        logits = penalise_repetition(logits, seen, settings.repetition_penalty)
    if settings.greedy:
        return logits
    if settings.temperature != 1:
        logits = warm(logits, settings.temperature)
    if settings.top_k:
        logits = keep_top_k(logits, settings.top_k)
    return keep_min_p(keep_top_p(logits, settings.top_p), settings.min_p)


def draw(logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw a token of each row of logits (B, V) with its own generator, by inversion of the cumulative distribution.

    A token of probability 0 is never drawn. The generators live on the CPU whatever the logits' device.
    """
    uniform = torch.stack(
        [torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators]
    )
    reached = logits.double().softmax(-1).cumsum(-1)  # (B, V)
    target = uniform.to(logits.device) * reached[:, -1:]
    return torch.searchsorted(reached, target, right=True).clamp(max=logits.shape[-1] - 1)[:, 0]


def gumbel_max(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a token of each row of logits (..., V): the argmax of logits + Gumbel noise.

    That is an exact draw from softmax(logits) (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030): of
    exponential waits with rates exp(logits) the first to end is token v with probability proportional to its
    rate, and -log of a wait is logit + noise. Nothing is normalised, and the noise depends on no score: the same
    noise with other scores shows what they change.
    """
    return (logits.double() + gumbel_noise(logits, generator)).argmax(-1)
