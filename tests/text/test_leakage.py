"""What the training text holds of the test text, in figures made by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from langmill.core.errors import DataError
from langmill.text.leakage import check
from langmill.text.settings import CheckSettings

WORDS = [f"word{number}" for number in range(3000)]


def passage(count: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_each_kind_of_leak(tmp_path: Path) -> None:
    copied, clean, near, quoted, short = (passage(n, n) for n in (50, 60, 100, 40, 5))
    poem = "床前明月光疑是地上霜举头望明月低头思故乡"
    train = write(
        tmp_path / "train.jsonl",
        [passage(80, 1), copied.upper() + "!", near + " and more", f"{passage(30, 2)} {' '.join(quoted.split()[:20])}",
         f"有诗云：床前明月光，疑是地上霜。举头望。{passage(20, 3)}"],
    )  # fmt: skip
    test = write(tmp_path / "test.jsonl", [clean, copied, near, quoted, short, poem])
    report = check([train], [test])
    assert (report.train_documents, report.test_documents, report.too_short) == (5, 6, 1)
    assert (report.exact, report.near, report.touched, report.contaminated) == (0, 2, 4, 4)
    found = {leak.source.rpartition(":")[2]: leak for leak in report.leaks}
    assert set(found) == {"2", "3", "4", "6"}
    assert found["2"].covered == 1
    assert found["2"].near == f"{train}:2"  # its exclamation mark is not looked at
    assert found["2"].similarity == 1
    assert found["3"].near == f"{train}:3"
    assert found["4"].covered == 0.5
    assert found["4"].excerpt == " ".join(quoted.split()[:20])
    assert found["6"].covered == 13 / 20
    assert found["6"].excerpt == poem[:13]
    covered = 50 + 100 + 20 + 13
    assert report.covered == pytest.approx(covered / (60 + 50 + 100 + 40 + 5 + 20))


def test_exact_duplicates(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ["one", passage(30, 1), "Short  text"])
    test = write(tmp_path / "test.jsonl", ["short text", "short text", "other"])
    report = check([train], [test])
    assert (report.exact, report.contaminated) == (2, 2)
    assert [leak.exact for leak in report.leaks] == [f"{train}:3"] * 2
    assert report.share == pytest.approx(2 / 3)


def test_a_shorter_ngram_finds_more(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [f"{passage(10, 1)} a b c d {passage(10, 2)}"])
    test = write(tmp_path / "test.jsonl", [f"{passage(6, 3)} a b c d {passage(10, 4)}"])
    assert check([train], [test]).touched == 0
    report = check([train], [test], settings=CheckSettings(ngram=4, covered=0.2))
    assert report.leaks[0].covered == 4 / 20
    assert report.leaks[0].excerpt == "a b c d"
    assert report.contaminated == 1


def test_nothing_shared(tmp_path: Path) -> None:
    report = check(
        [write(tmp_path / "a.jsonl", [passage(50, 1)])], [write(tmp_path / "b.jsonl", [passage(50, 2), "?!"])]
    )
    assert (report.touched, report.contaminated, report.covered, report.leaks) == (0, 0, 0.0, [])


def test_bad_rows_are_counted_and_no_test_is_an_error(tmp_path: Path) -> None:
    train, test = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    train.write_text('{"text": "a"}\n{\n')
    test.write_text('{"text": "a"}\n[]\n')
    assert check([train], [test]).rejected == {"test: not an object": 1, "train: not valid JSON": 1}
    test.write_text("[]\n")
    with pytest.raises(DataError, match="no document to look for"):
        check([train], [test])
