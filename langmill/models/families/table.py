"""The form of a family's table, and how its weight names are matched. [models]

"Theirs" is Hugging Face's name or tensor, "ours" langmill's. In a weight name `{}` stands for a layer
number and `*` for `weight` or `bias`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from langmill.core.errors import CheckpointError
from langmill.models.bag import BagConfig
from langmill.models.config import TransformerConfig
from langmill.models.crf import CrfConfig
from langmill.models.heads import HeadedConfig, Kind, Pooling
from langmill.models.ngram_decoder import NgramConfig
from langmill.models.recurrent import RecurrentConfig

Shape = tuple[int, ...]
Body = TransformerConfig | RecurrentConfig | NgramConfig | BagConfig | CrfConfig
Config = Body | HeadedConfig
"""What a model of any kind is made of."""


@dataclass(frozen=True)
class Operation:
    """A reversible change of layout between one of their tensors and one or more of ours."""

    read: Callable[[Tensor], list[Tensor]]
    """Their tensor to ours."""
    write: Callable[[list[Tensor]], Tensor]
    """Ours to their tensor."""
    shape: Callable[[list[Shape]], Shape]
    """What `write` does to shapes."""


# GPT-2 stores a layer as (in, out) where nn.Linear has (out, in). A bias has one dimension, which
# transpose(0, -1) leaves alone, so one row serves weight and bias.
COPY = Operation(
    read=lambda theirs: [theirs],
    write=lambda ours: ours[0],
    shape=lambda ours: ours[0],
)
TRANSPOSE = Operation(
    read=lambda theirs: [theirs.transpose(0, -1)],
    write=lambda ours: ours[0].transpose(0, -1),
    shape=lambda ours: ours[0][::-1],
)
SPLIT = Operation(
    read=lambda theirs: list(theirs.transpose(0, -1).chunk(3)),
    write=lambda ours: torch.cat(ours).transpose(0, -1),
    shape=lambda ours: (sum(each[0] for each in ours), *ours[0][1:])[::-1],
)
FLATTEN = Operation(
    read=lambda theirs: [theirs[0]],
    write=lambda ours: ours[0][None],
    shape=lambda ours: (1, *ours[0]),
)


def always(config: Any) -> bool:
    """Return True."""
    return True


@dataclass(frozen=True)
class Row:
    """One line of the table of weight names."""

    theirs: str
    ours: tuple[str, ...]
    operation: Operation = COPY
    holds: Callable[[Any], bool] = always
    """Whether the row is meant for a model: layouts of one family may name a weight in two ways."""
    zero_if_absent: bool = False
    """Files may leave the tensor out, which means zeros."""


def copies(theirs: str, ours: str, names: Mapping[str, str]) -> tuple[Row, ...]:
    """Return rows that copy, each name prefixed by its side's prefix.

    >>> copies("model.layers.{}", "decoder.blocks.{}", {"mlp.up_proj.*": "feed_forward.up.*"})[0].theirs
    'model.layers.{}.mlp.up_proj.*'
    """
    return tuple(Row(f"{theirs}.{a}", (f"{ours}.{b}",)) for a, b in names.items())


Tree = dict[str, Any]
"""A TransformerConfig being built: its fields, with a dict for each stack."""


def no_read_fix(theirs: Mapping[str, Any], ours: Tree, notes: list[str]) -> None:
    """Do nothing: the table says it all."""


def no_write_fix(ours: TransformerConfig, theirs: dict[str, Any]) -> None:
    """Do nothing: the table says it all."""


@dataclass(frozen=True, kw_only=True)
class HeadLayout:
    """How a family stores a head of one kind: its class, its weights and what makes it."""

    kind: Kind
    architecture: str
    """Their class."""
    rows: tuple[Row, ...]
    """The head's weights; ours are `transform` and `output`."""
    poolings: Mapping[str, Pooling] = field(default_factory=lambda: {"": "first"})
    """Their values of `classifier_pooling` and ours, the one first that absence means; one alone has no key."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Fields of HeadConfig that differ from its defaults."""
    prefix: str = ""
    """Begins the body's names instead of the family's prefix; empty: does not differ."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A named layout: what config.json and the weights of such a checkpoint mean."""

    name: str
    """Their `model_type`."""
    config_class: type[Body] = TransformerConfig
    """What its config.json becomes."""
    architecture: str
    """Their class for a model that scores the vocabulary."""
    bare: str = ""
    """Their class for the same model without an output layer; empty: langmill has no use for it."""
    fields: Mapping[str, str]
    """Our field, dotted, to their key; several of ours may share a key."""
    defaults: Mapping[str, Any]
    """What a key means where config.json leaves it out; a field's key without default is required."""
    constants: Mapping[str, Any]
    """Our fields that make the family what it is."""
    must: Mapping[str, tuple[Any, ...]]
    """Keys that would change the computation, with the values under which it is ours."""
    template: Mapping[str, Any]
    """Further keys that a new config.json carries."""
    rows: tuple[Row, ...]
    prefix: str
    """Begins every weight's name but the output layer's; absent in files of the bare model."""
    ignore: tuple[str, ...] = ()
    """Names in files that hold no weights, or copies of weights that have another name too."""
    heads: tuple[HeadLayout, ...] = ()
    """How it stores heads for labels and spans."""
    unused: tuple[str, ...] = ()
    """Names of weights of further heads, which are left out where no head of ours takes them; whoever saves says so."""
    harmless: frozenset[str] = field(default_factory=frozenset)
    """Keys that do not change what the model computes."""
    read_fix: Callable[[Mapping[str, Any], Tree, list[str]], None] = no_read_fix
    """(their keys, our tree to complete, notes for the user): what no table can say."""
    write_fix: Callable[[Any, dict[str, Any]], None] = no_write_fix
    """(our config, their keys to complete): the same, backwards."""


def head_layout(family: Family, kind: Kind) -> HeadLayout:
    """Return how a family stores heads of a kind, or raise CheckpointError."""
    for layout in family.heads:
        if layout.kind == kind:
            return layout
    raise CheckpointError(
        f"a {family.name} model has no head of kind {kind!r} here; take an encoder (BERT, RoBERTa, EuroBERT), a"
        " decoder (GPT-2, Llama, Mistral, Qwen) or a recurrent network"
    )


def with_head(family: Family, model: nn.Module) -> Family:
    """Return the table of one model: rows that hold for it, with its head's, the body's being under `body`."""
    config = model.config
    assert isinstance(config, Config), "no kind of model that is saved"
    if not isinstance(config, HeadedConfig):
        return replace(family, rows=tuple(row for row in family.rows if row.holds(config)))
    layout = head_layout(family, config.head.kind)
    prefix = layout.prefix or family.prefix

    def on_body(name: str) -> str:
        return prefix + name.removeprefix(family.prefix) if name.startswith(family.prefix) else name

    body = [
        replace(row, theirs=on_body(row.theirs), ours=tuple(f"body.{name}" for name in row.ours))
        for row in family.rows
        if row.holds(config.body)
    ]
    return replace(
        family,
        rows=(*body, *layout.rows),
        prefix=prefix,
        ignore=tuple(map(on_body, family.ignore)),
        unused=tuple(map(on_body, family.unused)),
        heads=(),
    )


def pattern(name: str) -> re.Pattern[str]:
    """Return the regular expression of a table's weight name.

    >>> pattern("h.{}.ln_1.*").fullmatch("h.11.ln_1.bias").groups()
    ('11', 'bias')
    """
    return re.compile(re.escape(name).replace(r"\{\}", r"(\d+)").replace(r"\*", "(weight|bias)"))


def fill(name: str, groups: tuple[str, ...]) -> str:
    """Put what `pattern` found into another name of the same row.

    >>> fill("blocks.{}.norm.*", ("11", "bias"))
    'blocks.11.norm.bias'
    """
    parts = iter(groups)
    return re.sub(r"\{\}|\*", lambda _: next(parts), name)


@dataclass(frozen=True)
class Pairing:
    """One of their tensors and the weights of a certain model that it holds."""

    theirs: str
    ours: tuple[str, ...]
    operation: Operation
    shape: Shape
    """Of their tensor."""
    zero_if_absent: bool
    tied: bool
    """Holds a weight that an earlier pairing holds: not written, and on reading only compared."""
    whole: bool
    """Holds whole numbers: counts."""


def pair_rows(rows: Iterable[Row], own: Mapping[str, nn.Parameter]) -> dict[str, Pairing]:
    """Return what a table's rows name of a model's weights, in the order of the rows."""
    seen: set[int] = set()
    pairings: dict[str, Pairing] = {}
    for row in rows:
        first = pattern(row.ours[0])
        for name in own:
            match = first.fullmatch(name)
            if match is None:
                continue
            ours = tuple(fill(each, match.groups()) for each in row.ours)
            shape = row.operation.shape([tuple(own[each].shape) for each in ours])
            theirs = fill(row.theirs, match.groups())
            pairings[theirs] = Pairing(
                theirs,
                ours,
                row.operation,
                shape,
                row.zero_if_absent,
                id(own[name]) in seen,
                not own[name].is_floating_point(),
            )
            seen.update(id(own[each]) for each in ours)
    return pairings


def pair_weights(family: Family, model: nn.Module) -> dict[str, Pairing]:
    """Return every weight of `model` under its family's name, in the order of the table.

    Raises CheckpointError when the family has no name for a weight.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    pairings = pair_rows(with_head(family, model).rows, own)
    named = {name for pairing in pairings.values() for name in pairing.ours}
    if nameless := [name for name in own if name not in named]:
        raise CheckpointError(
            f"family {family.name} has no name for {', '.join(nameless[:5])}; save it as another family"
        )
    return pairings
