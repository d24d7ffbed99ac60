"""Tiny random models and a tokenizer of bytes, so that generation is tested without trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from langmill.models.config import StackConfig, TransformerConfig
from langmill.models.transformer import Transformer


class ByteCodec:
    """Token i is byte i; 256 ends a text."""

    bos_id: int | None = None
    eos_id: int | None = 256

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return bytes(number for number in ids if number < 256).decode("utf-8", "replace")


def tiny_model(seed: int = 0, *, vocabulary: int = 257, **changes: Any) -> Transformer:
    """Return a decoder, or with cross=True an encoder-decoder, whose every weight, biases and norms included,
    is random.

    score_bias: the output layer has one; `output_bias` is attention's.
    """
    stack: dict[str, Any] = {
        "layers": 2,
        "width": 32,
        "heads": 4,
        "hidden": 48,
        "causal": True,
        "max_positions": 64,
    }
    whole = {name: changes.pop(name) for name in ("tie_output", "output_scale") if name in changes}
    whole["output_bias"] = changes.pop("score_bias", False)
    decoder = StackConfig(**stack | changes)
    encoder = replace(decoder, causal=False, cross=False) if decoder.cross else None
    model = Transformer(
        TransformerConfig(vocabulary=vocabulary, encoder=encoder, decoder=decoder, **whole)
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4 + (weight.dim() == 1) * 0.5)
    return model


QWEN = {
    **{"norm": "rms", "positions": "rotary", "kv_heads": 2, "qkv_bias": False, "output_bias": False},
    **{"qk_norm": True, "activation": "silu", "gated": True, "hidden_bias": False},
}
"""The changes that make `tiny_model` a Qwen3 by layout; without them it is a GPT-2 (of exact GELU)."""


@pytest.fixture
def codec() -> ByteCodec:
    return ByteCodec()


@pytest.fixture(params=["gpt2", "qwen3"])
def model(request: pytest.FixtureRequest) -> Transformer:
    return tiny_model(**(QWEN if request.param == "qwen3" else {"activation": "gelu_tanh"}))


@pytest.fixture
def make_model():
    return tiny_model


@pytest.fixture
def qwen() -> dict[str, Any]:
    return QWEN


@pytest.fixture
def torch_only(monkeypatch: pytest.MonkeyPatch):
    """Return a function that turns the compiled kernels off."""

    def turn_off() -> None:
        monkeypatch.setattr("langmill.generation.fast.obstacle", lambda model, rows: "turned off by a test")

    return turn_off
