"""Not keeping for the way back what a cheap kernel can compute again. [models]

A layer's products keep their inputs for the gradients of their weights. Half of those inputs are the
output of a norm, a rotation or an activation whose own inputs are kept as well; computing them again
costs one pass over them, keeping them costs a third of the memory of training.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

_scopes: list[dict[int, tuple[weakref.ref[Tensor], Callable[[], Tensor]]]] = []
"""For every `recomputing` that lasts, innermost last: address → the tensor that lies there, how to compute it."""


def recomputable(out: Tensor, again: Callable[[], Tensor]) -> None:
    """Note that `again()` gives what `out` holds: under `recomputing`, nothing keeps `out` for backward.

    `again` must hold on to nothing but what is kept anyway, and give the very same numbers.
    """
    if _scopes:
        _scopes[-1][out.data_ptr()] = weakref.ref(out), again


@contextlib.contextmanager
def recomputing() -> Iterator[None]:
    """While this lasts, operations that keep a `recomputable` tensor keep the way to compute it instead."""
    known: dict[int, tuple[weakref.ref[Tensor], Callable[[], Tensor]]] = {}
    _scopes.append(known)

    def pack(tensor: Tensor) -> Any:
        found = known.get(tensor.data_ptr())
        # Where the tensor is gone its address may be another's by now.
        if found is None or found[0]() is None or tensor.dtype != torch.float32:
            return tensor.detach()
        return found[1], tensor.shape, tensor.stride()

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        again, shape, stride = packed
        return torch.as_strided(again(), shape, stride)

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield
    finally:
        _scopes.pop()
