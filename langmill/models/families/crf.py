"""The table of taggers of n-grams, a layout of langmill's own. [models]

`model.safetensors` holds the hash of every feature, rising; for each its weight for each tag; the transitions; and of
each token id the one that stands for it and what it is (see `models.crf_features.Letters`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langmill.core.errors import CheckpointError
from langmill.models.crf import CrfConfig
from langmill.models.families.decoders import HARMLESS
from langmill.models.families.heads import head_keys, read_labels
from langmill.models.families.table import Family, HeadLayout, Row, Tree
from langmill.models.heads import HeadConfig

TEMPLATES = "templates"
LAYOUT = HeadLayout(kind="tokens", architecture="LangmillCrf", rows=())


def read_head_and_templates(theirs: Mapping[str, Any], tree: Tree, notes: list[str]) -> None:
    """Read the tags, and what is looked at."""
    templates = theirs.get(TEMPLATES)
    if not isinstance(templates, list) or not all(isinstance(template, str) for template in templates):
        raise CheckpointError(f"{TEMPLATES} {templates!r} is not allowed; it must be a list of texts")
    tree[TEMPLATES] = tuple(templates)
    scheme = str(theirs.get("tag_scheme", ""))
    tree["head"] = HeadConfig(kind="tokens", labels=read_labels(theirs, notes), scheme=scheme, crf=True)


def write_head_and_templates(config: CrfConfig, theirs: dict[str, Any]) -> None:
    """Write them."""
    theirs |= {**head_keys(LAYOUT, config.head), TEMPLATES: list(config.templates)}


CRF = Family(
    name="langmill_crf",
    config_class=CrfConfig,
    architecture=LAYOUT.architecture,
    fields={"vocabulary": "vocab_size", "features": "features"},
    defaults={},
    constants={},
    must={},
    template={},
    harmless=HARMLESS | {TEMPLATES},
    prefix="",
    rows=tuple(Row(name, (name,)) for name in ("weight", "transitions", "keys", "folded", "kinds")),
    read_fix=read_head_and_templates,
    write_fix=write_head_and_templates,
)
