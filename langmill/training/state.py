"""What a run needs to go on as if it had never stopped. [training]

`state/step-00000200/` holds `tensors.safetensors` (trained weights, optimiser, averages, random state) and
`state.json` (everything that is not a tensor). Neither needs pickle. The folder appears whole, by a
rename, and only then is the one before it removed.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from langmill.core.errors import CheckpointError
from langmill.core.files import atomic_folder, read_json, remove_partial
from langmill.core.log import warn
from langmill.training.optimizers import Muon

KEPT = 2
"""States kept: the newest, and one before it should the newest prove damaged."""


def state_folder(run: Path, step: int) -> Path:
    """Return where the state after `step` steps lies."""
    return run / "state" / f"step-{step:08d}"


def saved_states(run: Path) -> list[Path]:
    """Return the run's saved states, newest first."""
    return sorted((run / "state").glob("step-*"), reverse=True)


def random_state() -> dict[str, Tensor]:
    """Return torch's generators as tensors."""
    tensors = {"random.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"random.cuda.{i}": t for i, t in enumerate(torch.cuda.get_rng_state_all())}
    return tensors


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def saved_seconds(run: Path) -> float:
    """Return how long the run has trained by its newest whole state; 0 where there is none."""
    for folder in saved_states(run):
        with contextlib.suppress(OSError, ValueError, KeyError):
            return float(read_json(folder / "state.json")["seconds"])
    return 0.0


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that training changes, tied ones once; what an adapter's base holds fast is not among them."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def pack(model: nn.Module, optimizer: Muon, extra: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return every tensor of a run under a name."""
    named = trained(model)
    tensors = {f"model.{name}": p.detach() for name, p in named.items()}
    names = {id(p): name for name, p in named.items()}
    for p, values in optimizer.state.items():
        tensors |= {f"optimizer.{names[id(p)]}.{key}": value for key, value in values.items()}
    return tensors | extra | random_state()


def save_state(run: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write the state after `step` steps and remove the older ones."""
    with atomic_folder(state_folder(run, step)) as folder:
        save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "tensors.safetensors")
        (folder / "state.json").write_text(json.dumps(facts, indent=2))
    for old in saved_states(run)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def load_newest_state(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the newest whole state's tensors and facts; None where there is none.

    Raises CheckpointError when states exist and none can be read.
    """
    remove_partial(run / "state")
    faults: dict[Path, str] = {}
    for folder in saved_states(run):
        try:
            found = load_file(folder / "tensors.safetensors"), read_json(folder / "state.json")
        except (SafetensorError, OSError, ValueError) as error:
            faults[folder] = f"{folder.name}: {error}"
            continue
        for damaged, fault in faults.items():
            warn(f"{run}: a saved state is damaged and removed ({fault}); going on from {folder.name}")
            shutil.rmtree(damaged, ignore_errors=True)
        return found
    if faults:
        raise CheckpointError(
            f"{run}: no saved state can be read ({'; '.join(faults.values())}); start again with another -o, or give"
            f" --from {run} to go on from its weights alone"
        )
    return None


@torch.no_grad()
def unpack(tensors: dict[str, Tensor], model: nn.Module, optimizer: Muon) -> dict[str, Tensor]:
    """Put a state's tensors back; return those of neither the model, the optimiser nor the generators."""
    named = trained(model)
    missing = [name for name in named if f"model.{name}" not in tensors]
    wrong = [name for name, p in named.items() if not missing and tensors[f"model.{name}"].shape != p.shape]
    if missing or wrong:
        raise CheckpointError(
            f"the saved state is of another model: no value for {missing}, other shapes for {wrong}"
        )
    rest: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        kind, _, inner = name.partition(".")
        if kind == "model":
            named[inner].copy_(tensor)
        elif kind == "optimizer":
            owner, _, key = inner.rpartition(".")
            p = named[owner]
            optimizer.state[p][key] = tensor.to(p.device)
        elif kind != "random":
            rest[name] = tensor
    torch.set_rng_state(tensors["random.torch"])
    if torch.cuda.is_available() and "random.cuda.0" in tensors:
        count = torch.cuda.device_count()
        torch.cuda.set_rng_state_all(
            [tensors[f"random.cuda.{i}"] for i in range(count) if f"random.cuda.{i}" in tensors]
        )
    return rest
