"""Questions and answers, in SQuAD's files and in rows, and what is wrong with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from labelled_files import read, refused, write

from langmill.core.errors import DataError
from langmill.text.documents import ReadReport
from langmill.text.labelled_questions import Answer, QuestionExample, read_questions
from langmill.text.labelled_rows import LabelledSettings

ENGLISH = "Chopin was written in Milan. Milan is in Italy."
CHINESE = "李白，字太白，号青莲居士。李白是唐代诗人。"


def squad(*paragraphs: dict) -> str:
    return json.dumps(
        {"version": "2.0", "data": [{"title": "t", "paragraphs": list(paragraphs)}]}, ensure_ascii=False
    )


GOOD = squad(
    {"context": ENGLISH, "qas": [
        {"id": "a", "question": "Where?", "answers": [{"text": "Milan", "answer_start": 22}, {"text": "Milan", "answer_start": 29},
                                                      {"text": "Milan", "answer_start": 22}], "is_impossible": False},
        {"id": "b", "question": "Who?", "answers": [], "is_impossible": True, "plausible_answers": [{"text": "x", "answer_start": 0}]}]},
    {"context": CHINESE, "qas": [{"id": 3, "question": "李白号什么？", "answers": [{"text": "青莲居士", "answer_start": 8}]}]},
)  # fmt: skip


def check(found: list[QuestionExample], place: str) -> None:
    first, second, third = found
    assert first.answers == (Answer("Milan", 22), Answer("Milan", 29))
    assert (first.id, first.question, first.context, first.impossible) == ("a", "Where?", ENGLISH, False)
    assert (second.answers, second.impossible) == ((), True)
    assert (third.id, third.answers, third.impossible) == ("3", (Answer("青莲居士", 8),), False)
    assert third.source == f"{place}: data[0].paragraphs[1].qas[0]"
    assert list(third.fields) == ["title", "context", "id", "question", "answers"]


def test_squad(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", GOOD)
    check(read(read_questions, path), str(path))
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(GOOD.encode()))
    check(read(read_questions, packed), str(packed))
    assert len(read(read_questions, tmp_path)) == 6  # a folder's .json are data here


ROWS = [
    {"answers": {"text": ["青莲居士", "太白"], "answer_start": [8, 4]}},
    {"answers": [{"text": "青莲居士", "answer_start": 8}, {"text": "太白", "answer_start": 4}]},
    {"answers": ["青莲居士", "太白"]},
    {"answer": {"text": ["青莲居士", "太白"]}},
    {"answers": '{"text": ["青莲居士", "太白"], "answer_start": [8, 4]}'},
]


@pytest.mark.parametrize("answers", ROWS)
def test_rows(tmp_path: Path, answers) -> None:
    row = {"question": "号什么？", "context": CHINESE, **answers}
    path = write(tmp_path / "a.jsonl", row)
    (found,) = read(read_questions, path)
    assert found.answers == (Answer("青莲居士", 8), Answer("太白", 4))
    assert (found.id, found.source, found.fields) == (f"{path}:1", f"{path}:1", row)
    (tmp_path / "b.json").write_text(json.dumps([row]))
    assert read(read_questions, tmp_path / "b.json")[0].answers == found.answers
    (tmp_path / "c.json").write_text(json.dumps({"data": [row]}))
    assert read(read_questions, tmp_path / "c.json")[0].source.endswith("c.json: data[0]")


def test_tables_and_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv", f'id,query,passage,answer\n7,where,"{ENGLISH}",Milan\n8,谁,"{CHINESE}",李白\n'
    )
    assert [(each.id, each.answers) for each in read(read_questions, path)] == [
        ("7", (Answer("Milan", 22),)), ("8", (Answer("李白", 0),)),
    ]  # fmt: skip
    path = write(tmp_path / "a.tsv", f"q\tc\ta\nwhere\t{ENGLISH}\tItaly\n")
    (found,) = read(read_questions, path, text_field="c", pair_field="q", label_field="a")
    assert found.answers == (Answer("Italy", 41),)


def test_no_answer(tmp_path: Path) -> None:
    row = {"question": "q", "context": "c"}
    rows = [
        {"answers": {"text": [], "answer_start": []}},
        {"answers": []},
        {"is_impossible": True},
        {"is_impossible": "True", "answers": None},
    ]
    path = write(tmp_path / "a.jsonl", *({**row, **each} for each in rows))
    assert [(each.answers, each.impossible) for each in read(read_questions, path)] == [((), True)] * 4
    path = write(tmp_path / "a.jsonl", row, {**row, "answers": "x"}, {**row, "answers": "c"})
    found = read(read_questions, path, need_labels=False)
    assert [(len(each.answers), each.impossible) for each in found] == [(0, False), (0, False), (1, False)]


def test_a_place_nearby_is_repaired(tmp_path: Path) -> None:
    def report_of(begin: int, text: str = "Italy") -> ReadReport:
        row = {"question": "q", "context": ENGLISH, "answers": {"text": [text], "answer_start": [begin]}}
        report = ReadReport()
        (found,) = read_questions([write(tmp_path / "a.jsonl", row)], LabelledSettings(), report)
        assert found.answers == (Answer(text, ENGLISH.index(text)),)
        return report

    assert report_of(41).repaired == 0
    assert report_of(40).repaired == 1
    assert str(report_of(43)).endswith("; 1 repaired")
    assert report_of(-1).repaired == 1
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: the answer 'Milan' is not in its context at 23, where 'ilan. '|'ilan.'"
    ):
        report_of(23, "Milan")  # it stands twice nearby


BASE = {"question": "q", "context": ENGLISH}


@pytest.mark.parametrize(
    ("bad", "reason", "message"),
    [
        ({**BASE, "answers": "Rome"}, "answer not in context", "the answer 'Rome' is not in its context; expected a piece of it"),
        ({**BASE, "answers": {"text": ["Rome"], "answer_start": [3]}}, "answer not in context",
         "the answer 'Rome' is not in its context at 3, where 'pin ' stands; expected it there, or once within 50 characters"),
        ({**BASE, "answers": {"text": ["Milan"], "answer_start": [400]}}, "answer not in context", "the answer 'Milan'"),
        ({**BASE, "answers": {"text": ["Milan"], "answer_start": []}}, "not an answer", "found an object"),
        ({**BASE, "answers": {"text": ["Milan"], "answer_start": ["22"]}}, "not an answer", "found the answer an object"),
        ({**BASE, "answers": 5}, "not an answer", "found the answer a number (5)"),
        ({**BASE, "answers": [""]}, "empty text", "'answer' is empty"),
        ({**BASE, "answers": None}, "missing answer", "'answers' is null, expected {'text'"),
        (BASE, "missing answer", "this row has no value for 'answers', which rows before it have"),
        ({**BASE, "answers": "Milan", "is_impossible": True}, "answer to an impossible question", "'is_impossible' is true"),
        ({**BASE, "answers": "Milan", "is_impossible": "maybe"}, "not a boolean", "'is_impossible' is a string"),
        ({"context": "c", "answers": "c"}, "missing field", "this row has no value for 'question', which rows before it have"),
        ({"question": "c", "answers": "c"}, "missing field", "this row has no value for 'context', which rows before it have"),
        ({**BASE, "context": " ", "answers": "c"}, "empty text", "'context' is empty"),
        ({**BASE, "question": 7, "answers": "c"}, "not a string", "'question' is a number (7)"),
        ({**BASE, "answers": "{bad"}, "not valid JSON", "'answers' is a string"),
    ],
)  # fmt: skip
def test_bad_rows(tmp_path: Path, bad, reason, message) -> None:
    good = {**BASE, "answers": "Italy"}
    found, fault = refused(read_questions, write(tmp_path / "a.jsonl", good, bad, good), 3)
    assert found == reason
    assert fault.startswith(f"a.jsonl:2: {message}")


@pytest.mark.parametrize(
    ("bad", "place", "message"),
    [
        ({"context": "x"}, "paragraphs[0]", "found no list 'qas'"),
        ("x", "paragraphs[0]", "found no list 'qas'"),
        ({"context": "x", "qas": ["y"]}, "paragraphs[0].qas[0]", "found a string"),
        ({"qas": [{"id": "y", "question": "q", "answers": []}]}, "paragraphs[0].qas[0]", "no column 'context'"),
        ({"context": "abc", "qas": [{"id": "y", "question": "q", "answers": [{"text": "d", "answer_start": 0}]}]},
         "paragraphs[0].qas[0]", "the answer 'd' is not in its context at 0"),
    ],
)  # fmt: skip
def test_bad_squad(tmp_path: Path, bad, place, message) -> None:
    good = {"context": "c", "qas": [{"id": "x", "question": "q", "answers": []}]}
    _, fault = refused(read_questions, write(tmp_path / "a.json", squad(bad, good)), 2)
    assert fault.startswith(f"a.json: data[0].{place}: {message}")


def test_files_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt: expected SQuAD's \.json"):
        read(read_questions, write(tmp_path / "a.txt", "x"))
    with pytest.raises(DataError, match="found no list 'data'"):
        read(read_questions, write(tmp_path / "a.json", '{"data": 5}'))
    with pytest.raises(DataError, match=r"a\.json:1: not valid JSON"):
        read(read_questions, write(tmp_path / "a.json", '{"data": [{'))
    found, fault = refused(read_questions, write(tmp_path / "a.json", '{"data": [5]}'), 1)
    assert (found, fault[:29]) == ("not SQuAD", "a.json: data[0]: found no list 'paragraphs'"[:29])
