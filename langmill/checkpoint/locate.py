"""From what a user calls a checkpoint to the folder that holds it. [checkpoint]

A name is a folder on this machine; only what cannot be one and looks like `organisation/name` is
asked for on the Hugging Face hub.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from langmill.core.errors import CheckpointError, LangmillError, did_you_mean
from langmill.core.files import read_json

logger = logging.getLogger("langmill")

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*\w")
WANTED = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model"]
"""Files of a hub repository that are downloaded."""
UNWANTED = ["*/*", "consolidated*", "*.onnx_data"]
"""Not these: further formats of the same weights, in subfolders or beside them."""


def locate(path: str | Path) -> Path:
    """Return the folder that holds a checkpoint, downloading it when it is named on the hub.

    Raises CheckpointError when there is no such folder, or it holds no checkpoint.
    """
    folder = Path(path)
    if folder.is_file():
        raise CheckpointError(f"{path}: a file; give the folder that holds it, with its config.json")
    if folder.is_dir():
        return check_folder(folder)
    if HUB_NAME.fullmatch(str(path)) and not folder.parent.exists():
        return check_folder(download(str(path)))
    siblings = (
        [str(folder.parent / each.name) for each in folder.parent.glob("*/")]
        if folder.parent.is_dir()
        else []
    )
    hint = did_you_mean(str(folder), siblings)
    raise CheckpointError(
        f"{path}: no such folder{hint or '; give a folder, or organisation/name for a hub model'}"
    )


def check_folder(folder: Path) -> Path:
    """Return `folder` if it has a config.json, or an adapter's, or say what it has instead."""
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return folder
    if inner := sorted(each.parent for each in folder.glob("*/config.json")):
        raise CheckpointError(f"{folder}: no config.json here; did you mean {inner[0]}?")
    if list(folder.glob("*.gguf")):
        raise CheckpointError(
            f"{folder}: holds GGUF files; give the folder with config.json and *.safetensors"
        )
    if (folder / "run.yaml").is_file():
        raise CheckpointError(f"{folder}: a run that has saved no model yet; let it go on, or resume it")
    raise CheckpointError(
        f"{folder}: no config.json; give a folder written by langmill or Transformers' save_pretrained"
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
