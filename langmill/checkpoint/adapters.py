"""Adapters to and from the folders of PEFT, the library most adapters come from. [checkpoint]

adapter_config.json    which layers, how           adapter_model.safetensors    A, B, magnitudes and a head
head_config.json       a head's labels, which PEFT keeps nowhere
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from langmill.checkpoint.locate import locate, read_object
from langmill.checkpoint.sentences import write_pooling
from langmill.checkpoint.weights import StoredTensor, opened, some, write_tensors
from langmill.core.errors import CheckpointError
from langmill.core.files import atomic_write, make_folder, write_json
from langmill.models.adapters import ALL, AdaptedLinear, Form, adapt, adaptable, adapted_layers
from langmill.models.families import FAMILIES, Family
from langmill.models.families.heads import head_keys, read_head, read_labels
from langmill.models.families.table import SPLIT, TRANSPOSE, Pairing, head_layout, pair_rows, with_head
from langmill.models.heads import HeadConfig, Headed, Kind

if TYPE_CHECKING:
    from langmill.checkpoint.folder import Checkpoint

logger = logging.getLogger("langmill")

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
HEAD = "head_config.json"
OWN = "langmill_"
"""Begins the keys that only langmill knows; Transformers passes over them."""
TASKS: dict[Kind, str] = {"text": "SEQ_CLS", "tokens": "TOKEN_CLS", "span": "QUESTION_ANS"}
"""Their names of what a head is for."""
PREFIX = "base_model.model."
"""Begins the name of every tensor."""
ENDINGS = {
    "lora_A.weight": "lora_a",
    "lora_B.weight": "lora_b",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}
"""What a tensor's name ends with, and what it is; of two spellings the first is written."""

READ = frozenset(
    """
    alpha_pattern base_model_name_or_path exclude_modules layers_pattern layers_to_transform lora_alpha
    lora_dropout r rank_pattern target_modules use_dora use_rslora
    """.split()
)
# fan_in_fan_out says that the base stores its weights transposed, which its family's table knows.
HARMLESS = frozenset(
    """
    auto_mapping eva_config fan_in_fan_out inference_mode megatron_config megatron_core peft_version
    qalora_group_size runtime_config task_type
    """.split()
)
MUST: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),  # others change the base
    "revision": (None, "main"),
}
"""Options that have a meaning here with these values only. Of any other option nothing but its absence has."""
ABSENT: tuple[Any, ...] = (None, False, 0, "", [], {})
PATTERNS = ("rank_pattern", "alpha_pattern")
"""Options that say what r and lora_alpha are for some layers."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and no model of its own."""
    if not (folder / CONFIG).is_file():
        return False
    if (folder / "config.json").is_file():
        logger.warning("%s: holds a model and an adapter; the adapter is not used", folder)
        return False
    return True


def base_folder(folder: Path) -> Path:
    """Return where the model lies that a folder's adapter belongs to: a path from the folder or here, or a hub name."""
    base = read_object(folder / CONFIG).get("base_model_name_or_path")
    where = f"write its folder or hub name into base_model_name_or_path in {folder / CONFIG}"
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{folder}: an adapter that does not name its model; {where}")
    found = folder / base if (folder / base).is_dir() else Path(base)
    if found.resolve() == folder.resolve():
        raise CheckpointError(f"{folder}: an adapter that names itself as its model; {where}")
    try:
        return locate(found)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: its adapter's model is not here ({error}); {where}") from error


# ------------------------------------------------------------------------------------------------
# Reading


def check_options(theirs: Mapping[str, Any], *, source: str, headed: bool = False) -> None:
    """Raise one CheckpointError with every option under which an adapter would compute something else.

    headed: the model has a head, whose weights the adapter's files may hold whole.
    """
    faults = [
        f"{key} {theirs[key]!r} is not supported; it must be {allowed[0]!r}"
        for key, allowed in MUST.items()
        if theirs.get(key, allowed[0]) not in allowed
    ]
    known = READ | HARMLESS | MUST.keys() | ({"modules_to_save"} if headed else set())
    faults += [
        f"{key} is not supported" for key in sorted(theirs.keys() - known) if theirs[key] not in ABSENT
    ]
    if not theirs.get("target_modules"):
        faults.append("target_modules is missing; it says which layers are adapted")
    if tables := [key for key in PATTERNS if not isinstance(theirs.get(key) or {}, dict)]:
        raise CheckpointError(f"{source}: {' and '.join(tables)} must be an object, from layers to numbers")
    numbers = [("r", theirs.get("r")), ("lora_alpha", theirs.get("lora_alpha"))]
    numbers += [(f"{key}[{a}]", b) for key in PATTERNS for a, b in (theirs.get(key) or {}).items()]
    faults += [
        f"{key} {value!r} is not allowed; it must be a number above 0"
        for key, value in numbers
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0
    ]
    if faults:
        raise CheckpointError(f"{source}: {'; '.join(faults)}")


def fits(name: str, targets: str | Sequence[str] | None) -> bool:
    """Whether PEFT takes a layer for one of `targets`: ends of names, or one regular expression for the whole.

    >>> fits("h.0.attn.c_attn", ["c_attn"]), fits("h.0.attn.c_attn", r".*\\.0\\..*"), fits("c_attn", ["attn"])
    (True, True, False)
    """
    if isinstance(targets, str):
        return targets == ALL or re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets or ())


def is_target(theirs: Mapping[str, Any], name: str) -> bool:
    """Whether an adapter_config.json asks for an adapter on a layer, by the family's name."""
    targets, layers = theirs["target_modules"], theirs.get("layers_to_transform")
    if not fits(name, targets) or fits(name, theirs.get("exclude_modules")):
        return False
    if isinstance(targets, str) or layers in (None, []):
        return True
    patterns = theirs.get("layers_pattern") or [r"[^.]*"]
    for each in [patterns] if isinstance(patterns, str) else patterns:
        if match := re.match(rf"(?:.*?\.)?{each}\.(\d+)\.", name):
            return int(match[1]) in ([layers] if isinstance(layers, int) else layers)
    return False


def form_of(theirs: Mapping[str, Any], name: str) -> Form:
    """Return how a layer is adapted."""
    own = [
        next((v for key, v in (theirs.get(p) or {}).items() if re.match(rf"(.*\.)?({key})$", name)), None)
        for p in PATTERNS
    ]
    rank, alpha = int(own[0] or theirs["r"]), own[1] or theirs["lora_alpha"]
    kind: Literal["lora", "dora"] = "dora" if theirs.get("use_dora") else "lora"
    scale = alpha / (rank**0.5 if theirs.get("use_rslora") else rank)
    return Form(rank, scale, kind, theirs.get("lora_dropout") or 0.0)


def stored_parts(path: Path) -> dict[tuple[str, str], StoredTensor]:
    """Return the tensors of an adapter by layer and part, from the file's header; a strange name is its own layer."""
    parts: dict[tuple[str, str], StoredTensor] = {}
    with opened(path) as file:
        for key in file.keys():  # noqa: SIM118
            name = key.removeprefix(PREFIX)
            ending = next((each for each in ENDINGS if name.endswith(f".{each}")), None)
            place = (name.removesuffix(f".{ending}"), ENDINGS[ending]) if ending else (key, "")
            part = file.get_slice(key)
            parts[place] = StoredTensor(path, key, tuple(part.get_shape()), part.get_dtype())
    return parts


def expected_shapes(model: nn.Module, ours: tuple[str, ...], form: Form) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an adapter's parts on a layer that is one or several of ours."""
    layers: list[Any] = [model.get_submodule(name) for name in ours]
    outputs = sum(layer.out_features for layer in layers)
    shapes: dict[str, tuple[int, ...]] = {"lora_a": (form.rank, layers[0].in_features)}
    shapes["lora_b"] = outputs, form.rank
    return shapes | ({"magnitude": (outputs,)} if form.kind == "dora" else {})


def head_weights(family: Family, model: nn.Module) -> dict[str, Pairing]:
    """Return the weights of a head, by their names in an adapter's file; of a model without one, none."""
    if not isinstance(model, Headed):
        return {}
    rows = head_layout(family, model.config.head.kind).rows
    own = dict(model.named_parameters())
    return {PREFIX + name: pairing for name, pairing in pair_rows(rows, own).items()}


def stored_head(folder: Path, family: Family, base: Mapping[str, Any]) -> HeadConfig | None:
    """Return the head that an adapter brings along; None: it has none.

    base: config.json of its model. PEFT keeps no labels: where it saved the adapter, they are those of the model
    if that has as many, else LABEL_0, LABEL_1 …
    """
    task = read_object(folder / CONFIG).get("task_type")
    kind = next((each for each, name in TASKS.items() if name == task), None)
    if kind is None:
        return None
    layout = head_layout(family, kind)
    notes: list[str] = []
    if (folder / HEAD).is_file():
        theirs = read_object(folder / HEAD)
    else:
        theirs = dict(base)
        row = next(row for row in layout.rows if row.ours[0].startswith("output."))
        weight = stored_parts(folder / WEIGHTS).get((PREFIX + row.theirs.replace("*", "weight"), ""))
        if weight is not None and kind != "span" and len(read_labels(theirs, [])) != weight.shape[0]:
            theirs |= {"id2label": None, "label2id": None, "num_labels": weight.shape[0]}
    head = read_head(family, theirs, layout, dropout=0.0, notes=notes)
    for note in notes:
        logger.warning("%s: %s", folder, note)
    return head


@torch.no_grad()
def load_adapter(
    folder: Path, model: nn.Module, family: Family, *, known: Collection[str] = ()
) -> dict[str, Any]:
    """Put a folder's adapter, and its head, on the model that it belongs to; return its adapter_config.json.

    known: weights of the head, by our names, that the files need not have.

    Raises CheckpointError, before the model is changed, for options that are not supported and for tensors
    that are missing, unknown or of another shape, all at once.
    """
    theirs = read_object(folder / CONFIG)
    check_options(theirs, source=str(folder / CONFIG), headed=isinstance(model, Headed))
    if not (folder / WEIGHTS).is_file():
        pickled = " (pickled weights are never read)" if list(folder.glob("*.bin")) else ""
        raise CheckpointError(f"{folder}: {CONFIG} but no {WEIGHTS}{pickled}; copy or save it again")
    parts = stored_parts(folder / WEIGHTS)
    layers, prefix = adaptable(family, model), with_head(family, model).prefix
    if not any(name in layers for name, _ in parts):  # made on the bare model, whose names lack the prefix
        layers = {name.removeprefix(prefix): ours for name, ours in layers.items()}
    try:
        forms = {name: form_of(theirs, name) for name in layers if is_target(theirs, name)}
    except re.error as error:
        raise CheckpointError(
            f"{folder / CONFIG}: {error.pattern!r} is no regular expression ({error})"
        ) from error
    wanted = {
        (name, part): shape
        for name, form in forms.items()
        for part, shape in expected_shapes(model, layers[name], form).items()
    }
    head = head_weights(family, model)
    for name, pairing in head.items():
        if pairing.ours[0] not in known or (name, "") in parts:
            wanted[name, ""] = pairing.shape
    check_parts(folder, parts, wanted)
    adapt(model, {layers[name]: form for name, form in forms.items()})
    for (name, part), stored in parts.items():
        whole = stored.read()
        if not part:
            model.get_parameter(head[name].ours[0]).copy_(whole)
            continue
        owners: list[Any] = [model.get_submodule(each) for each in layers[name]]
        if part == "lora_a":
            owners[0].lora_a.copy_(whole)  # which they share
            continue
        for owner, rows in zip(owners, whole.split([each.out_features for each in owners]), strict=True):
            getattr(owner, part).copy_(rows)
    return theirs


def check_parts(
    folder: Path,
    parts: Mapping[tuple[str, str], StoredTensor],
    wanted: Mapping[tuple[str, str], tuple[int, ...]],
) -> None:
    """Raise one CheckpointError with everything that keeps `parts` from being what is wanted."""
    faults = []
    if missing := [f"{name} {part}".rstrip() for name, part in wanted.keys() - parts.keys()]:
        faults.append(f"{len(missing)} missing: {some(missing)}")
    if unknown := [parts[each].name for each in parts.keys() - wanted.keys()]:
        hint = " (embeddings, output layer and other modules have no adapters here)"
        faults.append(f"{len(unknown)} unknown: {some(unknown)}{hint}")
    both = [(parts[each], wanted[each]) for each in wanted if each in parts]
    if misshapen := [f"{t.name} is {t.shape}, not {shape}" for t, shape in both if t.shape != shape]:
        faults.append(f"{len(misshapen)} of another shape: {some(misshapen)}")
    if coded := [f"{t.name} ({t.dtype})" for t, _ in both if not t.readable]:
        faults.append(f"{len(coded)} quantised: {some(coded)}")
    if not any(part for _, part in wanted):
        faults.append("target_modules names no layer of the model")
    if faults:
        raise CheckpointError(
            f"{folder}: the adapter does not fit {CONFIG} or its model: {'; '.join(faults)}"
        )


# ------------------------------------------------------------------------------------------------
# Writing


def outer_prefix(family: Family, model: Any) -> str:
    """Return what PEFT does not know of the family's names: on a bare model they lack the prefix."""
    return "" if isinstance(model, Headed) or model.config.has_output else family.prefix


def peft_parts(family: Family, model: nn.Module) -> dict[str, list[AdaptedLinear]]:
    """Return the adapted layers under the family's names, each as the ones of ours that it is."""
    own, prefix = adapted_layers(model), outer_prefix(family, model)
    layers = {
        theirs.removeprefix(prefix): [own[name] for name in ours if name in own]
        for theirs, ours in adaptable(family, model).items()
    }
    return {theirs: each for theirs, each in layers.items() if each}


def shortest_targets(chosen: Sequence[str], family: Family, model: nn.Module) -> list[str]:
    """Return the ends of names that mean the chosen layers and no other, or else the whole names."""
    table, prefix = with_head(family, model), outer_prefix(family, model)
    known = [*(row.theirs for row in table.rows), *table.unused]
    others = [name.removeprefix(prefix).rpartition(".")[0] for name in known]
    ends = sorted({name.rpartition(".")[2] for name in chosen})
    layers = [name.removeprefix(prefix) for name in adaptable(family, model)]
    spare = [name for name in layers if name not in chosen]
    every = {re.sub(r"\.\d+\.", ".{}.", name, count=1) for name in chosen}
    spare += [name for name in others if name not in every]
    return sorted(chosen) if any(fits(name, ends) for name in spare) else ends


def alpha_of(form: Form) -> int | float:
    """Return alpha, a whole number where it is one."""
    alpha = round(form.scale * form.rank, 9)
    return int(alpha) if alpha == int(alpha) else alpha


def whole_modules(family: Family, model: nn.Module) -> list[str] | None:
    """Return their modules that an adapter's file holds whole, a head's; None: there is none.

    >>> from langmill.models.families import FAMILIES, head_for
    >>> from langmill.models.config import bert_encoder
    >>> from langmill.models.initialise import allocate, under_head
    >>> body = allocate(bert_encoder(9, layers=1, width=4, heads=1))
    >>> whole_modules(FAMILIES["bert"], under_head(body, head_for(FAMILIES["bert"], "text", ("a", "b"))))
    ['pooler.dense', 'classifier']
    """
    prefix = with_head(family, model).prefix
    names = [name.removeprefix(PREFIX).rpartition(".")[0] for name in head_weights(family, model)]
    # Theirs is a module of its own where ours are two layers (RoBERTa's classifier): the whole is named.
    modules = [
        name.removeprefix(prefix) if name.startswith(prefix) else name.partition(".")[0] for name in names
    ]
    return list(dict.fromkeys(modules)) or None


def adapter_config(checkpoint: Checkpoint, *, base: str) -> dict[str, Any]:
    """Return adapter_config.json for the adapters that are on a checkpoint's model."""
    family, model = FAMILIES[checkpoint.family], checkpoint.model
    layers = peft_parts(family, model)
    forms = {name: parts[0].form for name, parts in layers.items()}
    (first, _), *_ = Counter(forms.values()).most_common(1)
    special = {re.escape(name): form for name, form in forms.items() if form != first}
    config = model.config
    kinds = {(False, True): "CAUSAL_LM", (True, True): "SEQ_2_SEQ_LM"}
    task = kinds.get((config.encoder is not None, config.decoder is not None))
    if isinstance(model, Headed):
        task = TASKS[model.config.head.kind]
    elif not config.has_output:
        task = "FEATURE_EXTRACTION"
    return {
        "alpha_pattern": {name: alpha_of(form) for name, form in special.items()},
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": any(row.operation in (TRANSPOSE, SPLIT) for row in family.rows),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha_of(first),
        "lora_dropout": first.dropout,
        "modules_to_save": whole_modules(family, model),
        "peft_type": "LORA",
        "r": first.rank,
        "rank_pattern": {name: form.rank for name, form in special.items()},
        "target_modules": shortest_targets(list(layers), family, model),
        "task_type": task,
        "use_dora": first.kind == "dora",
        "use_rslora": False,
    }


def with_decisions(theirs: Mapping[str, Any], decisions: Mapping[str, float]) -> dict[str, Any]:
    """Return a config.json with these decisions and no others."""
    rest = {key: value for key, value in theirs.items() if not key.startswith(OWN)}
    return rest | {OWN + name: value for name, value in decisions.items()}


def save_adapter(folder: str | Path, checkpoint: Checkpoint, *, base: str) -> None:
    """Write the adapters on a checkpoint's model, without its body, as PEFT opens them; and the tokenizer.

    base: the folder or hub name of the model that they belong to. Each file is replaced whole, the weights last.
    """
    folder = make_folder(Path(folder))
    write_json(folder / CONFIG, adapter_config(checkpoint, base=base))
    if checkpoint.tokenizer is not None:
        checkpoint.tokenizer.save(folder)
    family, model = FAMILIES[checkpoint.family], checkpoint.model
    if checkpoint.pooling is not None:
        write_pooling(folder, checkpoint.pooling, width=model.config.output_stack.width)
    if isinstance(model, Headed):
        head = head_keys(head_layout(family, model.config.head.kind), model.config.head)
        write_json(folder / HEAD, with_decisions(head, checkpoint.decisions))
    tensors = {
        name: model.get_parameter(pairing.ours[0]).detach().cpu()
        for name, pairing in head_weights(family, model).items()
    }
    for name, parts in peft_parts(family, model).items():
        for ending, part in list(ENDINGS.items())[:3]:
            own = [getattr(each, part) for each in (parts[:1] if part == "lora_a" else parts)]
            if own[0] is not None:
                tensors[f"{PREFIX}{name}.{ending}"] = torch.cat(own).detach().cpu()
    atomic_write(folder / WEIGHTS, lambda path: write_tensors(path, tensors))
