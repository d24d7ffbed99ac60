"""Does a checkpoint hold: its files, its tokenizer, and the equivalences. [evaluation]"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.checkpoint.locate import locate
from langmill.core.errors import CheckpointError
from langmill.core.log import format_count
from langmill.evaluation.equivalences import (
    LARGEST_COPY_BYTES,
    Check,
    model_checks,
    ours_is_transformers,
    saved_is_original,
    tokenizer_is_transformers,
)
from langmill.models.bag import BagConfig
from langmill.models.crf import CrfConfig
from langmill.models.heads import HeadedConfig
from langmill.models.ngram_decoder import NgramConfig
from langmill.models.recurrent import RecurrentConfig
from langmill.tokens.tokenizer import Tokenizer

SAMPLES = {
    "English": "It was the best of times, it was the worst of times; 1859, isn't it?\n",
    "中文": "满纸荒唐言，一把辛酸泪！都云作者痴，谁解其中味？——《红楼梦》第1回",
    "code": "def add(a: int, b=2) -> int:\n    return a + b  # sum\n\tx[0] != {'k': \"v\"}\n",
    "emoji": "👩‍👩‍👧 🇨🇳 ❤️ café naïve – „x“ …",
}
"""What the tokenizer must bring back. All is in Unicode's composed form, which many make of a text."""
EXACT_KINDS = ("bpe", "char")
"""Kinds of tokenizer that promise every text back; others lose case, blanks or rare characters by design."""


def check_checkpoint(path: str | Path) -> Iterator[Check]:
    """Yield the checks of a checkpoint, in order, as they are done.

    Raises CheckpointError when there is no checkpoint at `path`; one that is damaged gives a failed check.
    """
    place = locate(path)
    try:
        checkpoint = load_checkpoint(place)
    except CheckpointError as error:
        yield Check("opens", math.nan, 0.0, str(error))
        return
    model: Any = checkpoint.model
    yield Check("opens", 0.0, 0.0, describe(checkpoint))
    yield finite(model)
    with hugging_face_folder(place, checkpoint) as folder:
        if checkpoint.tokenizer is None:
            yield Check("tokenizer", None, 0.0, "there is no tokenizer.json; the model reads ids only")
        else:
            yield vocabularies(checkpoint.tokenizer, model.config.vocabulary)
            yield round_trip(checkpoint.tokenizer)
            if folder:
                yield tokenizer_is_transformers(folder, checkpoint.tokenizer, SAMPLES)
        yield from model_checks(model)
        yield saved_is_original(checkpoint)
        if folder:
            yield ours_is_transformers(folder, model, checkpoint.family)


@contextlib.contextmanager
def hugging_face_folder(place: Path, checkpoint: Checkpoint) -> Iterator[Path | None]:
    """Yield a folder for Transformers: the checkpoint's own, of a GGUF file a copy; None where that is too large."""
    size = sum(p.numel() * p.element_size() for p in checkpoint.model.parameters())
    if place.is_dir() or size > LARGEST_COPY_BYTES:
        yield place if place.is_dir() else None
        return
    with tempfile.TemporaryDirectory(prefix="langmill-doctor-") as folder:
        save_checkpoint(folder, checkpoint)
        yield Path(folder)


def describe(checkpoint: Checkpoint) -> str:
    """Say what a checkpoint is, in a line."""
    config: Any = checkpoint.model.config
    stack = config.output_stack
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    if isinstance(config, NgramConfig):
        return (
            f"{checkpoint.family}, order {config.order}: {format_count(sum(config.ngrams))} n-grams, "
            f"vocabulary {config.vocabulary}"
        )
    if isinstance(config, BagConfig):
        return (
            f"{checkpoint.family}, {config.recipe}: {format_count(sum(config.features))} n-grams, "
            f"{len(config.head.labels)} labels, vocabulary {config.vocabulary}"
        )
    if isinstance(config, CrfConfig):
        return (
            f"{checkpoint.family}: {format_count(config.features)} features, {len(config.head.labels)} tags, vocabulary"
            f" {config.vocabulary}"
        )
    inside = stack.kind if isinstance(stack, RecurrentConfig) else f"{stack.heads} heads"
    return (
        f"{checkpoint.family}, {format_count(parameters)} parameters: {stack.layers} layers, "
        f"width {stack.width}, {inside}, context {stack.max_positions}, "
        f"vocabulary {config.vocabulary}"
        + (f", head for {config.head.kind}" if isinstance(config, HeadedConfig) else "")
    )


def finite(model: torch.nn.Module) -> Check:
    """Count weights that are infinite or not a number."""
    bad = {name: int((~torch.isfinite(p)).sum()) for name, p in model.named_parameters()}
    named = [name for name, count in bad.items() if count]
    note = f"in {', '.join(named[:3])}{' …' if len(named) > 3 else ''}" if named else ""
    return Check("weights are finite", float(sum(bad.values())), 0.0, note)


def vocabularies(tokenizer: Tokenizer, vocabulary: int) -> Check:
    """Count ids of the tokenizer for which the model has no embedding; the other way round is padding."""
    ids = tokenizer.backend.get_vocab(with_added_tokens=True).values()
    missing = sum(number >= vocabulary for number in ids)
    spare = vocabulary - max(ids, default=-1) - 1
    note = f"{tokenizer.vocabulary_size} tokens"
    return Check(
        "vocabularies agree",
        float(missing),
        0.0,
        note + (f", {spare} embeddings unused" if spare > 0 else ""),
    )


def round_trip(tokenizer: Tokenizer) -> Check:
    """Count the samples that do not come back from their tokens as they were."""
    lost = [
        kind
        for kind, text in SAMPLES.items()
        if tokenizer.decode(tokenizer.encode(text), skip_special=False) != text
    ]
    if tokenizer.kind in EXACT_KINDS or not lost:
        note = f"changed: {', '.join(lost)}" if lost else f"{tokenizer.kind}: {', '.join(SAMPLES)}"
        return Check("tokenizer round trip", float(len(lost)), 0.0, note)
    note = f"a {tokenizer.kind} tokenizer need not give a text back; changed: {', '.join(lost)}"
    return Check("tokenizer round trip", None, 0.0, note)
