"""Texts with class labels, in every format, and what is wrong with rows."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from labelled_files import read, refused, write

from langmill.core.errors import DataError
from langmill.text.documents import FAULTS_KEPT, ReadReport
from langmill.text.labelled import ClassExample, read_classes
from langmill.text.labelled_rows import LabelledSettings


def pairs(path: Path, **settings) -> list[tuple[str, tuple[str, ...]]]:
    return [(example.text, example.labels) for example in read(read_classes, path, **settings)]


def test_rows_of_every_format(tmp_path: Path) -> None:
    wanted = [("a good film", ("pos",)), ("菜很难吃，不会再来", ("差评 👎",))]
    rows = [{"id": 7, "text": text, "label": label} for text, (label,) in wanted]
    jsonl = write(tmp_path / "a.jsonl", *rows)
    found = read(read_classes, jsonl)
    assert found[1] == ClassExample(*wanted[1], "", f"{jsonl}:2", rows[1])
    assert list(found[1].fields) == ["id", "text", "label"]
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(jsonl.read_bytes()))
    assert pairs(packed) == wanted
    assert pairs(write(tmp_path / "a.json", str(rows).replace("'", '"'))) == wanted
    assert pairs(write(tmp_path / "a.csv", "label,text\n", *(f'{b},"{a}"\n' for a, (b,) in wanted))) == wanted
    assert pairs(write(tmp_path / "a.tsv", "label\ttext\n", *(f"{b}\t{a}\n" for a, (b,) in wanted))) == wanted
    (tmp_path / "g.csv").write_bytes(
        (tmp_path / "a.csv").read_bytes().decode().replace(" 👎", "").encode("gb18030")
    )
    assert pairs(tmp_path / "g.csv", encoding="gb18030") == [wanted[0], (wanted[1][0], ("差评",))]


def test_parquet(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"review": ["好", "bad"], "tags": [["a", "b"], []], "stars": [5, 1]})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = read(read_classes, tmp_path / "a.parquet", label_field="tags")
    assert [(each.text, each.labels) for each in found] == [("好", ("a", "b")), ("bad", ())]
    assert found[0].fields == {"review": "好", "tags": ["a", "b"], "stars": 5}
    assert pairs(tmp_path / "a.parquet", label_field="stars") == [("好", ("5",)), ("bad", ("1",))]
    with pytest.raises(DataError, match="no column 'tag'; did you mean tags"):
        pairs(tmp_path / "a.parquet", label_field="tag")


def test_labels(tmp_path: Path) -> None:
    given = [3, True, False, "0", " New York ", ["b", "a", "b"], [1, "x"], []]
    wanted = [("3",), ("true",), ("false",), ("0",), ("New York",), ("b", "a"), ("1", "x"), ()]
    path = write(tmp_path / "a.jsonl", *({"text": "t", "label": label} for label in given))
    assert [labels for _, labels in pairs(path)] == wanted
    path = write(tmp_path / "a.tsv", "text\tlabel\nt\ta; b\nt\t\nt\tc;;a;c\n")
    assert [labels for _, labels in pairs(path, separator=";")] == [("a", "b"), (), ("c", "a")]


def test_fasttext_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "__label__pos  好看 \n\n__label__a __label__b __label__a two words\n")
    found = read(read_classes, path)
    assert [(each.text, each.labels, each.source) for each in found] == [
        ("好看", ("pos",), f"{path}:1"),
        ("two words", ("a", "b"), f"{path}:3"),
    ]
    path = write(tmp_path / "b.txt", "plain text\n __label__x\n__label__pos 好\n")
    assert pairs(path, need_labels=False) == [("plain text", ()), (" __label__x", ()), ("好", ("pos",))]


@pytest.mark.parametrize(
    ("row", "settings", "wanted"),
    [
        ({"review": "r", "sentiment": "s"}, {}, ("r", "", "s")),
        ({"text": "t", "title": "x", "label": "l", "class": "c"}, {}, ("t", "", "l")),
        ({"title": "t", "content": "c", "topic": "l"}, {"text_field": "content"}, ("c", "", "l")),
        ({"premise": "p", "hypothesis": "h", "label": 0}, {}, ("p", "h", "0")),
        ({"question": "q", "sentence": "s", "label": 1}, {}, ("q", "s", "1")),
        ({"question": "q", "sentence": "s", "label": 1}, {"pair_field": "question"}, ("s", "q", "1")),
        ({"sentence1": "a", "sentence2": "b", "label": 1}, {"text_field": "sentence2"}, ("b", "", "1")),
        ({"text": "t", "sentence1": "a", "sentence2": "b", "label": 1}, {}, ("t", "", "1")),
        ({"text": "t", "text_pair": "p", "label": "x"}, {}, ("t", "p", "x")),
        ({"甲": "t", "类": "x"}, {"text_field": "甲", "label_field": "类"}, ("t", "", "x")),
    ],
)  # fmt: skip
def test_columns_by_any_name(tmp_path: Path, row, settings, wanted) -> None:
    (found,) = read(read_classes, write(tmp_path / "a.jsonl", row), **settings)
    assert (found.text, found.pair, *found.labels) == wanted


@pytest.mark.parametrize(
    ("head", "settings", "message"),
    [
        ("title,content,label", {}, "no column 'text', and 'content' and 'title' could stand for it "
         "(found 'title', 'content', 'label'); name one with --text-field"),
        ("txet,label,x", {}, "no column 'text'; did you mean txet? (found 'txet', 'label', 'x'); "
         "name the right one with --text-field"),
        ("review,x,y", {}, "no column 'label' (found 'x', 'y'); name the right one with --label-field; the text is 'review'"),
        ("text,x,y", {"pair_field": "z"}, "no column 'z' (found 'text', 'x', 'y'); name the right one with --pair-field"),
        ("text,label,y", {"label_field": "z"}, "no column 'z' (found 'label', 'y')"),
    ],
)  # fmt: skip
def test_no_such_column(tmp_path: Path, head, settings, message) -> None:
    """A head that lacks a column is refused even where bad rows are left out."""
    path = write(tmp_path / "a.csv", head + "\na,b,c\n")
    with pytest.raises(DataError) as caught:
        pairs(path, **settings, on_bad_row="skip")
    assert str(caught.value).startswith(f"{path}:2: {message}")
    assert "head" in str(caught.value)


def test_without_labels(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", {"text": "a"}, {"text": "b", "label": None}, {"text": "c", "label": "x"}
    )
    assert pairs(path, need_labels=False) == [("a", ()), ("b", ()), ("c", ("x",))]
    path = write(tmp_path / "a.csv", "n,review\n1,很好\n")
    assert pairs(path, need_labels=False, label_field="topic") == [("很好", ())]


@pytest.mark.parametrize(
    ("bad", "reason", "message"),
    [
        ({"text": "t"}, "missing label", "this row has no value for 'label', which rows before it have"),
        ({"label": "t"}, "missing field", "this row has no value for 'text', which rows before it have"),
        ({"text": "t", "label": None}, "missing label", "'label' is null, expected a label"),
        ({"text": "t", "label": "  "}, "missing label", "'label' is a string (\"  \"), expected a label"),
        ({"text": "t", "label": ["a", None]}, "missing label", "'label' is null"),
        ({"text": "t", "label": 1.5}, "label of a wrong type", "'label' is a number (1.5), expected a string, a whole number"),
        ({"text": "t", "label": {"a": 1}}, "label of a wrong type", "'label' is an object"),
        ({"text": "t", "label": [["a"]]}, "label of a wrong type", "'label' is a list"),
        ({"text": " \u3000", "label": "a"}, "empty text", "'text' is empty, expected a text"),
        ({"text": 5, "label": "a"}, "not a string", "'text' is a number (5), expected a string"),
        ('{"text": "\\ud83d", "label": "a"}\n', "broken character", "'text' holds \\ud83d, half of a surrogate pair"),
        ('{"text": "a", "label": "\\ud83d"}\n', "broken character", "'label' holds \\ud83d"),
        ("[1]\n", "not an object", "found a list ([1]), expected an object with fields"),
        ("{\n", "not valid JSON", "not valid JSON"),
    ],
)  # fmt: skip
def test_bad_rows(tmp_path: Path, bad, reason, message) -> None:
    good = {"text": "好", "label": "a"}
    path = write(tmp_path / "a.jsonl", good, bad, good)
    found, fault = refused(read_classes, path, 3)
    assert found == reason
    assert fault.startswith(f"a.jsonl:2: {message}")


@pytest.mark.parametrize(
    ("name", "text", "line", "reason"),
    [
        ("a.txt", "__label__a x\nno label here\n__label__b y\n", 2, "missing label"),
        ("a.txt", "__label__a x\n__label__a\n__label__b y\n", 2, "empty text"),
        ("a.csv", "text,label\na,b\nc\nd,e\n", 3, "wrong number of fields"),
        ("a.csv", 'text,label\na,b\nc,""\nd,e\n', 3, "missing label"),
        ("a.tsv", "text\tlabel\na\tb\n\tb\nd\te\n", 3, "empty text"),
        ("a.json", '[{"text": "a", "label": 1},\n{"text": "", "label": 1},\n{"text": "c", "label": 2}]', 2, "empty text"),
    ],
)  # fmt: skip
def test_bad_rows_of_other_formats(tmp_path: Path, name, text, line, reason) -> None:
    found, fault = refused(read_classes, write(tmp_path / name, text), 3)
    assert found == reason
    assert fault.startswith(f"{name}:{line}: ")


def test_the_report_keeps_the_first_few(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", *({"text": "", "label": "a"} for _ in range(9)), {"text": "b", "label": "a"}
    )
    report = ReadReport()
    assert len(list(read_classes([path], LabelledSettings(on_bad_row="skip"), report))) == 1
    assert report.skipped == {"empty text": 9}
    assert [fault.split(": ")[0] for fault in report.faults["empty text"]] == [
        f"{path}:{line}" for line in range(1, FAULTS_KEPT + 1)
    ]
    assert str(report).endswith(
        f"1 file, 1 document, 1 character (1 byte); skipped: 9 empty text (first: {path}:1)"
    )


def test_long_texts_and_folders(tmp_path: Path) -> None:
    long = "长" * 3_000_000
    write(tmp_path / "a.jsonl", {"text": long, "label": "a"})
    write(tmp_path / "b.txt", f"__label__b {long}\n")
    assert pairs(tmp_path) == [(long, ("a",)), (long, ("b",))]
