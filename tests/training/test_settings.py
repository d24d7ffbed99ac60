"""What the settings of training accept, and what they say otherwise."""

from __future__ import annotations

import pytest

from langmill.core.config import nest, resolve
from langmill.core.errors import ConfigError
from langmill.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("3m", 180), ("1.5m", 90), ("1h30m", 5400), ("2h", 7200), ("1h2m3s", 3723), (45, 45), ("3M", 180), ("3m3", 183)],
)  # fmt: skip
def test_durations(text: object, seconds: float) -> None:
    assert resolve(TrainSettings, {"budget": text}).budget == seconds


@pytest.mark.parametrize("text", ["", "m", "3x", "three", "-5", "1.2.3s", "inf", "3 days"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--budget: {text!r} is not allowed"):
        resolve(TrainSettings, {"budget": text})


@pytest.mark.parametrize(
    ("text", "count"), [("2000", 2000), ("5M", 5_000_000), ("1.5k", 1500), ("2G", 2 * 10**9), ("1e6", 10**6), ("10_000", 10_000), (7, 7)]
)  # fmt: skip
def test_counts(text: object, count: int) -> None:
    assert resolve(TrainSettings, {"tokens": text}).tokens == count


@pytest.mark.parametrize("text", ["many", "-3", "1.5", "5X", "1.2.3M", "1e-3"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--steps: {text!r} is not allowed"):
        resolve(TrainSettings, {"steps": text})


def test_rates_in_powers_of_ten() -> None:
    settings = resolve(TrainSettings, nest({"optimizer.learning_rate": "1e-4"}))
    assert settings.optimizer.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model.layers", "x", "--model.layers: 'x' is not allowed"),
        ("model.dropout", "1.5", "--model.dropout: '1.5' is not allowed: Input should be less than 1"),
        ("optimizer.learning_rate", "-1", "--optimizer.learning-rate: '-1' is not allowed"),
        (
            "optimizer.kind",
            "sgd",
            "--optimizer.kind: 'sgd' is not allowed: Input should be 'auto', 'muon' or 'adamw'",
        ),
        ("model.layer", "2", "unknown setting --model.layer; did you mean --model.layers?"),
        ("optimiser.kind", "adamw", "unknown setting --optimiser; did you mean --optimizer?"),
    ],
)
def test_mistakes_name_the_option(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(TrainSettings, nest({name: value}))
    assert words in str(error.value)
