"""The tables of the encoder families: BERT, RoBERTa and EuroBERT. [models]

Keys and defaults follow the families' configuration classes in Transformers 5; weight names follow
their files on the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langmill.models.config import TransformerConfig
from langmill.models.families.decoders import HARMLESS, LLAMA, MUST, read_rope, without, words
from langmill.models.families.heads import EUROBERT_HEADS, bert_heads, layer
from langmill.models.families.table import Family, Row, Tree, copies

# ------------------------------------------------------------------------------------------------
# BERT


def write_dropout(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Give their two dropout rates the one that we have."""
    theirs["attention_probs_dropout_prob"] = theirs["hidden_dropout_prob"]


BERT = Family(
    name="bert",
    architecture="BertForMaskedLM",
    bare="BertModel",
    fields={
        "vocabulary": "vocab_size",
        "tie_output": "tie_word_embeddings",
        "encoder.layers": "num_hidden_layers",
        "encoder.width": "hidden_size",
        "encoder.heads": "num_attention_heads",
        "encoder.hidden": "intermediate_size",
        "encoder.max_positions": "max_position_embeddings",
        "encoder.segments": "type_vocab_size",
        "encoder.norm_eps": "layer_norm_eps",
        "encoder.activation": "hidden_act",
        "encoder.dropout": "hidden_dropout_prob",
    },
    defaults={
        "tie_word_embeddings": True,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
    },
    constants={
        "output_bias": True,
        "output_transform": True,
        "encoder.causal": False,
        "encoder.norm": "layer",
        "encoder.norm_first": False,
        "encoder.input_norm": True,
        "encoder.final_norm": False,
        "encoder.positions": "learned",
    },
    must={**MUST, "is_decoder": (False,), "position_embedding_type": ("absolute",)},
    template={"initializer_range": 0.02, "use_cache": True},
    harmless=HARMLESS | {"attention_probs_dropout_prob"},
    prefix="bert.",
    rows=(
        Row("bert.embeddings.word_embeddings.weight", ("encoder.embed.weight",)),
        Row("bert.embeddings.position_embeddings.weight", ("encoder.positions.weight",)),
        Row("bert.embeddings.token_type_embeddings.weight", ("encoder.segments.weight",)),
        Row("bert.embeddings.LayerNorm.*", ("encoder.input_norm.*",)),
        *copies(
            "bert.encoder.layer.{}",
            "encoder.blocks.{}",
            {
                "attention.self.query.*": "attention.query.*",
                "attention.self.key.*": "attention.key.*",
                "attention.self.value.*": "attention.value.*",
                "attention.output.dense.*": "attention.output.*",
                "attention.output.LayerNorm.*": "attention_norm.*",
                "intermediate.dense.*": "feed_forward.up.*",
                "output.dense.*": "feed_forward.down.*",
                "output.LayerNorm.*": "feed_forward_norm.*",
            },
        ),
        Row("cls.predictions.transform.dense.*", ("transform.*",)),
        Row("cls.predictions.transform.LayerNorm.*", ("transform_norm.*",)),
        Row("cls.predictions.bias", ("output.bias",)),
        Row("cls.predictions.decoder.weight", ("output.weight",)),
    ),
    heads=bert_heads("Bert", layer("bert.pooler.dense", "transform"), layer("classifier")),
    ignore=("bert.embeddings.position_ids", "cls.predictions.decoder.bias"),
    unused=("bert.pooler.dense.*", "cls.seq_relationship.*"),
    write_fix=write_dropout,
)

# ------------------------------------------------------------------------------------------------
# RoBERTa: BERT's computation under other names. The rows of its position table up to the padding
# token's id stand for no position, and max_position_embeddings counts them.


def read_roberta(theirs: Mapping[str, Any], ours: Tree, notes: list[str]) -> None:
    """Tell positions from the rows that stand for none."""
    padding = theirs.get("pad_token_id", 1)
    ours["encoder"]["position_offset"] = offset = (1 if padding is None else padding) + 1
    ours["encoder"]["max_positions"] -= offset


def write_roberta(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Count the rows that stand for no position; the padding token's id says how many they are."""
    write_dropout(ours, theirs)
    assert ours.encoder is not None
    theirs["pad_token_id"] = ours.encoder.position_offset - 1
    theirs["max_position_embeddings"] += ours.encoder.position_offset


def renamed(row: Row) -> Row:
    """Return a row of BERT's table under RoBERTa's names."""
    theirs = row.theirs
    for old, new in (
        ("bert.", "roberta."),
        ("cls.predictions.transform.dense", "lm_head.dense"),
        ("cls.predictions.transform.LayerNorm", "lm_head.layer_norm"),
        ("cls.predictions", "lm_head"),
    ):
        theirs = theirs.replace(old, new)
    return replace(row, theirs=theirs)


ROBERTA = replace(
    BERT,
    name="roberta",
    architecture="RobertaForMaskedLM",
    bare="RobertaModel",
    prefix="roberta.",
    harmless=BERT.harmless | {"pad_token_id"},
    rows=tuple(renamed(row) for row in BERT.rows),
    heads=bert_heads("Roberta", layer("classifier.dense", "transform"), layer("classifier.out_proj")),
    ignore=("roberta.embeddings.position_ids", "lm_head.decoder.bias"),
    unused=("roberta.pooler.dense.*",),
    read_fix=read_roberta,
    write_fix=write_roberta,
)

# ------------------------------------------------------------------------------------------------
# EuroBERT (Boizard et al. 2025, arXiv:2503.05500): Llama's layout, looking both ways


def on_encoder(name: str) -> str:
    """Return the name of the encoder's field or weight for the decoder's.

    >>> on_encoder("decoder.layers")
    'encoder.layers'
    """
    return name.replace("decoder.", "encoder.")


EUROBERT = replace(
    LLAMA,
    name="eurobert",
    architecture="EuroBertForMaskedLM",
    bare="EuroBertModel",
    fields={on_encoder(name): key for name, key in without(LLAMA.fields, "decoder.hidden_bias").items()},
    defaults={**LLAMA.defaults, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5},
    constants={
        **{on_encoder(name): value for name, value in LLAMA.constants.items()},
        "encoder.causal": False,
        "encoder.hidden_bias": False,
    },
    must={**without(MUST, "is_causal"), "mlp_bias": (False,)},
    template={**LLAMA.template, "mlp_bias": False},
    harmless=LLAMA.harmless | words("mask_token_id is_causal clf_pooling hidden_dropout"),
    rows=tuple(replace(row, ours=tuple(on_encoder(each) for each in row.ours)) for row in LLAMA.rows),
    heads=EUROBERT_HEADS,
    read_fix=read_rope,
)

ENCODERS = (EUROBERT, BERT, ROBERTA)
