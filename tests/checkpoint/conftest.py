"""Tiny Transformers models with random weights, the reference of the parity tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from langmill.checkpoint import Checkpoint, save_checkpoint
from tests.checkpoint.folder_samples import new_model

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
    "mistral-window": ("Mistral", {**LLAMA_SIZES, "sliding_window": 4}),
    "qwen2": ("Qwen2", LLAMA_SIZES),
    "qwen2-window": (
        "Qwen2",
        {**LLAMA_SIZES, "sliding_window": 3, "use_sliding_window": True, "max_window_layers": 0},
    ),
    "qwen3": ("Qwen3", {**LLAMA_SIZES, "head_dim": 12, "tie_word_embeddings": True}),
    "qwen3-biases": ("Qwen3", {**LLAMA_SIZES, "head_dim": 8, "attention_bias": True}),
}

BERT_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", {**BERT_SIZES, "type_vocab_size": 3}),
    "bert-bare": ("BertModel", {**BERT_SIZES, "hidden_act": "relu", "layer_norm_eps": 1e-3}),
    "roberta": ("RobertaForMaskedLM", {**BERT_SIZES, "pad_token_id": 1, "layer_norm_eps": 1e-5}),
    "eurobert": (
        "EuroBertForMaskedLM",
        {**BERT_SIZES, "num_key_value_heads": 2, "pad_token_id": 0, "mask_token_id": 4}
        | {"bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True},
    ),
    "eurobert-untied": (
        "EuroBertForMaskedLM",
        {**BERT_SIZES, "pad_token_id": 0, "mask_token_id": 4, "bos_token_id": 1, "eos_token_id": 2},
    ),
}

T5_SIZES = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
# Transformers' cache fails where the decoder is deeper than the encoder.
T5_EVEN = {**T5_SIZES, "num_decoder_layers": 2}
BART_SIZES = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 3,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
ENCODER_DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5ForConditionalGeneration", T5_SIZES),
    "t5-gated": (
        "T5ForConditionalGeneration",
        {**T5_SIZES, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "t5-gated-silu": ("T5ForConditionalGeneration", {**T5_SIZES, "feed_forward_proj": "gated-silu"}),
    "t5-even": ("T5ForConditionalGeneration", T5_EVEN),
    "bart": ("BartForConditionalGeneration", BART_SIZES),
    "bart-scaled": ("BartForConditionalGeneration", {**BART_SIZES, "scale_embedding": True}),
    "marian": (
        "MarianMTModel",
        {
            **BART_SIZES,
            "activation_function": "swish",
            "scale_embedding": True,
            "decoder_vocab_size": VOCABULARY,
        },
    ),
}
ALL = {
    **{
        name: (f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM", settings)
        for name, (kind, settings) in CASES.items()
    },
    **ENCODERS,
    **ENCODER_DECODERS,
}
"""Their class and the settings of its configuration."""


@torch.no_grad()
def perturb(model: torch.nn.Module, *, seed: int = 0, deviation: float = 0.15) -> None:
    """Leave no bias zero and no norm one: zeros and ones hide a swapped row."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:  # else a table that files leave out, such as sinusoids
            weight.add_(torch.randn(weight.shape, generator=generator) * deviation)


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
            name, settings = ALL[case]
            torch.manual_seed(0)
            model_class = getattr(transformers, name)
            model = model_class(model_class.config_class(**settings)).eval()
            # T5's scores, not scaled, grow to where float32 leaves no five digits after the point.
            perturb(model, deviation=0.05 if "t5" in case else 0.15)
            if "final_logits_bias" in dict(model.named_buffers()):
                model.final_logits_bias.normal_()
            folder = tmp_path_factory.mktemp(case)
            model.save_pretrained(folder)
            made[case] = Reference(model, folder)
        return made[case]

    return make


@pytest.fixture(params=list(CASES))
def reference(request, make_reference) -> Reference:
    return make_reference(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good checkpoint without a tokenizer, to be spoilt."""
    save_checkpoint(tmp_path / "good", Checkpoint(new_model()))
    return tmp_path / "good"
