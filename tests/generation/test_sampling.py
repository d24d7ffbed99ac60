"""Drawing tokens, and the settings."""

from __future__ import annotations

import math

import pytest
import torch

from langmill.core.config import resolve
from langmill.core.errors import ConfigError
from langmill.generation.sampling import draw, row_generator
from langmill.generation.settings import SamplingSettings


def test_draw_inverts_the_cumulative_distribution() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    edges = torch.tensor([0.1, 0.3, 0.6, 1.0])
    for seed in range(20):
        uniform = torch.rand(1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        expected = int((edges < uniform).sum())
        assert draw(logits, [torch.Generator().manual_seed(seed)]).tolist() == [expected]


def test_draw_follows_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([[0.7, 0.0, 0.3]]).log().expand(4000, 3)
    counts = draw(logits, [generator] * 4000).bincount(minlength=3) / 4000
    assert counts[1] == 0  # -inf is never drawn
    assert abs(counts[0] - 0.7) < 0.03


def test_rows_draw_with_their_own_generators() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    seeds = [5, 6, 7]
    together = draw(logits, [torch.Generator().manual_seed(seed) for seed in seeds])
    alone = [draw(row[None], [torch.Generator().manual_seed(seed)])[0] for row, seed in zip(logits, seeds)]
    assert together.tolist() == [int(token) for token in alone]


def test_row_generator_depends_on_seed_prompt_and_copy() -> None:
    def first(*arguments) -> float:
        return float(torch.rand(1, generator=row_generator(*arguments)))

    assert first(1, [1, 2], 0) == first(1, [1, 2], 0)
    assert len({first(1, [1, 2], 0), first(2, [1, 2], 0), first(1, [12], 0), first(1, [1, 2], 1)}) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", 2),
        ("top_k", -1),
        ("repetition_penalty", 0),
    ]
    + [("max_tokens", 0), ("stop", ("a", "")), ("temperature", math.nan)],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name.replace("_", "-")):
        resolve(SamplingSettings, {name: value})


def test_unknown_setting_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean --temperature"):
        resolve(SamplingSettings, {"temprature": 1})


def test_every_setting_is_documented() -> None:
    assert all(field.description for field in SamplingSettings.model_fields.values())
