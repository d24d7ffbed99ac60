"""The recipe for few labels, on a corpus of its own."""

from __future__ import annotations

import json
import random
import runpy
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "few_labels.py"
WORDS = {"sport": ("goal", "match", "team", "比赛"), "money": ("bank", "market", "price", "股票")}


def write_rows(path: Path, count: int) -> Path:
    """Write rows of two topics."""
    draw = random.Random(count)
    rows = []
    for n in range(count):
        label = ("sport", "money")[n % 2]
        text = " ".join([*draw.choices(WORDS[label], k=4), f"news {n}"])
        rows.append(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    path.write_text("".join(rows), encoding="utf-8")
    return path


@pytest.mark.usefixtures("here")
def test_it_prints_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(write_rows(tmp_path / f"{n}.jsonl", n)) for n in (200, 60, 40)]
    few = ["--sizes", "20", "--seeds", "1", "--steps", "3", "--pretraining-steps", "4"]
    monkeypatch.setattr(sys, "argv", ["few_labels.py", *files, "-o", "out", *few])
    runpy.run_path(str(RECIPE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["| | 20 labels |", "|---|---|"]
    table = {cells[1].strip(): float(cells[2]) for cells in (line.split("|") for line in lines[2:])}
    assert list(table) == [
        "encoder, mlm on the text",
        "encoder, word vectors",
        "encoder, from scratch",
        "TF-IDF",
        "n-grams (default)",
    ]
    assert all(0 <= score <= 1 for score in table.values()) and table["TF-IDF"] > 0.9
    assert (tmp_path / "out/mlm/model.safetensors").is_file() and (tmp_path / "out/words.vec").is_file()
