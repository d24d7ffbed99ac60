"""Texts with spans, in every format and scheme of tags, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_files import read, refused, write

from langmill.core.errors import ConfigError, DataError
from langmill.metrics.spans import spans_to_tags, tags_to_spans
from langmill.text.documents import ReadReport
from langmill.text.labelled_entities import Span
from langmill.text.labelled_rows import LabelledSettings
from langmill.text.labelled_spans import TaggedExample, read_spans
from langmill.text.labelled_tags import joined, shape_of, tagged_spans


def named(example: TaggedExample) -> list[tuple[str, str]]:
    """Return the text of each span and its label."""
    return [(example.text[span.begin : span.end], span.label) for span in example.spans]


def columns(*sentences: str) -> str:
    """`John/B-PER sleeps/O` as columns."""
    return "\n".join("".join(f"{pair.replace('|', ' ')}\n" for pair in each.split()) for each in sentences)


ENGLISH = [("New York", "LOC"), ("Ann", "PER"), ("Bob", "PER")]


@pytest.mark.parametrize(
    "tags",
    [
        "in|O New|B-LOC York|I-LOC met|O Ann|B-PER Bob|B-PER",
        "in|O New|I-LOC York|I-LOC met|O Ann|I-PER Bob|B-PER",  # IOB1
        "in|O New|B-LOC York|E-LOC met|O Ann|S-PER Bob|S-PER",
        "in|O New|B-LOC York|L-LOC met|O Ann|U-PER Bob|U-PER",
        "in|O New|B_LOC York|I_LOC met|O Ann|B_PER Bob|B_PER",
    ],
)
def test_columns_in_every_scheme(tmp_path: Path, tags) -> None:
    for name in ("a.conll", "a.bio", "a.tsv", "a.txt"):
        path = write(tmp_path / name, "-DOCSTART- O\n\n", columns(tags, "no|O"))
        first, second = read(read_spans, path)
        assert first.text == "in New York met Ann Bob"
        assert named(first) == ENGLISH
        assert first.tokens[:3] == ((0, 2), (3, 6), (7, 11))
        assert first.spans[0] == Span(3, 11, "LOC")
        assert second == TaggedExample(
            "no", (), ((0, 2),), True, f"{path}:{second.source.rpartition(':')[2]}", second.fields
        )
        assert first.fields["tokens"] == first.text.split()


def test_chinese_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.bmes", columns("2|O 0|O 年|O ，|O 王|B-人名 小|M-人名 明|E-人名 在|O 京|S-LOC")
    )
    (found,) = read(read_spans, path)
    assert found.text == "20年，王小明在京"
    assert found.spans == (Span(4, 7, "人名"), Span(8, 9, "LOC"))
    assert found.tokens == tuple((place, place + 1) for place in range(9))
    (found,) = read(
        read_spans, write(tmp_path / "a.conll", columns("用|O Word|B-ORG 2016|I-ORG 写|O in|O 北京|B-LOC"))
    )
    assert found.text == "用Word 2016写in北京"
    assert named(found) == [("Word 2016", "ORG"), ("北京", "LOC")]


def test_more_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n")
    assert named(read(read_spans, path)[0]) == [("EU", "ORG")]
    assert named(read(read_spans, path, tag_column=2)[0]) == [("EU", "NNP"), ("rejects", "VBZ")]
    path = write(tmp_path / "a.conllu", "# text = x\n1-2\tdel\t_\t_\n1\tde\tde\tADP\n2\tel\tel\tDET\n")
    (found,) = read(read_spans, path)
    assert named(found) == [("de", "ADP"), ("el", "DET")]


def test_tags_alone_and_bare(tmp_path: Path) -> None:
    (found,) = read(read_spans, write(tmp_path / "a.bmes", columns("你|B 好|E 世|B 界|E 。|S")))
    assert named(found) == [("你好", "_"), ("世界", "_"), ("。", "_")]
    path = write(tmp_path / "a.conll", columns("Ann|PER Lee|PER in|O Rome|LOC", "Bob|PER"))
    assert [named(each) for each in read(read_spans, path)] == [
        [("Ann Lee", "PER"), ("Rome", "LOC")],
        [("Bob", "PER")],
    ]
    path = write(tmp_path / "a.conll", columns("old|ADJ old|ADJ man|NOUN"))
    assert named(read(read_spans, path)[0]) == [("old", "ADJ"), ("old", "ADJ"), ("man", "NOUN")]


def test_segmented_and_tagged_text(tmp_path: Path) -> None:
    (found,) = read(read_spans, write(tmp_path / "a.txt", "我们  爱 New York\n"))
    assert found.text == "我们爱New York"
    assert [word for word, _ in named(found)] == ["我们", "爱", "New", "York"]
    assert found.tokens == ()  # where words end is the question
    path = write(tmp_path / "a.txt", "我们/r 爱/v 北京/ns\n\nthe/DT 1/2/CD cat/NN\n")
    chinese, english = read(read_spans, path)
    assert named(chinese) == [("我们", "r"), ("爱", "v"), ("北京", "ns")]
    assert chinese.tokens == ()
    assert named(english) == [("the", "DT"), ("1/2", "CD"), ("cat", "NN")]
    assert english.tokens == ((0, 3), (4, 7), (8, 11))
    assert english.source == f"{path}:3"


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": ["New", "York", "met", "Ann"], "ner_tags": ["B-LOC", "I-LOC", "O", "B-PER"]},
        {"words": ["New", "York", "met", "Ann"], "labels": ["B-LOC", "I-LOC", "O", "B-PER"]},
        {"text": ["New", "York", "met", "Ann"], "tags": ["B-LOC", "E-LOC", "O", "S-PER"]},
        {"tokens": ["New", "York", "met", "Ann"], "ner_tags": [1, 2, 0, 3]},
        {"text": "New York met Ann", "entities": [{"start": 13, "end": 16, "label": "PER"}, {"start": 0, "end": 8, "label": "LOC"}]},
        {"text": "New York met Ann", "spans": [[0, 8, "LOC"], [13, 16, "PER"]], "tokens": [{"text": "New"}]},
        {"text": "New York met Ann", "label": [[0, 8, "LOC"], [13, 16, "PER"]]},
        {"id": 1, "text": "New York met Ann", "entities": [
            {"id": 5, "label": "LOC", "start_offset": 0, "end_offset": 8}, {"label": "PER", "start_offset": 13, "end_offset": 16}]},
        {"text": "New York met Ann", "label": [
            {"start": 0, "end": 8, "text": "New York", "labels": ["LOC"]}, {"start": 13, "end": 16, "text": "Ann", "labels": ["PER"]}]},
        {"data": {"text": "New York met Ann"}, "annotations": [{"result": [
            {"type": "labels", "value": {"start": 0, "end": 8, "text": "New York", "labels": ["LOC"]}},
            {"type": "choices", "value": {"choices": ["x"]}},
            {"type": "labels", "value": {"start": 13, "end": 16, "labels": ["PER"]}}]}]},
        {"text": "New York met Ann", "label": {"LOC": {"New York": [[0, 7]]}, "PER": {"Ann": [[13, 15]]}}},
        {"sentence": "New York met Ann", "entities": [
            {"entity_group": "LOC", "word": "New York", "start": 0, "end": 8}, {"type": "PER", "begin": 13, "end": 16}]},
    ],
)  # fmt: skip
def test_rows(tmp_path: Path, row) -> None:
    path = write(tmp_path / "a.jsonl", row)
    (found,) = read(read_spans, path, tag_names="O,B-LOC,I-LOC,B-PER")
    assert (found.text, found.tagged, found.source) == ("New York met Ann", True, f"{path}:1")
    assert found.spans == (Span(0, 8, "LOC"), Span(13, 16, "PER"))
    assert bool(found.tokens) == (
        not isinstance(row.get("text", row.get("sentence", row.get("data"))), (str, dict))
    )
    assert found.fields == row
    (tmp_path / "a.json").write_text(json.dumps([row, row]))
    assert [
        each.spans for each in read(read_spans, tmp_path / "a.json", tag_names="O,B-LOC,I-LOC,B-PER")
    ] == [found.spans] * 2


def test_cells_and_other_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'n,text,entities\n1,张三在北京,"[[0, 2, ""人 👤""], [3, 5, ""地""]]"\n')
    assert named(read(read_spans, path)[0]) == [("张三", "人 👤"), ("北京", "地")]
    path = write(tmp_path / "b.jsonl", {"文": "张三", "标": [[0, 2, "人"]]})
    assert named(read(read_spans, path, text_field="文", label_field="标")[0]) == [("张三", "人")]


def test_without_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "New York  met\n\n__label__ 张三/n\n")
    found = read(read_spans, path, need_labels=False)
    assert [(each.text, each.tagged, each.tokens) for each in found] == [
        ("New York  met", False, ()), ("__label__ 张三/n", False, ()),
    ]  # fmt: skip
    (found,) = read(read_spans, write(tmp_path / "a.conll", "张\n三\n"), need_labels=False)
    assert (found.text, found.tokens, found.tagged) == ("张三", ((0, 1), (1, 2)), False)
    path = write(
        tmp_path / "a.jsonl",
        {"text": "a"},
        {"text": "b", "label": "positive"},
        {"text": "c", "spans": [[0, 1, "X"]]},
    )
    assert [each.tagged for each in read(read_spans, path, need_labels=False)] == [False, False, True]
    (found,) = read(read_spans, write(tmp_path / "b.jsonl", {"tokens": ["a", "b"]}), need_labels=False)
    assert (found.text, found.tokens) == ("a b", ((0, 1), (2, 3)))


def test_labels_that_are_not_needed_spoil_no_text(tmp_path: Path) -> None:
    rows = [
        {"text": "abc", "spans": [[0, 9, "X"]]},
        {"tokens": ["a", "b"], "tags": ["O"]},
        {"text": "b", "label": 7},
    ]
    found = read(read_spans, write(tmp_path / "a.jsonl", *rows), need_labels=False)
    assert [(each.text, each.tagged) for each in found] == [("abc", False), ("a b", False), ("b", False)]
    assert found[1].tokens == ((0, 1), (2, 3))


def test_text_files_are_told_by_their_first_lines(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt: found no spaces within lines, expected words with spaces"):
        read(read_spans, write(tmp_path / "a.txt", "我们爱北京\n你好\n"))
    for lines in ("vitamin B\n", "vitamin B\nplan B\n", "plan B\nplan to S\n"):  # prose, not columns
        found = read(read_spans, write(tmp_path / "a.txt", lines), need_labels=False)
        assert [each.text for each in found] == lines.splitlines()
    path = tmp_path / "b.conll"
    path.write_bytes("北 B-LOC\n京 I-LOC\n".encode("gb18030"))
    assert named(read(read_spans, path, encoding="gb18030")[0]) == [("北京", "LOC")]
    with pytest.raises(ConfigError, match="encoding"):
        read(read_spans, path, encoding="gbkk")


@pytest.mark.parametrize(
    ("bad", "reason", "message"),
    [
        ({"text": "abc", "entities": [[0, 4, "X"]]}, "offset outside the text", "the span 0-4 is not within the text of 3 characters"),
        ({"text": "abc", "entities": [[-1, 2, "X"]]}, "offset outside the text", "the span -1-2"),
        ({"text": "abc", "entities": [[2, 1, "X"]]}, "offset outside the text", "the span 2-1"),
        ({"text": "abc", "entities": [[1, 1, "X"]]}, "empty span", "the span 1-1 is empty"),
        ({"text": "abc", "entities": [[0, 2, "X"], [1, 3, "Y"]]}, "overlapping spans", "the spans 0-2 (X) and 1-3 (Y) overlap"),
        ({"text": "abc", "entities": [[0, 3, "X"], [1, 2, "Y"]]}, "overlapping spans", "the spans 0-3 (X) and 1-2 (Y) overlap"),
        ({"text": "abc", "entities": [[0, 3]]}, "missing label", "the span a list ([0, 3]) has no label"),
        ({"text": "abc", "entities": [["0", 3, "X"]]}, "not a span", "found a list ([\"0\", 3, \"X\"]), expected {'start'"),
        ({"text": "abc", "entities": [{"start": 0, "label": "X"}]}, "not a span", "found an object"),
        ({"text": "abc", "entities": [{"start": 0, "end": 2, "label": "X", "text": "bc"}]}, "offset of another text",
         "at 0-2 stands 'ab', the row says 'bc'"),
        ({"text": "abc", "entities": "X"}, "not a list", "'entities' is a string (\"X\"), expected spans"),
        ({"text": "abc", "label": {"X": {"a": [[1, "2"]]}}}, "not a list", "'label' is an object"),
        ({"text": "abc", "entities": None}, "missing label", "'entities' is null"),
        ({"text": "abc"}, "missing label", "this row has no value for 'tokens' and 'tags', which rows before it have"),
        ({"text": "  ", "entities": []}, "empty text", "'text' is empty"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "tags unlike tokens", "found 1 tags for 2 tokens, expected as many"),
        ({"tokens": ["a", "b"], "tags": ["O", 1]}, "tags as numbers", "'tags' holds the number 1, expected names; give them with --tag-names"),
        ({"tokens": ["a", "b"], "tags": ["O", None]}, "bad tag", "'tags' holds null"),
        ({"tokens": ["a", "b"], "tags": ["O", "PER"]}, "bad tag", "found the tag 'PER', expected O or such as B-PER"),
        ({"tokens": ["a", ""], "tags": ["O", "O"]}, "empty text", "'token' is empty"),
        ({"tokens": [], "tags": []}, "empty text", "'tokens' is an empty list"),
        ({"tokens": "a b", "tags": ["O"]}, "not a list", "'tokens' is a string"),
        ({"data": {"text": "a"}, "annotations": []}, "bad annotations", "found 0 annotations, expected one"),
    ],
)  # fmt: skip
def test_bad_rows(tmp_path: Path, bad, reason, message) -> None:
    good = {"tokens": ["a"], "tags": ["B-X"]}
    found, fault = refused(read_spans, write(tmp_path / "a.jsonl", good, bad, good), 3)
    assert found == reason
    assert fault.startswith(f"a.jsonl:2: {message}")


def test_tag_numbers_beyond_their_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"tokens": ["a"], "tags": [0]}, {"tokens": ["a"], "tags": [2]})
    assert refused(read_spans, path, 2, tag_names="O,B-X")[0] == "unknown tag number"


def test_bad_columns_and_lines(tmp_path: Path) -> None:
    """The sentence that holds a bad line goes, the next one is read."""
    path = write(tmp_path / "a.conll", "a O\n\nb O\nc\nd O\n\ne B-X\n")
    reason, fault = refused(read_spans, path, 3)
    assert reason == "broken columns"
    assert fault.startswith("a.conll:4: found 1 columns in 'c', expected 2")
    path.write_bytes(b"a O\n\nb O\n\xff O\n\ne B-X\n")
    assert refused(read_spans, path, 3)[1].startswith("a.conll:4: not valid UTF-8")
    reason, fault = refused(read_spans, write(tmp_path / "a.conll", "a B-X\n\nb PER\n\nc O\n"), 3)
    assert (reason, fault[:40]) == ("bad tag", "a.conll:3: found the tag 'PER', expected"[:40])
    path = write(tmp_path / "a.txt", *(f"我/r 在/v{n}\n" for n in range(120)), "我 在/v\n")
    assert refused(read_spans, path, 121)[0] == "word without tag"


def test_folders_hold_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.conll", "a B-X\n")
    write(tmp_path / "notes.pdf", "x")
    report = ReadReport()
    assert len(list(read_spans([tmp_path], LabelledSettings(), report))) == 1
    assert report.ignored == {".pdf": 1}
    with pytest.raises(DataError, match="no column 'text'"):
        read(read_spans, write(tmp_path / "c.csv", "a,b\n1,2\n"))


WORDS = st.text(st.sampled_from("ab1.，中の文😀é"), min_size=1, max_size=3)
SENTENCES = st.lists(
    st.tuples(WORDS, st.sampled_from(["O", "B-PER", "I-PER", "B-地 x", "I-地 x", "E-PER", "S-PER"])),
    min_size=1,
    max_size=9,
)


@pytest.mark.parametrize("scheme", ["BIO", "IOB1", "BIOES", "BMES", "BILOU"])
@given(data=st.lists(SENTENCES, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_columns_become_spans_and_columns_again(tmp_path_factory, scheme, data) -> None:
    """Offsets are exact, and the spans of characters tell the tags that were given."""
    path = tmp_path_factory.getbasetemp() / "round.conll"
    sound = [
        [(word, tag) for word, tag in zip((word for word, _ in each), tags)]
        for each in data
        for tags in [spans_to_tags(tags_to_spans([tag for _, tag in each]), len(each), scheme)]
    ]
    write(path, "\n".join("".join(f"{word}\t{tag}\n" for word, tag in each) for each in sound))
    found = read(read_spans, path)
    assert len(found) == len(sound)
    for example, given_rows in zip(found, sound):
        assert [example.text[begin:end] for begin, end in example.tokens] == [word for word, _ in given_rows]
        begins = {begin: place for place, (begin, _) in enumerate(example.tokens)}
        ends = {end: place + 1 for place, (_, end) in enumerate(example.tokens)}
        spans = [(begins[span.begin], ends[span.end], span.label) for span in example.spans]
        assert spans_to_tags(spans, len(given_rows), scheme) == [tag for _, tag in given_rows]


@given(
    st.lists(st.sampled_from(["O"] + [f"{mark}-{name}" for mark in "BIMESLU" for name in "XY"]), max_size=12)
)
def test_spans_are_those_that_are_scored(tags) -> None:
    assert tagged_spans(tags) == [tuple(span) for span in tags_to_spans(tags)]


def test_shapes_and_spaces() -> None:
    assert [shape_of(tags) for tags in (["O"], [], ["O", "B", "B-X"], ["M", "P"], ["O", "P"])] == [
        "bare", "bare", "prefixed", "each", "runs",
    ]  # fmt: skip
    assert joined(["I", "a", "m"])[0] == "I a m"
    assert joined(["Ａ", "1", "b"])[0] == "Ａ1b"
    assert joined(["カ", "ラ", "ok", "no", "。"])[0] == "カラok no。"
    assert joined(["안녕", "세계"])[0] == "안녕 세계"
