"""A thousand nasty rows for each reader of labelled data: an error that is told at most, and never a lost row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nasty import NASTY

from langmill.core.errors import LangmillError
from langmill.text.documents import ReadReport
from langmill.text.labelled import read_classes
from langmill.text.labelled_pairs import read_pairs
from langmill.text.labelled_questions import read_questions
from langmill.text.labelled_rows import LabelledSettings, file_rows
from langmill.text.labelled_spans import read_spans

READERS: dict[str, Any] = {
    "classes": read_classes, "spans": read_spans, "questions": read_questions, "pairs": read_pairs,
}  # fmt: skip
NAMES = [
    *(
        "text",
        "label",
        "labels",
        "sentence",
        "question",
        "context",
        "answers",
        "answer_start",
        "is_impossible",
        "id",
    ),
    *(
        "tokens",
        "tags",
        "ner_tags",
        "entities",
        "spans",
        "start",
        "end",
        "data",
        "annotations",
        "result",
        "value",
    ),
    *("positive", "negative", "negatives", "score", "query", "paragraphs", "qas", "", "文"),
]
ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 12), st.floats(), st.sampled_from(["O", "B-X", "I-X", "a", "中", "[1", "{}", ""]), NASTY
)  # fmt: skip
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=8,
)
GOOD: dict[str, list[dict[str, Any]]] = {
    "classes": [{"text": "好", "label": "a"}, {"premise": "p", "hypothesis": "h", "label": 1}],
    "spans": [
        {"text": "中文", "entities": [{"start": 0, "end": 2, "label": "X"}, [1, 2, "Y"]]},
        {"tokens": ["a", "中"], "tags": ["O", "B-X"]},
    ],
    "questions": [{"question": "q", "context": "中a", "answers": {"text": ["a"], "answer_start": [1]}}],
    "pairs": [{"text": "a", "positive": "b", "negatives": ["c"], "score": 1}],
}


def rows_of(kind: str) -> Any:
    """Draw good rows, good rows of which something is changed, and rows of anything."""
    good = st.sampled_from(GOOD[kind])
    spoilt = st.tuples(good, st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=1)).map(
        lambda pair: {**pair[0], **pair[1]}
    )
    anything = st.one_of(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5), VALUES)
    return st.lists(st.one_of(good, spoilt, anything), max_size=5)


def check(reader: Any, path: Path, need_labels: bool, rows: int | None) -> None:
    """Read a file, leaving bad rows out and not; `rows`: how many it has, if that can be told."""
    keywords = {} if reader is read_pairs else {"need_labels": need_labels}
    skipping, failing = ReadReport(), ReadReport()
    found, error = read(reader([path], LabelledSettings(on_bad_row="skip"), skipping, **keywords))
    assert skipping.documents == len(found)
    assert error or rows is None or len(found) + skipping.skipped.total() == rows
    for example in found:
        assert example.source.startswith(str(path))
        for span in getattr(example, "spans", ()):
            assert 0 <= span.begin < span.end <= len(example.text)
        for answer in getattr(example, "answers", ()):
            assert example.context.startswith(answer.text, answer.begin)
    first, failure = read(reader([path], LabelledSettings(), failing, **keywords))
    assert first == found[: len(first)]
    assert not failing.skipped
    assert str(path) in failure if skipping.skipped or error else not failure


def read(found: Iterator[Any]) -> tuple[list[Any], str]:
    """Return what comes before an error, and the error."""
    out = []
    try:
        for example in found:
            out.append(example)
    except LangmillError as error:
        return out, str(error)
    return out, ""


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data(), need_labels=st.booleans())
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_rows(tmp_path_factory, kind, data, need_labels) -> None:
    rows = data.draw(rows_of(kind))
    path = tmp_path_factory.getbasetemp() / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    check(READERS[kind], path, need_labels, len(rows))


LINES = st.lists(
    st.one_of(NASTY, st.sampled_from(["a O", "中 B-X", "x\tB", "a/n b/v", "__label__a b", "text,label", "a,b", '"', "text\tpositive", ""])),
    max_size=8,
)  # fmt: skip


@pytest.mark.parametrize("name", ["a.txt", "a.conll", "a.csv", "a.tsv", "a.json"])
@given(lines=LINES, need_labels=st.booleans())
@settings(max_examples=250, deadline=None)
def test_lines(tmp_path_factory, name, lines, need_labels) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    for reader in READERS.values():
        counted = reader is read_classes and name == "a.txt"
        check(reader, path, need_labels, sum(1 for _ in file_rows(path, "utf-8")) if counted else None)
