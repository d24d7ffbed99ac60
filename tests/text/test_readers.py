"""Every format becomes the same documents; boundaries, parts and line ends are exact."""

from __future__ import annotations

import builtins
import csv
import gzip
import io
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from langmill.core.errors import ConfigError, DataError, MissingDependencyError
from langmill.text.documents import PART_CHARACTERS, Document, ReadReport, cut_parts
from langmill.text.readers import read_documents

TEXTS = ["床前明月光，\n疑是地上霜。", 'She said "hello", twice.', "tab\tand, comma", "  举头望明月 🌕 "]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(path: Path, **options) -> list[str]:
    return [document.text for document in read_documents([path], **options)]


def as_csv(rows: list[list[str]], **options) -> str:
    stream = io.StringIO()
    csv.writer(stream, **options).writerows(rows)
    return stream.getvalue()


def as_jsonl(values: list[object], *, ascii_only: bool = False) -> str:
    return "".join(json.dumps(value, ensure_ascii=ascii_only) + "\n" for value in values)


def as_parquet(path: Path, columns: dict[str, list]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def make(folder: Path, ending: str) -> Path:
    """Write TEXTS as rows of the format."""
    path = folder / f"数据{ending}"
    objects = [{"id": number, "text": text} for number, text in enumerate(TEXTS)]
    if ending == ".parquet":
        return as_parquet(path, {"id": list(range(len(TEXTS))), "text": TEXTS})
    if ending in (".jsonl", ".ndjson"):
        return write(path, as_jsonl(objects, ascii_only=ending == ".ndjson"))
    if ending == ".json":
        return write(path, json.dumps(objects, ensure_ascii=False, indent=1))
    return write(path, as_csv([["id", "text"], *([str(n), text] for n, text in enumerate(TEXTS))]))


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("ending", [".jsonl", ".ndjson", ".json", ".csv", ".parquet"])
def test_row_formats_and_compressions_hold_the_same_texts(tmp_path, ending, compression):
    path = make(tmp_path, ending)
    if compression:
        pack = gzip.compress if compression == ".gz" else zstandard.compress
        path = write(path.with_name(path.name + compression), pack(path.read_bytes()))
    report = ReadReport()
    documents = list(read_documents([path], report=report))
    assert [document.text for document in documents] == TEXTS
    assert all(document.part == 0 and document.last for document in documents)
    assert len({document.source for document in documents}) == len(TEXTS)
    assert (report.files, report.documents, report.skipped) == (1, 4, {})
    assert report.characters == sum(map(len, TEXTS))
    assert report.bytes == sum(len(text.encode()) for text in TEXTS)


def test_row_sources_are_the_lines_where_rows_begin(tmp_path):
    places = [d.source.rpartition(":")[2] for d in read_documents([make(tmp_path, ".csv")])]
    assert places == ["2", "4", "5", "6"]  # the first text spans two lines
    places = [d.source.rpartition(":")[2] for d in read_documents([make(tmp_path, ".json")])]
    assert places == ["2", "6", "10", "14"]


def test_tsv_is_plain_lines_but_undoes_a_csv_writers_quotes(tmp_path):
    write(tmp_path / "a.tsv", 'text\tlabel\r\n"一" 和 "二"\t1\r\n"未完\t0\n\n他说：\\n\t1\n')
    assert texts(tmp_path / "a.tsv") == ['"一" 和 "二"', '"未完', "他说：\\n"]
    plain = [[text, "1"] for text in ("好", 'He said "hi"')]
    write(tmp_path / "b.tsv", as_csv([["text", "label"], *plain], delimiter="\t"))
    assert texts(tmp_path / "b.tsv") == ["好", 'He said "hi"']


def test_another_field_can_hold_the_text(tmp_path):
    path = write(tmp_path / "a.jsonl", as_jsonl([{"内容": "你好", "text": 1}]))
    assert texts(path, text_field="内容") == ["你好"]


def test_json_may_hold_objects_one_after_another(tmp_path):
    path = write(tmp_path / "a.json", '{"text": "一"}\n{\n "text": "二"}')
    assert texts(path) == ["一", "二"]
    assert [d.source for d in read_documents([path])] == [f"{path}:1", f"{path}:2"]


def test_json_array_longer_than_a_block(tmp_path):
    values = [{"text": f"第{n}行" + "长" * 400_000} for n in range(12)]
    path = write(tmp_path / "a.json", json.dumps(values, ensure_ascii=False))
    assert texts(path) == [value["text"] for value in values]


def test_an_unknown_ending_named_outright_is_text_and_code_is_text(tmp_path):
    for name in ("README", "a.weird", "b.py", "c.RS", "d.md.gz"):
        content = "# 注释\nx = 1\n".encode()
        path = write(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
        assert list(read_documents([path])) == [Document("# 注释\nx = 1\n", str(path))]


SAMPLE = "\n一行\n二行\n\n \u3000\n<|endoftext|>\n三行 <|endoftext|>\n  <|endoftext|>\n\n四行"


@pytest.mark.parametrize(
    ("boundary", "expected"),
    [
        ("auto", [("\n一行\n二行\n\n \u3000\n", 1), ("三行 <|endoftext|>\n  <|endoftext|>\n\n四行", 7)]),
        ("file", [("\n一行\n二行\n\n \u3000\n", 1), ("三行 <|endoftext|>\n  <|endoftext|>\n\n四行", 7)]),
        ("blank", [("一行\n二行", 2), ("三行 <|endoftext|>", 7), ("四行", 10)]),
        ("line", [("一行", 2), ("二行", 3), ("三行 <|endoftext|>", 7), ("四行", 10)]),
    ],
)
def test_boundaries(tmp_path, boundary, expected):
    path = write(tmp_path / "a.txt", SAMPLE)
    report = ReadReport()
    found = [(d.text, d.source) for d in read_documents([path], boundary=boundary, report=report)]
    assert found == [(text, str(path) if line == 1 else f"{path}:{line}") for text, line in expected]
    assert not report.skipped


def test_marker_at_both_ends_of_a_file_makes_no_empty_document(tmp_path):
    path = write(tmp_path / "a.txt", "<|endoftext|>\n甲\n<|endoftext|>\n<|endoftext|>\n乙\n<|endoftext|>")
    report = ReadReport()
    assert texts(path, report=report) == ["甲\n", "乙\n"]
    assert not report.skipped


@pytest.mark.parametrize("boundary", ["auto", "blank", "line"])
def test_rows_are_documents_under_every_boundary(tmp_path, boundary):
    assert texts(make(tmp_path, ".jsonl"), boundary=boundary) == TEXTS


def reassemble(documents) -> list[str]:
    """Join parts, checking their numbers and that only the last says so."""
    whole, open_parts = [], []
    for document in documents:
        assert document.part == len(open_parts)
        assert 0 < len(document.text) <= PART_CHARACTERS + 1
        open_parts.append(document.text)
        if document.last:
            whole.append("".join(open_parts))
            open_parts = []
    assert not open_parts
    return whole


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
def test_a_long_text_comes_in_parts_cut_at_line_ends(tmp_path, compression):
    content = "".join(f"第 {number} 行：春眠不觉晓，处处闻啼鸟。\n" for number in range(150_000))
    pack = {"": bytes, ".gz": lambda b: gzip.compress(b, 1), ".zst": zstandard.compress}[compression]
    path = write(tmp_path / f"长.txt{compression}", pack(content.encode()))
    documents = list(read_documents([path]))
    assert len(documents) == 4
    assert all(document.text.endswith("\n") for document in documents)
    assert reassemble(documents) == [content]


@pytest.mark.parametrize(
    "length", [PART_CHARACTERS, PART_CHARACTERS + 1, PART_CHARACTERS + 2, 3 * PART_CHARACTERS]
)
@pytest.mark.parametrize("boundary", ["auto", "blank", "line"])
def test_a_text_without_line_ends_is_cut_hard(tmp_path, length, boundary):
    path = write(tmp_path / "a.txt", "字" * length)
    assert reassemble(read_documents([path], boundary=boundary)) == ["字" * length]


def test_a_long_row_comes_in_parts(tmp_path):
    long = "长" * (PART_CHARACTERS + 5)
    path = write(tmp_path / "a.jsonl", as_jsonl([{"text": "短"}, {"text": long}, {"text": "短"}]))
    report = ReadReport()
    assert reassemble(read_documents([path], report=report)) == ["短", long, "短"]
    assert report.documents == 3
    path = write(tmp_path / "a.csv", as_csv([["text"], [long]]))
    limit = csv.field_size_limit()
    assert reassemble(read_documents([path])) == [long]
    assert csv.field_size_limit() == limit < len(long)


def test_markers_are_found_across_blocks_and_beside_very_long_lines(tmp_path):
    lines = "甲" * (PART_CHARACTERS - 3) + "\n"
    content = [
        "乙" * (2 * PART_CHARACTERS + 7) + "\n",
        lines * 2,
        "丙\n" * 10,
        "<|endoftext|>" * 100_000 + "\n",
    ]
    path = write(tmp_path / "a.txt", "<|endoftext|>\n".join(content))
    documents = list(read_documents([path]))
    assert reassemble(documents) == content
    assert [d.source for d in documents if d.part == 0] == [str(path), *(f"{path}:{n}" for n in (3, 6, 17))]
    path = write(tmp_path / "b.txt", "\n \n".join(content))
    assert reassemble(read_documents([path], boundary="blank")) == [text[:-1] for text in content]


@pytest.mark.parametrize("rest", ["<|endoftext|>", "<|endoftext|>\n乙\n", " \n乙\n"])
@pytest.mark.parametrize("boundary", ["auto", "blank"])
def test_the_rest_of_a_very_long_line_is_no_separator(tmp_path, rest, boundary):
    content = "甲" * PART_CHARACTERS + rest
    [whole] = reassemble(read_documents([write(tmp_path / "a.txt", content)], boundary=boundary))
    assert whole == (content.removesuffix("\n") if boundary == "blank" else content)


def test_a_line_end_that_is_dropped_is_never_a_part_of_its_own(tmp_path):
    path = write(tmp_path / "a.txt", "字" * PART_CHARACTERS + "\n\n乙\n")
    assert reassemble(read_documents([path], boundary="blank")) == ["字" * PART_CHARACTERS, "乙"]


def test_json_numbers_across_blocks_are_whole(tmp_path):
    path = write(tmp_path / "a.json", "[" + " " * ((1 << 20) - 3) + '12345, {"text": "好"}]')
    with pytest.raises(DataError, match=r"a.json:1: found a number \(12345\)"):
        texts(path)


@given(st.lists(st.text(st.sampled_from("ab文\n\r"), max_size=20), max_size=6))
def test_cut_parts_loses_nothing(fragments):
    whole = "".join(fragments)
    assert "".join(text for text, _ in cut_parts(fragments)) == whole
    assert "".join(text for text, _ in cut_parts(fragments, drop_line_end=True)) == whole.removesuffix("\n")


def test_line_ends_become_newlines_and_all_else_stays(tmp_path):
    content = "一\r\n二\r三\u2028四\x0b五\x85\r\r\n\t 六 \ufeff"
    expected = "一\n二\r三\u2028四\x0b五\x85\r\n\t 六 \ufeff"
    path = write(tmp_path / "a.txt", content)
    assert texts(path) == [expected]
    assert texts(path, boundary="line") == ["一", "二\r三\u2028四\x0b五\x85\r", "\t 六 \ufeff"]


def test_a_line_end_split_between_blocks_is_one(tmp_path):
    content = b"a" * ((1 << 20) - 1) + b"\r\nb\r"
    assert "".join(texts(write(tmp_path / "a.txt", content))) == "a" * ((1 << 20) - 1) + "\nb\r"


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("asked", ["utf-8", "gb18030"])
def test_a_byte_order_mark_decides(tmp_path, codec, asked):
    path = write(tmp_path / "a.txt", "汉字\r\nabc\n".encode(codec))
    assert texts(path, encoding=asked) == ["汉字\nabc\n"]
    assert texts(path, encoding=asked, boundary="line") == ["汉字", "abc"]
    path = write(tmp_path / "a.jsonl", as_jsonl([{"text": "汉字"}, {"text": "b"}]).encode(codec))
    assert texts(path, encoding=asked) == ["汉字", "b"]
    path = write(tmp_path / "a.csv", "text,label\n汉字,1\n".encode(codec))
    assert texts(path, encoding=asked) == ["汉字"]


@pytest.mark.parametrize("codec", ["gb18030", "gbk", "big5", "shift-jis", "utf-16-le"])
def test_another_encoding_can_be_named(tmp_path, codec):
    path = write(tmp_path / "a.txt", "漢字，一行\r\n二行\n".encode(codec))
    assert texts(path, encoding=codec) == ["漢字，一行\n二行\n"]
    assert texts(path, encoding=codec, boundary="line") == ["漢字，一行", "二行"]
    path = write(tmp_path / "a.csv", 'text,n\n"漢\n字",1\n'.encode(codec))
    assert texts(path, encoding=codec) == ["漢\n字"]


@given(st.lists(st.text(min_size=1).filter(lambda text: text.strip()), max_size=5), st.booleans())
def test_jsonl_gives_back_any_text(tmp_path_factory, values, ascii_only):
    path = tmp_path_factory.mktemp("round") / "a.jsonl"
    write(path, as_jsonl([{"text": value} for value in values], ascii_only=ascii_only))
    assert texts(path) == values


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])), min_size=1, max_size=4
    )
)
def test_csv_gives_back_any_text(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("round") / "a.csv"
    write(path, as_csv([["text", "n"], *([value, "1"] for value in values)]))
    assert texts(path) == [value for value in values if value.strip()]


def test_empty_documents_and_files_are_counted(tmp_path):
    report = ReadReport()
    jsonl = write(
        tmp_path / "a.jsonl", as_jsonl([{"text": ""}, {"text": " \n\u3000"}, {"text": "好"}]) + "\n\n"
    )
    files = [
        write(tmp_path / name, text) for name, text in (("b.txt", ""), ("c.txt", "\n \n"), ("d.csv", ""))
    ]
    assert [d.text for d in read_documents([jsonl, *files], report=report)] == ["好"]
    assert report.skipped == {"empty": 5}
    assert str(report) == (
        f"4 files, 1 document, 1 character (3 bytes); skipped: 5 empty (first: {tmp_path / 'a.jsonl'}:1)"
    )
    for boundary in ("line", "blank"):
        report = ReadReport()
        assert list(read_documents(files[:2], boundary=boundary, report=report)) == []
        assert report.skipped == {"empty": 2}


def test_settings_are_checked_at_once(tmp_path):
    path = write(tmp_path / "a.txt", "好")
    with pytest.raises(
        ConfigError, match="boundary: 'lines' is not one of file, line, blank, auto; did you mean line"
    ):
        read_documents([path], boundary="lines")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="on_bad_row: 'ignore' is not one of fail, skip"):
        read_documents([path], on_bad_row="ignore")  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match="encoding: 'gb18300' is not a known text encoding; did you mean gb18030"
    ):
        read_documents([path], encoding="gb18300")
    with pytest.raises(ConfigError, match="'rot13' is not a known text encoding"):
        read_documents([path], encoding="rot13")


@pytest.mark.parametrize(("name", "module"), [("a.parquet", "pyarrow"), ("a.txt.zst", "zstandard")])
def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, name, module):
    path = write(tmp_path / name, b"x")
    found = builtins.__import__

    def without(wanted, *rest):
        if wanted.split(".")[0] == module:
            raise ImportError(wanted)
        return found(wanted, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=rf"needs {module}; .*pip install 'langmill\[data\]'"):
        texts(path)
