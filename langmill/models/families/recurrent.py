"""The table of recurrent networks, a layout of langmill's own. [models]

Transformers has no class for it; keys and names are therefore ours. A decoder's layers are `layers` whatever
stands beside it, as they were when decoders were all there was.
"""

from __future__ import annotations

from langmill.models.families.decoders import HARMLESS
from langmill.models.families.heads import RECURRENT_HEADS
from langmill.models.families.table import Family, Row
from langmill.models.recurrent import RecurrentConfig

ALIKE = (
    *("bridge.*", "attention.key.weight", "attention.query.weight"),
    *("attention.energy", "attention.combine.weight"),
)
LAYERS = {
    "encoder.layers.{}.forwards": "encoder.layers.{}.forwards",
    "encoder.layers.{}.backwards": "encoder.layers.{}.backwards",
    "layers.{}": "decoder.layers.{}",
}

RECURRENT = Family(
    name="langmill_recurrent",
    config_class=RecurrentConfig,
    architecture="LangmillRecurrent",
    bare="LangmillRecurrentModel",
    fields={
        "vocabulary": "vocab_size",
        "kind": "cell",
        "role": "role",
        "attention": "attention",
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "hidden": "inner_size",
        "dropout": "dropout",
        "embed_dropout": "embedding_dropout",
        "weight_drop": "weight_dropout",
        "tie_output": "tie_word_embeddings",
        "max_positions": "max_position_embeddings",
    },
    defaults={
        "role": "decoder",
        "attention": "luong",
        "inner_size": None,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "weight_dropout": 0.0,
        "tie_word_embeddings": True,
        "max_position_embeddings": 512,
    },
    constants={},
    must={},
    template={},
    harmless=HARMLESS,
    prefix="",
    rows=(
        Row("embed.weight", ("embed.weight",)),
        *(
            Row(f"{theirs}.{name}", (f"{ours}.{name}",))
            for theirs, ours in LAYERS.items()
            for name in ("weight_input", "weight_hidden", "bias_input", "bias_hidden")
        ),
        *(Row(name, (name,)) for name in ALIKE),
        Row("output.weight", ("output.weight",)),
        Row("output.bias", ("output.bias",)),
    ),
    heads=RECURRENT_HEADS,
)
