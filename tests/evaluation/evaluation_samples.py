"""Texts, and tiny models with drawn weights."""

from __future__ import annotations

import numpy as np
import torch

from langmill.models.config import (
    bart_encoder_decoder,
    bert_encoder,
    default_decoder,
    default_encoder,
    default_encoder_decoder,
    gpt2_decoder,
)
from langmill.models.initialise import initialise, initialise_recurrent
from langmill.models.ngram import NgramModel
from langmill.models.ngram_decoder import NgramDecoder
from langmill.models.recurrent import Recurrent, RecurrentConfig
from langmill.models.transformer import Transformer

ENGLISH = "It was the best of times, it was the worst of times, it was the age of wisdom. "
CHINESE = "满纸荒唐言，一把辛酸泪。都云作者痴，谁解其中味？"
FAMILIES = {"qwen3": default_decoder, "gpt2": gpt2_decoder}
OTHERS = {
    "eurobert": default_encoder,
    "bert": bert_encoder,
    "t5": default_encoder_decoder,
    "bart": bart_encoder_decoder,
}
RECURRENT = {
    "lstm": {"kind": "lstm", "role": "decoder"},
    "gru-encoder": {"kind": "gru", "role": "encoder"},
    "lstm-luong": {"kind": "lstm", "role": "pair"},
    "gru-bahdanau": {"kind": "gru", "role": "pair", "attention": "bahdanau"},
}
EVERY = (*FAMILIES, *OTHERS, *RECURRENT, "ngram")
"""Names of every architecture."""


def make_model(
    vocabulary: int, *, family: str = "qwen3", context: int = 32, seed: int = 0, dropout: float = 0.0
):
    """Return a model none of whose weights is zero or one, in evaluation mode."""
    if family == "ngram":
        draw = np.random.default_rng(seed)
        documents = [draw.zipf(1.2, size=60).clip(1, vocabulary) - 1 for _ in range(9)]
        return NgramDecoder.of(NgramModel.train(documents, vocabulary=vocabulary, order=4, start=0))
    sizes = {"layers": 2, "width": 16, "dropout": dropout}
    generator = torch.Generator().manual_seed(seed)
    if family in RECURRENT:
        kind = RECURRENT[family]
        model = Recurrent(RecurrentConfig(vocabulary=vocabulary, max_positions=context, **sizes, **kind))
        initialise_recurrent(model, generator)
    else:
        make = {**FAMILIES, **OTHERS}[family]
        model = Transformer(make(vocabulary, heads=2, context=context, **sizes))
        initialise(model, generator, scheme="gpt2")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model.eval()
