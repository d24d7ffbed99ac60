"""The tables of the encoder-decoder families: T5, BART and Marian. [models]

Keys and defaults follow the families' configuration classes in Transformers 5; weight names follow
their files on the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langmill.core.errors import CheckpointError
from langmill.models.config import TransformerConfig
from langmill.models.families.decoders import HARMLESS, MUST, words
from langmill.models.families.table import FLATTEN, Family, Row, Tree, copies

SIDES = ("encoder", "decoder")


def both(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what holds for each stack under the dotted names of both.

    >>> both({"width": "d_model"})
    {'encoder.width': 'd_model', 'decoder.width': 'd_model'}
    """
    return {f"{side}.{name}": value for name, value in fields.items() for side in SIDES}


ROLES = {"encoder.causal": False, "decoder.causal": True, "decoder.cross": True}
PAIR_MUST = {**MUST, "is_encoder_decoder": (True,), "is_decoder": (False,)}

# ------------------------------------------------------------------------------------------------
# T5

T5_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu"}
T5_GATED = {**T5_ACTIVATIONS, "gelu": "gelu_tanh"}
"""What follows "gated-": its "gelu" is the approximated one."""


def read_t5(theirs: Mapping[str, Any], ours: Tree, notes: list[str]) -> None:
    """Read the feed-forward's form; the decoder's depth by default; and how states are scaled.

    Transformers 5 says `scale_decoder_outputs`; before, the output layer's being tied said it.
    """
    form = theirs.get("feed_forward_proj", "relu")
    gated = isinstance(form, str) and form.startswith("gated-")
    known = T5_GATED if gated else T5_ACTIVATIONS
    activation = form.removeprefix("gated-") if isinstance(form, str) else form
    if activation not in known:
        allowed = ", ".join([*T5_ACTIVATIONS, *(f"gated-{name}" for name in T5_GATED)])
        raise CheckpointError(f"feed_forward_proj {form!r} is not supported; known: {allowed}")
    for side in SIDES:
        ours[side] |= {"gated": gated, "activation": known[activation]}
    ours["decoder"].setdefault("layers", ours["encoder"]["layers"])
    scaled = theirs.get("scale_decoder_outputs", ours["tie_output"])
    ours["output_scale"] = ours["encoder"]["width"] ** -0.5 if scaled else 1.0


def write_t5(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Write the feed-forward's form and how states are scaled."""
    assert ours.decoder is not None
    for derived in ("dense_act_fn", "is_gated_act"):
        theirs.pop(derived, None)
    known = T5_GATED if ours.decoder.gated else T5_ACTIVATIONS
    activation = next((a for a, b in known.items() if b == ours.decoder.activation), "gelu")
    theirs["feed_forward_proj"] = f"gated-{activation}" if ours.decoder.gated else activation
    theirs["scale_decoder_outputs"] = ours.output_scale != 1
    theirs["is_encoder_decoder"] = True


def gated(config: TransformerConfig) -> bool:
    """Whether the feed-forward layers have a gate."""
    return config.output_stack.gated


def ungated(config: TransformerConfig) -> bool:
    """Whether the feed-forward layers have no gate."""
    return not gated(config)


def t5_attention(theirs: str, ours: str) -> dict[str, str]:
    """Return the names of one attention layer's weights."""
    parts = {"q": "query", "k": "key", "v": "value", "o": "output"}
    return {f"{theirs}.{a}.weight": f"{ours}.{b}.weight" for a, b in parts.items()}


def t5_rows(side: str) -> tuple[Row, ...]:
    """Return the rows of one stack; the decoder's feed-forward is its layer 2, after cross-attention."""
    theirs, ours = f"{side}.block.{{}}", f"{side}.blocks.{{}}"
    last = f"layer.{1 if side == 'encoder' else 2}"
    cross = {"layer.1.layer_norm.*": "cross_norm.*", **t5_attention("layer.1.EncDecAttention", "cross")}
    names = {
        "layer.0.layer_norm.*": "attention_norm.*",
        **t5_attention("layer.0.SelfAttention", "attention"),
        **(cross if side == "decoder" else {}),
        f"{last}.layer_norm.*": "feed_forward_norm.*",
        f"{last}.DenseReluDense.wi_0.weight": "feed_forward.gate.weight",
        f"{last}.DenseReluDense.wo.weight": "feed_forward.down.weight",
    }
    up = f"{ours}.feed_forward.up.weight"
    return (
        *copies(theirs, ours, names),
        Row(f"{theirs}.{last}.DenseReluDense.wi.weight", (up,), holds=ungated),
        Row(f"{theirs}.{last}.DenseReluDense.wi_1.weight", (up,), holds=gated),
        Row(
            f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            (f"{side}.relative.table.weight",),
        ),
        Row(f"{side}.final_layer_norm.*", (f"{side}.final_norm.*",)),
    )


T5 = Family(
    name="t5",
    architecture="T5ForConditionalGeneration",
    fields={
        "vocabulary": "vocab_size",
        "tie_output": "tie_word_embeddings",
        "encoder.layers": "num_layers",
        "decoder.layers": "num_decoder_layers",
        **both(
            {
                "width": "d_model",
                "heads": "num_heads",
                "head_width": "d_kv",
                "hidden": "d_ff",
                "max_positions": "n_positions",
                "norm_eps": "layer_norm_epsilon",
                "relative_buckets": "relative_attention_num_buckets",
                "relative_distance": "relative_attention_max_distance",
                "dropout": "dropout_rate",
            }
        ),
    },
    defaults={
        "tie_word_embeddings": True,
        "num_decoder_layers": None,
        "n_positions": 512,
        "layer_norm_epsilon": 1e-6,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.1,
    },
    constants={
        **ROLES,
        **both(
            {
                "norm": "rms",
                "positions": "relative",
                "attention_scale": 1.0,
                "qkv_bias": False,
                "output_bias": False,
                "hidden_bias": False,
            }
        ),
    },
    must=PAIR_MUST,
    template={"initializer_factor": 1.0, "use_cache": True},
    harmless=HARMLESS
    | words(
        "dense_act_fn feed_forward_proj initializer_factor is_gated_act output_past scale_decoder_outputs"
    ),
    prefix="",
    rows=(
        Row("shared.weight", ("decoder.embed.weight",)),
        Row("encoder.embed_tokens.weight", ("encoder.embed.weight",)),
        *t5_rows("encoder"),
        *t5_rows("decoder"),
        Row("lm_head.weight", ("output.weight",)),
    ),
    ignore=(
        "decoder.embed_tokens.weight",
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",  # never had an effect
    ),
    read_fix=read_t5,
    write_fix=write_t5,
)

# ------------------------------------------------------------------------------------------------
# BART and Marian


def read_bart(theirs: Mapping[str, Any], ours: Tree, notes: list[str]) -> None:
    """Read the scale of the embeddings."""
    for side in SIDES:
        ours[side]["embed_scale"] = ours[side]["width"] ** 0.5 if theirs.get("scale_embedding") else 1.0


def write_bart(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Write the scale of the embeddings."""
    theirs["scale_embedding"] = ours.output_stack.embed_scale != 1
    theirs["is_encoder_decoder"] = True


BART_LAYER = {
    "self_attn.q_proj.*": "attention.query.*",
    "self_attn.k_proj.*": "attention.key.*",
    "self_attn.v_proj.*": "attention.value.*",
    "self_attn.out_proj.*": "attention.output.*",
    "self_attn_layer_norm.*": "attention_norm.*",
    "fc1.*": "feed_forward.up.*",
    "fc2.*": "feed_forward.down.*",
    "final_layer_norm.*": "feed_forward_norm.*",
}
BART_CROSS = {
    "encoder_attn.q_proj.*": "cross.query.*",
    "encoder_attn.k_proj.*": "cross.key.*",
    "encoder_attn.v_proj.*": "cross.value.*",
    "encoder_attn.out_proj.*": "cross.output.*",
    "encoder_attn_layer_norm.*": "cross_norm.*",
}

BART = Family(
    name="bart",
    architecture="BartForConditionalGeneration",
    fields={
        "vocabulary": "vocab_size",
        "tie_output": "tie_word_embeddings",
        **{
            f"{side}.{ours}": theirs
            for side in SIDES
            for ours, theirs in {
                "layers": f"{side}_layers",
                "width": "d_model",
                "heads": f"{side}_attention_heads",
                "hidden": f"{side}_ffn_dim",
                "max_positions": "max_position_embeddings",
                "activation": "activation_function",
                "dropout": "dropout",
            }.items()
        },
    },
    defaults={
        "tie_word_embeddings": True,
        "max_position_embeddings": 1024,
        "activation_function": "gelu",
        "dropout": 0.1,
    },
    constants={
        **ROLES,
        "output_bias": True,
        **both(
            {
                "norm": "layer",
                "norm_first": False,
                "input_norm": True,
                "final_norm": False,
                "positions": "learned",
                "position_offset": 2,
            }
        ),
    },
    must={
        **PAIR_MUST,
        "add_bias_logits": (False,),
        "add_final_layer_norm": (False,),
        "normalize_before": (False,),
        "normalize_embedding": (True,),
        "static_position_embeddings": (False,),
        "extra_pos_embeddings": (2,),
    },
    template={"init_std": 0.02, "use_cache": True, "attention_dropout": 0.0, "activation_dropout": 0.0},
    harmless=HARMLESS
    | words(
        "activation_dropout attention_dropout classif_dropout decoder_layerdrop "
        "encoder_layerdrop force_bos_token_to_be_generated gradient_checkpointing init_std num_hidden_layers "
        "output_past scale_embedding"
    ),
    prefix="model.",
    rows=(
        Row("model.shared.weight", ("decoder.embed.weight",)),
        Row("model.encoder.embed_tokens.weight", ("encoder.embed.weight",)),
        Row("model.encoder.embed_positions.weight", ("encoder.positions.weight",)),
        Row("model.decoder.embed_positions.weight", ("decoder.positions.weight",)),
        Row("model.encoder.layernorm_embedding.*", ("encoder.input_norm.*",)),
        Row("model.decoder.layernorm_embedding.*", ("decoder.input_norm.*",)),
        *copies("model.encoder.layers.{}", "encoder.blocks.{}", BART_LAYER),
        *copies("model.decoder.layers.{}", "decoder.blocks.{}", BART_LAYER | BART_CROSS),
        Row("final_logits_bias", ("output.bias",), FLATTEN, zero_if_absent=True),
        Row("lm_head.weight", ("output.weight",)),
    ),
    ignore=("model.decoder.embed_tokens.weight", "model.encoder.version", "model.decoder.version"),
    read_fix=read_bart,
    write_fix=write_bart,
)


def read_marian(theirs: Mapping[str, Any], ours: Tree, notes: list[str]) -> None:
    """Read the scale of the embeddings; see that both sides have one vocabulary."""
    read_bart(theirs, ours, notes)
    size = theirs.get("decoder_vocab_size")
    if size not in (None, ours["vocabulary"]):
        raise CheckpointError(
            f"decoder_vocab_size {size} is not supported; it must be vocab_size, {ours['vocabulary']}"
        )


def write_marian(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Write the scale of the embeddings and the decoder's vocabulary."""
    write_bart(ours, theirs)
    theirs["decoder_vocab_size"] = ours.vocabulary


MARIAN = replace(
    BART,
    name="marian",
    architecture="MarianMTModel",
    constants={
        **BART.constants,
        **both({"input_norm": False, "positions": "sinusoidal", "position_offset": 0}),
    },
    must={
        **{key: value for key, value in BART.must.items() if key != "extra_pos_embeddings"},
        "normalize_embedding": (False,),
        "share_encoder_decoder_embeddings": (True,),
        "static_position_embeddings": (True,),
    },
    template={**BART.template, "share_encoder_decoder_embeddings": True, "static_position_embeddings": True},
    harmless=BART.harmless | words("decoder_vocab_size num_labels"),
    rows=tuple(
        row for row in BART.rows if "embed_positions" not in row.theirs and "layernorm_emb" not in row.theirs
    ),
    ignore=(
        *BART.ignore,
        "model.encoder.embed_positions.weight",
        "model.decoder.embed_positions.weight",
    ),
    read_fix=read_marian,
    write_fix=write_marian,
)

ENCODER_DECODERS = (T5, BART, MARIAN)
