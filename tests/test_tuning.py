"""`langmill tune`: what is tried, what is kept, what ends early, and a search that is resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import SIZES, CommandLine, assert_same_weights, everything_in

import langmill
from langmill import trials
from langmill.core.errors import ConfigError, DataError, LangmillError, MissingDependencyError
from langmill.evaluation.tuning import TuneResult
from langmill.trials import Order
from langmill.tuning import new_order

pytestmark = pytest.mark.usefixtures("here")

MODEL = {"layers": 1, "width": 32, "context": 16}
RATES = "optimizer.learning-rate=1e-3:1e-1:log"


def tune(output: str = "out", **given: Any) -> TuneResult:
    """Search on text.txt with runs of 20 steps."""
    wanted = {
        "tokenizer": "char",
        "steps": 20,
        "batch": 4,
        "tensorboard": False,
        "model": MODEL,
        "optimizer": {"kind": "adamw"},
    }
    return langmill.tune("lm", "text.txt", output=output, **{**wanted, **given})


def orders(output: str = "out", **given: Any) -> TuneResult:
    """Search on text.txt for the order of an n-gram model."""
    wanted = {"model": {"family": "ngram"}, "tokenizer": "char", "search": "model.order=1:3"}
    return langmill.tune("lm", "text.txt", output=output, **{**wanted, **given})


def found_by(result: TuneResult) -> list[tuple[dict[str, Any], float | None]]:
    return [(dict(trial.settings), trial.value) for trial in result.trials]


# ------------------------------------------------------------------------------------------------
# What is found


def test_every_combination_where_they_are_few(here: Path) -> None:
    result = orders()
    assert [trial.settings for trial in result.trials] == [{}, *({"model.order": n} for n in (1, 2, 3))]
    for trial in result.trials[1:]:
        plain = langmill.train(
            "lm", "text.txt", output=f"plain-{trial.number}", tokenizer="char",
            model={"family": "ngram", "order": trial.settings["model.order"]},
        )  # fmt: skip
        assert trial.value == pytest.approx(plain.metrics["bits_per_byte"], rel=1e-9)
    done = [trial.value for trial in result.trials]
    assert (result.metric, result.value, result.default_value) == ("bits_per_byte", min(done), done[0])
    assert json.dumps(dataclasses.asdict(result))


def test_the_defaults_are_known_where_they_lie_in_the_space(here: Path) -> None:
    result = orders(search="model.order=4:8")
    assert result.trials[0].settings == {"model.order": 8}
    assert [trial.settings["model.order"] for trial in result.trials] == [8, 4, 5, 6, 7]


def test_the_best_is_an_ordinary_run_and_the_rest_takes_no_room(here: Path, command: CommandLine) -> None:
    result = tune(search=RATES, trials=3, steps=4)
    assert result.folder == "out/best"
    again = langmill.train("lm", output="again", config="out/best/run.yaml", tensorboard=False)
    assert_same_weights(here / "again", here / "out" / "best")
    assert again.metrics["bits_per_byte"] == pytest.approx(result.value)
    assert langmill.load("out/best").generate("the mill", max_tokens=3).text
    card = (here / "out" / "best" / "README.md").read_text(encoding="utf-8")
    assert "# out\n" in card and "out/best" in card and "out/trials" not in card
    kept = {f"{n}/{name}" for n in range(3) for name in ("run.yaml", "metrics.jsonl")}
    assert {name for name in everything_in(here / "out" / "trials") if "/" in name} == kept
    assert {path.name for path in (here / "out").iterdir()} == {"best", "trials", "report.html", "study.db", "tune.yaml"}  # fmt: skip


def test_figures_that_rise(here: Path) -> None:
    words = {"good": "lovely warm bright", "bad": "awful cold dull"}
    rows = [
        f"{word} thing {i},{label}"
        for label, text in words.items()
        for i in range(20)
        for word in text.split()
    ]
    (here / "rows.csv").write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    result = langmill.tune("classify", "rows.csv", output="out")
    assert [trial.settings["model.family"] for trial in result.trials] == ["nbsvm", "tfidf", "fasttext"]
    assert result.metric == "accuracy" and result.rises
    assert result.value == max(trial.value for trial in result.trials)
    loss = langmill.tune("classify", "rows.csv", output="loss", metric="loss")
    assert loss.value == min(trial.metrics["loss"] for trial in result.trials)


def test_the_sampler_keeps_to_the_space_and_to_its_seed(here: Path) -> None:
    search = (RATES, "model.layers=1:2", "model.dropout=0:0.3")
    first = tune(search=search, trials=4, steps=1)
    again = tune("again", search=search, trials=4, steps=1)
    other = tune("other", search=search, trials=2, steps=1, seed=5)
    assert found_by(first) == found_by(again)
    assert found_by(first)[1] != found_by(other)[1]
    drawn = [trial.settings for trial in first.trials[1:]]
    assert len({tuple(each.values()) for each in drawn}) == 3
    for each in drawn:
        assert 1e-3 <= each["optimizer.learning_rate"] <= 0.1 and each["model.layers"] in (1, 2)


# ------------------------------------------------------------------------------------------------
# Trials that do not run to their end


def test_a_bad_trial_is_pruned(here: Path) -> None:
    result = tune(search="optimizer.learning-rate=4e-2,2e-2,1e-2,5e-3,1e-8")
    states = [trial.state for trial in result.trials]
    assert states == ["complete"] * 5 + ["pruned"]
    bad = result.trials[-1]
    assert bad.settings == {"optimizer.learning_rate": 1e-8}
    assert max(bad.curve) < 10 and max(result.trials[0].curve) == 10
    steps = [json.loads(line)["step"] for line in open(here / "out/trials/5/metrics.jsonl", encoding="utf-8")]
    assert 0 < max(steps) < 20
    assert result.ranked[-1] == bad


def test_a_trial_that_cannot_be_is_told_and_the_search_goes_on(here: Path) -> None:
    result = tune(search="model.heads=2,3", steps=4)
    states = [(trial.state, trial.settings) for trial in result.trials]
    assert states[1:] == [("failed", {"model.heads": 3})], "the defaults are the other"
    assert "3" in result.trials[1].reason and result.trials[1].value is None
    assert "trial 1 failed: " in result.summary() and result.folder == "out/best"


def test_a_checkpoint_that_is_missing_fails_its_trials_alone(here: Path) -> None:
    langmill.train(
        "lm", "text.txt", output="base", tokenizer="char", steps=1, batch=4, tensorboard=False, model=MODEL
    )
    given = {"output": "out", "steps": 1, "batch": 4, "tensorboard": False, "from_checkpoint": "base"}
    result = langmill.tune("lm", "text.txt", search="from=base,elsewhere", **given)
    assert [trial.state for trial in result.trials] == ["complete", "failed"]
    assert "elsewhere" in result.trials[1].reason


def test_a_trial_that_diverges_is_told(here: Path) -> None:
    result = tune(search="optimizer.learning-rate=1e-3,1e30", steps=12)
    assert [trial.state for trial in result.trials] == ["complete", "complete", "failed"]
    assert "training diverged" in result.trials[2].reason


def test_where_all_fail_the_first_reason_is_the_error(here: Path) -> None:
    with pytest.raises(LangmillError, match="no trial has run to its end; the first: .*order"):
        tune(search="optimizer.learning-rate=1e-3,1e-2", model={**MODEL, "order": 3})
    assert not (here / "out").exists()


def test_what_no_settings_mend_ends_the_search(here: Path) -> None:
    with pytest.raises(DataError, match="missing.txt"):
        langmill.tune("lm", "missing.txt", output="out", trials=3, steps=2)
    with pytest.raises(ConfigError, match="--metric f1: this task measures loss, bits_per_byte"):
        tune(metric="f1", trials=3)
    assert not (here / "out").exists()


# ------------------------------------------------------------------------------------------------
# Stopped and resumed


def signal_in_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Interrupt this process in a step, counted over all trials."""
    from langmill.training import loop

    update, count = loop.Trainer.update, [0]

    def interrupted(self: Any) -> Any:
        count[0] += 1
        if count[0] == step:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self)

    monkeypatch.setattr(loop.Trainer, "update", interrupted)


@pytest.mark.parametrize("step", [3, 12], ids=["in the first trial", "in the third"])
def test_stopped_and_resumed_is_uninterrupted(here: Path, command: CommandLine, step: int) -> None:
    given = (*SIZES, "--batch", 4, "--no-tensorboard", "--steps", 5, "--trials", 4, "--search", RATES)
    whole = command("tune", "lm", "text.txt", "-o", "whole", *given, "--json")
    assert whole.status == 0, whole.err
    with pytest.MonkeyPatch.context() as patch:
        signal_in_step(patch, step)
        said = command("tune", "lm", "text.txt", "-o", "out", *given)
    assert said.status == 130, said.err
    line = "langmill tune lm -o out --resume auto"
    assert line in said.out
    assert (here / "out" / "best" / "config.json").is_file() == (step == 12), "what was found is kept"
    rest = command(*line.split()[1:], "--json")
    assert rest.status == 0, rest.err
    first, second = (json.loads(each.out)["trials"] for each in (whole, rest))
    assert [(t["settings"], t["value"]) for t in first] == [(t["settings"], t["value"]) for t in second]
    assert_same_weights(here / "whole" / "best", here / "out" / "best")


class Killed(BaseException):
    """What no program catches."""


@pytest.mark.parametrize("kind", ["grid", "sampled"])
def test_killed_and_resumed(here: Path, kind: str) -> None:
    search = orders if kind == "grid" else lambda output: tune(output, search=RATES, trials=4, steps=2)
    whole = search("whole")
    run, count = trials.run_training, [0]

    def dying(*arguments: Any, **options: Any) -> Any:
        count[0] += 1
        result = run(*arguments, **options)
        if count[0] == 3:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "run_training", dying)
        with pytest.raises(Killed):
            search("out")
    rest = langmill.tune("lm", output="out", resume=True)
    assert found_by(rest) == found_by(whole)


def test_more_trials_of_a_search(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tune(search=RATES, trials=2, steps=2)
    capsys.readouterr()
    assert found_by(langmill.tune("lm", output="out", resume=True)) == found_by(first)
    assert (
        "2 are done already: nothing is left to do; a larger --trials makes more" in capsys.readouterr().err
    )
    more = langmill.tune("lm", output="out", resume=True, trials=3)
    assert found_by(more)[:2] == found_by(first) and len(more.trials) == 3
    assert found_by(tune("whole", search=RATES, trials=3, steps=2)) == found_by(more)


def test_what_a_folder_holds(here: Path) -> None:
    orders()
    with pytest.raises(ConfigError, match=r"out holds tune.yaml already; pass --resume auto"):
        orders()
    with pytest.raises(ConfigError, match="search cannot change when a search is resumed"):
        langmill.tune("lm", output="out", resume=True, search="model.order=1:5")
    with pytest.raises(ConfigError, match="tokenizer cannot change"):
        orders(resume=True, tokenizer="bpe")
    assert len(orders(overwrite=True, search="model.order=1:2").trials) == 3


# ------------------------------------------------------------------------------------------------
# What is asked and what is said


def order_of(**given: Any) -> Order:
    wanted: dict[str, Any] = {"task": "lm", "asked": {}, "search": (), "trials": 0, "budget": 0.0}
    return new_order(Order(files=("text.txt",), held_out_files=(), metric="", **{**wanted, **given}))


def test_trials_share_the_budget_where_nothing_else_says_how_long_they_are() -> None:
    assert order_of(budget=100.0, trials=4).asked["budget"] == pytest.approx(23.8)
    assert order_of(budget=100.0).asked["budget"] == pytest.approx(4.8), (
        "as many as there are without a budget"
    )
    assert "budget" not in order_of(budget=100.0, asked={"steps": 5}).asked
    assert "budget" not in order_of(budget=100.0, search=("steps=5:9",)).asked
    assert "budget" not in order_of(budget=100.0, task="classify").asked, "what is fitted has no clock"
    with pytest.raises(ConfigError, match="the budget of tune is that of the whole search"):
        order_of(asked={"budget": "3m"})


def test_a_budget_too_short_for_a_trial(here: Path) -> None:
    with pytest.raises(LangmillError, match="the budget ended before the first trial did"):
        tune(budget=0.001, search=RATES)
    assert not (here / "out").exists()


def test_a_budget_ends_the_search(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials.Search, "has_time", lambda self, trials: len(trials) < 2)
    assert len(tune(budget="1h", search=RATES, steps=4).trials) == 2


def test_what_is_said(here: Path, command: CommandLine) -> None:
    said = command("tune", "lm", "text.txt", "--model", "ngram", "--tokenizer", "char", "--search", "model.order=1:4", "-o", "out")  # fmt: skip
    assert said.status == 0, said.err
    assert said.out.splitlines()[0].split() == ["trial", "bits_per_byte", "time", "model.order"]
    assert "the defaults" in said.out and "part of it is luck" in said.out
    assert "langmill train lm --config out/best/run.yaml" in said.out
    assert "trial 1 (2 of 20): model.order 1" in said.err and "all 4 combinations are tried" in said.err
    page = (here / "out" / "report.html").read_text(encoding="utf-8")
    for words in (
        "part of it is luck",
        "fewer than 20, they mean little",
        "model.order=1:4",
        "data:image/png",
    ):
        assert words in page
    assert yaml.safe_load((here / "out" / "tune.yaml").read_text())["search"] == ["model.order=1:4"]


def test_mistakes(here: Path, command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        "did you mean model.order?" in command("tune", "lm", "text.txt", "--search", "model.ordre=1:4").error
    )
    assert "did you mean qwen3?" in command("tune", "lm", "text.txt", "--search", "model=qwen,gpt2").error
    assert "no data given" in command("tune", "lm").error
    assert "--budget" in command("tune", "lm", "text.txt", "--budget", "soon").error
    assert "unknown task 'lmm'" in command("tune", "lmm", "text.txt").error
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "without torchrun" in command("tune", "lm", "text.txt").error
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'langmill[tune]'" in command("tune", "lm", "text.txt").error
    with pytest.raises(MissingDependencyError):
        orders()
    assert not (here / "runs").exists()


def test_a_search_stopped_in_its_first_trial_has_no_table() -> None:
    result = TuneResult("", "accuracy", None, None, {}, (), ("batch=4,8",), {}, 0.0, interrupted="SIGINT", resume_command="go on")  # fmt: skip
    assert result.summary().splitlines()[0] == "no trial has run to its end"
