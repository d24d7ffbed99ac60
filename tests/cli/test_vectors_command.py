"""`langmill vectors train` from end to end. [tests]"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from small_runs import CommandLine

from langmill.vectors import training
from langmill.vectors.formats import read_vectors
from langmill.vectors.table import WordVectors

pytest.importorskip("numba")
SEA, COURT = ("Whale", "sea", "ship", "captain"), ("King", "queen", "throne", "crown")
大海, 宫廷 = ("鲸鱼", "海洋", "轮船", "船长"), ("国王", "王后", "宝座", "王冠")
WORDS = {word.lower() for topic in (SEA, COURT, 大海, 宫廷) for word in topic}


def lines(topics: Sequence[tuple[str, ...]], sign: str, end: str) -> list[str]:
    """Return sentences, each of words of one topic."""
    random = Random(1)
    return [sign.join(random.choices(random.choice(topics), k=8)) + end for _ in range(400)]


def likeness(vectors: WordVectors, one: str, other: str) -> float:
    """Return the cosine of two words."""
    a, b = (vectors.matrix[vectors.words.index(word)] for word in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("method", ["skipgram", "cbow", "fasttext", "glove"])
def test_english_and_chinese(command: CommandLine, tmp_path: Path, method: str) -> None:
    pytest.importorskip("rjieba")
    (tmp_path / "english.txt").write_text("\n".join(lines((SEA, COURT), ", ", "!")), encoding="utf-8")
    rows = [{"text": line} for line in lines((大海, 宫廷), "，", "。")]
    (tmp_path / "中文.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = tmp_path / "out.vec"
    arguments = ["vectors", "train", str(tmp_path), "-o", str(out), "--method", method, "--dim", "12"]
    own = {"glove": (), "fasttext": ("--sample", "0", "--buckets", "1000")}.get(method, ("--sample", "0"))
    result = command(*arguments, *own, "--threads", "1", "--alpha", "0.1", "--json")
    assert result.status == 0
    told = json.loads(result.out)
    vectors = read_vectors(out)
    assert told["words"] == len(vectors.words) and vectors.matrix.shape[1] == 12
    assert told["facts"]["method"] == method and told["loss"][0] > told["loss"][4] > 0
    assert set(vectors.words) == WORDS
    assert likeness(vectors, "king", "queen") > likeness(vectors, "king", "whale")
    assert likeness(vectors, "海洋", "鲸鱼") > likeness(vectors, "海洋", "王后")
    assert "401 documents" in result.err and "loss" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "word2vec"], "'word2vec' is not one of 'skipgram', 'cbow', 'fasttext', 'glove'"),
        (["--dim", "0"], "--dim: '0' is not allowed"),
        (["--threads", "-2"], "--threads: '-2' is not allowed"),
        (["--negative", "0"], "give --negative 5, or --hs"),
        (["--min-count", "1000"], "lower --min-count"),
        (
            ["--method", "glove", "--sample", "0.1"],
            "--sample has no effect on --method glove, only on skipgram, cbow",
        ),
        (["--x-max", "10"], "--x-max has no effect on --method skipgram, only on glove; leave it out"),
        (
            ["--method", "cbow", "--buckets", "10"],
            "--buckets has no effect on --method cbow, only on fasttext",
        ),
        (["--hs", "--negative", "5"], "--negative has no effect with --hs"),
        (["--resume"], "no state of an interrupted run"),
        (["--method", "glove", "--resume"], "no state of an interrupted run"),
        (["-o", "a.pkl", "--min-count", "1000"], "unknown ending '.pkl'; allowed: .vec .txt .bin"),
    ],
)
def test_mistakes_are_one_line(
    command: CommandLine, tmp_path: Path, arguments: list[str], message: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one two three\n" * 9, encoding="utf-8")
    result = command("vectors", "train", str(text), "-o", str(tmp_path / "a.vec"), *arguments)
    assert result.status == 2
    assert message in result.err.splitlines()[-1]
    assert not (tmp_path / "a.vec").exists()


def test_what_fasttext_keeps_and_takes_is_told_before_training(command: CommandLine, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one two three\n" * 9, encoding="utf-8")
    train = (
        "vectors",
        "train",
        text,
        "--words",
        "spaces",
        "--method",
        "fasttext",
        "--dim",
        10,
        "--epochs",
        1,
    )
    said = command(*train, "-o", tmp_path / "a.vec").err.splitlines()
    told = [number for number, line in enumerate(said) if "no room for the vectors of pieces" in line]
    assert len(told) == 1 and told[0] < next(n for n, line in enumerate(said) if line.startswith("epoch 1/1"))
    said = command(*train, "--buckets", 50_000, "-o", tmp_path / "a.bin").err
    size = (tmp_path / "a.bin").stat().st_size
    assert size == pytest.approx(2.0e6, rel=0.01)
    assert said.index("a.bin will take about 2.0MB, whatever the text, for 50,000") < said.index("epoch 1/1")
    assert "no room" not in said
    plain = command(*train, "--longest", 0, "-o", tmp_path / "b.vec").err
    assert "pieces" not in plain


def test_ctrl_c_prints_the_command_that_goes_on(
    command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my text.txt").write_text("one two three\n" * 2000, encoding="utf-8")
    train = [
        "vectors",
        "train",
        "my text.txt",
        "-o",
        "a.vec",
        "--words",
        "spaces",
        "--epochs",
        "2",
        "--threads",
        "1",
    ]

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    for typed in (train, [*train, "--resume"]):
        monkeypatch.setattr(sys, "argv", ["langmill", *typed])
        with monkeypatch.context() as patch:
            patch.setattr(training, "train_epoch", interrupt)
            said = command(*typed)
        assert said.status == 130
        expected = "train 'my text.txt' -o a.vec --words spaces --epochs 2 --threads 1 --resume\n"
        assert "to go on: " in said.err and f" vectors {expected}" in said.err
    assert command(*train, "--resume").status == 0


@pytest.mark.parametrize(("method", "epochs"), [("skipgram", 5), ("glove", 25)])
def test_epochs_by_method(command: CommandLine, tmp_path: Path, method: str, epochs: int) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one two three\n" * 9, encoding="utf-8")
    said = command(
        "vectors", "train", text, "-o", tmp_path / "a.npz", "--method", method, "--dim", 2, "--json"
    )
    told = json.loads(said.out)
    assert len(told["loss"]) == epochs and told["facts"]["epochs"] == str(epochs)
