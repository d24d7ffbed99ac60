"""Adapters: a frozen layer's weight written in another way, so that few numbers are trained. [models]

To reparameterise a weight is to write it as a function of other numbers, and to train those. With the
weight W of a trained model held fast,

    LoRA   W' = W + (alpha / r) B A         Hu et al. 2021, arXiv:2106.09685, section 4.1
    DoRA   W' = m · V / |V|,                Liu et al. 2024, arXiv:2402.09353, section 4
           V = W + (alpha / r) B A

B A has the layer's shape but rank r at most, and r (O + I) numbers instead of O · I: what a model has to
change for a new text is small in rank. DoRA trains each row's length m apart from its direction V / |V|.
B begins at zero and m at |W|, so that training begins at the base; A begins at random, for were it zero as
well no gradient would reach either. Since W' is a matrix as any other, it can be computed once and
stored in W's place: merging is exact but for rounding, and a merged model costs what the base costs.

The output layer is never adapted: losses read its weight themselves, and it is mostly the embedding too. Nor is
a head for labels or spans, which begins with nothing learnt: all of it is trained beside the adapters.

Shape letters: O outputs, I inputs, r rank.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langmill.core.errors import ConfigError, did_you_mean
from langmill.core.products import product
from langmill.models.families.table import Family, fill, pattern, with_head
from langmill.models.heads import HEAD_LAYERS, Headed
from langmill.models.initialise import Unfilled

logger = logging.getLogger("langmill")

ALL = "all-linear"
DEFAULT_TARGETS = ("attention", "cross", "feed_forward")
"""Where adapters go when nobody says: every layer of attention and feed-forward."""
LOW_RANK = ("lora_a", "lora_b")
"""Names of an adapted layer's two factors."""


@dataclass(frozen=True)
class Form:
    """How a layer is adapted."""

    rank: int
    scale: float
    """alpha / r, which keeps steps alike over ranks (or alpha / √r, Kalajdzievski 2023, arXiv:2312.03732)."""
    kind: Literal["lora", "dora"] = "lora"
    dropout: float = 0.0
    """Share of the inputs of A that is dropped in training."""


class AdaptedLinear(nn.Linear):
    """A linear layer whose weight and bias are held fast, with an adapter that is trained."""

    magnitude: nn.Parameter | None

    def __init__(self, base: nn.Linear, form: Form, lora_a: nn.Parameter) -> None:
        nn.Module.__init__(self)  # nn.Linear's own would make a weight
        self.in_features, self.out_features, self.form = base.in_features, base.out_features, form
        self.weight = base.weight
        self.register_parameter("bias", base.bias)
        self.lora_a = lora_a  # (r, I)
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, form.rank))  # (O, r)
        dora = form.kind == "dora"
        self.register_parameter("magnitude", nn.Parameter(self.lengths().detach()) if dora else None)

    def summed(self) -> Tensor:
        """Return W + scale · B A, (O, I)."""
        return torch.addmm(self.weight, self.lora_b, self.lora_a, alpha=self.form.scale)

    @torch.no_grad()
    def lengths(self) -> Tensor:
        """Return the length of each row of `summed`, (O,).

        A constant to the gradient, which saves memory and costs no quality (Liu et al. 2024, section 4.3). Above 0,
        for a row of zeros has no direction.
        """
        with torch.autocast(self.weight.device.type, enabled=False):
            found = torch.linalg.vector_norm(self.summed(), dim=1)
        return found.clamp(min=torch.finfo(found.dtype).tiny)

    @torch.no_grad()
    def merged(self) -> Tensor:
        """Return W', (O, I)."""
        whole = self.summed()
        return whole if self.magnitude is None else whole * (self.magnitude / self.lengths())[:, None]

    def forward(self, x: Tensor) -> Tensor:
        low = product(F.dropout(x, self.form.dropout, self.training), self.lora_a)  # (..., r)
        low = product(low, self.lora_b) * self.form.scale
        if self.magnitude is None:
            return product(x, self.weight, self.bias) + low
        y = (product(x, self.weight) + low) * (self.magnitude / self.lengths())
        return y if self.bias is None else y + self.bias


# ------------------------------------------------------------------------------------------------
# Which layers


def adaptable(family: Family, model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the layers that can be adapted: the family's name of each, and ours.

    What a family keeps in one layer and we in several (GPT-2's query, key and value) is adapted as one: the
    parts share A, and each has its rows of B. A recurrent network has none: its layers are no linear ones.
    """
    spared = HEAD_LAYERS if isinstance(model, Headed) else ("output",)
    linears = {name for name, m in model.named_modules() if isinstance(m, nn.Linear) and name not in spared}
    layers: dict[str, tuple[str, ...]] = {}
    for row in with_head(family, model).rows:
        theirs, *ours = (name.rpartition(".")[0] for name in (row.theirs, *row.ours))
        matches = (pattern(ours[0]).fullmatch(name) for name in sorted(linears))
        groups = [match.groups() for match in matches if match]
        layers |= {fill(theirs, each): tuple(fill(name, each) for name in ours) for each in groups}
    return layers


def is_part(target: str, name: str) -> bool:
    """Whether a pattern fits a run of whole parts of a dotted name.

    >>> is_part("attention", "blocks.0.attention.query"), is_part("attention.*y", "blocks.0.attention.query")
    (True, True)
    >>> is_part("query", "blocks.0.attention.query_norm")
    False
    """
    return any(fnmatchcase(f".{name}.", around.format(target)) for around in ("*.{}.", "*.{}.*"))


def choose_layers(
    family: Family, model: nn.Module, targets: Sequence[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the layers of `adaptable` that targets name, in our words or, failing that, in the family's.

    targets: `query`, `attention.*`, `q_proj`, `feed_forward,cross` or `all-linear`; none: DEFAULT_TARGETS.

    Raises ConfigError where one of them names nothing, with what there is.
    """
    layers = adaptable(family, model)
    if not layers:
        raise ConfigError(
            f"a {family.name} model has no layer for an adapter (its output layer is not adapted);"
            " train all of it: leave out --adapter.rank"
        )
    wanted = [part.strip() for target in targets for part in target.split(",")] or list(DEFAULT_TARGETS)
    chosen: set[str] = set()
    for target in wanted:
        found = layers_named(layers, target)
        if targets and not found:
            raise ConfigError(f"--adapter.targets {target}: no such layer; {what_there_is(layers, target)}")
        chosen |= found
    parts = [(theirs, name) for theirs in chosen for name in layers[theirs] if len(layers[theirs]) > 1]
    unnamed = {
        pair[1].rpartition(".")[2] for pair in parts if not any(is_part(t, n) for t in wanted for n in pair)
    }
    if unnamed and ALL not in wanted:
        logger.warning(
            "a %s model keeps %s in one layer with what --adapter.targets names, and adapts them together",
            family.name,
            " and ".join(sorted(unnamed)),
        )
    return {theirs: ours for theirs, ours in layers.items() if theirs in chosen}


def layers_named(layers: Mapping[str, tuple[str, ...]], target: str) -> set[str]:
    """Return which of `layers` a target names, in our words or, failing that, in the family's."""
    if target == ALL:
        return set(layers)
    own = {theirs for theirs, ours in layers.items() if any(is_part(target, name) for name in ours)}
    return own or {theirs for theirs in layers if is_part(target, theirs)}


def what_there_is(layers: Mapping[str, tuple[str, ...]], target: str) -> str:
    """Return what to say of the layers of a model to somebody who named none of them."""
    pairs = {name.rpartition(".")[2]: theirs for theirs, ours in layers.items() for name in ours}
    shown = ", ".join(f"{name} ({theirs.rpartition('.')[2]})" for name, theirs in pairs.items())
    known = {part for names in (layers, pairs, [ALL]) for name in names for part in name.split(".")}
    return (
        f"this model has {shown}, all under {ALL} (embeddings and the output layer are not adapted)"
        f"{did_you_mean(target, known)}"
    )


# ------------------------------------------------------------------------------------------------
# Putting on and merging


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one of that name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)


@torch.no_grad()
def adapt(
    model: nn.Module, forms: Mapping[tuple[str, ...], Form], generator: torch.Generator | None = None
) -> None:
    """Put adapters on layers, by our names, those of a group sharing A; hold all other weights but a head's fast.

    A begins uniform in ±I^-½, or at zero without a generator, to be filled. The model computes what it did.
    """
    model.requires_grad_(False)
    for name in HEAD_LAYERS if isinstance(model, Headed) else ():
        if name in dict(model.named_children()):
            model.get_submodule(name).requires_grad_(True)
    for group, form in forms.items():
        layers = [model.get_submodule(name) for name in group]
        assert all(type(layer) is nn.Linear for layer in layers), "adapters go on plain linear layers"
        weight: Any = layers[0].weight
        lora_a = torch.zeros(form.rank, weight.shape[1])
        if generator is not None:
            bound = weight.shape[1] ** -0.5
            lora_a.uniform_(-bound, bound, generator=generator)
        shared = nn.Parameter(lora_a.to(weight))
        for name, layer in zip(group, layers, strict=True):
            assert isinstance(layer, nn.Linear)
            replace_layer(model, name, AdaptedLinear(layer, form, shared).train(layer.training))


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Return the layers that have an adapter, by our names."""
    return {name: each for name, each in model.named_modules() if isinstance(each, AdaptedLinear)}


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Put W' in the place of every adapted layer; the model is then a plain one, all of it trainable."""
    for name, layer in adapted_layers(model).items():
        layer.weight.copy_(layer.merged())
        with Unfilled(layer.weight.dtype):
            plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        plain.weight, plain.bias = layer.weight, layer.bias
        replace_layer(model, name, plain.train(layer.training))
    model.requires_grad_(True)


def merged_copy(model: nn.Module) -> nn.Module:
    """Return the model itself where nothing is adapted, else a copy that is merged."""
    if not adapted_layers(model):
        return model
    whole = copy.deepcopy(model)
    merge(whole)
    return whole
