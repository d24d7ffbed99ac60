"""`langmill train embed`, `evaluate`, `predict` and `search` from end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_runs import CommandLine

import langmill

ROWS = [("mill", "磨"), ("wheel", "轮"), ("river", "河"), ("stone", "石"), ("bread", "包"), ("water", "水")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("embed")
    rows = [f"{a} {c}\t{b}{d}" for a, b in ROWS for c, d in ROWS]
    (path / "pairs.tsv").write_text("\n".join(["en\tzh", *rows]) + "\n", encoding="utf-8")
    settings = {"tokenizer": "char", "device": "cpu", "tensorboard": False, "steps": 3, "batch": 8}
    sizes = {"layers": 1, "width": 32, "context": 24}
    langmill.train("embed", str(path / "pairs.tsv"), output=str(path / "run"), model=sizes, **settings)
    return path


def test_evaluate(folder, capsys):
    said = CommandLine(capsys)("evaluate", folder / "run", folder / "pairs.tsv", "--json")
    tree = json.loads(said.out)
    assert (said.status, tree["task"], tree["examples"]) == (0, "embed", 36)
    assert set(tree["recall_at_k"]) == {"1", "5", "10"}
    assert tree["interval"][0] <= tree["mrr"] <= tree["interval"][1]
    assert set(tree["baseline"]["TF-IDF"]) == {"mrr", "recall_at_1", "recall_at_5", "recall_at_10", "note"}
    said = CommandLine(capsys)("evaluate", folder / "run", folder / "run", folder / "pairs.tsv")
    assert "no real difference" in said.out and "recall_at_10" in said.out


def test_predict(folder, capsys):
    said = CommandLine(capsys)("predict", folder / "run", "mill", "water", "--json")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["input"] for row in rows] == ["mill", "water"]
    assert all(len(row["vector"]) == 32 for row in rows)
    said = CommandLine(capsys)("predict", folder / "run", "mill")
    assert "32 numbers, length 1.0000" in said.out
    whole = np.array(rows[0]["vector"])
    said = CommandLine(capsys)("predict", folder / "run", "mill", "--size", "8", "--json")
    short = json.loads(said.out)["vector"]
    np.testing.assert_allclose(short, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-5)
    assert "ask for 1 to 32" in CommandLine(capsys)("predict", folder / "run", "mill", "--size", "33").error
    assert "one text at a time" in CommandLine(capsys)("predict", folder / "run", "a", "--pair", "b").error


def test_search_by_short_vectors(folder, capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mill wheel\n\nbread\n")
    line, index = CommandLine(capsys), tmp_path / "index"
    given = ("search", "index", folder / "run", tmp_path / "notes.txt", "-o", index)
    assert line(*given, "--size", "8").status == 0
    assert load_file(index / "vectors.safetensors")["vectors"].shape == (2, 8)
    said = line("search", "query", index, "mill wheel", "-k", "1", "--json")
    assert json.loads(said.out)["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert "was made with size 8, not 0" in line(*given).error
    assert "ask for 1 to 32" in line(*given, "--size", "64", "--overwrite").error


def test_search(folder, capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mill wheel\n\nbread\nand water\n")
    line = CommandLine(capsys)
    said = line("search", "index", folder / "run", tmp_path / "notes.txt", "-o", tmp_path / "index")
    assert (said.status, said.out) == (0, f"{tmp_path / 'index'}: 2 passages of 1 file, 2 of them new\n")
    said = line("search", "query", tmp_path / "index", "mill wheel", "water", "-k", "1", "--json")
    first, second = (json.loads(each) for each in said.out.splitlines())
    assert first["query"] == "mill wheel" and len(second["hits"]) == 1
    (hit,) = first["hits"]
    assert (hit["text"], hit["source"]) == ("mill wheel", f"{tmp_path / 'notes.txt'}:1")
    assert hit["score"] == pytest.approx(1, abs=1e-5)
    said = line("search", "query", tmp_path / "index", "mill wheel", "water")
    assert said.out.startswith(f"=== mill wheel\n 1. 1.0000  {tmp_path / 'notes.txt'}:1\n    mill wheel\n")
    assert "    bread and water\n" in said.out


def test_mistakes(folder, capsys, tmp_path):
    line = CommandLine(capsys)
    assert "no index here" in line("search", "query", tmp_path, "mill").error
    assert (
        "no such folder" in line("search", "index", tmp_path / "none", tmp_path, "-o", tmp_path / "x").error
    )
    (tmp_path / "lines.txt").write_text("mill\nwater\n")
    given = ("search", "index", folder / "run", tmp_path / "lines.txt", "-o")
    assert "a file or folder of another kind is in the way" in line(*given, tmp_path / "lines.txt").error
    assert line(*given, tmp_path / "index").status == 0
    assert "a question is empty" in line("search", "query", tmp_path / "index", "mill", " ").error
    assert (
        "do not say which belong together" in line("evaluate", folder / "run", tmp_path / "lines.txt").error
    )
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "other": "b"}\n')
    assert (
        "bad.jsonl:1: no two columns that are a pair"
        in line("train", "embed", tmp_path / "bad.jsonl", "-o", tmp_path / "run").error
    )
    assert (
        "--labels.smoothing has no effect on embed"
        in line(
            "train", "embed", folder / "pairs.tsv", "-o", tmp_path / "run", "--labels.smoothing", "0.1"
        ).error
    )
