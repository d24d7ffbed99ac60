"""GGUF files of tiny Transformers models, written with the gguf package and its own table of names. [tests]"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind

from tests.checkpoint.conftest import LLAMA3

SIZES = {
    "vocab_size": 61,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.5}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "LlamaForCausalLM", SIZES),
    "llama-tied": ("llama", "LlamaForCausalLM", {**SIZES, "tie_word_embeddings": True}),
    "llama-biases": (
        "llama",
        "LlamaForCausalLM",
        {**SIZES, "attention_bias": True, "mlp_bias": True, "head_dim": 24},
    ),
    "llama-linear": ("llama", "LlamaForCausalLM", {**SIZES, "rope_parameters": LINEAR}),
    "llama-llama3": ("llama", "LlamaForCausalLM", {**SIZES, "rope_parameters": LLAMA3}),
    "mistral": ("llama", "MistralForCausalLM", {**SIZES, "sliding_window": None}),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", SIZES),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", {**SIZES, "head_dim": 24, "tie_word_embeddings": True}),
    "gpt2": (
        "gpt2",
        "GPT2LMHeadModel",
        {"vocab_size": 61, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
}
"""The GGUF architecture, Transformers' class and its settings."""
BLOCKS = {Kind.Q4_K: (144, slice(0, 4), 2e-4), Kind.Q6_K: (210, slice(208, 210), 4e-5)}
"""Bytes of a block that gguf cannot write, where in it the scales in float16 stand, and what they are here."""


def make_model(case: str, **changes: Any) -> Any:
    """Return a model of random weights, biases and norms included."""
    import transformers

    _, name, settings = CASES[case]
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**{**settings, **changes})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape) * 0.1)
    return model


def neighbours(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder a head's rows from halves to rotary pairs, as llama.cpp's converter does."""
    pairs = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def coded(weight: np.ndarray, kind: Kind, draw: np.random.Generator) -> np.ndarray:
    """Return a matrix's values as the file has them; of kinds that gguf only reads, drawn ones."""
    if kind not in BLOCKS:
        return gguf.quantize(weight, kind)
    size, scales, value = BLOCKS[kind]
    blocks = draw.integers(0, 256, (weight.size // 256, size), dtype=np.uint8)
    scale = np.full((len(blocks), (scales.stop - scales.start) // 2), value, np.float16)
    blocks[:, scales] = scale.view(np.uint8)
    return blocks.reshape(weight.shape[0], -1)


def write_gguf(
    path: Path,
    case: str,
    model: Any,
    *,
    kind: Kind = Kind.F32,
    facts: Mapping[str, Any] | None = None,
    edit: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Write a model, its matrices as `kind`, and give the model the values that the file then stands for.

    facts: more of them, or others; None takes one away. edit: changes the tensors, (values, kind) by name,
    on their way to the file.
    """
    architecture = CASES[case][0]
    draw = np.random.default_rng(0)
    kinds = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.get_tensor_name_map(kinds[architecture], 8)
    heads = {"q_proj": model.config.num_attention_heads}
    heads["k_proj"] = getattr(model.config, "num_key_value_heads", None) or heads["q_proj"]
    tensors: dict[str, Any] = {}
    for name, weight in model.named_parameters():
        turned = architecture == "gpt2" and "c_" in name
        values = (weight.transpose(0, -1) if turned else weight).detach().numpy().copy()
        wanted = kind if values.ndim > 1 else Kind.F32
        stored = coded(values, wanted, draw)
        known = torch.from_numpy(np.array(gguf.dequantize(stored, wanted)))
        weight.data.copy_(known.transpose(0, -1) if turned else known)
        part = name.split(".")[-2]
        if architecture == "llama" and part in heads:  # rows change places, whose bytes belong together
            stored = neighbours(stored, heads[part])
        tensors[table.get_name(name, try_suffixes=(".weight", ".bias"))] = (stored, wanted)
    rope = model.config.rope_parameters if architecture != "gpt2" else {}
    if rope.get("rope_type") == "llama3":
        tensors["rope_freqs.weight"] = (quotients(rope, model.config), Kind.F32)
    if edit:
        edit(tensors)
    writer = gguf.GGUFWriter(path, architecture)
    told = {**architecture_facts(architecture, model.config, rope), **(facts or {})}
    for name, value in told.items():
        if value is not None:
            add_fact(writer, name, value)
    for name, (stored, wanted) in tensors.items():
        writer.add_tensor(name, stored, raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def architecture_facts(architecture: str, config: Any, rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of its model."""
    a = architecture
    facts = {
        f"{a}.context_length": config.max_position_embeddings,
        f"{a}.embedding_length": config.hidden_size,
        f"{a}.block_count": config.num_hidden_layers,
        f"{a}.attention.head_count": config.num_attention_heads,
    }
    if a == "gpt2":
        return facts | {
            "gpt2.feed_forward_length": 4 * config.hidden_size,
            "gpt2.attention.layer_norm_epsilon": config.layer_norm_epsilon,
        }
    facts |= {
        f"{a}.feed_forward_length": config.intermediate_size,
        f"{a}.attention.head_count_kv": config.num_key_value_heads,
        f"{a}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{a}.rope.freq_base": rope["rope_theta"],
    }
    if (width := getattr(config, "head_dim", None)) is not None:
        facts |= {f"{a}.attention.{key}_length": width for key in ("key", "value")}
    if rope["rope_type"] == "linear":
        facts |= {f"{a}.rope.scaling.type": "linear", f"{a}.rope.scaling.factor": rope["factor"]}
    return facts


def quotients(rope: Mapping[str, Any], config: Any) -> np.ndarray:
    """Return what Llama 3.1's scaling divides each rate by, as llama.cpp's converter writes it."""
    width = config.hidden_size // config.num_attention_heads
    out = []
    for channel in range(0, width, 2):
        length = 2 * np.pi * rope["rope_theta"] ** (channel / width)
        trained, factor = rope["original_max_position_embeddings"], rope["factor"]
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((trained / length - low) / (high - low), 0, 1)
        out.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(out, np.float32)


def add_fact(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    """Add a fact under the type that converters give it."""
    for kind, method in (
        (bool, writer.add_bool),
        (int, writer.add_uint32),
        (float, writer.add_float32),
        (str, writer.add_string),
        (list, writer.add_array),
    ):
        if isinstance(value, kind):
            method(name, value)
            return
    raise AssertionError(name)
