"""`langmill vectors similar|analogy|odd|distance|evaluate|picture|convert` from end to end. [tests]"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_runs import CommandLine

from langmill.vectors.formats import read_vectors, write_vectors
from langmill.vectors.subwords import hashed_pieces
from langmill.vectors.table import Subwords, WordVectors

WORDS = ["man", "king", "woman", "queen", "中国", "北京", "日本", "东京", "whale"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of words in which royalty and capitals are directions, with pieces for some."""
    matrix = np.zeros((9, 6), np.float32)
    for row, numbers in enumerate([(0,), (0, 2), (1,), (1, 2), (3,), (3, 5), (4,), (4, 5)]):
        matrix[row, list(numbers)] = 1
    matrix[8] = [-1, -1, 0.1, 0.1, 0, 0]
    pieces = np.zeros((1000, 6), np.float32)
    begins, found = hashed_pieces(WORDS, 3, 4, 1000)
    for row in range(9):
        pieces[found[begins[row] : begins[row + 1]]] = matrix[row]
    write_vectors(tmp_path / "v.npz", WordVectors(WORDS, matrix, subwords=Subwords(pieces, 3, 4)))
    return tmp_path / "v.npz"


def test_similar_words(command: CommandLine, file: Path) -> None:
    said = command("vectors", "similar", file, "king", "--top", 2)
    assert said.out == "0.7071\tman\n0.5000\tqueen\n" and not said.err
    found = json.loads(
        command("vectors", "similar", file, "北京", "日本", "--not", "中国", "--top", 1, "--json").out
    )
    assert found == [{"word": "东京", "score": pytest.approx(0.95857, abs=1e-4)}]
    assert command("vectors", "similar", file, "kings", "--top", 1).out.endswith(
        "\tking\n"
    )  # from its pieces


@pytest.mark.parametrize("method", ["add", "multiply"])
def test_analogies(command: CommandLine, file: Path, method: str) -> None:
    for question, answer in [("man king woman", "queen"), ("中国 北京 日本", "东京")]:
        said = command("vectors", "analogy", file, *question.split(), "--top", 1, "--method", method)
        assert said.out.split("\t")[1] == f"{answer}\n"


def test_the_odd_one_and_the_distance(command: CommandLine, file: Path) -> None:
    first, *others = command("vectors", "odd", file, "king", "queen", "man", "北京").out.splitlines()
    assert first.endswith("\t北京\tthe odd one") and not any("odd" in line for line in others)
    assert command("vectors", "distance", file, "man", "king").out == "cosine 0.7071, distance 0.2929\n"
    told = json.loads(command("vectors", "distance", file, "中国", "日本", "--json").out)
    assert told == {"cosine": 0.0, "distance": 1.0}


def test_evaluate_prints_tables_and_json(command: CommandLine, file: Path, tmp_path: Path) -> None:
    pairs, analogies = tmp_path / "simlex.tsv", tmp_path / "ca8.tsv"
    pairs.write_text(
        "word1\tword2\tscore\nman\tking\t9\nman\twhale\t1\nQueen\t中国\t3\nzz\tman\t1\n", encoding="utf-8"
    )
    rows = [
        "section\ta\tb\tc\td",
        "王\tman\tking\twoman\tqueen",
        "首都\t中国\t北京\t日本\t东京",
        "首都\t法国\t巴黎\t日本\t东京",
    ]
    analogies.write_text("\n".join(rows), encoding="utf-8")
    said = command("vectors", "evaluate", file, pairs, analogies)
    assert "simlex.tsv: Spearman 1.0000 (95 % -1.0000 to 1.0000)\n  covers 3 of 4 pairs, 75.0%" in said.out
    assert "beside: skip-gram, 1 G words of Wikipedia: 0.37" in said.out
    table = [line.replace("│", " ").split() for line in said.out.splitlines()]
    assert ["首都", "2", "1", "100.0%", "100.0%"] in table and ["all", "3", "2", "100.0%", "100.0%"] in table
    told = json.loads(command("vectors", "evaluate", file, pairs, analogies, "--restrict", 4, "--json").out)
    assert told["results"][0]["spearman"] == 1.0
    assert told["results"][1]["total"] == {
        "section": "all",
        "questions": 3,
        "scored": 1,
        "add": 1,
        "multiply": 1,
    }
    assert told["results"][1]["vocabulary"] == 4
    pairs.write_text("zz\tzy\t1\n", encoding="utf-8")
    assert (
        json.loads(command("vectors", "evaluate", file, pairs, "--json").out)["results"][0]["spearman"]
        is None
    )
    analogies.write_text("section\ta\tb\tc\td\ns\tzz\tzy\tzx\tzw\n", encoding="utf-8")
    said = command("vectors", "evaluate", file, pairs, analogies)
    assert "simlex.tsv: no correlation: it takes two pairs or more with vectors" in said.out
    assert "covers 0 of 1 pairs" in said.out and "no score: of no question all words" in said.out
    assert "nan" not in said.out and "3CosAdd: 95 %" not in said.out


def test_convert_and_picture(command: CommandLine, file: Path, tmp_path: Path) -> None:
    said = command("vectors", "convert", file, tmp_path / "v.bin")
    assert said.out == f"{tmp_path}/v.bin: 9 words, 6 numbers each\n"
    np.testing.assert_allclose(read_vectors(tmp_path / "v.bin").matrix, read_vectors(file).matrix, atol=1e-6)
    pytest.importorskip("plotly")
    said = command("vectors", "picture", file, "-o", tmp_path / "v.html", "--top", 5)
    assert said.out == f"{tmp_path}/v.html: 5 words\n" and (tmp_path / "v.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["similar", "v.npz", "kimg", "woman"], "'kimg' is not among"),
        (["similar", "none.npz", "king"], "none.npz: no such file"),
        (["similar", "vectros.npz", "king"], "vectros.npz: no such file; did you mean vectors.npz?"),
        (["similar", "pic.png", "king"], "pic.png:1: not valid UTF-8; expected a file of word vectors"),
        (
            ["evaluate", "v.npz", "pic.png"],
            "pic.png:1: not valid UTF-8; expected a set of pairs or analogies",
        ),
        (["analogy", "v.npz", "a", "b"], "Missing argument 'C'"),
        (["odd", "v.npz", "king", "man"], "at least three words"),
        (["convert", "v.npz", "v.pkl"], "unknown ending '.pkl'; allowed: .vec .txt .bin .npz .safetensors"),
        (["picture", "v.npz", "-o", "v.gif"], "unknown ending '.gif'; allowed: .png .html"),
        (["evaluate", "v.npz", "none.tsv"], "none.tsv: no such file"),
    ],
)
def test_mistakes_are_one_line(
    command: CommandLine, file: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(file.parent)
    Path("vectors.npz").touch()
    Path("pic.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    if arguments[:3] == ["similar", "v.npz", "kimg"]:
        plain = read_vectors(file)
        write_vectors(file, WordVectors(plain.words, plain.matrix))
    assert message in command("vectors", *arguments).error
