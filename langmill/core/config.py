"""Settings: documented where they are declared, read from YAML and from dotted options. [core]

A settings class derives from `Settings`; the string under each field is its documentation and
becomes its `--help`. Precedence is defaults < YAML file < command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from langmill.core.errors import ConfigError, did_you_mean


class Settings(BaseModel):
    """A frozen group of settings; unknown names are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


S = TypeVar("S", bound=Settings)


def leaves(kind: type[Settings], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted name and the field of every setting in `kind`, nested groups opened."""
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def option_name(name: str) -> str:
    """Return a setting's name as the command line spells it.

    >>> option_name("model.kv_heads")
    '--model.kv-heads'
    """
    return "--" + name.replace("_", "-")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn a tree into dotted names.

    >>> flatten({"model": {"layers": 6}, "seed": 1})
    {'model.layers': 6, 'seed': 1}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into a tree.

    >>> nest({"model.layers": 6, "seed": 1})
    {'model': {'layers': 6}, 'seed': 1}
    """
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        for part in reversed(name.split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over`, group by group.

    >>> merge({"model": {"layers": 2, "width": 8}}, {"model": {"layers": 6}})
    {'model': {'layers': 6, 'width': 8}}
    """
    out = dict(base)
    for name, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(name), Mapping):
            out[name] = merge(out[name], value)
        else:
            out[name] = value
    return out


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping, or raise a ConfigError that says what is wrong with it."""
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML: {detail}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: expected a mapping of settings (name: value), found a {type(tree).__name__}"
        )
    return tree


def resolve(kind: type[S], tree: Mapping[str, Any], *, source: str = "") -> S:
    """Validate `tree` as settings of `kind`.

    Raises ConfigError naming every unknown setting (with the closest known one) and every value
    outside its range. `source`: a file's name to begin the message with; without one the settings are
    spelled as options of the command line.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        spell = str if source else option_name
        names = [name for name, _ in leaves(kind)]
        known = [spell(name) for name in {*names, *(name.rpartition(".")[0] for name in names)} if name]
        lines = []
        for fault in error.errors(include_url=False):
            name = spell(".".join(str(part) for part in fault["loc"]))
            if fault["type"] == "extra_forbidden":
                lines.append(f"unknown setting {name}{did_you_mean(name, known)}")
            else:
                reason = fault["msg"].removeprefix("Value error, ")
                if not fault["loc"]:  # several settings do not go together, and the reason names them
                    lines.append(reason)
                    continue
                lines.append(f"{name}: {fault['input']!r} is not allowed: {reason}")
        raise ConfigError((f"{source}: " if source else "") + "; ".join(lines)) from error


def to_yaml(settings: Settings) -> str:
    """Return `settings` as YAML that `read_yaml` and `resolve` read back to the same settings."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
