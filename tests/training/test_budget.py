"""The plan's choices: monotone where they must be, by hand where they can be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from langmill.training.budget import (
    SHAPES,
    Plan,
    best_shape,
    block_weights,
    choose_batch,
    choose_context,
    fill_model,
    fill_rates,
    flops_per_token,
    wanted_steps,
)
from langmill.training.settings import ModelSettings, OptimizerSettings, TrainSettings


def test_operations_by_hand() -> None:
    assert block_weights(2, 10) == 2400
    assert flops_per_token(2400, layers=2, width=10, context=8) == 6 * 2400 + 6 * 2 * 8 * 10


def test_more_time_never_means_a_smaller_model() -> None:
    shapes = [
        best_shape(10.0**power, vocabulary=4096, corpus_tokens=10**10, context=256) for power in range(9, 22)
    ]
    ranks = [SHAPES.index(shape) for shape in shapes]
    assert ranks == sorted(ranks) and ranks[0] == 0 and ranks[-1] > 10


def test_a_small_corpus_limits_the_model() -> None:
    small = best_shape(1e17, vocabulary=256, corpus_tokens=100_000, context=128)
    large = best_shape(1e17, vocabulary=256, corpus_tokens=10**9, context=128)
    assert block_weights(*small) < block_weights(*large)


def test_open_sizes_are_filled_and_given_ones_kept() -> None:
    open_sizes = fill_model(TrainSettings(), layers=4, width=256, context=128).model
    assert (open_sizes.layers, open_sizes.width, open_sizes.context) == (4, 256, 128)
    assert open_sizes.width % open_sizes.heads == 0 and open_sizes.heads >= 2
    given = TrainSettings(model=ModelSettings(heads=6))
    filled = fill_model(given, layers=4, width=256, context=128).model
    assert filled.heads == 6 and filled.width % 6 == 0 and filled.width >= 256
    odd = TrainSettings(model=ModelSettings(width=33, heads=2))
    assert fill_model(odd, layers=1, width=0, context=8).model.heads == 2, (
        "what was given is not changed in silence"
    )


@pytest.mark.parametrize(
    ("length", "steps"), [({"steps": 9}, 9), ({"tokens": 1001}, 11), ({"epochs": 2.0}, 20), ({}, 0)]
)
def test_lengths(length: dict[str, float], steps: int) -> None:
    settings = TrainSettings(**length)  # type: ignore[arg-type]
    assert wanted_steps(settings, step_tokens=100, corpus_tokens=1000) == steps


def test_context_and_batch_may_be_given() -> None:
    settings = TrainSettings(batch=3, model=ModelSettings(context=77))
    assert choose_context(settings, bytes_per_token=3.0, seconds=100) == 77
    assert choose_batch(settings, context=77, tokens=1e9) == 3
    assert choose_batch(TrainSettings(), context=128, tokens=1e12) > choose_batch(
        TrainSettings(), context=128, tokens=1e6
    )


def test_the_plan_in_words() -> None:
    settings = TrainSettings(steps=10, batch=4, model=ModelSettings(layers=2, width=64, heads=2, context=32))
    plan = Plan(
        settings=settings,
        parameters=123_000,
        tokens=1280,
        corpus_tokens=640,
        flops_per_token=1e6,
        expected_seconds=61.0,
        peak_flops=1e11,
        precision="float32",
    )
    text = "\n".join(plan.lines())
    assert "2 layers, width 64, 2 heads, context 32: 123.0k parameters" in text
    assert "10 of 4 rows × 32 tokens = 1.3k tokens, 2 passes over the corpus" in text
    assert "about 1m01s of training" in text
    assert "too few steps to learn much" in text and text.startswith("model    auto:")
    from_llama = replace(plan, family="llama", settings=settings.model_copy(update={"steps": 100}))
    assert from_llama.lines()[0].startswith("model    llama:")
    assert "too few" not in "\n".join(from_llama.lines())


def test_an_adapter_has_a_rate_of_its_own() -> None:
    given = {"from_checkpoint": "runs/a", "adapter": {"rank": 8}}
    settings = TrainSettings(**given)  # type: ignore[arg-type]
    assert fill_rates(settings, width=256).optimizer.learning_rate == 1 / 256
    asked = settings.model_copy(update={"optimizer": OptimizerSettings(learning_rate=0.5)})
    assert fill_rates(asked, width=256).optimizer.learning_rate == 0.5


def test_fine_tuning_on_answers_is_by_adamw() -> None:
    tuned = fill_rates(TrainSettings(from_checkpoint="x"), width=384, tuning=True).optimizer
    assert tuned.kind == "adamw" and tuned.learning_rate == pytest.approx(0.03 / 384)
    adapter = TrainSettings.model_validate({"from_checkpoint": "x", "adapter": {"rank": 8}})
    assert fill_rates(adapter, width=384, tuning=True).optimizer.learning_rate == pytest.approx(0.4 / 384)
    asked = TrainSettings.model_validate({"optimizer": {"kind": "muon"}})
    assert fill_rates(asked, width=384, tuning=True).optimizer.kind == "muon"
    assert fill_rates(TrainSettings(), width=384).optimizer.kind == "muon"
