"""Another head on a checkpoint's model. [checkpoint]"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langmill.checkpoint.weights import stored_tensors
from langmill.models.families import FAMILIES, pair_weights, write_config
from langmill.models.families.table import head_layout, pair_rows, pattern, with_head
from langmill.models.heads import HeadConfig, Headed
from langmill.models.initialise import initialise_head, under_head
from langmill.models.protocol import device_of

if TYPE_CHECKING:
    from langmill.checkpoint.folder import Checkpoint

logger = logging.getLogger("langmill")


def put_head(checkpoint: Checkpoint, head: HeadConfig, generator: torch.Generator) -> Checkpoint:
    """Return a checkpoint whose model is the body of another, its very weights, under a head that is to be trained.

    head: as the family has it; see `families.head_for`. What can be kept is: the transform of a head of the same
    kind, its output layer too where the labels are the same in whatever order, and BERT's pooler where the folder
    that the checkpoint came from has it, which a language model leaves out. The rest begins as `initialise_head`
    says. The given checkpoint should not be used further: its layers are shared.

    Raises ConfigError for a model that no head goes on, CheckpointError for a head that the family cannot store.
    """
    old = checkpoint.model
    model = under_head(old, head)
    write_config(FAMILIES[checkpoint.family], model.config)
    initialise_head(model, generator)
    model.to(device_of(old))
    keep_known(checkpoint, model)
    return replace(checkpoint, model=model, pooling=None)  # its states are scored, no longer pooled


def left_behind(checkpoint: Checkpoint) -> list[str]:
    """Return the weights in a checkpoint's folder that its model has no use for, such as BERT's pooler: a copy lacks them."""
    folder = checkpoint.base or checkpoint.folder
    if folder is None or not folder.is_dir():
        return []
    family = with_head(FAMILIES[checkpoint.family], checkpoint.model)
    taken = pair_weights(FAMILIES[checkpoint.family], checkpoint.model)
    spellings = {name: {name, family.prefix + name} for name in stored_tensors(folder)}
    return [
        name
        for name, known in spellings.items()
        if not known & taken.keys()
        and any(pattern(each).fullmatch(spelt) for each in family.unused for spelt in known)
    ]


@torch.no_grad()
def keep_known(checkpoint: Checkpoint, new: Headed) -> set[str]:
    """Fill what is known of a new head's weights, see `put_head`; return their names."""
    old, known = checkpoint.model, dict[str, Tensor]()
    if isinstance(old, Headed):
        known = alike(old, new)
    if "transform.weight" not in known:
        known |= left_in_folder(checkpoint, new)
    for name, weight in known.items():
        new.get_parameter(name).copy_(weight)
    return set(known)


def alike(old: Headed, new: Headed) -> dict[str, Tensor]:
    """Return the weights of a head that another can go on from."""
    head, wanted = old.config.head, new.config.head
    if (head.kind, head.transform) != (wanted.kind, wanted.transform):
        return {}
    known: dict[str, Tensor] = {
        name: weight for name, weight in old.named_parameters() if name.startswith("transform.")
    }
    free = {name: getattr(wanted, name) for name in ("labels", "dropout", "scheme", "crf")}
    if replace(head, **free) == wanted and set(head.labels) == set(wanted.labels):
        order = [head.labels.index(label) for label in wanted.labels] or [0, 1]
        known |= {f"output.{name}": weight[order] for name, weight in old.output.named_parameters()}
        if old.transitions is not None and new.transitions is not None:
            ends = [*order, len(order)]
            known["transitions"] = old.transitions[ends][:, ends]
    return known


def left_in_folder(checkpoint: Checkpoint, model: Headed) -> dict[str, Tensor]:
    """Return what a checkpoint's folder has of a head though its own model has no use for it: BERT's pooler."""
    family, folder = FAMILIES[checkpoint.family], checkpoint.base or checkpoint.folder
    own, layout = dict(model.named_parameters()), head_layout(family, model.config.head.kind)
    rows = {
        name: pairing
        for name, pairing in pair_rows(layout.rows, own).items()
        if any(pattern(each).fullmatch(name) for each in family.unused)
    }
    if not rows or folder is None or not folder.is_dir():
        return {}
    stored, found = stored_tensors(folder), {}
    for name, pairing in rows.items():
        tensor = stored.get(name, stored.get(name.removeprefix(family.prefix)))
        if tensor is not None and tensor.readable and tensor.shape == pairing.shape:
            found[pairing.ours[0]] = tensor.read()
            logger.info("%s: the head begins with %s", folder, name)
    return found
