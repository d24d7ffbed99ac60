"""A checkpoint written as a plain folder for other programs. [checkpoint]"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch

from langmill.checkpoint.ensembles import Ensemble
from langmill.checkpoint.folder import Checkpoint, save_checkpoint
from langmill.checkpoint.heads import left_behind
from langmill.checkpoint.weights import MAX_SHARD_BYTES, some
from langmill.core.errors import CheckpointError, did_you_mean
from langmill.core.log import warn
from langmill.models.bag import BagClassifier
from langmill.models.crf import CrfTagger
from langmill.models.ngram_decoder import NgramDecoder
from langmill.text.documents import plural

DTYPES = ("float32", "bfloat16", "float16")
"""Types in which weights are written."""
FILES = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "head_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
)
"""What makes a folder a checkpoint, as patterns."""


def export_checkpoint(
    folder: str | Path,
    checkpoint: Checkpoint,
    *,
    dtype: str = "",
    max_shard_bytes: float = MAX_SHARD_BYTES,
    overwrite: bool = False,
) -> None:
    """Write a plain Hugging Face folder; see `save_checkpoint`, to which this adds what keeps users from loss.

    dtype: one of DTYPES; empty: as the model is. overwrite: replace the checkpoint that the folder holds.

    Raises CheckpointError where that would destroy a run, or what is to be written.
    """
    folder = Path(folder)
    if isinstance(checkpoint, Ensemble):
        raise CheckpointError(
            "an ensemble is several models, which no folder holds as one; of models of one layout `langmill combine`"
            " makes one"
        )
    if dtype and dtype not in DTYPES:
        raise CheckpointError(
            f"dtype {dtype!r} is not allowed; use {', '.join(DTYPES)}{did_you_mean(dtype, DTYPES)}"
        )
    make_room(folder, checkpoint, overwrite=overwrite)
    wanted = getattr(torch, dtype) if dtype else None
    if wanted not in (None, next(checkpoint.model.parameters()).dtype):
        checkpoint = replace(checkpoint, model=copy.deepcopy(checkpoint.model).to(wanted))
    if left := left_behind(checkpoint):
        warn(
            f"{folder} lacks {plural(len(left), 'weight')} of {checkpoint.base or checkpoint.folder}, for which this model"
            f" has no use: {some(left)}"
        )
    save_checkpoint(folder, checkpoint, max_shard_bytes=max_shard_bytes)


def check_known_elsewhere(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for a model of which no other program has the like."""
    if isinstance(checkpoint.model, BagClassifier | CrfTagger):
        raise CheckpointError(
            f"{checkpoint.folder}: a {'tagger' if isinstance(checkpoint.model, CrfTagger) else 'bag'} of n-grams is a layout of langmill's own, which no other program opens; for"
            " langmill copy the folder as it is"
        )
    if isinstance(checkpoint.model, NgramDecoder):
        raise CheckpointError(
            f"{checkpoint.folder}: an n-gram model is counts, which no other program opens as a checkpoint; for"
            " langmill copy the folder as it is"
        )


def make_room(folder: Path, checkpoint: Checkpoint, *, overwrite: bool) -> None:
    """See that a checkpoint may be written to a folder; with `overwrite`, delete the one that it holds."""
    if folder.resolve() in [each.resolve() for each in (checkpoint.folder, checkpoint.base) if each]:
        raise CheckpointError(f"{folder}: the model is read from there; write to another folder")
    if (folder / "run.yaml").is_file():
        raise CheckpointError(f"{folder}: holds a run, which is not written over; write to another folder")
    found = [path for each in FILES for path in sorted(folder.glob(each))]
    if found and not overwrite:
        raise CheckpointError(
            f"{folder}: already holds {found[0].name}; pass --overwrite to replace it, or write to another folder"
        )
    for path in found:
        path.unlink()
