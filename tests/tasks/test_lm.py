"""The task `lm`: its plan, its quick evaluation, how a batch is shared out."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import write_text

from langmill.batches.shards import Part
from langmill.core.distributed import World
from langmill.core.errors import ConfigError, DataError
from langmill.models.config import default_decoder
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.objectives.cross_entropy import IGNORED
from langmill.tasks import find_task
from langmill.tasks import planning as task
from langmill.tasks.base import Request
from langmill.tasks.lm import LanguageModelling, NextTokenPractice, new_decoder
from langmill.tasks.planning import embeddings
from langmill.tasks.pretraining import quick_evaluation, share
from langmill.training import budget
from langmill.training.settings import ModelSettings, TrainSettings


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "measure_matmul", lambda device, seconds, dtype: 1e11)


def request_for(tmp_path: Path, **settings: object) -> Request:
    data = (str(write_text(tmp_path / "text.txt")),)
    given = {"tokenizer": "char", "device": "cpu", **settings}
    return Request(data, (), tmp_path / "out", TrainSettings(**given))  # type: ignore[arg-type]


SMALL = ModelSettings(layers=1, width=32, context=16)


def test_find_task() -> None:
    assert find_task("lm").name == "lm"
    with pytest.raises(
        ConfigError, match="unknown task 'lmm'; tasks: lm, mlm, denoise, .*; did you mean lm?"
    ):
        find_task("lmm")


def test_a_lesson_has_every_choice_made(tmp_path: Path) -> None:
    lesson = find_task("lm").learn(request_for(tmp_path, steps=5, model=SMALL, batch=4))
    settings = lesson.plan.settings
    assert (settings.steps, settings.batch, settings.model.heads) == (5, 4, 2)
    assert lesson.plan.tokens == 5 * 4 * 16
    assert lesson.deadline == math.inf
    assert lesson.plan.parameters == sum(p.numel() for p in lesson.job.model.parameters())
    batch = lesson.job.loader.take()
    assert batch.ids.shape == (4, 16)
    loss, count = lesson.job.objective(lesson.job.model, batch)
    assert float(loss.detach() / count) == pytest.approx(math.log(lesson.job.facts["vocabulary"]), rel=0.05)


def test_an_adapter_is_planned_and_counted(tmp_path: Path) -> None:
    first = find_task("lm").learn(request_for(tmp_path, steps=1, model=SMALL, batch=4))
    first.job.save_model(tmp_path / "base", first.job.model)
    wanted = {"rank": 2, "targets": ("query", "down")}
    given = {"from_checkpoint": str(tmp_path / "base"), "adapter": wanted, "tokenizer": "bpe"}
    plan = find_task("lm").learn(request_for(tmp_path, steps=1, batch=4, **given)).plan
    trained = 2 * (32 + 32) + 2 * (32 + plan_hidden(first.job.model))
    assert (plan.trained, plan.parameters) == (trained, first.plan.parameters + trained)
    assert f"lora of rank 2: {trained} of" in "\n".join(plan.lines())
    fast = sum(p.numel() for p in first.job.model.parameters())  # tied: the embedding multiplies too
    looking = 6 * 1 * 16 * 32
    assert plan.flops_per_token == 6 * (fast + trained) - 2 * fast + looking
    assert first.plan.trained == 0


def plan_hidden(model: torch.nn.Module) -> int:
    """Return the width inside a model's feed-forward layers."""
    return int(model.config.decoder.hidden)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("length", "steps"),
    [({"steps": 7}, 7), ({"tokens": 1000}, 16), ({"tokens": 64}, 1), ({"epochs": 0.5}, None)],
)
def test_how_long_a_run_is(tmp_path: Path, length: dict[str, float], steps: int | None) -> None:
    lesson = find_task("lm").learn(request_for(tmp_path, model=SMALL, batch=4, **length))
    expected = steps or math.ceil(0.5 * lesson.plan.corpus_tokens / 64)
    assert lesson.plan.settings.steps == lesson.job.steps == expected


def test_a_budget_plans_everything(tmp_path: Path) -> None:
    request = request_for(tmp_path, budget=20.0)
    lesson = find_task("lm").learn(request)
    model = lesson.plan.settings.model
    assert (model.layers, model.width) in budget.SHAPES
    assert model.width % model.heads == 0
    assert lesson.plan.settings.steps >= 1 and lesson.plan.settings.batch >= 1
    assert request.started + 10 < lesson.deadline <= request.started + 20
    assert 1 <= lesson.plan.expected_seconds <= 20


def test_a_budget_that_preparation_used_up_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = replace(request_for(tmp_path, budget=1000.0, model=SMALL, batch=4), started=time.time() - 900)
    lesson = find_task("lm").learn(late)
    assert lesson.plan.settings.steps >= 1
    said = capsys.readouterr().err
    assert "langmill: warning: of the budget of 16m40s, " in said and "are left to train" in said
    find_task("lm").learn(request_for(tmp_path, budget=1000.0, model=SMALL, batch=4))
    assert "warning" not in capsys.readouterr().err


def test_what_the_user_says_stays(tmp_path: Path) -> None:
    sizes = ModelSettings(layers=3, width=48, heads=3, context=24, hidden=40, family="gpt2")
    lesson = find_task("lm").learn(request_for(tmp_path, budget=20.0, model=sizes, batch=2))
    assert lesson.plan.settings.model == sizes and lesson.plan.settings.batch == 2
    stack = lesson.job.model.config.output_stack  # type: ignore[union-attr]
    assert (stack.layers, stack.width, stack.heads, stack.hidden, stack.max_positions) == (3, 48, 3, 40, 24)


def test_a_trial_leaves_the_model_and_its_order_of_data_alone(tmp_path: Path) -> None:
    measured = find_task("lm").learn(request_for(tmp_path, budget=15.0, model=SMALL, batch=4))
    plain = find_task("lm").learn(request_for(tmp_path, steps=5, model=SMALL, batch=4))
    for one, other in zip(measured.job.model.parameters(), plain.job.model.parameters()):
        assert torch.equal(one, other) and one.grad is None
    assert torch.equal(measured.job.loader.take().ids, plain.job.loader.take().ids)


def test_a_short_corpus_shortens_the_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = request_for(tmp_path, steps=2, batch=1)
    Path(request.data[0]).write_text("forty characters of text, or a few more." * 2)
    lesson = find_task("lm").learn(request)
    context = lesson.plan.settings.model.context
    assert context == lesson.plan.corpus_tokens - 1
    assert f"the context is shortened from 128 to {context}" in capsys.readouterr().err


def test_shares_of_a_batch() -> None:
    assert share(6, World(0, 3)) == 2
    with pytest.raises(ConfigError, match="--batch 7 does not divide over 3 processes; use a multiple of 3"):
        share(7, World(0, 3))


def small_model(vocabulary: int = 50) -> Transformer:
    model = Transformer(
        default_decoder(vocabulary, layers=1, width=32, heads=2, kv_heads=0, hidden=0, context=8, dropout=0.0)
    )
    initialise(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return model


def test_the_quick_evaluation_is_the_mean_over_all_rows() -> None:
    draw = np.random.default_rng(0)
    part = Part(draw.integers(0, 50, 101).astype(np.uint16), np.asarray([0, 40]), 300, 100)
    model = small_model()
    practice = NextTokenPractice(None, 8)  # type: ignore[arg-type]
    found = quick_evaluation(part, 8, 10**6, practice=practice, scores_text=True, here=World())(model)
    total, count = 0.0, 0
    for begin in range(0, 96, 8):
        row = torch.from_numpy(part.tokens[begin : begin + 9].astype(np.int64))
        starts = torch.where(torch.arange(begin, begin + 8) < 40, 0, max(40 - begin, 0))
        with torch.no_grad():
            logits = model(row[None, :-1], starts=starts[None])[0]
        total += float(
            torch.nn.functional.cross_entropy(logits, row[1:], reduction="sum", ignore_index=IGNORED)
        )
        count += 8
    assert found["loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(total / count * 101 / 300 / math.log(2), rel=1e-5)


def test_looking_up_is_not_multiplying() -> None:
    tied = small_model()
    assert (embeddings(tied) == []) == (tied.output.weight is tied.output_embed.weight)
    learned = new_decoder(
        "gpt2", ModelSettings(layers=1, width=32, heads=2, context=8), 50, torch.Generator()
    )
    assert [e.num_embeddings for e in embeddings(learned)] in ([8], [50, 8])


def test_gpt2_has_no_grouped_heads() -> None:
    settings = ModelSettings(layers=1, width=32, heads=4, kv_heads=2, context=8)
    with pytest.raises(ConfigError, match="--model.kv-heads: the gpt2 family"):
        new_decoder("gpt2", settings, 50, torch.Generator())


def test_score_counts_equal_continuations() -> None:
    from langmill.generation.generate import Generation

    results = [Generation(text, (), (), "stop", 1) for text in (" yes ", "不", "no")]
    assert LanguageModelling().score(results, ["yes", "不", "maybe"]) == {"exact_match": pytest.approx(2 / 3)}
    with pytest.raises(DataError, match="3 continuations and 1 references"):
        LanguageModelling().score(results, ["yes"])
