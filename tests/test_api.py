"""langmill in Python: what the command line takes, as a function."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import assert_same_weights, write_text

import langmill
from langmill.core.errors import ConfigError, DataError, LangmillError

MODEL = {"layers": 1, "width": 32, "context": 16}


pytestmark = pytest.mark.usefixtures("here")


def train(output: str = "out", **settings: object) -> object:
    given = {"tokenizer": "char", "steps": 6, "batch": 4, "tensorboard": False, "model": MODEL, **settings}
    return langmill.train("lm", "text.txt", output=output, **given)


def test_train_and_load(here: Path) -> None:
    result = train(optimizer={"learning_rate": 1e-3})
    assert dataclasses.is_dataclass(result)
    assert (result.steps, result.tokens, result.folder) == (6, 6 * 64, "out")  # type: ignore[attr-defined]
    assert json.dumps(dataclasses.asdict(result))  # type: ignore[call-overload]
    model = langmill.load("out")
    text = "磨坊 turns text"
    found = model.logprobs(text)
    assert isinstance(found, np.ndarray) and (found <= 0).all()
    ids = model.tokenizer.encode(text)
    assert len(found) == len(ids)
    row = torch.tensor([[model.tokenizer.eos_id, *ids]])
    right = model.logits(row[:, :-1]).log_softmax(-1).gather(-1, row[:, 1:, None])[0, :, 0]
    np.testing.assert_allclose(found, right.numpy(), atol=1e-5)
    assert model.logits([[1, 2, 3]]).shape == (1, 3, model.tokenizer.vocabulary_size)
    first, second = (model.generate("the mill", max_tokens=8, seed=1) for _ in range(2))
    assert first.text == second.text
    assert len(model.generate_batch(["the", "mill"], max_tokens=3, seed=1)) == 2


def test_dotted_and_nested_names_mean_the_same(here: Path) -> None:
    train("nested")
    given = {f"model.{name}": value for name, value in MODEL.items()}
    langmill.train(
        "lm", ["text.txt"], output="dotted", tokenizer="char", steps=6, batch=4, tensorboard=False, **given
    )
    assert_same_weights(here / "nested", here / "dotted")


def test_resume_and_overwrite(here: Path) -> None:
    train()
    with pytest.raises(ConfigError, match="already holds a run"):
        train()
    assert langmill.train("lm", output="out", resume=True, steps=9).steps == 9
    assert train(overwrite=True).steps == 6  # type: ignore[attr-defined]
    assert train("new", resume=True).steps == 6, "nothing to resume: it begins"  # type: ignore[attr-defined]


def test_a_config_file_and_held_out_data(here: Path) -> None:
    (here / "a.yaml").write_text(
        "tokenizer: char\nsteps: 3\nbatch: 4\ntensorboard: false\nmodel: {layers: 1, width: 32, context: 16}\n"
    )
    write_text(here / "test.txt", seed=4, lines=30)
    result = langmill.train(
        "lm", "text.txt", output="out", config="a.yaml", held_out_data="test.txt", steps=4
    )
    assert result.steps == 4
    assert "evaluated on test.txt" in (here / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"modle": {"layers": 1}}, ConfigError, "unknown setting --modle; did you mean --model?"),
        ({"model": {"layer": 1}}, ConfigError, "unknown setting --model.layer; did you mean --model.layers?"),
        ({"model": 3}, ConfigError, "--model: 3 is not allowed"),
        ({"budget": "3m"}, ConfigError, "--budget and --steps exclude each other"),
    ],
)
def test_mistakes(here: Path, settings: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        train(**settings)
    assert words in str(caught.value)
    assert not (here / "out").exists()


def test_no_data(here: Path) -> None:
    with pytest.raises(DataError, match="no data given"):
        langmill.train("lm", output="out", steps=3)


def test_a_checkpoint_without_a_tokenizer_reads_no_text(here: Path) -> None:
    train()
    (here / "out" / "tokenizer.json").unlink()
    model = langmill.load("out")
    assert model.logits([[1, 2]]).shape[:2] == (1, 2)
    with pytest.raises(LangmillError, match="has no tokenizer.json, so it cannot read text"):
        model.logprobs("text")


def test_a_model_is_named_or_described(here: Path) -> None:
    rows = [f"__label__{'ab'[n % 2]} {'good bad'.split()[n % 2]} film {n}" for n in range(40)]
    (here / "rows.txt").write_text("\n".join(rows), encoding="utf-8")
    langmill.train("classify", "rows.txt", output="bag", model="tfidf", tensorboard=False)
    model = langmill.load("bag")
    assert repr(model).startswith("<langmill.Model bag: classify, langmill_bag, ")
    assert repr(model).endswith(" parameters, 2 labels>")
    for wrong in (3, [3], ["film", None], [("film", 3)]):
        with pytest.raises(
            LangmillError, match="predict: found .* expected a string, or a sequence of strings"
        ):
            model.predict(wrong)
    assert model.predict("good film").label == "a"
    with pytest.raises(ConfigError, match="did you mean nbsvm"):
        langmill.train("classify", "rows.txt", output="other", model="nbsvmm")
    found = langmill.tune(
        "classify", "rows.txt", output="kinds", search={"model": ["nbsvm", "tfidf"]}, trials=2
    )
    assert found.space == ("model.family=nbsvm,tfidf",)


def test_what_the_module_has_is_listed() -> None:
    assert {"load", "train", "tune", "__version__"} <= {*dir(langmill)}


def test_importing_is_light() -> None:
    code = "import sys, langmill; assert not {'torch', 'numpy', 'pydantic', 'click'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
