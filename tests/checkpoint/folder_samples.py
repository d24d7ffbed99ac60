"""A small model and tokenizer for checkpoint folders."""

from __future__ import annotations

import dataclasses

import torch

from langmill.models.config import default_decoder
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.tokens.tokenizer import SpecialTokens, Tokenizer

VOCABULARY = 12


def new_model(*, vocabulary: int = VOCABULARY, tied: bool = True, seed: int = 0) -> Transformer:
    config = default_decoder(vocabulary, layers=2, width=16, heads=2, context=32)
    model = Transformer(dataclasses.replace(config, tie_output=tied))
    initialise(model, torch.Generator().manual_seed(seed))
    return model.eval()


def new_tokenizer(characters: str = "ab中文") -> Tokenizer:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    pieces = ["<|endoftext|>", "<|pad|>", "<unk>", *characters]
    backend = Backend(
        models.WordLevel({piece: number for number, piece in enumerate(pieces)}, unk_token="<unk>")
    )
    backend.add_special_tokens(pieces[:3])
    return Tokenizer(backend, specials=SpecialTokens(eos="<|endoftext|>", pad="<|pad|>", unk="<unk>"))
