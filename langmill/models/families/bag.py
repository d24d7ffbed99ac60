"""The table of linear classifiers of n-grams, a layout of langmill's own. [models]

`model.safetensors` holds the hash of every n-gram of words (`keys.0`) and of characters (`keys.1`), both rising; for
each, in that order, its scale and its weight for each label; the biases; and of each token id the one that stands for it
and what it is (see `models.bag_features.Alphabet`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langmill.core.errors import CheckpointError
from langmill.models.bag import BagConfig
from langmill.models.families.decoders import HARMLESS
from langmill.models.families.heads import PROBLEMS, head_keys, read_labels
from langmill.models.families.table import Family, HeadLayout, Row, Tree
from langmill.models.heads import HeadConfig

SIZES = "features"
LAYOUT = HeadLayout(kind="text", architecture="LangmillBag", rows=())


def read_head_and_sizes(theirs: Mapping[str, Any], tree: Tree, notes: list[str]) -> None:
    """Read the labels, and how many n-grams there are."""
    sizes = theirs.get(SIZES)
    if not isinstance(sizes, list) or [type(size) for size in sizes] != [int, int]:
        raise CheckpointError(
            f"{SIZES} {sizes!r} is not allowed; it must be two counts, of n-grams of words and of characters"
        )
    problem = theirs.get("problem_type")
    if problem not in PROBLEMS:
        raise CheckpointError(f"problem_type {problem!r} is not supported; known: {', '.join(PROBLEMS)}")
    tree[SIZES] = tuple(sizes)
    tree["head"] = HeadConfig(kind="text", labels=read_labels(theirs, notes), multi_label=PROBLEMS[problem])


def write_head_and_sizes(config: BagConfig, theirs: dict[str, Any]) -> None:
    """Write them."""
    theirs |= {**head_keys(LAYOUT, config.head), SIZES: list(config.features)}


BAG = Family(
    name="langmill_bag",
    config_class=BagConfig,
    architecture=LAYOUT.architecture,
    fields={
        "vocabulary": "vocab_size",
        "recipe": "recipe",
        "words": "words",
        "pieces": "pieces",
        "weighting": "weighting",
    },
    defaults={},
    constants={},
    must={},
    template={},
    harmless=HARMLESS | {SIZES},
    prefix="",
    rows=(
        *(Row(name, (name,)) for name in ("weight", "bias", "scale")),
        Row("keys.{}", ("keys.{}",)),
        *(Row(name, (name,)) for name in ("folded", "roles")),
    ),
    read_fix=read_head_and_sizes,
    write_fix=write_head_and_sizes,
)
