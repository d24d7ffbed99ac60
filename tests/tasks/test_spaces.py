"""What a search for settings tries: declarations, their mistakes, and the spaces of tasks."""

from __future__ import annotations

from typing import Any

import pytest

from langmill.core.config import nest, resolve
from langmill.core.errors import ConfigError
from langmill.tasks import find_task
from langmill.tasks.spaces import (
    Searched,
    aim,
    check_comparable,
    default_space,
    parse,
    read_space,
    shown,
)
from langmill.training.settings import TrainSettings

TASKS = ("lm", "mlm", "denoise", "classify", "ner", "qa", "embed")


def space_of(task: str, *, timed: bool = False, **given: Any) -> list[str]:
    """Return the names in a task's default space; settings as `model__width=…`."""
    asked = {name.replace("__", "."): value for name, value in given.items()}
    settings = resolve(TrainSettings, nest(asked))
    learner: Any = find_task(task)
    return [parse(text).name for text in default_space(learner, settings, asked, timed=timed)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model.layers=2:6", Searched("model.layers", low=2, high=6, whole=True)),
        ("--model.kv-heads=1:4", Searched("model.kv_heads", low=1, high=4, whole=True)),
        ("vocabulary=1k:32k:log", Searched("vocabulary", low=1000, high=32000, log=True, whole=True)),
        ("tokens=1234567:2345678", Searched("tokens", low=1234567, high=2345678, whole=True)),
        ("optimizer.beta2=0.9:0.99", Searched("optimizer.beta2", low=0.9, high=0.99)),
        ("model=lstm,gru", Searched("model.family", ("lstm", "gru"))),
        ("from=C:/a,b", Searched("from_checkpoint", ("C:/a", "b"))),
        ("batch=8, 16,8", Searched("batch", (8, 16))),
        ("embed.symmetric=yes,no", Searched("embed.symmetric", (True, False))),
    ],
)
def test_declarations(text: str, found: Searched) -> None:
    assert parse(text) == found
    assert parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimizer.lerning-rate=1:2", "unknown setting; did you mean optimizer.learning-rate?"),
        ("model.layers", "expected NAME=LOW:HIGH"),
        ("model.layers=", "expected NAME=LOW:HIGH"),
        ("model.layers=2", "a single value is no search; give --model.layers 2 instead"),
        ("model.layers=2:4:linear", "expected NAME=LOW:HIGH"),
        ("model.layers=1.5:4", "--search model.layers=1.5:4: model.layers: '1.5' is not allowed"),
        ("model.dropout=0:1", "model.dropout: '1' is not allowed"),
        ("model.layers=6:2", "6 is not below 2"),
        ("model.dropout=0:0.5:log", "begins above 0"),
        ("labels.weights=none,half", "labels.weights: 'half' is not allowed"),
        ("seed=1,2", "train --seeds N"),
        ("adapter.targets=query,value", "is a list"),
        ("mask.share=0.1:0.3", "changes what is measured"),
        ("data.held-out=0.1,0.2", "changes what is measured"),
        ("device=cpu,cuda", "changes nothing that is learned"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"--search {text}: ")
    assert words in str(caught.value)


def test_values_one_by_one() -> None:
    assert list(parse("model.order=2:4").values) == [2, 3, 4]
    assert parse("batch=8,16").values == (8, 16)
    assert not parse("model.dropout=0:0.5").values and not parse("vocabulary=1000:2000").values


def test_a_value_inside() -> None:
    assert parse("model.layers=2:4").holds(4) and not parse("model.layers=2:4").holds(5)
    assert parse("batch=8,16").holds(8) and not parse("batch=8,16").holds(12)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_a_space_from_scratch_and_from_a_checkpoint(task: str) -> None:
    scratch, tuned = space_of(task, steps=10), space_of(task, from_checkpoint="somewhere")
    assert {"optimizer.learning_rate", "model.dropout", "model.width", "batch"} <= {*scratch}
    assert {"optimizer.learning_rate", "optimizer.layer_decay", "batch"} <= {*tuned}
    assert not [name for name in tuned if name.startswith("model.")], "a checkpoint's model is what it is"
    assert "model.width" not in space_of(task, timed=True), "the clock chooses"
    adapted = space_of(task, from_checkpoint="somewhere", adapter__rank=8)
    assert {"adapter.rank", "adapter.dropout"} <= {*adapted} and "optimizer.layer_decay" not in adapted


def test_what_is_given_is_not_searched() -> None:
    assert "batch" not in space_of("qa", batch=8) and "batch" in space_of("qa")
    assert "epochs" in space_of("qa", from_checkpoint="somewhere")
    assert "epochs" not in space_of("qa", from_checkpoint="somewhere", steps=50)


def test_models_that_are_fitted() -> None:
    assert space_of("classify") == space_of("ner") == ["model.family"], "where nothing asks for steps"
    assert space_of("lm", model__family="ngram") == ["model.order", "tokenizer"]
    with pytest.raises(ConfigError, match="--model nbsvm is fitted in one go and has no settings to search"):
        space_of("classify", model__family="nbsvm")


def test_spaces_that_contradict() -> None:
    with pytest.raises(ConfigError, match="batch is declared more than once"):
        read_space(("batch=8,16", "batch=1:4"), TrainSettings())
    with pytest.raises(ConfigError, match="has no effect with --from"):
        read_space(("model.dropout=0:0.5",), TrainSettings(from_checkpoint="somewhere"))


def test_what_is_improved() -> None:
    assert aim({"f1": 0.5, "precision": 0.25}) == ("f1", -0.5)
    assert aim({"f1": 0.5, "loss": 0.25}, "loss") == ("loss", 0.25)
    assert shown("f1", -0.5) == 0.5 and shown("loss", 0.25) == 0.25 and str(shown("f1", 0.0)) == "0.0"
    with pytest.raises(ConfigError, match=r"--metric los: this task measures f1, loss; did you mean loss\?"):
        aim({"f1": 0.5, "loss": 0.25}, "los")


def test_losses_do_not_compare_across_tokenizers() -> None:
    space = (parse("tokenizer=char,bpe"),)
    check_comparable(space, "bits_per_byte", "lm")
    with pytest.raises(ConfigError, match="does not compare across it"):
        check_comparable(space, "loss", "mlm")


def test_texts_without_pairs_have_a_loss_of_their_own() -> None:
    check_comparable((), "loss", "mlm")
    check_comparable((), "mrr", "embed")
    with pytest.raises(ConfigError, match="name pairs to evaluate on by --held-out-data"):
        check_comparable((), "loss", "embed")
