"""A corpus in figures, counted by hand."""

from __future__ import annotations

import base64
import json
import random
import re
from pathlib import Path

import pytest

from langmill.core.errors import DataError
from langmill.text.settings import StatisticsSettings
from langmill.text.statistics import lengths_of, power_law, statistics
from langmill.text.statistics_page import page


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_counts_by_hand(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", ["The mill, the mill.", "one two\nthree\n", "The mill the MILL", ""])
    found = statistics([source], language_of=lambda text: "en" if "mill" in text else "other")
    assert (found.documents, found.rejected) == (3, {"empty": 1})
    assert (found.characters, found.bytes) == (19 + 14 + 17, 19 + 14 + 17)
    assert (found.words, found.lines, found.vocabulary, found.once) == (11, 4, 5, 3)
    assert sorted(found.top[:2]) == [("mill", 4), ("the", 4)]
    assert found.languages == {"en": 2, "other": 1}
    assert (found.exact_duplicates, found.near_duplicates) == (0, 1)
    assert found.lengths["words"].quantiles == {
        "0.0": 3, "0.05": 3, "0.25": 3, "0.5": 4, "0.75": 4, "0.95": 4, "1.0": 4,
    }  # fmt: skip
    assert sum(count for _, count in found.lengths["words"].histogram) == 3
    assert found.growth[:4] == [(1, 1), (2, 2), (3, 2), (4, 2)]
    assert found.growth[-1] == (11, 5)
    assert found.scripts == {"latin": pytest.approx(39 / 41), "sign": pytest.approx(2 / 41)}


def test_chinese_and_tokens(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", ["床前明月光，疑是地上霜。", "abc"])
    found = statistics([source], count_tokens=lambda texts: [2 * len(text) for text in texts])
    assert found.tokens is not None
    assert found.tokens.total == 2 * (12 + 3)
    assert found.tokens.per_character == 2
    assert found.tokens.documents.quantiles["1.0"] == 24
    assert found.scripts["han"] == pytest.approx(10 / 15)
    assert found.bytes == 3 * 12 + 3


def test_a_long_document_is_measured_in_parts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three\n" * 100_000)
    found = statistics([tmp_path / "a.txt"], settings=StatisticsSettings(maximum_characters=1000))
    assert (found.documents, found.words, found.lines) == (1, 300_000, 100_000)
    assert found.rejected == {"too long": 1}


def test_laws_are_recovered(tmp_path: Path) -> None:
    draw = random.Random(0)
    weights = [1 / rank for rank in range(1, 5001)]
    words = draw.choices([f"w{rank}" for rank in range(5000)], weights, k=200_000)
    source = write(tmp_path / "a.jsonl", [" ".join(words[at : at + 100]) for at in range(0, len(words), 100)])
    found = statistics([source], settings=StatisticsSettings(duplicates="none"))
    assert found.zipf[1] == pytest.approx(1.0, abs=0.1)
    assert 0.5 < found.heaps[1] < 0.9
    assert power_law([(1, 1)]) == (0.0, 0.0)


def test_a_large_vocabulary_lets_rare_words_go(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [" ".join(f"w{n}" for n in range(1500)) + " the the", "the end"])
    found = statistics([source], settings=StatisticsSettings(maximum_words=1000))
    assert found.vocabulary_is_partial
    assert found.top == [("the", 3), ("end", 1)]


def test_lengths() -> None:
    assert lengths_of([0, 5]).mean == 2.5
    assert lengths_of([7]).quantiles["0.05"] == 7


def test_no_document_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no document to measure"):
        statistics([write(tmp_path / "a.jsonl", [""])])


def test_the_page_needs_no_network_and_escapes_words(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    source = write(tmp_path / "a.jsonl", ["磨坊 mill 磨坊", "R&D stands " * 20])
    html = page(statistics([source]), title="<corpus>")
    assert "&lt;corpus&gt;" in html
    assert "<corpus>" not in html
    assert re.findall(r'(?:src|href)="(.{5})', html) == ["data:"] * 2
    assert "stands" in html
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", html)
    assert len(pictures) == 2
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
