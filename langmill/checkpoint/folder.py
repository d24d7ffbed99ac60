"""A checkpoint: a model, its tokenizer and their settings, as a Hugging Face directory. [checkpoint]

config.json              what the model is        generation_config.json   how it ends a text
model.safetensors        its weights              tokenizer.json …         its tokenizer

A GGUF file is read as if it were such a directory, and written as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from langmill.checkpoint.adapters import CONFIG as ADAPTER_CONFIG
from langmill.checkpoint.adapters import (
    HEAD,
    OWN,
    base_folder,
    is_adapter,
    load_adapter,
    stored_head,
    with_decisions,
)
from langmill.checkpoint.gguf import GgufModel, open_gguf
from langmill.checkpoint.heads import keep_known
from langmill.checkpoint.locate import DEMOS, locate, member_names, read_object
from langmill.checkpoint.sentences import MODULES, SentencePooling, read_pooling, write_pooling
from langmill.checkpoint.weights import MAX_SHARD_BYTES, load_weights, save_weights, weight_files
from langmill.core.errors import CheckpointError
from langmill.core.files import make_folder, write_json
from langmill.models.adapters import merge as merge_adapters
from langmill.models.adapters import merged_copy
from langmill.models.bag import BagConfig
from langmill.models.crf import CrfConfig
from langmill.models.families import FAMILIES, choose_family, find_family, read_config, write_config
from langmill.models.families.configs import LAYOUT
from langmill.models.families.table import Config
from langmill.models.heads import Headed, HeadedConfig
from langmill.models.initialise import allocate, under_head, without_scores
from langmill.models.protocol import Layerless, device_of

if TYPE_CHECKING:
    from langmill.tokens.tokenizer import Tokenizer

TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
START = "decoder_start_token_id"
ANSWERING = re.compile(
    "(For(SequenceClassification|TokenClassification|QuestionAnswering)|^Langmill(Bag|Crf))$"
)
"""Classes of models with a head for labels or spans."""


@dataclass
class Checkpoint:
    """A model with what is needed to use it, in memory."""

    model: Any
    """A Transformer, a recurrent network, an n-gram model, a bag or tagger of n-grams, or one of the first two under a head."""
    tokenizer: Tokenizer | None = None
    family: str = ""
    """The name under which it is written; empty: the first family that can describe the model."""
    config: dict[str, Any] = field(default_factory=dict)
    """config.json as read; empty for a new model. Saving brings it up to date."""
    generation: dict[str, Any] = field(default_factory=dict)
    """generation_config.json as read; empty for a new model."""
    folder: Path | None = None
    """Where it was read from: a folder or a GGUF file."""
    adapter: dict[str, Any] = field(default_factory=dict)
    """adapter_config.json as read, where an adapter was put on its base; else empty."""
    base: Path | None = None
    """Where that base was read from."""
    decisions: dict[str, float] = field(default_factory=dict)
    """How answers are read from a head's scores, such as a threshold: in config.json under OWN and the name."""
    pooling: SentencePooling | None = None
    """How its states become the vector of a text; None: it is not made for that, or does not say."""

    def __post_init__(self) -> None:
        if not self.family:
            self.family = choose_family(model_config(self.model)).name


def model_config(model: nn.Module) -> Config:
    """Return what a model is made of."""
    config = model.config
    assert isinstance(config, Config), "no kind of model that is saved"
    return config


def load_checkpoint(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    tokenizer: bool = True,
    merge: bool = True,
) -> Checkpoint:
    """Read a checkpoint from a folder, a GGUF file, or the hub by `organisation/name`.

    dtype: into which the weights are cast. tokenizer: read it too; a folder without one gives None.
    merge: an adapter is put on its base, which is read from where it says, and merged into it; False leaves
    it beside the base's weights. The model is in evaluation mode.

    Raises CheckpointError when something is missing, damaged, not supported or does not fit.
    """
    place = locate(path)
    if is_adapter(place):
        base = load_checkpoint(base_folder(place), dtype=dtype, device=device, tokenizer=tokenizer)
        own = load_tokenizer(place, model_config(base.model).vocabulary) if tokenizer else None
        adapter = load_adapted(place, base)
        if merge:
            merge_adapters(base.model)
        decisions = read_decisions(read_object(place / HEAD)) if (place / HEAD).is_file() else base.decisions
        headed = isinstance(base.model, Headed)  # then its states are scored, no longer pooled
        pooling = None if headed else read_pooling(place) or base.pooling
        if pooling:
            base.model = without_scores(base.model)
        return replace(
            base,
            tokenizer=own or base.tokenizer,
            folder=place,
            adapter=adapter,
            base=base.folder,
            decisions=decisions,
            pooling=pooling,
        )
    packed = open_gguf(place) if place.is_file() else None
    source = place if packed else place / "config.json"
    theirs = packed.config if packed else read_object(source)
    family = find_family(theirs, source=str(source))
    config = read_config(family, with_decisions(theirs, {}), source=str(source))
    if not packed:
        weight_files(place)
    generation = packed.generation if packed else read_generation(place)
    read = load_tokenizer(place, config.vocabulary, packed) if tokenizer else None
    model = allocate(config, dtype=dtype, device=device)
    load_weights(place, model, family, packed.tensors if packed else None)
    if isinstance(config, Layerless):
        model.verify(str(place))
    pooling = None if packed else read_pooling(place)
    if pooling:
        model = without_scores(model)
    return Checkpoint(
        model.eval(),
        read,
        family.name,
        theirs,
        generation,
        place,
        decisions=read_decisions(theirs),
        pooling=pooling,
    )


def is_checkpoint(path: str | Path) -> bool:
    """Say whether a name is that of a checkpoint on this machine, or of several, see `member_names`."""
    names = ("config.json", ADAPTER_CONFIG)
    places = map(Path, member_names(path))
    return any(
        str(place) in DEMOS or place.suffix == ".gguf" or any((place / name).is_file() for name in names)
        for place in places
    )


def gives_answers(path: str | Path) -> bool:
    """Say whether a checkpoint labels texts, tokens or spans, or makes vectors of texts, from its settings alone.

    Of several, see `member_names`, whether one does. Raises CheckpointError where there is no checkpoint.
    """
    if len(members := member_names(path)) > 1:
        return any(gives_answers(name) for name in members)
    place = locate(path)
    if place.is_file():
        return False
    if (place / MODULES).is_file():
        return True
    if is_adapter(place):
        return read_object(place / ADAPTER_CONFIG).get("task_type") not in (None, "CAUSAL_LM")
    names = read_object(place / "config.json").get("architectures") or [""]
    bare = {family.bare for family in FAMILIES.values() if family.bare}
    return names[0] in bare or bool(ANSWERING.search(str(names[0])))


def read_decisions(theirs: Mapping[str, Any]) -> dict[str, float]:
    """Return the decisions that a config.json holds."""
    return {
        key.removeprefix(OWN): float(value)
        for key, value in theirs.items()
        if key.startswith(OWN) and isinstance(value, (int, float))
    }


def load_adapted(place: Path, base: Checkpoint) -> dict[str, Any]:
    """Put a folder's adapter, and the head that it brings, on its base; return its adapter_config.json."""
    family = FAMILIES[base.family]
    known = {name for name, _ in base.model.named_parameters()}
    if head := stored_head(place, family, base.config):
        model = under_head(base.model, head)
        known = keep_known(base, model)
        base.model = model.to(device_of(base.model))
    return load_adapter(place, base.model, family, known=known)


def read_generation(folder: Path) -> dict[str, Any]:
    """Return a folder's generation_config.json, which need not be there."""
    path = folder / "generation_config.json"
    return read_object(path) if path.is_file() else {}


def load_tokenizer(place: Path, vocabulary: int, packed: GgufModel | None = None) -> Tokenizer | None:
    """Read the tokenizer of a folder or GGUF file; check that the model has an embedding for each of its ids."""
    from langmill.tokens.gguf import read_tokenizer
    from langmill.tokens.older import has_older
    from langmill.tokens.tokenizer import Tokenizer

    if packed:
        tokenizer = read_tokenizer(packed.header)
    elif (place / "tokenizer.json").is_file() or has_older(place):
        tokenizer = Tokenizer.load(place)
    else:
        tokenizer = None
    if tokenizer is not None:
        check_vocabulary(tokenizer, vocabulary, source=str(place))
    return tokenizer


def check_vocabulary(tokenizer: Tokenizer, vocabulary: int, *, source: str) -> None:
    """Raise CheckpointError when the tokenizer gives ids that the model has no embedding for."""
    needed = max(tokenizer.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if needed > vocabulary:
        raise CheckpointError(
            f"{source}: the tokenizer gives ids up to {needed - 1}, the model's vocabulary has {vocabulary}; "
            "they do not belong together"
        )


def save_checkpoint(
    folder: str | Path, checkpoint: Checkpoint, *, max_shard_bytes: float = MAX_SHARD_BYTES
) -> None:
    """Write a checkpoint that langmill and Transformers open.

    Each file is replaced whole, the weights last: in a new folder a killed process leaves no weights
    rather than half a model. max_shard_bytes: weights that take more are split into several files.
    Bring weights alone up to date with `save_weights`. Adapters are merged, in a copy.
    """
    folder = Path(folder)
    family = FAMILIES[checkpoint.family]
    tokenizer = checkpoint.tokenizer
    config = model_config(checkpoint.model)
    if tokenizer is not None:
        check_vocabulary(tokenizer, config.vocabulary, source=str(folder))
    dtype = str(next(checkpoint.model.parameters()).dtype).removeprefix("torch.")
    theirs = write_config(family, config, base=checkpoint.config, dtype=dtype)
    theirs |= token_ids(theirs, tokenizer)
    theirs = with_decisions(theirs, checkpoint.decisions)
    if config.encoder and config.decoder:
        end, pad = theirs["eos_token_id"], theirs["pad_token_id"]
        if theirs.get(START) is None and isinstance(end, int) and pad is not None:
            theirs[START] = start_id(checkpoint.family, end, pad)
        # Where nothing stands Transformers' classes have a default, another token than ours.
        theirs.setdefault("forced_eos_token_id", None)
    if isinstance(config, HeadedConfig) and theirs["pad_token_id"] is None:
        # Where a text ends they see by this id alone; without it they read no two texts at once.
        end = theirs["eos_token_id"]
        theirs["pad_token_id"] = end[0] if isinstance(end, list) else end
    make_folder(folder)
    write_json(folder / "config.json", theirs)
    if checkpoint.pooling is not None:
        write_pooling(folder, checkpoint.pooling, width=config.output_stack.width)
    elif not isinstance(config, HeadedConfig | BagConfig | CrfConfig):
        generation = generation_config(checkpoint.generation, theirs, tokenizer)
        write_json(folder / "generation_config.json", generation)
    if tokenizer is not None:
        tokenizer.save(folder)
    save_weights(folder, merged_copy(checkpoint.model), family, max_shard_bytes=max_shard_bytes)


def token_ids(known: Mapping[str, Any], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return the ids that begin, end and pad a text: the tokenizer's, else what is known already.

    A list that has the tokenizer's id among others (a model may end in several ways) stays.
    """
    ids: dict[str, Any] = {}
    for key in TOKEN_IDS:
        old = known.get(key)
        new = getattr(tokenizer, key.removesuffix("_token_id") + "_id", None)
        keep = new is None or (isinstance(old, list) and new in old)
        ids[key] = old if keep else new
    return ids


def start_id(family: str, end: int, pad: int) -> int:
    """Return what an encoder-decoder's text begins with: T5 and Marian take the padding token, BART the end."""
    return end if family == "bart" else pad


def generation_config(
    known: Mapping[str, Any], config: Mapping[str, Any], tokenizer: Tokenizer | None
) -> dict[str, Any]:
    """Return the whole generation_config.json, keeping what is known already."""
    if known:
        ids = token_ids(known, tokenizer)
        return {**known, **{key: value for key, value in ids.items() if value is not None}}
    ids = {key: config[key] for key in (*TOKEN_IDS, START) if config.get(key) is not None}
    return {"_from_model_config": True, **ids, "transformers_version": LAYOUT, "use_cache": True}
