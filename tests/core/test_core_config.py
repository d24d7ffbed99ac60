"""Settings: names, ranges, YAML, and errors in the spelling that the user used."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from langmill.core.config import Settings, flatten, leaves, merge, nest, read_yaml, resolve, to_yaml
from langmill.core.errors import ConfigError


class Inner(Settings):
    """Sizes."""

    kv_heads: int = Field(0, ge=0)
    """Key/value heads."""


class Outer(Settings):
    """All."""

    seed: int = Field(0, ge=0)
    """Fixes everything."""
    rate: float = 0.5
    """How fast."""
    model: Inner = Inner()


def test_leaves_carry_their_documentation() -> None:
    assert {name: field.description for name, field in leaves(Outer)} == {
        "seed": "Fixes everything.",
        "rate": "How fast.",
        "model.kv_heads": "Key/value heads.",
    }


def test_text_from_the_command_line_becomes_numbers() -> None:
    settings = resolve(Outer, nest({"model.kv_heads": "2", "rate": "1e-4"}))
    assert settings == Outer(rate=1e-4, model=Inner(kv_heads=2))


@pytest.mark.parametrize(
    ("tree", "source", "words"),
    [
        ({"sead": 1}, "", "unknown setting --sead; did you mean --seed?"),
        ({"model": {"kv_head": 1}}, "", "unknown setting --model.kv-head; did you mean --model.kv-heads?"),
        ({"model": {"kv_head": 1}}, "a.yaml", "a.yaml: unknown setting model.kv_head; did you mean model.kv_heads?"),
        ({"model": {"kv_heads": "x"}}, "", "--model.kv-heads: 'x' is not allowed: Input should be a valid integer"),
        ({"seed": -1}, "", "--seed: -1 is not allowed: Input should be greater than or equal to 0"),
        ({"rate": "nan"}, "", "--rate: 'nan' is not allowed"),
        ({"model": 3}, "a.yaml", "a.yaml: model: 3 is not allowed"),
    ],
)  # fmt: skip
def test_mistakes_are_named_as_they_were_spelled(tree: dict, source: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(Outer, tree, source=source)
    assert words in str(error.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"--seed.*; unknown setting --wrong"):
        resolve(Outer, {"seed": "x", "wrong": 1})


def test_trees_and_dotted_names() -> None:
    given = {"model": {"width": 8}, "model.layers": 2, "seed": 1}
    assert nest(given) == {"model": {"width": 8, "layers": 2}, "seed": 1}
    assert given["model"] == {"width": 8}, "what was given stays as it is"
    assert flatten({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}
    assert merge({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    assert merge({"a": 2}, {"a": {"b": 1}}) == {"a": {"b": 1}}


def test_yaml_round_trip(tmp_path: Path) -> None:
    settings = Outer(seed=3, model=Inner(kv_heads=4))
    (tmp_path / "a.yaml").write_text(to_yaml(settings))
    assert resolve(Outer, read_yaml(tmp_path / "a.yaml")) == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: [1", "not valid YAML"),
        (b"- 1", "expected a mapping of settings"),
        (b"\xff\xfe\xfa", "not valid YAML"),
    ],
)
def test_yaml_that_holds_no_settings(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "a.yaml").write_bytes(text)
    with pytest.raises(ConfigError, match=rf"a\.yaml: .*{words}"):
        read_yaml(tmp_path / "a.yaml")


def test_yaml_that_is_empty_or_missing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing yet\n")
    assert read_yaml(tmp_path / "a.yaml") == {}
    with pytest.raises(ConfigError, match=r"b\.yaml: cannot be read"):
        read_yaml(tmp_path / "b.yaml")
