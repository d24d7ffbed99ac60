"""Texts, and tiny decoders with drawn weights."""

from __future__ import annotations

import torch

from langmill.models.config import default_decoder, gpt2_decoder
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer

ENGLISH = "It was the best of times, it was the worst of times, it was the age of wisdom. "
CHINESE = "满纸荒唐言，一把辛酸泪。都云作者痴，谁解其中味？"
FAMILIES = {"qwen3": default_decoder, "gpt2": gpt2_decoder}


def make_model(
    vocabulary: int, *, family: str = "qwen3", context: int = 32, seed: int = 0, dropout: float = 0.0
):
    """Return a decoder none of whose weights is zero or one, in evaluation mode."""
    make = FAMILIES[family]
    model = Transformer(make(vocabulary, layers=2, width=16, heads=2, context=context, dropout=dropout))
    generator = torch.Generator().manual_seed(seed)
    initialise(model, generator, scheme="gpt2")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model.eval()
