"""Columns with Chinese names, and how much of labelled rows is counted as read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from labelled_files import read, write

from langmill.core.errors import DataError
from langmill.text.documents import ReadReport
from langmill.text.labelled import read_classes
from langmill.text.labelled_pairs import read_pairs
from langmill.text.labelled_questions import read_questions
from langmill.text.labelled_rows import LabelledSettings
from langmill.text.labelled_spans import read_spans


@pytest.mark.parametrize(
    ("text", "label"),
    [("标题", "类别"), ("文本", "标签"), ("内容", "情感"), ("评论", "类别"), ("正文", "分类")],
)
def test_classes(tmp_path: Path, text: str, label: str) -> None:
    path = write(tmp_path / "a.csv", f"{label},编号,{text}\n", "好,1,菜很好吃\n")
    (found,) = read(read_classes, path)
    assert (found.text, found.labels) == ("菜很好吃", ("好",))


def test_two_that_fit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "标题,内容,类别\n", "一,二,三\n")
    with pytest.raises(DataError, match="'内容' and '标题' could stand for it"):
        read(read_classes, path)


def test_pairs_questions_and_spans(tmp_path: Path) -> None:
    (pair,) = read(read_classes, write(tmp_path / "a.tsv", "句子1\t句子2\t标签\n", "甲\t乙\t同\n"))
    assert (pair.text, pair.pair, pair.labels) == ("甲", "乙", ("同",))
    (pair,) = read(read_pairs, write(tmp_path / "b.tsv", "问题\t答案\n", "谁？\t我。\n"))
    assert (pair.text, pair.positive, pair.score) == ("谁？", "我。", None)
    (pair,) = read(read_pairs, write(tmp_path / "c.tsv", "句子1\t句子2\t相似度\n", "甲\t乙\t0.5\n"))
    assert (pair.text, pair.positive, pair.score) == ("甲", "乙", 0.5)
    row = {"上下文": "我住在北京。", "问题": "住在哪里？", "答案": "北京"}
    (asked,) = read(read_questions, write(tmp_path / "d.jsonl", row))
    assert (asked.context, asked.question, asked.answers[0].begin) == ("我住在北京。", "住在哪里？", 3)
    row = {"文本": "我住在北京。", "实体": [[3, 5, "地点"]]}
    (tagged,) = read(read_spans, write(tmp_path / "e.jsonl", row))
    assert [(span.begin, span.label) for span in tagged.spans] == [(3, "地点")]


@pytest.mark.parametrize(
    ("reader", "row", "characters"),
    [
        (read_classes, {"sentence1": "one", "sentence2": "三个字", "label": "x"}, (6, 12)),
        (read_pairs, {"text": "one", "positive": "三个字", "negative": "no"}, (8, 14)),
        (read_questions, {"question": "who", "context": "三个字", "answers": "字"}, (6, 12)),
        (read_spans, {"text": "三个字", "entities": []}, (3, 9)),
    ],
)
def test_all_texts_of_a_row_are_counted(tmp_path: Path, reader: Any, row: dict, characters: tuple) -> None:
    report = ReadReport()
    list(reader([write(tmp_path / "a.jsonl", row)], LabelledSettings(), report))
    assert (report.characters, report.bytes) == characters
