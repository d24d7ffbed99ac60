"""A GGUF file as if it were a Hugging Face folder: its config.json, and its tensors under their names. [checkpoint]

What llama.cpp calls a fact or a tensor is here a key or a weight of the family that the model was
converted from; the tables of `models/families` do the rest. Quantised tensors are read as the float32
values that they stand for.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langmill.core.errors import CheckpointError, MissingDependencyError, did_you_mean
from langmill.core.gguf import GgufHeader, PlacedTensor, read_header
from langmill.models.config import RotaryScaling, StackConfig
from langmill.models.families.table import fill, pattern
from langmill.models.positions import rotary_rates

Change = Callable[[Tensor, int], Tensor]
"""(a tensor as stored, heads) to the tensor as Hugging Face has it."""


def same(tensor: Tensor, heads: int) -> Tensor:
    """Return the tensor."""
    return tensor


def turned(tensor: Tensor, heads: int) -> Tensor:
    """Exchange rows and columns, which GPT-2's own files have the other way round."""
    return tensor.transpose(0, -1)


def halves(tensor: Tensor, heads: int) -> Tensor:
    """Put a head's rows back from rotary pairs side by side to first halves before second halves.

    llama.cpp rotates neighbours (Su et al. 2021), Hugging Face channel i with i + C / 2.
    """
    return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(tensor.shape)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the facts and tensors of one kind of GGUF file mean."""

    family: str
    facts: Mapping[str, str]
    """Fact, after the architecture's name, to key of config.json."""
    optional: frozenset[str]
    """Facts that may be left out, with the family's default."""
    names: Mapping[str, str]
    """Tensor to weight; `{}` stands for a layer, `*` for weight or bias."""
    changes: Mapping[str, tuple[Change, str]] = field(default_factory=dict)
    """Tensors that are laid out differently: how to change them, and the fact that counts their heads."""
    biases: Mapping[str, str] = field(default_factory=dict)
    """Keys of config.json that are true where a tensor is there."""
    rotary: bool = True


LLAMA = Architecture(
    family="llama",
    facts={
        "context_length": "max_position_embeddings",
        "embedding_length": "hidden_size",
        "block_count": "num_hidden_layers",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.head_count_kv": "num_key_value_heads",
        "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    },
    optional=frozenset({"attention.head_count_kv"}),
    names={
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.{}.attn_norm.weight": "model.layers.{}.input_layernorm.weight",
        "blk.{}.attn_q.*": "model.layers.{}.self_attn.q_proj.*",
        "blk.{}.attn_k.*": "model.layers.{}.self_attn.k_proj.*",
        "blk.{}.attn_v.*": "model.layers.{}.self_attn.v_proj.*",
        "blk.{}.attn_output.*": "model.layers.{}.self_attn.o_proj.*",
        "blk.{}.attn_q_norm.weight": "model.layers.{}.self_attn.q_norm.weight",
        "blk.{}.attn_k_norm.weight": "model.layers.{}.self_attn.k_norm.weight",
        "blk.{}.ffn_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
        "blk.{}.ffn_gate.*": "model.layers.{}.mlp.gate_proj.*",
        "blk.{}.ffn_up.*": "model.layers.{}.mlp.up_proj.*",
        "blk.{}.ffn_down.*": "model.layers.{}.mlp.down_proj.*",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    },
    changes={
        "blk.{}.attn_q.*": (halves, "attention.head_count"),
        "blk.{}.attn_k.*": (halves, "attention.head_count_kv"),
    },
    biases={"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"},
)
GPT2 = Architecture(
    family="gpt2",
    facts={
        "context_length": "n_positions",
        "embedding_length": "n_embd",
        "block_count": "n_layer",
        "feed_forward_length": "n_inner",
        "attention.head_count": "n_head",
        "attention.layer_norm_epsilon": "layer_norm_epsilon",
    },
    optional=frozenset({"feed_forward_length"}),
    names={
        "token_embd.weight": "transformer.wte.weight",
        "position_embd.weight": "transformer.wpe.weight",
        "blk.{}.attn_norm.*": "transformer.h.{}.ln_1.*",
        "blk.{}.attn_qkv.*": "transformer.h.{}.attn.c_attn.*",
        "blk.{}.attn_output.*": "transformer.h.{}.attn.c_proj.*",
        "blk.{}.ffn_norm.*": "transformer.h.{}.ln_2.*",
        "blk.{}.ffn_up.*": "transformer.h.{}.mlp.c_fc.*",
        "blk.{}.ffn_down.*": "transformer.h.{}.mlp.c_proj.*",
        "output_norm.*": "transformer.ln_f.*",
        "output.weight": "lm_head.weight",
    },
    changes=dict.fromkeys(
        ("blk.{}.attn_qkv.*", "blk.{}.attn_output.*", "blk.{}.ffn_up.*", "blk.{}.ffn_down.*"),
        (turned, "attention.head_count"),
    ),
    rotary=False,
)
QWEN2 = Architecture(family="qwen2", facts=LLAMA.facts, optional=LLAMA.optional, names=LLAMA.names)
QWEN3 = Architecture(
    family="qwen3",
    facts=LLAMA.facts,
    optional=LLAMA.optional,
    names=LLAMA.names,
    biases={"attention_bias": "blk.0.attn_q.bias"},
)
ARCHITECTURES = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "gpt2": GPT2}
"""By general.architecture. Mistral's models are written as llama."""

ONLY: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attn_logit_softcapping": (0.0,),
    "expert_count": (0,),
    "final_logit_softcapping": (0.0,),
    "logit_scale": (0.0, 1.0),
    "rope.scaling.attn_factor": (1.0,),
}
"""Facts that would change the computation, with the values under which it is ours."""
SAMPLING = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
"""What a file recommends, after `general.sampling.`, to key of generation_config.json."""
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Facts, after `tokenizer.ggml.`, that name tokens which end an answer."""
ROPE_FACTORS = "rope_freqs.weight"
ROPE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PackedTensor:
    """A tensor in a GGUF file, not read yet."""

    file: Path
    place: PlacedTensor
    kind: Any
    """gguf's GGMLQuantizationType, or a number that it does not know."""
    row_bytes: int
    change: Change = same
    heads: int = 1

    @property
    def dtype(self) -> str:
        """The format's name for how the values are coded: F16, Q4_K …"""
        return getattr(self.kind, "name", f"type {self.kind}")

    @property
    def shape(self) -> tuple[int, ...]:
        """As Hugging Face has it."""
        return self.place.shape[::-1] if self.change is turned else self.place.shape

    @property
    def readable(self) -> bool:
        """Whether gguf turns such values into numbers."""
        if not self.row_bytes:
            return False
        try:
            gguf_package().dequantize(np.zeros((1, self.row_bytes), np.uint8), self.kind)
        except NotImplementedError:
            return False
        return True

    def read(self) -> Tensor:
        """Return the values, in float32."""
        size = (math.prod(self.place.shape[:-1]), self.row_bytes)
        # Mode c: pages of the file, which a change would copy; PyTorch wants memory that can be written.
        coded = np.memmap(self.file, np.uint8, "c", self.place.offset, size)
        values = gguf_package().dequantize(coded, self.kind).reshape(self.place.shape)
        return self.change(torch.from_numpy(np.ascontiguousarray(values, np.float32)), self.heads)


@dataclass(frozen=True)
class GgufModel:
    """A GGUF file as a Hugging Face folder would have it."""

    header: GgufHeader
    config: dict[str, Any]
    """config.json"""
    generation: dict[str, Any]
    """generation_config.json"""
    tensors: dict[str, PackedTensor]


def gguf_package() -> Any:
    """Return the gguf package, which knows how quantised values are coded."""
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise MissingDependencyError(
            "reading GGUF files needs the gguf package; install it with `pip install 'langmill[demo]'`"
        ) from error


def open_gguf(path: Path) -> GgufModel:
    """Read what a GGUF file says, leaving the values of its tensors for later.

    Raises CheckpointError for an architecture or a setting that langmill does not have, and for a file
    that is damaged or in parts; MissingDependencyError without the gguf package.
    """
    gguf_package()
    header = read_header(path)
    if header.facts.get("split.count", 0) > 1:
        raise CheckpointError(
            f"{path}: one of {header.facts['split.count']} parts; join them with `llama-gguf-split --merge`"
        )
    name = header.facts.get("general.architecture", "of no name")
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f"{path}: architecture {name!r} is not supported; known: {', '.join(ARCHITECTURES)}"
            f"{did_you_mean(name, ARCHITECTURES)}"
        )
    try:
        config = config_of(header, name)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return GgufModel(header, config, generation_of(header), packed_tensors(header, name))


def config_of(header: GgufHeader, name: str) -> dict[str, Any]:
    """Return the config.json that a file's facts amount to."""
    architecture, tensors = ARCHITECTURES[name], header.tensors
    prefix = f"{name}."
    facts = {key.removeprefix(prefix): v for key, v in header.facts.items() if key.startswith(prefix)}
    for key, allowed in ONLY.items():
        if facts.get(key, allowed[0]) not in allowed:
            raise CheckpointError(f"{prefix}{key} {facts[key]!r} is not supported; it must be {allowed[0]!r}")
    needed = [prefix + key for key in architecture.facts if key not in {*facts, *architecture.optional}]
    needed += [] if "token_embd.weight" in tensors else ["token_embd.weight"]
    if needed:
        raise CheckpointError(f"{', '.join(needed)} missing; the file is not whole")
    for key in architecture.facts:
        if key in facts and not (isinstance(facts[key], int | float) and facts[key] > 0):
            raise CheckpointError(
                f"{prefix}{key} {facts[key]!r} is not supported; it must be one number for all layers"
            )
    theirs = {theirs: facts[key] for key, theirs in architecture.facts.items() if key in facts}
    theirs |= {"model_type": architecture.family, "vocab_size": tensors["token_embd.weight"].shape[0]}
    theirs["tie_word_embeddings"] = "output.weight" not in tensors
    theirs |= {key: tensor in tensors for key, tensor in architecture.biases.items()}
    for role, key in (("bos", "bos_token_id"), ("eos", "eos_token_id"), ("pad", "padding_token_id")):
        if (number := header.facts.get(f"tokenizer.ggml.{key}")) is not None:
            theirs[f"{role}_token_id"] = number
    return theirs | rotary_keys(header, facts) if architecture.rotary else theirs


def rotary_keys(header: GgufHeader, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that say how wide a head is and how it is rotated."""
    heads = facts["attention.head_count"]
    width = facts.get("attention.key_length") or facts["embedding_length"] // heads
    for key in ("attention.value_length", "rope.dimension_count"):
        if facts.get(key, width) != width:
            raise CheckpointError(f"{key} {facts[key]!r} is not supported; a head has {width} channels")
    kind = facts.get("rope.scaling.type", "linear")
    factor = facts.get("rope.scaling.factor") or facts.get("rope.scale_linear") or 1.0
    plain = kind == "none" or (kind == "linear" and factor == 1)
    rope = {"rope_theta": facts.get("rope.freq_base", 10_000.0), "rope_type": "default" if plain else kind}
    rope |= {} if plain else {"factor": factor}
    if ROPE_FACTORS in header.tensors:
        rope |= llama3_keys(header, width, rope["rope_theta"])
    counted = facts.get("attention.head_count_kv", heads)
    return {"head_dim": width, "num_key_value_heads": counted, "rope_parameters": rope}


def llama3_keys(header: GgufHeader, width: int, base: float) -> dict[str, Any]:
    """Return the scaling of Llama 3.1 whose quotients of rates the file holds, one for each rotary pair.

    The file says only the quotients. With the release's low and high frequency, 1 and 4, any blended rate
    gives the length that the model was first trained at: its keep = (turns - 1) / 3, turns = length · rate / 2π.
    """
    quotients = packed(header, ROPE_FACTORS).read().double()
    plain = StackConfig(
        layers=1, width=width, heads=1, hidden=1, causal=True, positions="rotary", rotary_base=base
    )
    rates = rotary_rates(plain).double()
    factor = round(quotients.max().item(), 3)
    keep = (1 / quotients - 1 / factor) / (1 - 1 / factor) if factor > 1 else quotients.new_ones(1)
    blended = (keep > 0.01) & (keep < 0.99)
    if len(quotients) == len(rates) and blended.any():
        lengths = (3 * keep[blended] + 1) * 2 * torch.pi / rates[blended]
        scaling = RotaryScaling(
            kind="llama3", factor=factor, trained_positions=round(lengths.median().item())
        )
        scaled = rotary_rates(replace(plain, rotary_scaling=scaling)).double()
        if torch.allclose(rates / quotients, scaled, rtol=ROPE_TOLERANCE, atol=0):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": scaling.low_frequency,
                "high_freq_factor": scaling.high_frequency,
                "original_max_position_embeddings": scaling.trained_positions,
            }
    raise CheckpointError(f"{ROPE_FACTORS} is not a scaling that is supported; known: Llama 3.1's")


def generation_of(header: GgufHeader) -> dict[str, Any]:
    """Return the generation_config.json that a file's facts amount to."""
    facts = header.facts
    ends = list(
        dict.fromkeys(facts[f"tokenizer.ggml.{key}"] for key in ENDS if f"tokenizer.ggml.{key}" in facts)
    )
    wanted = {
        key: facts[f"general.sampling.{name}"]
        for name, key in SAMPLING.items()
        if f"general.sampling.{name}" in facts
    }
    found: dict[str, Any] = {"do_sample": True, **wanted} if wanted else {}
    return found | ({"eos_token_id": ends if len(ends) > 1 else ends[0]} if ends else {})


def packed_tensors(header: GgufHeader, name: str) -> dict[str, PackedTensor]:
    """Return every tensor under Hugging Face's name; one that has none keeps its own."""
    architecture = ARCHITECTURES[name]
    rows = [
        (pattern(ours), theirs, *architecture.changes.get(ours, (same, "attention.head_count")))
        for ours, theirs in architecture.names.items()
    ]
    heads = header.facts[f"{name}.attention.head_count"]
    found = {}
    for each in header.tensors:
        if each == ROPE_FACTORS and architecture.rotary:
            continue
        target, count = each, heads
        change: Change = same
        for row, theirs, how, fact in rows:
            if match := row.fullmatch(each):
                target, change = fill(theirs, match.groups()), how
                count = header.facts.get(f"{name}.{fact}", heads)
        found[target] = packed(header, each, change, count)
    return found


def packed(header: GgufHeader, name: str, change: Change = same, heads: int = 1) -> PackedTensor:
    """Return a tensor to be read later, or raise CheckpointError where the file ends before it does."""
    gguf = gguf_package()
    place = header.tensors[name]
    try:
        kind = gguf.GGMLQuantizationType(place.kind)
    except ValueError:
        return PackedTensor(header.path, place, place.kind, 0, change, heads)
    values, size = gguf.GGML_QUANT_SIZES[kind]
    width = place.shape[-1] if place.shape else 1
    row_bytes = width // values * size
    end = place.offset + math.prod(place.shape[:-1]) * row_bytes
    if width % values or end > header.size_bytes:
        raise CheckpointError(f"{header.path}: damaged or cut short ({name}); copy or download it again")
    return PackedTensor(header.path, place, kind, row_bytes, change, heads)
