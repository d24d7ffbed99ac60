"""Pairs of texts with negatives or scores, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from labelled_files import read, refused, write

from langmill.core.errors import DataError
from langmill.text.labelled_pairs import TextPair, read_pairs


def told(pair: TextPair) -> tuple:
    return pair.text, pair.positive, pair.negatives, pair.score


@pytest.mark.parametrize(
    ("row", "settings", "wanted"),
    [
        ({"text": "猫", "positive": "小猫", "negative": "汽车"}, {}, ("猫", "小猫", ("汽车",), None)),
        ({"query": "q", "positive": "p", "negatives": ["a", "b"]}, {}, ("q", "p", ("a", "b"), None)),
        ({"anchor": "q", "positive": "p", "negative_1": "a", "hard_negative_2": "b", "neg3": None}, {}, ("q", "p", ("a", "b"), None)),
        ({"source": "hello", "target": "你好"}, {}, ("hello", "你好", (), None)),
        ({"sentence1": "a", "sentence2": "b", "score": 4.5}, {}, ("a", "b", (), 4.5)),
        ({"sentence1": "a", "sentence2": "b", "label": "1"}, {}, ("a", "b", (), 1.0)),
        ({"sentence1": "a", "sentence2": "b", "similarity": 0}, {}, ("a", "b", (), 0.0)),
        ({"左": "a", "右": "b", "分": 2}, {"text_field": "左", "pair_field": "右", "label_field": "分"}, ("a", "b", (), 2.0)),
    ],
)  # fmt: skip
def test_rows(tmp_path: Path, row, settings, wanted) -> None:
    path = write(tmp_path / "a.jsonl", row)
    (found,) = read(read_pairs, path, **settings)
    assert told(found) == wanted
    assert (found.source, found.fields) == (f"{path}:1", row)


def test_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'query,document,negatives,score\n"是,吗",b,"[""c"", ""d""]",0.5\n')
    assert [told(each) for each in read(read_pairs, path)] == [("是,吗", "b", ("c", "d"), 0.5)]


@pytest.mark.parametrize(
    ("head", "first"),
    [("", 1), ("en\tzh\n", 2), ("zh-CN\tsrc\n", 2), ("source\ttarget\n", 2), ("text2\ttext1\n", 2)],
)
def test_parallel_text(tmp_path: Path, head, first) -> None:
    path = write(tmp_path / "a.tsv", f"{head}cat\t猫\ndog\t狗\n")
    found = read(read_pairs, path)
    wanted = [("猫", "cat"), ("狗", "dog")] if head.startswith("text2") else [("cat", "猫"), ("dog", "狗")]
    assert [(each.text, each.positive) for each in found] == wanted
    assert found[0].source == f"{path}:{first}"


@pytest.mark.parametrize(
    ("bad", "reason", "message"),
    [
        ({"text": "a", "positive": " "}, "empty text", "'positive' is empty"),
        ({"text": "a", "positive": None}, "not a string", "'positive' is null"),
        ({"text": "a", "positive": "b", "negatives": ["c", ""]}, "empty text", "'negatives' is empty"),
        ({"text": "a", "positive": "b", "negative": 5}, "not a string", "'negative' is a number (5)"),
        ({"text": "a", "positive": "b", "score": None}, "missing score", "'score' is empty, expected a number"),
        ({"text": "a", "positive": "b", "score": "high"}, "not a number", "'score' is a string (\"high\"), expected a number"),
        ({"text": "a", "positive": "b", "score": True}, "not a number", "'score' is a boolean"),
        ('{"text": "a", "positive": "b", "score": NaN}\n', "not a number", "'score' is a number (NaN)"),
        ({"text": "a", "positive": "b", "relatedness": 1, "similarity": 2}, "missing field", "no column 'score', and 'similarity' and"),
        ({"text": "a"}, "missing field", "this row has no value for 'positive', which rows before it have"),
    ],
)  # fmt: skip
def test_bad_rows(tmp_path: Path, bad, reason, message) -> None:
    good = {"text": "a", "positive": "b"}
    found, fault = refused(read_pairs, write(tmp_path / "a.jsonl", good, bad, good), 3)
    assert found == reason
    assert fault.startswith(f"a.jsonl:2: {message}")


def test_bad_tables(tmp_path: Path) -> None:
    reason, fault = refused(read_pairs, write(tmp_path / "a.tsv", "猫\tcat\nb\nc\td\n"), 3)
    assert (reason, fault) == (
        "wrong number of fields",
        "a.tsv:2: found 1 columns, expected 2 with a tab between them",
    )
    with pytest.raises(DataError, match="name the second with --pair-field"):
        read(read_pairs, write(tmp_path / "a.csv", "a,b\n1,2\n"), text_field="a")
    with pytest.raises(DataError, match=r"a\.txt: expected rows with columns"):
        read(read_pairs, write(tmp_path / "a.txt", "x"))
