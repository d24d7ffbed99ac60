"""Means of weights: by hand, the greedy choice, what is refused, what is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import CommandLine, assert_same_weights, weights

import langmill
from langmill.checkpoint import Checkpoint, load_checkpoint, put_head, save_checkpoint
from langmill.checkpoint.sentences import SentencePooling
from langmill.core.errors import CheckpointError, ConfigError
from langmill.evaluation.soup import Mean, Measured, Portion, Soup, combine, greedy
from langmill.models.config import bert_encoder
from langmill.models.heads import HeadConfig
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.tokens.tokenizer import Tokenizer
from langmill.tokens.train import train_tokenizer
from tests.tasks.question_samples import numbers, write_squad

ROWS = [
    {"text": f"{word} film {n}", "label": label}
    for n in range(60)
    for word, label in [("great", "pos"), ("dull", "neg")]
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([row["text"] for row in ROWS], kind="wordpiece", vocabulary=80)


def made(tokenizer: Tokenizer, head: HeadConfig, *, seed: int, width: int = 16) -> Checkpoint:
    generator = torch.Generator().manual_seed(seed)
    body = Transformer(bert_encoder(tokenizer.vocabulary_size, layers=1, width=width, heads=2, context=32))
    initialise(body, generator, scheme="gpt2")
    return put_head(Checkpoint(body.eval(), tokenizer), head, generator)


HEAD = HeadConfig(kind="text", labels=("neg", "pos"), transform="tanh")


@pytest.fixture
def runs(tmp_path: Path, tokenizer: Tokenizer) -> list[str]:
    for seed in range(3):
        save_checkpoint(tmp_path / f"r{seed}", made(tokenizer, HEAD, seed=seed))
    return [str(tmp_path / f"r{seed}") for seed in range(3)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return str(path)


def test_the_mean_by_hand(runs: list[str], tmp_path: Path) -> None:
    soup = combine(runs, str(tmp_path / "soup"))
    assert soup.kept == runs and soup.table() == f"{tmp_path}/soup: the mean of {', '.join(runs)}"
    parts, mean = [weights(Path(run)) for run in runs], weights(tmp_path / "soup")
    assert mean.keys() == parts[0].keys()
    for name, found in mean.items():
        torch.testing.assert_close(found, sum(part[name] for part in parts) / 3)
    card = (tmp_path / "soup" / "README.md").read_text()
    assert "a uniform soup" in card and all(f"| {run} |" in card for run in runs)
    assert langmill.load(tmp_path / "soup").predict("great film").label in HEAD.labels


@pytest.mark.parametrize("count", [2, 3])
def test_a_model_with_itself_is_itself(runs: list[str], tmp_path: Path, count: int) -> None:
    combine(runs[:1] * count, str(tmp_path / "soup"))
    assert_same_weights(Path(runs[0]), tmp_path / "soup")


def test_a_soup_of_one_is_called_no_mean() -> None:
    soup = Soup("out", (Portion("a", 0.9, 0.9), Portion("b", 0.5, 0.6, kept=False)), "accuracy")
    assert (
        soup.table().splitlines()[-1]
        == "out: the weights of a alone; with each of the others the score falls"
    )


def test_decisions_are_means(tokenizer: Tokenizer) -> None:
    mean = Mean()
    for number, checkpoint in enumerate(made(tokenizer, HEAD, seed=seed) for seed in range(2)):
        mean = mean.with_(replace(checkpoint, decisions={"null_threshold": float(number)}))
    assert mean.checkpoint(checkpoint).decisions == {"null_threshold": 0.5}


def test_the_greedy_choice(tokenizer: Tokenizer) -> None:
    """Weights are 0, 1 and 4; near 0.5 is best: the mean with 1 is kept, that with 4 is not."""
    names = {"four": 4.0, "zero": 0.2, "one": 1.0}

    def portion(name: str) -> Checkpoint:
        checkpoint = made(tokenizer, HEAD, seed=0)
        with torch.no_grad():
            for p in checkpoint.model.parameters():
                p.fill_(names[name])
        return checkpoint

    def score(checkpoint: Checkpoint, name: str) -> Measured:
        return Measured(
            "distance",
            abs(float(next(checkpoint.model.parameters()).flatten()[0].detach()) - 0.5),
            rises=False,
        )

    mean, soup = greedy(list(names), portion, score)
    assert [(each.name, each.kept) for each in soup.portions] == [
        ("zero", True),
        ("one", True),
        ("four", False),
    ]
    assert [each.mixed for each in soup.portions] == pytest.approx([0.3, 0.1, 5.2 / 3 - 0.5])
    assert soup.measure == "distance" and mean.count == 2
    assert float(mean.checkpoint(portion("one")).model.output.bias[0].detach()) == pytest.approx(0.6)


def test_the_command_line(
    runs: list[str],
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line, out = CommandLine(capsys), tmp_path / "soup"
    monkeypatch.setattr("langmill.tasks.classify.best_temperature", lambda logits, truth, *, several: 2.0)
    said = line("combine", *runs, "-o", out, "--data", data, "--json")
    tree = json.loads(said.out)
    assert tree["measure"] == "accuracy" and 1 <= len(tree["kept"]) <= 3
    scores = [each["score"] for each in tree["portions"]]
    assert scores == sorted(scores, reverse=True) and tree["portions"][0]["kept"]
    kept = [weights(Path(name))["classifier.weight"] for name in tree["kept"]]
    torch.testing.assert_close(
        weights(out)["classifier.weight"], sum(kept) / len(kept) / 2
    )  # calibrated by the data
    assert "a greedy soup" in (out / "README.md").read_text()
    assert "already holds README.md; pass --overwrite" in line("combine", *runs, "-o", out).error
    said = line("combine", *runs, "-o", out, "--overwrite")
    assert said.status == 0 and said.out.startswith(f"{out}: the mean of")
    assert "one checkpoint is no mean" in line("combine", runs[0], "-o", tmp_path / "x").error
    assert "a model is read from there" in line("combine", *runs, "-o", runs[1], "--overwrite").error
    assert (
        "--label-field says how --data is read"
        in line("combine", *runs, "-o", tmp_path / "x", "--label-field", "y").error
    )
    assert not (tmp_path / "x").exists()


def test_what_seeds_wrote(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, run in enumerate(runs):
        shutil.copytree(run, tmp_path / "all" / f"seed-{number}")
        (tmp_path / "all" / f"seed-{number}" / "run.yaml").write_text("from_checkpoint: ''\n")
    soup = combine([str(tmp_path / "all")], str(tmp_path / "soup"))
    assert [Path(name).name for name in soup.kept] == ["seed-0", "seed-1", "seed-2"]
    assert "trained from scratch, each to another solution" in capsys.readouterr().err


def test_what_cannot_be_averaged(runs: list[str], tokenizer: Tokenizer, data: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "other", str(tmp_path / "out")
    body = made(tokenizer, HEAD, seed=0).model.body
    others = {
        r"differ in head.labels \(\('neg', 'pos'\) and \('neg', 'so', 'pos'\)\)": made(
            tokenizer, replace(HEAD, labels=("neg", "so", "pos")), seed=0
        ),
        r"differ in body.encoder.width \(16 and 32\)": made(tokenizer, HEAD, seed=0, width=32),
        "differ in tokenizer; weights": replace(
            made(tokenizer, HEAD, seed=0),
            tokenizer=train_tokenizer(["film great dull 123"], kind="wordpiece", vocabulary=60),
        ),
        r"differ in task \(classify and embed\)": Checkpoint(
            body, tokenizer, pooling=SentencePooling("mean", normalise=True)
        ),
    }
    for message, other in others.items():
        shutil.rmtree(folder, ignore_errors=True)
        save_checkpoint(folder, other)
        with pytest.raises(CheckpointError, match=message):
            combine([runs[0], str(folder)], out)
    with pytest.raises(ConfigError, match="--on-bad-row"):
        combine(runs, out, data=[data], reading={"on_bad_row": "maybe"})


def test_fitted_models_are_refused(runs: list[str], data: str, tmp_path: Path) -> None:
    langmill.train("classify", data, output=str(tmp_path / "bag"), tensorboard=False)
    with pytest.raises(CheckpointError, match="a model of n-grams is fitted"):
        combine([runs[0], str(tmp_path / "bag")], str(tmp_path / "out"))


def test_language_models_and_adapters(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the mill turns raw text into models\n" * 80)
    sizes = {"layers": 1, "width": 16, "context": 16}
    asked = {"batch": 4, "tensorboard": False}
    langmill.train(
        "lm", str(text), output=str(tmp_path / "base"), model=sizes, tokenizer="char", steps=4, **asked
    )
    for seed in range(2):
        langmill.train(
            "lm",
            str(text),
            output=str(tmp_path / f"a{seed}"),
            from_checkpoint=str(tmp_path / "base"),
            adapter={"rank": 2},
            optimizer={"learning_rate": 0.05},
            steps=3,
            seed=seed,
            **asked,
        )
    names = [str(tmp_path / "a0"), str(tmp_path / "a1")]
    soup = combine(names, str(tmp_path / "soup"), data=[str(text)])
    assert soup.measure == "bits/byte" and soup.portions[0].score <= soup.portions[1].score  # type: ignore[operator]
    combine(names, str(tmp_path / "mean"))
    merged = [dict(load_checkpoint(name).model.named_parameters()) for name in names]
    for name, p in load_checkpoint(tmp_path / "mean").model.named_parameters():
        torch.testing.assert_close(p, (merged[0][name] + merged[1][name]) / 2)


def test_the_threshold_of_answers_is_settled_on_the_data(tokenizer: Tokenizer, tmp_path: Path) -> None:
    questions = numbers(12, impossible=4)
    write_squad(tmp_path / "dev.json", questions)
    for seed in range(2):
        checkpoint = made(tokenizer, HeadConfig(kind="span"), seed=seed)
        save_checkpoint(tmp_path / f"r{seed}", replace(checkpoint, decisions={"null_threshold": 50.0 + seed}))
    names = [str(tmp_path / f"r{seed}") for seed in range(2)]
    combine(names, str(tmp_path / "mean"))
    assert load_checkpoint(tmp_path / "mean").decisions == {"null_threshold": 50.5}
    soup = combine(names, str(tmp_path / "soup"), data=[str(tmp_path / "dev.json")])
    assert soup.measure == "f1"
    found = load_checkpoint(tmp_path / "soup")
    assert found.decisions["null_threshold"] < 20  # the odds of random models are small
