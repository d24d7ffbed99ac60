"""A checkpoint small enough for the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import torch

from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.models.config import default_decoder
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.tokens import train_tokenizer

ENGLISH = "It was the best of times, it was the worst of times, it was the age of wisdom. "
CHINESE = "满纸荒唐言，一把辛酸泪。都云作者痴，谁解其中味？"


def write_checkpoint(folder: Path, *, seed: int = 0, kind: str = "char", even: bool = False) -> Path:
    """Write a checkpoint with drawn weights; even: one that finds all tokens equally likely."""
    vocabulary = 200 if kind == "wordpiece" else None
    tokenizer = train_tokenizer([ENGLISH, CHINESE], kind=kind, vocabulary=vocabulary)
    model = Transformer(default_decoder(tokenizer.vocabulary_size, layers=2, width=16, heads=2, context=32))
    generator = torch.Generator().manual_seed(seed)
    initialise(model, generator, scheme="gpt2")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
        if even:
            model.output.weight.zero_()
    save_checkpoint(folder, Checkpoint(model, tokenizer))
    return folder
