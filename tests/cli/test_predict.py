"""`langmill predict`."""

from __future__ import annotations

import json

import pytest
from small_runs import CommandLine, write_text

import langmill


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("mlm")
    text = write_text(path / "text.txt")
    sizes = {"layers": 1, "width": 32, "context": 24}
    settings = {"tokenizer": "char", "device": "cpu", "batch": 4, "tensorboard": False}
    return langmill.train("mlm", str(text), output=str(path / "run"), steps=3, model=sizes, **settings).folder


def test_text(folder, capsys):
    said = CommandLine(capsys)("predict", folder, "the m[MASK]ll")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0].startswith("the m") and lines[0].endswith("ll")
    assert len(lines) == 6 and all("%" in line for line in lines[1:])


def test_json_and_files(folder, capsys, tmp_path):
    (tmp_path / "in.txt").write_text("a [MASK]\n\n磨[MASK]\n", encoding="utf-8")
    said = CommandLine(capsys)("predict", folder, "--input", tmp_path / "in.txt", "--json")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["input"] for row in rows] == ["a [MASK]", "磨[MASK]"]
    assert all(len(row["masks"]) == 1 and len(row["masks"][0]) == 5 for row in rows)


def test_mistakes(folder, capsys, tmp_path):
    line = CommandLine(capsys)
    assert "no text given" in line("predict", folder).error
    assert "no [MASK] in 'plain'" in line("predict", folder, "plain").error
    assert "cannot be read" in line("predict", folder, "--input", tmp_path / "none").error
    assert "unknown task 'nlm'" in line("predict", folder, "a [MASK]", "--task", "nlm").error


def test_pairs(folder, capsys):
    line = CommandLine(capsys)
    said = line("predict", folder, "the m[MASK]ll", "a [MASK]", "--pair", "turns", "--json")
    rows = [json.loads(row) for row in said.out.splitlines()]
    assert [row["input"] for row in rows] == [["the m[MASK]ll", "turns"], ["a [MASK]", "turns"]]
    assert [row["pair"] for row in rows] == ["turns", "turns"]
    lines = line("predict", folder, "the m[MASK]ll", "--pair", "turns").out.splitlines()
    assert lines[0].startswith("the m") and lines[1] == "turns" and len(lines) == 7
    assert "no [MASK] in 'a b'" in line("predict", folder, "a", "--pair", "b").error


def test_empty_lines_are_counted(folder, capsys, tmp_path):
    (tmp_path / "in.txt").write_text("a [MASK]\n\n \nb [MASK]\n", encoding="utf-8")
    said = CommandLine(capsys)("predict", folder, "--input", tmp_path / "in.txt", "--json")
    assert len(said.out.splitlines()) == 2
    assert "in.txt: 2 empty lines left out" in said.err
    (tmp_path / "in.txt").write_text("\n\n", encoding="utf-8")
    assert "holds no text" in CommandLine(capsys)("predict", folder, "--input", tmp_path / "in.txt").error


def test_input_is_not_overwritten(folder, capsys, tmp_path):
    (tmp_path / "rows.csv").write_text("text\na [MASK]\n", encoding="utf-8")
    said = CommandLine(capsys)(
        "predict", folder, "--input", tmp_path / "rows.csv", "-o", tmp_path / "rows.csv"
    )
    assert "rows.csv: is among the files to be read; choose another -o" in said.error
    assert (tmp_path / "rows.csv").read_text() == "text\na [MASK]\n"


def test_another_task(folder, capsys):
    said = CommandLine(capsys)("predict", folder, "a [MASK]", "--task", "ner")
    assert f"{folder} is made for mlm, not for ner; leave --task out" in said.error
