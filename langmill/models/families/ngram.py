"""The table of n-gram models, a layout of langmill's own. [models]

`model.safetensors` holds the keys and adjusted counts of every order, the lowest first (see
`models.ngram.Level`), and its three discounts; the probabilities follow from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langmill.core.errors import CheckpointError
from langmill.models.families.decoders import HARMLESS
from langmill.models.families.table import Family, Row, Tree
from langmill.models.ngram_decoder import NgramConfig

SIZES = "ngrams"


def read_sizes(theirs: Mapping[str, Any], tree: Tree, notes: list[str]) -> None:
    """Read how many n-grams of each order there are."""
    sizes = theirs.get(SIZES)
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes):
        raise CheckpointError(f"{SIZES} {sizes!r} is not allowed; it must be a list of counts, one an order")
    tree[SIZES] = tuple(sizes)


def write_sizes(config: NgramConfig, theirs: dict[str, Any]) -> None:
    """Write them."""
    theirs[SIZES] = list(config.ngrams)


NGRAM = Family(
    name="langmill_ngram",
    config_class=NgramConfig,
    architecture="LangmillNgram",
    fields={"vocabulary": "vocab_size", "start": "start_token_id"},
    defaults={},
    constants={},
    must={},
    template={},
    harmless=HARMLESS | {SIZES},
    prefix="",
    rows=(
        Row("discounts", ("discounts",)),
        Row("keys.{}", ("keys.{}",)),
        Row("counts.{}", ("counts.{}",)),
    ),
    read_fix=read_sizes,
    write_fix=write_sizes,
)
