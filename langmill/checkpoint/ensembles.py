"""Several checkpoints that answer as one. [checkpoint]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from langmill.checkpoint.folder import Checkpoint, load_checkpoint
from langmill.checkpoint.locate import member_names
from langmill.core.errors import CheckpointError
from langmill.core.log import say
from langmill.models.heads import HeadConfig

ONE_MODEL = "several checkpoints answer as one only where texts, tokens or spans get labels"


class Committee(nn.Module):
    """What a task asks of a model before it asks each member: a head, which takes the order of labels from the first."""

    def __init__(self, members: Sequence[Any], orders: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        first: HeadConfig = members[0].config.head
        head = HeadConfig(
            kind=first.kind, labels=first.labels, multi_label=first.multi_label, scheme=first.scheme
        )
        self.config = SimpleNamespace(head=head, encoder=None, decoder=None, has_output=False)
        self.transitions = mean_transitions(members, orders)

    def forward(self, *inputs: Any, **settings: Any) -> Tensor:
        """Say that there is no such thing as its logits."""
        raise CheckpointError(f"an ensemble has no logits of its own, ask one of its members; {ONE_MODEL}")


@dataclass
class Ensemble(Checkpoint):
    """Checkpoints whose answers are put together; each task does it in its `outputs`."""

    members: tuple[Checkpoint, ...] = ()
    orders: tuple[list[int], ...] = ()
    """Of each member, where in its scores the first one's labels stand."""


def open_checkpoint(path: str | Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint, or the `Ensemble` of several joined by `+` or made by `train --seeds`; each is loaded once.

    Raises CheckpointError where one is missing or does not go with the first.
    """
    names = member_names(path)
    if len(names) == 1:
        return load_checkpoint(names[0], device=device)
    if "+" not in str(path):
        say(f"{path}: the ensemble of {', '.join(Path(name).name for name in names)}")
    opened = {name: load_checkpoint(name, device=device) for name in dict.fromkeys(names)}
    return join(names, [opened[name] for name in names])


def join(names: Sequence[str], members: Sequence[Checkpoint]) -> Ensemble:
    """Return the ensemble of checkpoints with the same labels; their order, tokenizers and kinds may differ."""
    heads = [head_of(name, member) for name, member in zip(names, members)]
    first = heads[0]
    for name, head in zip(names, heads):
        alike = (head.kind, head.multi_label, head.scheme) == (first.kind, first.multi_label, first.scheme)
        if alike and (only := sorted(set(head.labels) ^ set(first.labels))):
            raise CheckpointError(
                f"{names[0]} and {name} have different labels ({only[0]!r} is of one alone); an ensemble needs the same"
            )
        if not alike:
            raise CheckpointError(f"{names[0]} and {name} are made for different tasks; {ONE_MODEL}")
    orders = tuple([head.labels.index(label) for label in first.labels] for head in heads)
    model = Committee([member.model for member in members], orders)
    return Ensemble(
        model.eval(),
        members[0].tokenizer,
        family="ensemble",
        decisions=mean_decisions([member.decisions for member in members]),
        members=tuple(members),
        orders=orders,
    )


def head_of(name: str, member: Checkpoint) -> HeadConfig:
    """Return a member's head, or say that it has none."""
    head: HeadConfig | None = getattr(member.model.config, "head", None)
    if head is None:
        why = (
            "vectors of different models cannot be averaged" if member.pooling else "this model has no labels"
        )
        raise CheckpointError(f"{name}: {why}; {ONE_MODEL}")
    if member.tokenizer is None:
        raise CheckpointError(f"{name}: has no tokenizer.json, so it cannot read text")
    return head


def mean_decisions(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means of the decisions that all have.

    >>> mean_decisions([{"a": 1.0, "b": 2.0}, {"a": 2.0}])
    {'a': 1.5}
    """
    return {
        name: sum(one[name] for one in each) / len(each)
        for name in each[0]
        if all(name in one for one in each)
    }


def mean_transitions(members: Sequence[Any], orders: Sequence[Sequence[int]]) -> Tensor | None:
    """Return the mean of how well one label follows another, (L + 1, L + 1), nothing where a member says nothing.

    None where none of the members does.
    """
    found = []
    for member, order in zip(members, orders):
        learned = getattr(member, "transitions", None)
        ends = [*order, len(order)]
        found.append(None if learned is None else learned.detach()[ends][:, ends].float().cpu())
    some = [each for each in found if each is not None]
    return torch.stack(some).sum(0) / len(found) if some else None
