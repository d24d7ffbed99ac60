"""Weights to and from safetensors files, one or several. [checkpoint]

Tensors are read one at a time, straight into the model, so that loading needs the memory of the
model and of one tensor.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from langmill.checkpoint.locate import read_object
from langmill.core.errors import CheckpointError
from langmill.core.files import (
    PARTIAL,
    atomic_write,
    make_folder,
    sync_folder,
    write_json,
    writing_to,
)
from langmill.models.families import Family, Pairing, pair_weights
from langmill.models.families.table import pattern, with_head

logger = logging.getLogger("langmill")

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
MAX_SHARD_BYTES = 5_000_000_000
READABLE = ("F64", "F32", "F16", "BF16")
WHOLE = ("I64", "I32")
"""Types of counts, which no weight has that is not quantised."""


class Stored(Protocol):
    """A tensor in a file, not read yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...

    @property
    def readable(self) -> bool: ...

    def read(self) -> Tensor: ...


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    """safetensors' name for it: F32, BF16 …"""

    @property
    def readable(self) -> bool:
        """Whether its values are plain numbers."""
        return self.dtype in READABLE

    def read(self) -> Tensor:
        """Return the tensor, backed by the file until it is copied."""
        with opened(self.file) as file:
            return file.get_tensor(self.name)


@dataclass(frozen=True)
class Normed:
    """A weight that files hold as a length g and a direction v, w = g · v / |v|: weight normalisation.

    Salimans and Kingma 2016, arXiv:1602.07868, section 2.
    """

    direction: Stored
    length: Stored

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight, which is v's."""
        return self.direction.shape

    @property
    def dtype(self) -> str:
        """Of v."""
        return self.direction.dtype

    @property
    def readable(self) -> bool:
        """Whether both are plain numbers."""
        return self.direction.readable and self.length.readable

    def read(self) -> Tensor:
        """Return w. The norms run over the dimensions in which g has size 1, or over all where it is a number."""
        g, v = self.length.read(), self.direction.read()
        dims = [dim for dim in range(v.ndim) if g.ndim == 0 or g.shape[dim] == 1]
        return v * (g / torch.linalg.vector_norm(v, dim=dims, keepdim=True))


WEIGHT_NORMS = {
    "weight_v": "weight_g",  # torch.nn.utils.weight_norm
    "parametrizations.weight.original1": "parametrizations.weight.original0",  # parametrizations.weight_norm
}
"""Ends of the names of a direction and of its length, as the two ways of PyTorch write them."""


def fold_weight_norms(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return tensors with every length and direction made into the plain weight that they stand for."""
    plain = dict(tensors)
    for name, v in tensors.items():
        for direction, length in WEIGHT_NORMS.items():
            stem = name.removesuffix(direction)
            g = plain.get(stem + length)
            if stem != name and g is not None and len(g.shape) in (0, len(v.shape)):
                del plain[name], plain[stem + length]
                plain[f"{stem}weight"] = Normed(v, g)
    if folded := len(tensors) - len(plain):
        logger.warning("weight normalisation folded into %d plain weights", folded)
    return plain


@contextmanager
def opened(path: Path) -> Iterator[safe_open]:
    """Open a safetensors file, or raise CheckpointError that says what ails it.

    Opening anew for each tensor costs little, and gives back the memory that the last one mapped.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or cut short ({error}); copy or save it again") from error
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({os.strerror(error.errno) if error.errno else error})"
        ) from error


def some(names: Iterable[str], *, limit: int = 6) -> str:
    """Return names as a list that stays short.

    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    names = sorted(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


# ------------------------------------------------------------------------------------------------
# Reading


def weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """Return the files that hold a folder's weights, each with the names that an index promises."""
    if (folder / SINGLE).is_file():
        return {folder / SINGLE: None}
    if (folder / INDEX).is_file():
        return indexed_files(folder)
    if shards := [each for each in folder.iterdir() if SHARD.fullmatch(each.name)]:
        raise CheckpointError(
            f"{folder}: {len(shards)} parts of the weights but no {INDEX}; copy or save it again"
        )
    if pickled := sorted(
        each.name for pat in ("*.bin", "*.pt", "*.pth", "*.ckpt") for each in folder.glob(pat)
    ):
        raise CheckpointError(
            f"{folder}: pickled weights ({some(pickled, limit=2)}) can run code and are never read; convert "
            "them with Transformers: from_pretrained(…), then save_pretrained(…), which writes safetensors"
        )
    raise CheckpointError(
        f"{folder}: config.json but no {SINGLE}; the model has not been saved yet, or not copied whole"
    )


def indexed_files(folder: Path) -> dict[Path, set[str] | None]:
    """Return the files that an index names, each with what it should hold."""
    where = read_object(folder / INDEX).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(each, str) for each in where.values()):
        raise CheckpointError(f"{folder / INDEX}: no weight_map from tensors to files; copy or save it again")
    files: dict[Path, set[str] | None] = {}
    for file in sorted(set(where.values())):
        if Path(file).name != file:
            raise CheckpointError(
                f"{folder / INDEX}: {file!r} lies outside the folder; it must be a file's name"
            )
        files[folder / file] = {name for name, each in where.items() if each == file}
    if absent := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(f"{folder}: {len(absent)} of {len(files)} weight files missing: {some(absent)}")
    return files


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Return every tensor in a folder's files by name, from their headers alone."""
    tensors: dict[str, Stored] = {}
    for path, promised in weight_files(folder).items():
        with opened(path) as file:
            names = set(file.keys())
            if promised is not None and names != promised:
                raise CheckpointError(
                    f"{path}: does not hold what {INDEX} says ({some(names ^ promised)}); "
                    "copy or save all parts again"
                )
            for name in names:
                part = file.get_slice(name)
                tensors[name] = StoredTensor(path, name, tuple(part.get_shape()), part.get_dtype())
    return tensors


def match_names(
    family: Family, tensors: Mapping[str, Stored], pairings: Mapping[str, Pairing]
) -> dict[str, Stored]:
    """Return the tensors under their names in the table; what cannot be matched keeps its name.

    Files of a bare model lack the family's prefix. What the family ignores or has no use for is left out.
    """
    without = [pattern(each) for each in (*family.ignore, *family.unused)]
    matched = {}
    for name, tensor in tensors.items():
        full = name if name in pairings or name.startswith(family.prefix) else family.prefix + name
        if full in pairings:
            matched[full] = tensor
        elif not any(each.fullmatch(known) for each in without for known in (name, full)):
            matched[name] = tensor
    return matched


def check_fit(source: Path, tensors: Mapping[str, Stored], pairings: Mapping[str, Pairing]) -> None:
    """Raise one CheckpointError with everything that keeps `tensors` from filling the model."""
    faults = []
    needed = [name for name, pairing in pairings.items() if not (pairing.tied or pairing.zero_if_absent)]
    if missing := [name for name in needed if name not in tensors]:
        faults.append(f"{len(missing)} missing: {some(missing)}")
    if unknown := [name for name in tensors if name not in pairings]:
        faults.append(f"{len(unknown)} unknown: {some(unknown)}")
    both = [(name, tensors[name], pairings[name]) for name in pairings if name in tensors]
    if misshapen := [f"{name} is {t.shape}, not {p.shape}" for name, t, p in both if t.shape != p.shape]:
        faults.append(f"{len(misshapen)} of another shape: {some(misshapen)}")
    if coded := [
        f"{name} ({t.dtype})" for name, t, p in both if not (t.dtype in WHOLE if p.whole else t.readable)
    ]:
        faults.append(f"{len(coded)} quantised: {some(coded)}")
    if faults:
        told = "config.json" if source.is_dir() else "what the file says of the model"
        raise CheckpointError(f"{source}: the weights do not fit {told}: {'; '.join(faults)}")


@torch.no_grad()
def load_weights(
    source: Path, model: nn.Module, family: Family, tensors: Mapping[str, Stored] | None = None
) -> None:
    """Fill `model` with a folder's weights, cast to the model's type.

    tensors: what a file of another kind, `source`, holds under Hugging Face's names.

    Raises CheckpointError, before any weight is changed, when a file is missing or damaged or when
    names or shapes do not fit; and when a weight that config.json ties differs from its twin.
    """
    pairings = pair_weights(family, model)
    stored = stored_tensors(source) if tensors is None else tensors
    tensors = match_names(with_head(family, model), fold_weight_norms(stored), pairings)
    check_fit(source, tensors, pairings)
    own = dict(model.named_parameters(remove_duplicate=False))
    for name, pairing in pairings.items():
        if name not in tensors:
            if pairing.zero_if_absent and not pairing.tied:
                own[pairing.ours[0]].zero_()
            continue
        parts = pairing.operation.read(tensors[name].read())
        for target, part in zip(pairing.ours, parts, strict=True):
            if not pairing.tied:
                own[target].copy_(part)
            elif not torch.equal(own[target], part.to(own[target])):
                raise CheckpointError(
                    f"{source}: config.json ties {name} to the token embedding, but stores other values; "
                    "set tie_word_embeddings to false in config.json"
                )


# ------------------------------------------------------------------------------------------------
# Writing


def gather(pairings: Iterable[Pairing], own: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return their tensors, on the CPU and contiguous."""
    return {
        each.theirs: each.operation.write([own[name].detach() for name in each.ours]).contiguous().cpu()
        for each in pairings
    }


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write one safetensors file and flush it."""
    save_file(tensors, path, metadata={"format": "pt"})
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def plan_shards(
    pairings: Iterable[Pairing], own: Mapping[str, nn.Parameter], max_shard_bytes: float
) -> list[list[Pairing]]:
    """Group tensors, in order, into files of at most `max_shard_bytes`, a larger one by itself."""
    shards: list[list[Pairing]] = [[]]
    room = max_shard_bytes
    for pairing in pairings:
        size = sum(own[name].nbytes for name in pairing.ours)
        if size > room and shards[-1]:
            shards.append([])
            room = max_shard_bytes
        shards[-1].append(pairing)
        room -= size
    return shards


def save_weights(
    folder: str | Path, model: nn.Module, family: Family, *, max_shard_bytes: float = MAX_SHARD_BYTES
) -> None:
    """Write a model's weights as its family names them, in the type that they have.

    One file is replaced whole. Several are first written aside, then renamed, the index last; a
    process killed between the renames leaves no index, which loading reports.
    """
    folder = make_folder(Path(folder))
    own = dict(model.named_parameters(remove_duplicate=False))
    pairings = [each for each in pair_weights(family, model).values() if not each.tied]
    shards = plan_shards(pairings, own, max_shard_bytes)
    if len(shards) == 1:
        atomic_write(folder / SINGLE, lambda path: write_tensors(path, gather(pairings, own)))
        kept = {SINGLE}
    else:
        kept = write_shards(folder, shards, own)
    for each in folder.iterdir():  # what an earlier save with other sizes left
        if (each.name in (SINGLE, INDEX) or SHARD.fullmatch(each.name)) and each.name not in kept:
            each.unlink()


def write_shards(folder: Path, shards: list[list[Pairing]], own: Mapping[str, nn.Parameter]) -> set[str]:
    """Write the files of a sharded model and their index; return their names."""
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    aside = [folder / f"{PARTIAL}{name}" for name in names]
    with writing_to(folder):
        try:
            for path, shard in zip(aside, shards, strict=True):
                write_tensors(path, gather(shard, own))
            (folder / INDEX).unlink(missing_ok=True)
            for path, name in zip(aside, names, strict=True):
                os.replace(path, folder / name)
            sync_folder(folder)
        finally:
            for path in aside:
                path.unlink(missing_ok=True)
    where = {pairing.theirs: name for name, shard in zip(names, shards, strict=True) for pairing in shard}
    total = sum(own[name].nbytes for shard in shards for pairing in shard for name in pairing.ours)
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))})
    return {INDEX, *names}
