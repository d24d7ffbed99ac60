"""What sentence-transformers keeps beside a model: how the states of a text's tokens become its vector. [checkpoint]

modules.json             a transformer, a pooling, and perhaps normalising
1_Pooling/config.json    which states count        sentence_bert_config.json    how many tokens are read
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from langmill.checkpoint.locate import read_object
from langmill.core.errors import CheckpointError, LangmillError
from langmill.core.files import make_folder, read_json, write_json

logger = logging.getLogger("langmill")

MODULES, READING, SETTINGS = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
POOLING = "1_Pooling"
KIND = "sentence_transformers.models."
"""Begins the names of modules, in the spelling that every version of the library reads."""
MODES: dict[str, Literal["mean", "first", "last"]] = {"mean": "mean", "cls": "first", "lasttoken": "last"}
"""Their names of poolings."""
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Their former names, each true or false."""


@dataclass(frozen=True)
class SentencePooling:
    """How the states of a text's tokens become its vector."""

    pooling: Literal["mean", "first", "last"] = "mean"
    """The mean of all states, that of the first token, or of the last."""
    normalise: bool = True
    """The vector is made one long."""
    tokens: int = 0
    """Of a text that are read; 0: as many as the model can."""
    size: int = field(default=0, repr=False)
    """Numbers of a vector, its beginning, that are kept; 0: all. It is asked for, never written beside a model."""


def read_pooling(folder: Path) -> SentencePooling | None:
    """Return how a folder says that vectors are made; None where it does not say.

    Raises CheckpointError for what would make other vectors than langmill can.
    """
    path = folder / MODULES
    if not path.is_file():
        return None
    try:
        modules = read_json(path)
    except LangmillError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(modules, list) or not all(
        isinstance(each, dict) and isinstance(each.get("type"), str) for each in modules
    ):
        raise CheckpointError(f"{path}: expected a list of modules, each with a type")
    kinds = [each["type"].rpartition(".")[2] for each in modules]
    if (
        kinds[:2] != ["Transformer", "Pooling"]
        or kinds[2:] not in ([], ["Normalize"])
        or modules[0].get("path")
    ):
        raise CheckpointError(
            f"{path}: modules {', '.join(kinds) or 'none'} are not supported; langmill makes vectors by a Transformer in"
            " the folder itself, Pooling and perhaps Normalize"
        )
    place = folder / str(modules[1].get("path", POOLING)) / "config.json"
    reading = read_object(folder / READING) if (folder / READING).is_file() else {}
    if (folder / SETTINGS).is_file() and (
        prompt := read_object(folder / SETTINGS).get("default_prompt_name")
    ):
        logger.warning("%s: the prompt %r is not put before texts; write it there yourself", folder, prompt)
    tokens = reading.get("max_seq_length") or 0
    if type(tokens) is not int or tokens < 0:
        raise CheckpointError(f"{folder / READING}: max_seq_length {tokens!r} is not a number of tokens")
    return SentencePooling(MODES[pooling_mode(read_object(place), place)], kinds[2:] == ["Normalize"], tokens)


def pooling_mode(theirs: Mapping[str, Any], source: Path) -> str:
    """Return the one pooling that a config.json names, in either spelling."""
    named = theirs.get("pooling_mode") or [mode for flag, mode in FLAGS.items() if theirs.get(flag)]
    modes = [named] if isinstance(named, str) else list(named)
    if len(modes) != 1 or modes[0] not in MODES:
        raise CheckpointError(
            f"{source}: pooling {', '.join(map(str, modes)) or 'none'} is not supported; it must be one of {', '.join(MODES)}"
        )
    return str(modes[0])


def write_pooling(folder: Path, pooling: SentencePooling, *, width: int) -> None:
    """Write the files that make a folder with a model one of sentence-transformers. width: of the states."""
    theirs = next(name for name, ours in MODES.items() if ours == pooling.pooling)
    make_folder(folder / POOLING)
    flags = {flag: mode == theirs for flag, mode in FLAGS.items()}
    write_json(folder / POOLING / "config.json", {"word_embedding_dimension": width, **flags})
    if pooling.tokens:
        write_json(folder / READING, {"max_seq_length": pooling.tokens, "do_lower_case": False})
    modules = [("", "Transformer"), (POOLING, "Pooling")]
    modules += [("2_Normalize", "Normalize")] if pooling.normalise else []
    write_json(
        folder / MODULES,
        [
            {"idx": number, "name": str(number), "path": path, "type": KIND + kind}
            for number, (path, kind) in enumerate(modules)
        ],
    )
