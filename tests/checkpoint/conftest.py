"""Tiny Transformers models with random weights, the reference of the parity tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

VOCABULARY = 61
LLAMA_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "GPT2",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
        | {"bos_token_id": 0, "eos_token_id": 0},
    ),
    "gpt2-untied": (
        "GPT2",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 40}
        | {"bos_token_id": 0, "eos_token_id": 0, "activation_function": "gelu", "tie_word_embeddings": False},
    ),
    "llama": ("Llama", LLAMA_SIZES),
    "llama-tied": ("Llama", {**LLAMA_SIZES, "tie_word_embeddings": True, "rms_norm_eps": 1e-2}),
    "llama-biases": ("Llama", {**LLAMA_SIZES, "attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "llama-llama3": ("Llama", {**LLAMA_SIZES, "rope_parameters": LLAMA3}),
    "llama-linear": (
        "Llama",
        {**LLAMA_SIZES, "rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.5}},
    ),
    "mistral": ("Mistral", {**LLAMA_SIZES, "head_dim": 12, "sliding_window": None}),
    "qwen2": ("Qwen2", LLAMA_SIZES),
    "qwen3": ("Qwen3", {**LLAMA_SIZES, "head_dim": 12, "tie_word_embeddings": True}),
    "qwen3-biases": ("Qwen3", {**LLAMA_SIZES, "head_dim": 8, "attention_bias": True}),
}


@torch.no_grad()
def perturb(model: torch.nn.Module, *, seed: int = 0) -> None:
    """Leave no bias zero and no norm one: zeros and ones hide a swapped row."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.add_(torch.randn(weight.shape, generator=generator) * 0.15)


@dataclass(frozen=True)
class Reference:
    """A Transformers model and the folder that its save_pretrained wrote."""

    model: Any
    folder: Path


@pytest.fixture(scope="session")
def make_reference(tmp_path_factory):
    """Return a function from a case's name to its Reference, built once."""
    transformers = pytest.importorskip("transformers")
    made: dict[str, Reference] = {}

    def make(case: str) -> Reference:
        if case not in made:
            kind, settings = CASES[case]
            torch.manual_seed(0)
            model_class = getattr(
                transformers, f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
            )
            model = model_class(getattr(transformers, f"{kind}Config")(**settings)).eval()
            perturb(model)
            folder = tmp_path_factory.mktemp(case)
            model.save_pretrained(folder)
            made[case] = Reference(model, folder)
        return made[case]

    return make


@pytest.fixture(params=list(CASES))
def reference(request, make_reference) -> Reference:
    return make_reference(request.param)
