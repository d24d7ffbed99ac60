"""config.json to TransformerConfig and back, by a family's table. [models]"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from langmill.core.errors import CheckpointError, ConfigError, did_you_mean
from langmill.models.bag import BagConfig
from langmill.models.config import StackConfig, TransformerConfig
from langmill.models.crf import CrfConfig
from langmill.models.families.bag import BAG
from langmill.models.families.crf import CRF
from langmill.models.families.decoders import DECODERS
from langmill.models.families.encoder_decoders import ENCODER_DECODERS
from langmill.models.families.encoders import ENCODERS
from langmill.models.families.heads import KEYS, find_layout, head_keys, read_head
from langmill.models.families.ngram import NGRAM
from langmill.models.families.recurrent import RECURRENT
from langmill.models.families.table import Body, Config, Family, Tree, head_layout
from langmill.models.heads import HeadConfig, HeadedConfig, without_output
from langmill.models.ngram_decoder import NgramConfig
from langmill.models.recurrent import RecurrentConfig

logger = logging.getLogger("langmill")

# The order in which a family is chosen for a model that several could hold.
FAMILIES: dict[str, Family] = {
    family.name: family for family in (*DECODERS, *ENCODERS, *ENCODER_DECODERS, RECURRENT, NGRAM, BAG, CRF)
}

SIDES = ("encoder", "decoder")
LAYOUT = "5.0.0"
"""The version of Transformers whose spelling of config.json we write."""

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""Their names of activations; on writing, the first that fits."""

HINTS = {
    **get_type_hints(NgramConfig),
    **get_type_hints(BagConfig),
    **get_type_hints(CrfConfig),
    **get_type_hints(RecurrentConfig),
    **get_type_hints(TransformerConfig),
    **{f"{side}.{name}": kind for side in SIDES for name, kind in get_type_hints(StackConfig).items()},
}
NULLABLE = ("kv_heads", "head_width", "hidden")
"""Our fields whose null means "derive it from the others"."""
KINDS = {int: "an integer", float: "a number", bool: "true or false", str: "a name"}


def find_family(theirs: Mapping[str, Any], *, source: str = "config.json") -> Family:
    """Return the family that a config.json names, or raise CheckpointError with those that are known."""
    name = theirs.get("model_type")
    known = ", ".join(sorted(FAMILIES))
    if not isinstance(name, str):
        raise CheckpointError(f"{source}: no model_type; it must be one of {known}")
    if name in FAMILIES:
        return FAMILIES[name]
    raise CheckpointError(
        f"{source}: model_type {name!r} is not supported; known: {known}{did_you_mean(name, FAMILIES)}"
    )


def read_config(family: Family, theirs: Mapping[str, Any], *, source: str = "config.json") -> Config:
    """Return what a config.json of `family` describes.

    Raises CheckpointError for a value that is missing, of the wrong kind, or that would change the
    computation into one that langmill does not do. Logs a warning for keys that nobody here knows.
    """
    notes: list[str] = []
    try:
        config = translate(family, theirs, notes)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{source}: {error}") from error
    known = {*family.fields.values(), *family.must, *family.harmless, *KEYS}
    if strange := sorted(key for key in theirs if key not in known):
        notes.append(f"ignored, not known for {family.name}: {', '.join(strange)}")
    for note in notes:
        logger.warning("%s: %s", source, note)
    return config


def translate(family: Family, theirs: Mapping[str, Any], notes: list[str]) -> Config:
    """Do the work of `read_config`, adding what the user should know to `notes`."""
    for key, allowed in family.must.items():
        if key in theirs and theirs[key] not in allowed:
            raise CheckpointError(f"{key} {theirs[key]!r} is not supported; it must be {allowed[0]!r}")
    layout = find_layout(family, theirs)
    tree: Tree = {}
    for name, value in family.constants.items():
        put(tree, name, value)
    for name, key in family.fields.items():
        if key not in theirs and key not in family.defaults:
            raise CheckpointError(f"{key} is missing; the {family.name} family needs it")
        value = theirs.get(key, family.defaults.get(key))
        if value is not None:  # null: left to our default or to the fix
            put(tree, name, convert(name, key, value))
        elif name.rpartition(".")[2] not in NULLABLE and family.defaults.get(key, 0) is not None:
            raise CheckpointError(f"{key} is null; it must be {KINDS[HINTS[name]]}")
    if layout or (family.bare and theirs.get("architectures") == [family.bare]):
        tree |= without_output(family.config_class)
    family.read_fix(theirs, tree, notes)
    for side in SIDES:
        if side in tree:
            tree[side] = StackConfig(**tree[side])
    body = family.config_class(**tree)
    if layout is None:
        return body
    assert not isinstance(body, NgramConfig | BagConfig | CrfConfig), (
        "counts have no states for a head to read"
    )
    dropout = getattr(body.output_stack, "dropout", 0.0)
    head = read_head(family, theirs, layout, dropout=dropout, notes=notes)
    return HeadedConfig(body=body, head=head)


def put(tree: Tree, name: str, value: Any) -> None:
    """Set a dotted field."""
    side, _, last = name.rpartition(".")
    (tree.setdefault(side, {}) if side else tree)[last] = value


def get(config: Body, name: str) -> Any:
    """Return a dotted field."""
    side, _, last = name.rpartition(".")
    return getattr(getattr(config, side) if side else config, last, None)


def convert(name: str, key: str, value: Any) -> Any:
    """Return their value as ours, or raise CheckpointError when it is of the wrong kind."""
    if name.endswith(".activation"):
        if not isinstance(value, str) or value not in ACTIVATIONS:
            raise CheckpointError(f"{key} {value!r} is not supported; known: {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[value]
    kind = HINTS[name]
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise CheckpointError(f"{key} {value!r} is not supported; known: {', '.join(get_args(kind))}")
        return value
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise CheckpointError(f"{key} {value!r} is not allowed; it must be {KINDS[kind]}")
    return kind(value)


def write_config(
    family: Family,
    config: Config,
    *,
    base: Mapping[str, Any] | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Return the whole config.json of a model.

    base: the config.json that the model came with; keys that are not ours stay, and ours stay as
    they are spelt there where they mean the same. dtype: in which the weights are stored.

    Raises CheckpointError, naming the fields, when the family cannot describe the model.
    """
    head = config.head if isinstance(config, HeadedConfig) else None
    layout = head_layout(family, head.kind) if head else None
    body = config.body if isinstance(config, HeadedConfig) else config
    if not isinstance(body, family.config_class):
        raise CheckpointError(f"family {family.name} cannot describe this kind of model")
    if not (body.has_output or layout or family.bare):
        raise CheckpointError(f"family {family.name} cannot describe a model without an output layer")
    for side in SIDES if isinstance(body, TransformerConfig) else ():
        if (getattr(body, side) is not None) != any(name.startswith(f"{side}.") for name in family.fields):
            raise CheckpointError(
                f"family {family.name} cannot describe this model: they differ in the {side}"
            )
    base = dict(base) if base and base.get("model_type") == family.name else {}
    theirs: dict[str, Any] = {**family.template, **base}
    theirs["architectures"] = [family.architecture if body.has_output else family.bare]
    if layout and head:
        theirs = {key: value for key, value in theirs.items() if key not in KEYS} | head_keys(layout, head)
    if not base or not means(family, theirs, config):
        for name, key in family.fields.items():
            theirs[key] = get(body, name)
            if name.endswith(".activation"):
                theirs[key] = next(a for a, b in ACTIVATIONS.items() if b == theirs[key])
        family.write_fix(body, theirs)
    theirs.pop("torch_dtype", None)
    theirs |= {"dtype": dtype, "model_type": family.name}
    theirs.setdefault("transformers_version", LAYOUT)
    differing = differences(translate(family, theirs, []), config)
    if differing:
        raise CheckpointError(f"family {family.name} cannot describe this model: {'; '.join(differing)}")
    return dict(sorted(theirs.items()))


def means(family: Family, theirs: Mapping[str, Any], config: Config) -> bool:
    """Say whether a config.json describes exactly `config`."""
    return translate(family, theirs, []) == config


def differences(found: Config, wanted: Config) -> list[str]:
    """Return a line for every field whose value would change."""
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(found, HeadedConfig) and isinstance(wanted, HeadedConfig):
        heads = (found.head, wanted.head)
        pairs += [
            (f"head.{each.name}", *(getattr(head, each.name) for head in heads))
            for each in fields(HeadConfig)
        ]
        found, wanted = found.body, wanted.body
    assert not (isinstance(found, HeadedConfig) or isinstance(wanted, HeadedConfig))
    pairs += [(name, get(found, name), get(wanted, name)) for name in HINTS if name not in SIDES]
    return [f"{name} would become {a!r} instead of {b!r}" for name, a, b in pairs if a != b]


def choose_family(config: Config) -> Family:
    """Return the first family that can describe a model, or raise CheckpointError."""
    for family in FAMILIES.values():
        try:
            write_config(family, config)
        except (CheckpointError, ConfigError):
            continue
        return family
    raise CheckpointError(f"no known family ({', '.join(FAMILIES)}) can describe this model")
