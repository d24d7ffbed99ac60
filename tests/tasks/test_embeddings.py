"""Input embeddings that begin as word vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import WORDS, write_text

import langmill
from langmill.core.errors import ConfigError, DataError
from langmill.models.config import TransformerConfig, default_stack
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.tasks.embeddings import Start, fit_width, spellings, start_from
from langmill.tokens.tokenizer import Tokenizer
from langmill.tokens.train import train_tokenizer
from langmill.training.settings import ModelSettings, TrainSettings

TINY = {
    "device": "cpu",
    "batch": 4,
    "tensorboard": False,
    "precision": "float32",
    "steps": 1,
    "optimizer": {"learning_rate": 1e-9, "matrix_learning_rate": 1e-9},
}
SIZES = {"layers": 1, "context": 16}


def write_vectors(path: Path, width: int, words: list[str] = WORDS) -> dict[str, np.ndarray]:
    """Write vectors with a header, and return them."""
    generator = np.random.default_rng(0)
    made = {word: generator.normal(size=width).astype("f4") * 3 for word in dict.fromkeys(words)}
    lines = [f"{word} {' '.join(map(repr, row.tolist()))}" for word, row in made.items()]
    path.write_text(f"{len(made)} {width}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return made


def trained(tmp_path: Path, task: str = "lm", name: str = "run", **settings):
    model = {**SIZES, **settings.pop("model", {})}
    text = write_text(tmp_path / "text.txt")
    result = langmill.train(task, str(text), output=str(tmp_path / name), **{**TINY, **settings}, model=model)
    return langmill.load(result.folder)


def check(model, vectors: dict[str, np.ndarray]) -> int:
    """Check that each token that spells a word has its vector, up to one factor; return how many have."""
    weight = getattr(model.model, "body", model.model).output_embed.weight.detach()
    found = {}
    for number in range(len(model.tokenizer)):
        if name := next((name for name in spellings(model.tokenizer, number) if name in vectors), None):
            found[number] = vectors[name]
    wanted = torch.from_numpy(np.stack(list(found.values())))
    got = weight[list(found)][:, : wanted.shape[1]]
    factor = got.norm() / wanted.norm()
    torch.testing.assert_close(got, wanted * factor, atol=1e-5, rtol=0)
    assert (weight[list(found)][:, wanted.shape[1] :].abs() < 1e-5).all()
    return len(found)


@pytest.mark.parametrize(
    ("task", "family"), [("lm", "qwen3"), ("lm", "lstm"), ("mlm", "bert"), ("denoise", "t5")]
)
def test_they_are_in_the_weights(tmp_path, task, family):
    vectors = write_vectors(tmp_path / "a.vec", 32)
    model = trained(
        tmp_path,
        task,
        embeddings=str(tmp_path / "a.vec"),
        model={"family": family, "width": 32},
        vocabulary=420,
    )
    assert check(model, vectors) > 12
    deviation = model.model.output_embed.weight.std()
    assert 0.018 < deviation < 0.022, "the level of the initialisation is kept"


@pytest.mark.parametrize(
    ("task", "family", "columns"),
    [("classify", "lstm", "text label"), ("embed", "eurobert", "text positive")],
)
def test_tasks_with_answers_begin_with_them_too(tmp_path, task, family, columns):
    vectors = write_vectors(tmp_path / "a.vec", 32)
    lines = write_text(tmp_path / "text.txt", lines=40).read_text(encoding="utf-8").splitlines()
    first, second = columns.split()
    rows = [json.dumps({first: line, second: line.split()[0]}) + "\n" for line in lines]
    (tmp_path / "rows.jsonl").write_text("".join(rows), encoding="utf-8")
    model = {"family": family, "layers": 1}
    settings = {**TINY, "embeddings": str(tmp_path / "a.vec"), "model": model, "vocabulary": 420}
    result = langmill.train(task, str(tmp_path / "rows.jsonl"), output=str(tmp_path / "run"), **settings)
    assert check(langmill.load(result.folder), vectors) > 12


def test_coverage_is_said(tmp_path, capsys):
    write_vectors(tmp_path / "a.vec", 32, ["the", "mill", "磨", "坊"])
    (tmp_path / "text.txt").write_text("mill 磨坊 x\n" * 100, encoding="utf-8")
    settings = {**TINY, "tokenizer": "char", "model": {**SIZES, "width": 32}}
    paths = str(tmp_path / "text.txt"), str(tmp_path / "a.vec")
    model = langmill.load(
        langmill.train("lm", paths[0], output=str(tmp_path / "run"), embeddings=paths[1], **settings).folder
    )
    # Of the characters of a line two in ten have vectors; the first token ends the document before.
    assert f"2 of {len(model.tokenizer)} tokens found in" in (said := capsys.readouterr().err)
    assert "20% of the running text" in said


def test_an_open_width_is_the_vectors(tmp_path, capsys):
    vectors = write_vectors(tmp_path / "a.vec", 36)
    model = trained(tmp_path, embeddings=str(tmp_path / "a.vec"))
    assert model.model.config.output_stack.width == 36
    assert "the model is 36 wide, as the vectors are" in capsys.readouterr().err
    check(model, vectors)


@pytest.mark.parametrize(
    ("size", "given", "expected"),
    [
        (300, {}, (300, 3)),
        (256, {}, (256, 4)),
        (50, {}, (50, 1)),
        (25, {}, (0, 0)),
        (300, {"heads": 4}, (0, 4)),
        (300, {"width": 128}, (128, 0)),
        (96, {"heads": 4, "kv_heads": 2}, (96, 4)),
        (300, {"kv_heads": 2}, (300, 2)),
    ],
)
def test_which_width_suits(size, given, expected):
    settings = fit_width(TrainSettings(model=ModelSettings(**given)), size)
    assert (settings.model.width, settings.model.heads) == expected


def new_model(width: int, *, tied: bool = True) -> Transformer:
    stack = default_stack(
        layers=1,
        width=width,
        heads=1,
        kv_heads=1,
        hidden=32,
        context=8,
        dropout=0,
        causal=True,
        qk_norm=False,
        norm_eps=1e-6,
    )
    model = Transformer(TransformerConfig(vocabulary=40, tie_output=tied, decoder=stack))
    initialise(model, torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_other_rows_and_an_untied_output_stay(tied):
    model, before = new_model(8, tied=tied), new_model(8, tied=tied)
    matrix = np.random.default_rng(0).normal(size=(3, 8)).astype("f4")
    start_from(model, Start(np.array([5, 7, 30]), matrix))
    old, new = before.output_embed.weight, model.output_embed.weight
    others = [number for number in range(40) if number not in (5, 7, 30)]
    assert torch.equal(old[others], new[others])
    level = new[[5, 7, 30]].square().mean().sqrt()
    torch.testing.assert_close(level, old.square().mean().sqrt())
    assert tied == torch.equal(model.output.weight, new)
    if not tied:
        assert torch.equal(model.output.weight, before.output.weight)


def test_longer_vectors_are_projected(capsys):
    """Vectors that lie in a plane keep their angles on two channels."""
    generator = np.random.default_rng(0)
    flat = generator.normal(size=(10, 4)).astype("f4")
    matrix = flat @ generator.normal(size=(4, 50)).astype("f4")
    model = new_model(4)
    start_from(model, Start(np.arange(10), matrix))
    found = model.output_embed.weight[:10].detach().double().numpy()
    wanted = matrix.astype("f8") @ matrix.T.astype("f8")
    np.testing.assert_allclose(
        found @ found.T / np.trace(found @ found.T), wanted / np.trace(wanted), atol=1e-6
    )
    assert "vectors of 50 numbers projected onto 4, with 100% of their squares" in capsys.readouterr().err


def test_shorter_vectors_are_filled_up(tmp_path, capsys):
    vectors = write_vectors(tmp_path / "a.vec", 10)
    model = trained(tmp_path, embeddings=str(tmp_path / "a.vec"), model={"width": 32})
    assert "vectors of 10 numbers filled up with zeros to the model's width of 32" in capsys.readouterr().err
    check(model, vectors)


def test_what_a_token_spells():
    def of(tokenizer: Tokenizer, text: str) -> list[str]:
        return spellings(tokenizer, tokenizer.encode(text)[-1])

    texts = ["The mill The mill milling 磨坊 磨坊 \n"] * 50
    bpe = train_tokenizer(texts, vocabulary=300)
    assert of(bpe, " The") == ["ĠThe", "The", "the"]
    assert of(bpe, " 磨坊")[1:] == ["磨坊"] and spellings(bpe, bpe.eos_id or 0) == []
    assert of(bpe, "\n") == ["Ċ"]
    char = train_tokenizer(texts, kind="char")
    assert of(char, "磨") == ["磨"] and of(char, "é") == ["<0xA9>"]
    unigram = train_tokenizer(texts, kind="unigram", vocabulary=300)
    assert of(unigram, " mill") == ["▁mill", "mill"]
    wordpiece = train_tokenizer(texts, kind="wordpiece", vocabulary=30)
    assert of(wordpiece, "mill") in (["mill"], ["##l"], ["##ll"], ["##ill"])
    assert of(wordpiece, "milling")[0].startswith("##")


def test_a_resumed_run_goes_on(tmp_path):
    write_vectors(tmp_path / "a.vec", 32)
    settings = {"embeddings": str(tmp_path / "a.vec"), "model": {"width": 32}}
    trained(tmp_path, **settings)
    (tmp_path / "a.vec").unlink()
    again = langmill.train("lm", output=str(tmp_path / "run"), resume=True, steps=2)
    assert again.steps == 2


def test_mistakes(tmp_path):
    with pytest.raises(ConfigError, match="--embeddings none.vec: no such file"):
        trained(tmp_path, embeddings="none.vec")
    write_vectors(tmp_path / "a.vec", 32, ["Zürich"])
    with pytest.raises(DataError, match="none of its words is a token of this run's tokenizer"):
        trained(tmp_path, embeddings=str(tmp_path / "a.vec"))
    model = trained(tmp_path, model={"width": 32})
    with pytest.raises(ConfigError, match="--embeddings and --from exclude each other"):
        trained(
            tmp_path,
            name="b",
            embeddings=str(tmp_path / "a.vec"),
            from_checkpoint=str(model.checkpoint.folder),
            model={"context": 0, "layers": 0},
        )
    (tmp_path / "a.vec").write_text("the 1 2\nmill 1\n")
    with pytest.raises(DataError, match=r"a\.vec:2: found 1 numbers"):
        trained(tmp_path, name="c", embeddings=str(tmp_path / "a.vec"))
