"""The tables of the decoder families: GPT-2, Llama, Mistral, Qwen2 and Qwen3. [models]

Keys and defaults follow the families' configuration classes in Transformers 5; weight names follow
their files on the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langmill.core.errors import CheckpointError
from langmill.models.config import RotaryScaling, TransformerConfig
from langmill.models.families.heads import decoder_heads
from langmill.models.families.table import SPLIT, TRANSPOSE, Family, Row, Tree, copies


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


# ------------------------------------------------------------------------------------------------
# Keys that every family shares

# Settings of training, of generation and of the library that wrote the file; those of heads are `heads.KEYS`.
HARMLESS = words(
    """
    _from_model_config _name_or_path architectures attn_implementation bad_words_ids
    begin_suppress_tokens bos_token_id chunk_size_feed_forward decoder_start_token_id diversity_penalty
    do_sample dtype early_stopping encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty
    finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing
    initializer_range is_decoder keys_to_ignore_at_inference length_penalty max_length
    min_length model_type name_or_path no_repeat_ngram_size num_beam_groups num_beams
    num_return_sequences output_attentions output_hidden_states output_scores pad_token_id prefix
    pretraining_tp remove_invalid_values repetition_penalty return_dict
    return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature
    tf_legacy_loss tokenizer_class top_k top_p torch_dtype torchscript transformers_version
    typical_p unk_token_id use_bfloat16 use_cache
    """
)

MUST: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "is_causal": (True, None),
    "is_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "tie_encoder_decoder": (False,),
}

# ------------------------------------------------------------------------------------------------
# GPT-2


def read_gpt2(theirs: Mapping[str, Any], ours: Tree, notes: list[str]) -> None:
    """Complete the width of the feed-forward layers, four times the model's by default."""
    decoder = ours["decoder"]
    decoder.setdefault("hidden", 4 * decoder["width"])
    rates = {theirs.get(key, 0.1) for key in ("resid_pdrop", "embd_pdrop")}
    if len(rates) > 1:
        notes.append(f"resid_pdrop and embd_pdrop differ; training uses {decoder['dropout']} for both")


def write_gpt2(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Give their three dropout rates the one that we have."""
    theirs["embd_pdrop"] = theirs["attn_pdrop"] = theirs["resid_pdrop"]


GPT2 = Family(
    name="gpt2",
    architecture="GPT2LMHeadModel",
    bare="GPT2Model",
    fields={
        "vocabulary": "vocab_size",
        "tie_output": "tie_word_embeddings",
        "decoder.layers": "n_layer",
        "decoder.width": "n_embd",
        "decoder.heads": "n_head",
        "decoder.hidden": "n_inner",
        "decoder.max_positions": "n_positions",
        "decoder.norm_eps": "layer_norm_epsilon",
        "decoder.activation": "activation_function",
        "decoder.dropout": "resid_pdrop",
    },
    defaults={
        "tie_word_embeddings": True,
        "n_inner": None,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
    },
    constants={"decoder.causal": True, "decoder.norm": "layer", "decoder.positions": "learned"},
    must={
        **MUST,
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "reorder_and_upcast_attn": (False,),
    },
    template={
        "initializer_range": 0.02,
        "reorder_and_upcast_attn": False,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "use_cache": True,
    },
    harmless=HARMLESS
    | words(
        "attn_pdrop embd_pdrop n_ctx summary_activation summary_first_dropout summary_proj_to_labels "
        "summary_type summary_use_proj"
    ),
    prefix="transformer.",
    rows=(
        Row("transformer.wte.weight", ("decoder.embed.weight",)),
        Row("transformer.wpe.weight", ("decoder.positions.weight",)),
        *copies(
            "transformer.h.{}",
            "decoder.blocks.{}",
            {"ln_1.*": "attention_norm.*", "ln_2.*": "feed_forward_norm.*"},
        ),
        Row(
            "transformer.h.{}.attn.c_attn.*",
            (
                "decoder.blocks.{}.attention.query.*",
                "decoder.blocks.{}.attention.key.*",
                "decoder.blocks.{}.attention.value.*",
            ),
            SPLIT,
        ),
        Row("transformer.h.{}.attn.c_proj.*", ("decoder.blocks.{}.attention.output.*",), TRANSPOSE),
        Row("transformer.h.{}.mlp.c_fc.*", ("decoder.blocks.{}.feed_forward.up.*",), TRANSPOSE),
        Row("transformer.h.{}.mlp.c_proj.*", ("decoder.blocks.{}.feed_forward.down.*",), TRANSPOSE),
        Row("transformer.ln_f.*", ("decoder.final_norm.*",)),
        Row("lm_head.weight", ("output.weight",)),
    ),
    heads=decoder_heads("GPT2", tokens="classifier"),
    ignore=("transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"),  # causal masks
    read_fix=read_gpt2,
    write_fix=write_gpt2,
)

# ------------------------------------------------------------------------------------------------
# Llama and what descends from it

ROPE_KEYS = (
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "partial_rotary_factor",
    "original_max_position_embeddings",
)
ROPE_TYPES = ("default", "linear", "llama3")


def read_rope(theirs: Mapping[str, Any], ours: Tree, notes: list[str]) -> None:
    """Complete the rotary base and scaling, from the new spelling or the old.

    New: rope_parameters {rope_theta, rope_type, …}. Old: rope_theta, and rope_scaling {type, …}.
    """
    rope = theirs.get("rope_scaling") or theirs.get("rope_parameters") or {}
    if not isinstance(rope, Mapping) or any(isinstance(value, Mapping) for value in rope.values()):
        raise CheckpointError(f"rope_parameters {rope} is not supported; it must be one set for all layers")
    if rope.get("partial_rotary_factor", theirs.get("partial_rotary_factor")) not in (None, 1):
        raise CheckpointError("partial_rotary_factor other than 1 is not supported")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise CheckpointError(f"rope_type {kind!r} is not supported; known: {', '.join(ROPE_TYPES)}")
    side = ours["decoder"] if "decoder" in ours else ours["encoder"]
    side["rotary_base"] = float(rope.get("rope_theta", theirs.get("rope_theta", 10_000.0)))
    if kind == "default":
        return
    needed = ("factor",) if kind == "linear" else ("factor", "low_freq_factor", "high_freq_factor")
    if absent := [key for key in needed if not isinstance(rope.get(key), int | float)]:
        raise CheckpointError(f"rope_type {kind!r} needs a number for {', '.join(absent)}")
    if kind == "linear":
        side["rotary_scaling"] = RotaryScaling(kind="linear", factor=float(rope["factor"]))
        return
    if not rope["low_freq_factor"] < rope["high_freq_factor"]:
        raise CheckpointError("rope_type 'llama3' needs low_freq_factor below high_freq_factor")
    trained = theirs.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    side["rotary_scaling"] = RotaryScaling(
        kind="llama3",
        factor=float(rope["factor"]),
        low_frequency=float(rope["low_freq_factor"]),
        high_frequency=float(rope["high_freq_factor"]),
        trained_positions=trained or side["max_positions"],
    )


def write_rope(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Write the rotary base and scaling in the new spelling, and take the old one out."""
    for key in ROPE_KEYS:
        theirs.pop(key, None)
    stack = ours.output_stack
    scaling = stack.rotary_scaling
    rope: dict[str, Any] = {
        "rope_theta": stack.rotary_base,
        "rope_type": scaling.kind if scaling else "default",
    }
    if scaling is not None:
        rope["factor"] = scaling.factor
        if scaling.kind == "llama3":
            rope["low_freq_factor"] = scaling.low_frequency
            rope["high_freq_factor"] = scaling.high_frequency
            rope["original_max_position_embeddings"] = scaling.trained_positions
    theirs["rope_parameters"] = rope


LLAMA = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    bare="LlamaModel",
    fields={
        "vocabulary": "vocab_size",
        "tie_output": "tie_word_embeddings",
        "decoder.layers": "num_hidden_layers",
        "decoder.width": "hidden_size",
        "decoder.heads": "num_attention_heads",
        "decoder.kv_heads": "num_key_value_heads",
        "decoder.head_width": "head_dim",
        "decoder.hidden": "intermediate_size",
        "decoder.max_positions": "max_position_embeddings",
        "decoder.norm_eps": "rms_norm_eps",
        "decoder.activation": "hidden_act",
        "decoder.qkv_bias": "attention_bias",
        "decoder.output_bias": "attention_bias",
        "decoder.hidden_bias": "mlp_bias",
        # Ours is wider: it drops of the residual stream too. Both act in training only.
        "decoder.dropout": "attention_dropout",
    },
    defaults={
        "tie_word_embeddings": False,
        "num_key_value_heads": None,
        "head_dim": None,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
    },
    constants={
        "decoder.causal": True,
        "decoder.norm": "rms",
        "decoder.positions": "rotary",
        "decoder.gated": True,
    },
    must=MUST,
    template={"initializer_range": 0.02, "use_cache": True},
    harmless=HARMLESS | frozenset(ROPE_KEYS),
    prefix="model.",
    rows=(
        Row("model.embed_tokens.weight", ("decoder.embed.weight",)),
        *copies(
            "model.layers.{}",
            "decoder.blocks.{}",
            {
                "input_layernorm.*": "attention_norm.*",
                "self_attn.q_proj.*": "attention.query.*",
                "self_attn.k_proj.*": "attention.key.*",
                "self_attn.v_proj.*": "attention.value.*",
                "self_attn.o_proj.*": "attention.output.*",
                "post_attention_layernorm.*": "feed_forward_norm.*",
                "mlp.gate_proj.*": "feed_forward.gate.*",
                "mlp.up_proj.*": "feed_forward.up.*",
                "mlp.down_proj.*": "feed_forward.down.*",
            },
        ),
        Row("model.norm.*", ("decoder.final_norm.*",)),
        Row("lm_head.weight", ("output.weight",)),
    ),
    heads=decoder_heads("Llama", span_prefix="transformer."),
    ignore=("model.layers.{}.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"),
    read_fix=read_rope,
    write_fix=write_rope,
)


def cap_positions(window: int | None, ours: Tree, notes: list[str]) -> None:
    """Keep within a sliding window that some layers have, where attention is the same with and without it."""
    positions = ours["decoder"]["max_positions"]
    if window is not None and window < positions:
        ours["decoder"]["max_positions"] = window
        notes.append(
            f"sliding_window {window}, which not all layers have, is not supported beyond its first {window} positions; "
            f"the context is limited to them, instead of {positions}"
        )


def set_window(window: int | None, ours: Tree) -> None:
    """Note a window that all layers have; one as long as the positions is none."""
    if window is not None and window < ours["decoder"]["max_positions"]:
        ours["decoder"]["window"] = window


def read_mistral(theirs: Mapping[str, Any], ours: Tree, notes: list[str]) -> None:
    """Complete the rotary settings and the sliding window, which every layer has."""
    read_rope(theirs, ours, notes)
    set_window(theirs.get("sliding_window", 4096), ours)


def write_mistral(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Write the rotary settings and the window."""
    write_rope(ours, theirs)
    theirs["sliding_window"] = ours.output_stack.window or None


def read_qwen(theirs: Mapping[str, Any], ours: Tree, notes: list[str]) -> None:
    """Complete the rotary settings and the sliding window; where only some layers have it, keep within it."""
    read_rope(theirs, ours, notes)
    layers = ours["decoder"]["layers"]
    types = theirs.get("layer_types")
    if strange := set(types or ()) - {"full_attention", "sliding_attention"}:
        raise CheckpointError(
            f"layer_types {sorted(strange)} is not supported; known: full_attention, sliding_attention"
        )
    first = theirs.get("max_window_layers", 28)
    sliding = types.count("sliding_attention") if types else max(0, layers - first)
    if not theirs.get("use_sliding_window", False) or not sliding:
        return
    window = theirs.get("sliding_window", 4096)
    if sliding == layers:
        set_window(window, ours)
    else:
        cap_positions(window, ours, notes)


def write_qwen(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Write the rotary settings, and one kind of attention for every layer of a new model."""
    write_rope(ours, theirs)
    assert ours.decoder is not None
    layers, window = ours.decoder.layers, ours.decoder.window
    if window:
        theirs |= {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 0}
        theirs["layer_types"] = ["sliding_attention"] * layers
    elif len(theirs.get("layer_types") or ()) != ours.decoder.layers:
        theirs.pop("layer_types", None)
        if not theirs.get("use_sliding_window"):
            theirs["layer_types"] = ["full_attention"] * ours.decoder.layers
            theirs["max_window_layers"] = ours.decoder.layers


def without(table: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return `table` less some names."""
    return {name: value for name, value in table.items() if name not in names}


MISTRAL = replace(
    LLAMA,
    name="mistral",
    architecture="MistralForCausalLM",
    bare="MistralModel",
    heads=decoder_heads("Mistral"),
    fields=without(LLAMA.fields, "decoder.qkv_bias", "decoder.output_bias", "decoder.hidden_bias"),
    defaults={**LLAMA.defaults, "num_key_value_heads": 8, "max_position_embeddings": 131_072},
    constants={
        **LLAMA.constants,
        "decoder.qkv_bias": False,
        "decoder.output_bias": False,
        "decoder.hidden_bias": False,
    },
    template={**LLAMA.template, "sliding_window": None},
    harmless=LLAMA.harmless | {"sliding_window"},
    read_fix=read_mistral,
    write_fix=write_mistral,
)

QWEN2 = replace(
    MISTRAL,
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    bare="Qwen2Model",
    heads=decoder_heads("Qwen2", span_prefix="transformer."),
    defaults={**LLAMA.defaults, "num_key_value_heads": 32, "max_position_embeddings": 32_768},
    constants={**MISTRAL.constants, "decoder.qkv_bias": True},
    template={**LLAMA.template, "sliding_window": None, "use_sliding_window": False},
    harmless=MISTRAL.harmless | {"layer_types", "max_window_layers", "use_sliding_window"},
    read_fix=read_qwen,
    write_fix=write_qwen,
)

QWEN3 = replace(
    QWEN2,
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    bare="Qwen3Model",
    heads=decoder_heads("Qwen3", span_prefix="transformer."),
    fields=without(LLAMA.fields, "decoder.hidden_bias"),
    defaults={**QWEN2.defaults, "head_dim": 128},
    constants={**LLAMA.constants, "decoder.qk_norm": True, "decoder.hidden_bias": False},
    rows=LLAMA.rows
    + copies(
        "model.layers.{}.self_attn",
        "decoder.blocks.{}.attention",
        {"q_norm.*": "query_norm.*", "k_norm.*": "key_norm.*"},
    ),
)

DECODERS = (QWEN3, LLAMA, QWEN2, MISTRAL, GPT2)
