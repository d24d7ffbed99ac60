"""Fused element-wise kernels for training on a CPU, with plain PyTorch where they cannot work. [models]

`kernels.c` is compiled once, in about a second, by the C compiler that torch.compile needs too, and
kept in the cache folder. Without a compiler, on a GPU, in another precision or under torch.compile the
same functions are ordinary PyTorch; `LANGMILL_FUSED=0` chooses that everywhere.
"""

from langmill.models.fused.operations import (
    add_norm,
    attend,
    gate,
    gelu_tanh,
    linear,
    rotate_heads,
    score_loss_,
    usable,
)
from langmill.models.fused.recompute import recomputing

__all__ = [
    "add_norm",
    "attend",
    "gate",
    "gelu_tanh",
    "linear",
    "recomputing",
    "rotate_heads",
    "score_loss_",
    "usable",
]
