"""Augmenting the rows of each task: labels and spans stay, and the files are read as before."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from augmented_samples import CONLL, ENTITIES, REVIEWS, SQUAD, read_jsonl, write_jsonl
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from langmill.cli.data_augment import augment as command
from langmill.core.errors import ConfigError, DataError, LangmillError
from langmill.tasks.augmentation import augment
from langmill.tasks.augmented_rows import Reading, column_example, entities, read_examples, row_example
from langmill.text.augment import Delete, Insert, Swap
from langmill.text.augment_settings import AugmentSettings
from langmill.text.documents import ReadReport
from langmill.text.rows import Row
from langmill.text.segmentation import default_segmenter
from langmill.text.tagged import Sentence, read_columns

pytest.importorskip("rjieba")


def run(*arguments: object) -> Result:
    """Run the command; mistakes are raised."""
    return CliRunner().invoke(command, [str(each) for each in arguments], catch_exceptions=False)


def test_classify(tmp_path: Path) -> None:
    source, output = write_jsonl(tmp_path / "in.jsonl", REVIEWS), tmp_path / "out.jsonl"
    result = run("classify", source, "-o", output, "--per-row", 3, "--json")
    told = json.loads(result.stdout)
    rows = read_jsonl(output)
    assert told["read"] == 3 and told["written"] == len(rows) == 3 + sum(told["augmented"].values())
    assert told["short"] == 9 - sum(told["augmented"].values())
    assert [row for row in rows if "augmented" not in row] == REVIEWS
    labels = {row["id"]: row["label"] for row in REVIEWS}
    for row in rows:
        assert row["label"] == labels[row["id"]]
        assert row.get("augmented", "swap") in ("swap", "delete")
    assert len({row["text"] for row in rows}) == len(rows), "nothing is written twice"
    assert rows[0] == REVIEWS[0], "an original comes before its copies"
    assert all("Nobody" in row["text"] for row in rows if row["id"] == 3), "negations stay"
    assert all("不" in row["text"] and " " not in row["text"] for row in rows if row["id"] == 2)


def test_rows_do_not_depend_on_their_place(tmp_path: Path) -> None:
    found = []
    for number, rows in enumerate((REVIEWS, REVIEWS[::-1])):
        source = write_jsonl(tmp_path / f"{number}.jsonl", rows)
        run("classify", source, "-o", tmp_path / f"out{number}.jsonl", "--per-row", 2, "--only-new")
        found.append(read_jsonl(tmp_path / f"out{number}.jsonl"))
        assert all("augmented" in row for row in found[-1])
    assert sorted(found[0], key=str) == sorted(found[1], key=str) and found[0] != found[1]
    run(
        "classify",
        tmp_path / "0.jsonl",
        "-o",
        tmp_path / "other.jsonl",
        "--per-row",
        2,
        "--only-new",
        "--seed",
        9,
    )
    assert read_jsonl(tmp_path / "other.jsonl") != found[0]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_tables(tmp_path: Path, ending: str) -> None:
    """Quotation marks and separators in texts come back as they were."""
    source, output = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    if ending == "csv":
        source.write_text('label,text\ngood,"big, ""red"" and warm"\nbad,cold\n', encoding="utf-8")
    else:
        source.write_text('label\ttext\ngood\t"big, ""red"" and warm"\nbad\t"""cold"""\n', encoding="utf-8")
    run("classify", source, "-o", output, "--seed", 1)
    read = ReadReport()
    examples = list(read_examples("classify", output, Reading(), read))
    texts = [example.original["text"] for example in examples]
    assert texts[0] == 'big, "red" and warm' and texts[-1] == ("cold" if ending == "csv" else '"cold"')
    assert [example.original["label"] for example in examples] == ["good", "good", "bad"]
    assert [bool(example.original["augmented"]) for example in examples] == [False, True, False]
    if ending == "csv":
        assert next(csv.reader(output.open(encoding="utf-8"))) == ["text", "label", "augmented"]


def test_lines_with_labels(tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text(
        "__label__pos __label__en a very good film\n__label__neg dull but long\n", encoding="utf-8"
    )
    result = run("classify", source, "-o", output, "--per-row", 2)
    lines = output.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    assert all(line.startswith("__label__pos __label__en ") for line in lines[:3])
    assert all(line.startswith("__label__neg ") for line in lines[3:])
    marks = (tmp_path / "out.txt.augmented.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in marks] == ["number", "2", "3", "5", "6"]
    assert marks[1].split("\t")[2] == f"{source}:1" and "out.txt.augmented.tsv" in result.stdout
    source.write_text("no label here\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"in\.txt:1: no label"):
        run("classify", source, "-o", output, "--overwrite")
    run("lm", source, "-o", output, "--overwrite")
    assert output.read_text(encoding="utf-8").startswith("no label here\nno ")


def test_columns(tmp_path: Path) -> None:
    source, output = tmp_path / "in.conll", tmp_path / "out.conll"
    source.write_text(CONLL, encoding="utf-8")
    run("ner", source, "-o", output, "--per-row", 3, "--share", 0.4)
    first, second = (each.rows for each in read_columns(source))
    found = [each.rows for each in read_columns(output)]
    assert found[0] == first and len(found) > 5
    for rows in found:
        assert entities(rows) in (entities(first), entities(second))
        assert all(len(row) == 3 for row in rows)
    assert {rows for rows in found if rows[0][0] == "吴"} > {second}
    tags = dict(row[:2] for row in first)
    assert all(tags[row[0]] == row[1] for rows in found if rows[0][0] == "Ann" for row in rows), (
        "columns go along"
    )


def test_new_words_in_columns_are_outside(tmp_path: Path) -> None:
    rows = tuple(tuple(line.split("\t")) for line in CONLL.split("\n\n")[1].split("\n") if line)
    example = column_example(Sentence(rows, 1), "x", default_segmenter())
    assert [example.passage.word(number) for number in range(len(example.passage.words))] == ["昨天", "离开"]
    _, new = example.change({0: ("今晨",), 1: (1, "了")}, "insert")
    assert "".join(row[0] for row in new) == "吴阳今晨离开了北京。"
    assert [row[-1] for row in new] == ["B-PER", "I-PER", *"OOOOO", "B-LOC", "I-LOC", "O"]


def test_entities_are_not_run_together() -> None:
    """With IO tags only the token between two of a kind keeps them apart."""
    rows = tuple((token, tag) for token, tag in zip("Ann and Bob".split(), ("I-PER", "O", "I-PER")))
    example = column_example(Sentence(rows, 1), "x", default_segmenter())
    assert example.change({0: ()}, "delete")[1] == rows
    well_formed = (("Ann", "B-PER"), ("and", "O"), ("Bob", "B-PER"))
    example = column_example(Sentence(well_formed, 1), "x", default_segmenter())
    assert example.change({0: ()}, "delete")[1] == (well_formed[0], well_formed[2])


def test_spans(tmp_path: Path) -> None:
    source, output = write_jsonl(tmp_path / "in.jsonl", ENTITIES), tmp_path / "out.jsonl"
    run("ner", source, "-o", output, "--per-row", 4, "--share", 0.5)
    rows = read_jsonl(output)
    assert len(rows) > 6
    for row in rows:
        spans = [
            (each["start"], each["end"], each["label"]) if isinstance(each, dict) else tuple(each)
            for each in row["entities"]
        ]
        shown = [(row["text"][begin:end], label) for begin, end, label in spans]
        if "Ann" in row["text"]:
            assert shown == [("Ann Lee", "PER"), ("New York", "LOC"), ("York", "CITY")]
        else:
            assert shown == [("吴阳", "PER"), ("北京", "LOC"), ("北京大学", "ORG")]


def test_squad(tmp_path: Path) -> None:
    source, output = tmp_path / "in.json", tmp_path / "out.json"
    source.write_text(json.dumps(SQUAD, ensure_ascii=False), encoding="utf-8")
    run("qa", source, "-o", output, "--per-row", 3, "--share", 0.4)
    tree = json.loads(output.read_text(encoding="utf-8"))
    paragraphs = [paragraph for article in tree["data"] for paragraph in article["paragraphs"]]
    assert paragraphs[0] == SQUAD["data"][0]["paragraphs"][0]  # type: ignore[index]
    assert Counter(bool(each.get("augmented")) for each in paragraphs) == {True: 6, False: 2}
    ids = [question["id"] for each in paragraphs for question in each["qas"]]
    assert len(set(ids)) == len(ids) == 4 * 2 + 4
    for each in paragraphs:
        for question in each["qas"]:
            for answer in question["answers"] + question.get("plausible_answers", []):
                begin = answer["answer_start"]
                assert each["context"][begin : begin + len(answer["text"])] == answer["text"]
    again = run("qa", output, "-o", tmp_path / "again.json", "--json")
    assert json.loads(again.stdout)["read"] == 8, "what is written is read"


def test_rows_with_answers(tmp_path: Path) -> None:
    row = {
        "context": "The white whale sank the old ship.",
        "question": "?",
        "answers": {"text": ["white whale", "whale"], "answer_start": [4, 10]},
    }
    source = write_jsonl(tmp_path / "in.jsonl", [row])
    run("qa", source, "-o", tmp_path / "out.jsonl", "--per-row", 4, "--share", 0.5)
    rows = read_jsonl(tmp_path / "out.jsonl")
    assert rows[0] == row and len(rows) > 2
    for each in rows:
        starts = each["answers"]["answer_start"]
        assert [
            each["context"][begin:][: len(text)] for begin, text in zip(starts, row["answers"]["text"])
        ] == row["answers"]["text"]  # type: ignore[index]


def test_translation_pairs(tmp_path: Path) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("en\tzh\nI met him on the street.\t我在街上遇到他。\n", encoding="utf-8")
    run("translate", source, "-o", tmp_path / "out.tsv", "--text-field", "zh", "--only-new")
    _, new = (tmp_path / "out.tsv").read_text(encoding="utf-8").splitlines()
    zh, en, operation = new.split("\t")
    assert en == "I met him on the street." and operation in ("swap", "delete") and zh != "我在街上遇到他。"
    with pytest.raises(DataError, match="no column 'source'.*--text-field"):
        run("translate", source, "-o", tmp_path / "other.tsv")


@settings(max_examples=1000, deadline=None)
@given(
    tokens=st.lists(
        st.tuples(
            st.sampled_from(["Ann", "flew", "not", "3", ",", "昨", "天", "离", "开", "𠮷", "New York", "é"]),
            st.sampled_from(["O", "O", "O", "B-PER", "I-PER", "B-LOC", "S-LOC", "E-PER", "M-PER"]),
        ),
        min_size=1,
        max_size=14,
    ),
    number=st.integers(0, 2),
    seed=st.integers(0, 9),
)
def test_columns_stay_well_formed(tokens: list[tuple[str, str]], number: int, seed: int) -> None:
    """Entities and their order stay; what was begun with B or continued with I is so still."""
    from random import Random

    rows = tuple((token, "_", tag) for token, tag in tokens)
    example = column_example(Sentence(rows, 1), "x", default_segmenter())
    operation = [
        Swap(0.5),
        Delete(0.5),
        Insert(0.5, lambda places: [[("鲸", 1.0), ("whale", 1.0)]] * len(places)),
    ]
    (changes,) = operation[number]([example.passage], [Random(seed)])
    _, new = example.change(changes, "x")
    assert entities(new) == entities(rows)
    assert [row for row in new if row[-1] != "O"] == [row for row in rows if row[-1] != "O"]
    assert all(len(row) == 3 and row[0] for row in new)


@settings(max_examples=1000, deadline=None)
@given(
    text=st.text(st.sampled_from("ab c,.昨天离开北京\n\u3000'\""), max_size=40),
    cuts=st.lists(st.integers(0, 40), min_size=2, max_size=6),
    number=st.integers(0, 1),
    seed=st.integers(0, 9),
)
def test_entity_rows_keep_their_texts(text: str, cuts: list[int], number: int, seed: int) -> None:
    from random import Random

    places = [min(cut, len(text)) for cut in cuts]
    spans = [sorted(pair) + ["X"] for pair in zip(places[::2], places[1::2])]
    example = row_example("ner", Row(text, "x", {"spans": spans}), Reading(), is_text=False)
    (changes,) = [Swap(0.5), Delete(0.5)][number]([example.passage], [Random(seed)])
    changed, row = example.change(changes, "swap")
    assert row["text"] == changed
    assert [changed[begin:end] for begin, end, _ in row["spans"]] == [
        text[begin:end] for begin, end, _ in spans
    ]


BAD_ROWS: list[tuple[str, Any, str]] = [
    (
        "classify",
        {"text": "a", "lable": "b"},
        r"in\.jsonl:1: no field 'label'; did you mean lable.*--label-field",
    ),
    ("classify", {"txt": "a", "label": "b"}, r"in\.jsonl:1: no field 'text'"),
    ("ner", {"text": "Ann"}, r"in\.jsonl:1: no field 'entities'"),
    ("ner", {"text": "Ann", "entities": "x"}, "is no list"),
    (
        "ner",
        {"text": "Ann", "entities": [[0, 4, "X"]]},
        "the span 0-4 is not within the text of 3 characters",
    ),
    ("ner", {"text": "Ann", "entities": [[0, "3", "X"]]}, "expected"),
    (
        "ner",
        {"text": "Ann", "entities": [{"start": 0, "end": 2, "text": "Ann"}]},
        "stands 'An', the row says 'Ann'",
    ),
    ("qa", {"context": "Ann", "answers": []}, "expected {'text'"),
    ("qa", {"context": "Ann", "answers": {"text": ["A"], "answer_start": []}}, "as many texts as starts"),
    (
        "qa",
        {"context": "Ann", "answers": {"text": ["n"], "answer_start": [0]}},
        "'n' is not in its context at 0",
    ),
]


@pytest.mark.parametrize(("task", "row", "message"), BAD_ROWS)
def test_bad_rows(tmp_path: Path, task: str, row: Any, message: str) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [row])
    with pytest.raises(DataError, match=message):
        run(task, source, "-o", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"data": [{"paragraphs": [{"context": 3, "qas": []}]}]}', encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"a\.json: data\[0\]\.paragraphs\[0\] lacks its context"):
        run("qa", tmp_path / "a.json", "-o", tmp_path / "out.json")
    (tmp_path / "a.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match="not SQuAD"):
        run("qa", tmp_path / "a.json", "-o", tmp_path / "out.json")
    (tmp_path / "a.conll").write_text("Ann B-PER\nflew\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.conll:2: found 1 columns"):
        run("ner", tmp_path / "a.conll", "-o", tmp_path / "out.conll")
    (tmp_path / "a.txt").write_text("x\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected \.conll"):
        run("ner", tmp_path / "a.txt", "-o", tmp_path / "out.txt")
    with pytest.raises(DataError, match="takes rows with fields"):
        run("qa", tmp_path / "a.txt", "-o", tmp_path / "out.txt")
    (tmp_path / "b.jsonl").write_text("{}\n" + json.dumps(REVIEWS[0]) + "\n", encoding="utf-8")
    told = run("classify", tmp_path / "b.jsonl", "-o", tmp_path / "o.jsonl", "--on-bad-row", "skip", "--json")
    assert json.loads(told.stdout)["skipped"] == {"missing field": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clasify",), "unknown task 'clasify'.*did you mean classify"),
        (("classify", "--operations", "swop"), "unknown operation 'swop'.*did you mean swap"),
        (("classify", "--operations", "swap,synonym"), "synonym needs --vectors FILE"),
        (("classify", "--operations", "contextual"), "contextual needs --model CKPT"),
        (("ner", "--translate-to", "a", "--translate-back", "b"), "spans of ner would be lost"),
        (("classify", "--translate-to", "a"), "go together"),
        (("classify", "--share", "2"), "--share"),
        (("classify", "-o", "out.csv"), "same format"),
        (("classify", "-o", "in.jsonl"), "among the files to be read"),
        (("classify", "--dictionary", "none.txt"), r"none\.txt"),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), REVIEWS)
    with pytest.raises(LangmillError, match=message):
        run(arguments[0], "in.jsonl", "-o", "out.jsonl", *arguments[1:])


def test_nothing_to_write(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "鲸", "label": "x"}])
    with pytest.raises(DataError, match="nothing to write"):
        augment("classify", source, tmp_path / "out.jsonl", AugmentSettings(only_new=True))
    with pytest.raises(ConfigError, match="unknown task"):
        augment("", source, tmp_path / "out.jsonl", AugmentSettings())
