"""Several processes as one: the only place that knows torch.distributed. [core]

Everything else asks `world()`; with one process its operations do nothing. `torchrun` sets the
environment that `join` reads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def sum(self, *values: Tensor) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size > 1:
            import torch.distributed as dist

            for value in values:
                dist.all_reduce(value)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over all processes, in one message a data type."""
        if self.size == 1:
            return
        import torch

        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        self.sum(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(total.view_as(gradient))

    def gather(self, value: Tensor) -> list[Tensor]:
        """Return the `value` (n, …) of every process in order, each with an n of its own.

        This process's own goes on having a gradient, the others' have none.
        """
        if self.size == 1:
            return [value]
        import torch
        import torch.distributed as dist

        counts = [torch.zeros(1, dtype=torch.long, device=value.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(value)], device=value.device))
        longest = max(map(int, counts))
        padded = value.new_zeros(longest, *value.shape[1:])
        padded[: len(value)] = value.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        parts = [part[: int(count)] for part, count in zip(parts, counts)]
        parts[self.rank] = value
        return parts

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        if self.size == 1:
            return flag
        import torch

        count = torch.tensor(float(flag), device="cuda" if torch.cuda.is_available() else "cpu")
        self.sum(count)
        return bool(count > 0)

    def agree(self, value: float) -> float:
        """Return the main process's `value` in every process: clocks and measurements differ."""
        if self.size == 1:
            return value
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        shared = torch.tensor(value if self.is_main else 0.0, dtype=torch.float64, device=device)
        self.sum(shared)
        return float(shared)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process through the block alone, then all others at once: it fills the cache."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def leave(self) -> None:
        """End the group, before the process does."""
        if self.size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()


def world() -> World:
    """Return this process's place, as torchrun's environment tells it."""
    return World(
        rank=int(os.environ.get("RANK", "0")),
        size=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
    )


def join() -> World:
    """Join the group that torchrun started (NCCL with GPUs, gloo without); alone, do nothing."""
    here = world()
    if here.size > 1:
        import torch
        import torch.distributed as dist

        if torch.cuda.is_available():
            torch.cuda.set_device(here.local_rank)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return here
