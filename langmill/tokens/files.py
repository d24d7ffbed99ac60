"""Tokenizer files in the Hugging Face layout: `tokenizer.json`, its config, the chat template. [tokens]"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, processors
from tokenizers import Tokenizer as Backend

from langmill.core.errors import CheckpointError
from langmill.core.files import atomic_write, write_json
from langmill.tokens.tokenizer import SpecialTokens, Tokenizer

TOKENIZER = "tokenizer.json"
TARGET = "target_tokenizer.json"
"""Our own file: how a model's answers are cut where that differs from its input (Marian)."""
CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
OLDER = ("special_tokens_map.json", "added_tokens.json")
"""Written beside the config by Transformers before v5; read, and replaced on saving."""

ROLES = tuple(field.name for field in fields(SpecialTokens))
UNLIMITED_TOKENS = 10**15
"""Transformers writes an enormous `model_max_length` (10^30) for "not known"."""


def save_files(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files of `tokenizer` into `folder`."""
    atomic_write(folder / TOKENIZER, tokenizer.backend.to_str(pretty=True))
    write_json(folder / CONFIG, config_of(tokenizer))
    if tokenizer.target is not tokenizer:
        atomic_write(folder / TARGET, tokenizer.target.backend.to_str(pretty=True))
    else:
        (folder / TARGET).unlink(missing_ok=True)
    template = folder / TEMPLATE
    if tokenizer.chat_template is not None:
        atomic_write(template, tokenizer.chat_template)
    else:
        template.unlink(missing_ok=True)
    for name in OLDER:
        (folder / name).unlink(missing_ok=True)


def config_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the `tokenizer_config.json` of `tokenizer`.

    `PreTrainedTokenizerFast` is the one class name that every Transformers version opens as "what
    tokenizer.json says" (v5 calls it TokenizersBackend). `model_input_names` matters: by default
    Transformers also returns token types, which decoders refuse.
    """
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **tokenizer.config,
    }
    if tokenizer.specials.cls is not None and "model_input_names" not in tokenizer.config:
        config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    for role in ROLES:
        token, key = getattr(tokenizer.specials, role), f"{role}_token"
        if token is None:
            config.pop(key, None)
        elif content_of(config.get(key)) != token:
            config[key] = token
    config.pop("model_max_length", None)
    if tokenizer.maximum_tokens is not None:
        config["model_max_length"] = tokenizer.maximum_tokens
    if isinstance(config.get("chat_template"), str):
        config.pop("chat_template")
    return config


def load_files(path: Path) -> Tokenizer:
    """Open the tokenizer at `path`: a folder, or its `tokenizer.json`."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such tokenizer; give a folder with a {TOKENIZER}, or that file")
    if path.suffix.lower() == ".gguf":
        return packed_tokenizer(path)
    folder, file = (path, path / TOKENIZER) if path.is_dir() else (path.parent, path)
    config = read_config(folder)
    target: Backend | None = None
    if file.exists():
        backend = read_backend(file)
        target = read_backend(folder / TARGET) if (folder / TARGET).exists() else None
    else:
        from langmill.tokens.older import read_older

        backend, target = read_older(folder, config)
    specials = SpecialTokens(**{role: content_of(config.get(f"{role}_token")) for role in ROLES})
    try:
        for each in (backend, target):
            if each is not None:
                add_declared(each, config, older=not file.exists())
                add_around(each, config)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: its special tokens are not understood ({error})"
        ) from error
    limit = config.pop("model_max_length", None)
    known = isinstance(limit, int | float) and 0 < limit < UNLIMITED_TOKENS
    return Tokenizer(
        backend,
        specials,
        chat_template=read_template(folder, config),
        maximum_tokens=int(limit) if known and limit is not None else None,
        config=config,
        target=None if target is None else Tokenizer(target, specials),
    )


def packed_tokenizer(path: Path) -> Tokenizer:
    """Open the tokenizer that a GGUF file holds."""
    from langmill.core.gguf import read_header
    from langmill.tokens.gguf import read_tokenizer

    tokenizer = read_tokenizer(read_header(path))
    if tokenizer is None:
        raise CheckpointError(f"{path}: holds no tokenizer; give a folder with a {TOKENIZER}")
    return tokenizer


def read_backend(file: Path) -> Backend:
    """Read a `tokenizer.json`, or raise a CheckpointError that says what is wrong with it."""
    tree = read_object(file)
    if not isinstance(tree.get("model"), dict):
        raise CheckpointError(f'{file}: not a tokenizer (it has no "model"); copy or train it again')
    try:
        return Backend.from_str(json.dumps(tree))
    except Exception as error:  # the library raises no narrower class; nothing goes on after it
        raise CheckpointError(f"{file}: not a tokenizer that can be read ({one_line(error)})") from error


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object, or raise a CheckpointError."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(
            f"{file}: not valid JSON ({one_line(error)}); "
            "the file is cut short or damaged, copy or train it again"
        ) from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found a {type(tree).__name__}")
    return tree


def read_config(folder: Path) -> dict[str, Any]:
    """Read `tokenizer_config.json`, and from the older map the special tokens that it does not name."""
    config = read_object(folder / CONFIG) if (folder / CONFIG).exists() else {}
    older = folder / OLDER[0]
    if older.exists():
        for name, value in read_object(older).items():
            if config.get(name) is None:
                config[name] = value
    return config


def read_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the chat template: its own file, else the config's entry (of several, the one named default)."""
    file = folder / TEMPLATE
    if file.exists():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{file}: cannot be read as UTF-8 text ({one_line(error)})") from error
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def add_declared(backend: Backend, config: Mapping[str, Any], *, older: bool) -> None:
    """Add the tokens that the config declares and `tokenizer.json` lacks, in Transformers' order.

    older: there was no `tokenizer.json`, so how a declared token is found in a text is the config's to say.
    """
    present = set() if older else {token.content for token in backend.get_added_tokens_decoder().values()}
    declared = config.get("added_tokens_decoder") or {}
    missing = [added_token(declared[number]) for number in sorted(declared, key=int)]
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    named = [config.get(f"{role}_token") for role in ROLES]
    values = [*named, *(extra.values() if isinstance(extra, dict) else extra)]
    missing += [added_token(value) for value in values if value is not None]
    for token in missing:
        if token.content not in present:
            present.add(token.content)
            (backend.add_special_tokens if token.special else backend.add_tokens)([token])


def add_around(backend: Backend, config: Mapping[str, Any]) -> None:
    """Let `add_bos_token` and `add_eos_token` decide what stands around a text, as Transformers 5 does.

    Where neither is true, only a template that would add something has to go.
    """
    if "add_bos_token" not in config and "add_eos_token" not in config:
        return
    around = {}
    for role in ("bos", "eos"):
        token = content_of(config.get(f"{role}_token"))
        around[role] = token if config.get(f"add_{role}_token") and token else None
    now = json.loads(backend.post_processor.__getstate__())["type"] if backend.post_processor else None
    if not any(around.values()) and now not in ("TemplateProcessing", "Sequence"):
        return
    bos, eos = around["bos"], around["eos"]
    single = [*([f"{bos}:0"] if bos else []), "$A:0", *([f"{eos}:0"] if eos else [])]
    pair = single + [*([f"{bos}:1"] if bos else []), "$B:1", *([f"{eos}:1"] if eos else [])]
    backend.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(token, backend.token_to_id(token)) for token in {bos, eos} if token],
    )


def added_token(value: Any) -> AddedToken:
    """Read a token as a config spells it: its text, or an object with `content` and flags."""
    if isinstance(value, str):
        return AddedToken(value, special=True, normalized=False)
    names = ("single_word", "lstrip", "rstrip", "normalized")
    flags = {name: bool(value[name]) for name in names if name in value}
    return AddedToken(value["content"], special=bool(value.get("special", True)), **flags)


def content_of(value: Any) -> str | None:
    """Return the text of a token in a config: a string, an object with `content`, or None."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def one_line(error: Exception) -> str:
    """Return an error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__
