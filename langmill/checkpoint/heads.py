"""Another head on a checkpoint's model. [checkpoint]"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from langmill.checkpoint.weights import stored_tensors
from langmill.models.families import FAMILIES, pair_weights, write_config
from langmill.models.families.table import pattern
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
    if not (isinstance(old, Headed) and keep_head(old, model)):
        fill_from_folder(checkpoint, model)
    return replace(checkpoint, model=model)


@torch.no_grad()
def keep_head(old: Headed, new: Headed) -> bool:
    """Copy what a head can keep of another; say whether that was its transform, or all that it has."""
    known, wanted = old.config.head, new.config.head
    if (known.kind, known.transform) != (wanted.kind, wanted.transform):
        return False
    if old.transform is not None and new.transform is not None:
        new.transform.load_state_dict(old.transform.state_dict())
    same = replace(known, labels=wanted.labels, dropout=wanted.dropout) == wanted
    if same and set(known.labels) == set(wanted.labels):
        order = [known.labels.index(label) for label in wanted.labels] or [0, 1]
        for name, weight in new.output.named_parameters():
            weight.copy_(old.output.get_parameter(name)[order])
    return True


@torch.no_grad()
def fill_from_folder(checkpoint: Checkpoint, model: Headed) -> None:
    """Fill what a checkpoint's folder has of a head though its own model has no use for it: BERT's pooler."""
    family, folder = FAMILIES[checkpoint.family], checkpoint.base or checkpoint.folder
    rows = {
        name: pairing
        for name, pairing in pair_weights(family, model).items()
        if any(pattern(each).fullmatch(name) for each in family.unused)
    }
    if not rows or folder is None or not folder.is_dir():
        return
    stored = stored_tensors(folder)
    found = {name: stored.get(name, stored.get(name.removeprefix(family.prefix))) for name in rows}
    for name, tensor in found.items():
        if tensor is not None and tensor.readable and tensor.shape == rows[name].shape:
            model.get_parameter(rows[name].ours[0]).copy_(tensor.read())
            logger.info("%s: the head begins with %s", folder, name)
