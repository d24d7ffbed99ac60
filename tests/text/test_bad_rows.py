"""What cannot be read says where, what was found and what to do; or is left out and counted."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
import zstandard

from langmill.core.errors import DataError
from langmill.text.documents import ReadReport
from langmill.text.readers import read_documents

SKIP = "; or leave such rows out with --on-bad-row skip"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(path: Path, **options) -> list[str]:
    return [document.text for document in read_documents([path], **options)]


def failure(path: Path, **options) -> str:
    """The message without the folder."""
    with pytest.raises(DataError) as caught:
        texts(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


GOOD = '{"text": "好"}'


@pytest.mark.parametrize(
    ("bad", "reason", "message"),
    [
        ('{"text": "好"', "not valid JSON", "not valid JSON (Expecting ',' delimiter at column 13); "
         "expected one JSON object per line"),
        ('{"text": "好"} x', "not valid JSON", "not valid JSON (Extra data at column 15); "
         "expected one JSON object per line"),
        ("[" * 100_000, "not valid JSON", None),
        ("[1]", "not an object", "found a list ([1]), expected an object with the field 'text'"),
        ('"好"', "not an object", "found a string (\"好\"), expected an object with the field 'text'"),
        ('{"txt": "好", "n": 1}', "missing field", "no field 'text'; did you mean txt? (found 'txt', 'n'); "
         "name the right one with --text-field"),
        ("{}", "missing field", "no field 'text' (found no fields); name the right one with --text-field"),
        ('{"text": 42}', "not a string", "field 'text' is a number (42), expected a string"),
        ('{"text": null}', "not a string", "field 'text' is null, expected a string"),
        ('{"text": ["一"]}', "not a string", "field 'text' is a list ([\"一\"]), expected a string"),
        ('{"text": "\\ud83d"}', "broken character",
         "field 'text' holds \\ud83d, half of a surrogate pair, expected whole characters"),
    ],
)  # fmt: skip
def test_bad_json_lines(tmp_path, bad, reason, message):
    path = write(tmp_path / "a.jsonl", f"{GOOD}\n\n{bad}\n{GOOD}\n")
    found = failure(path)
    assert (
        found == f"a.jsonl:3: {message}{SKIP}"
        if message
        else found.startswith("a.jsonl:3: not readable as JSON")
    )
    report = ReadReport()
    assert texts(path, on_bad_row="skip", report=report) == ["好", "好"]
    assert report.skipped == {reason: 1}
    assert report.first == {reason: f"{path}:3"}


def test_bad_csv_rows(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text\n1,好\n2\n3,"a" b\n4,"两\n行",多\n5,末\n6,"开')
    assert failure(path) == f"a.csv:3: found 1 fields, expected 2 as in the header{SKIP}"
    report = ReadReport()
    documents = list(read_documents([path], on_bad_row="skip", report=report))
    assert [(d.text, d.source) for d in documents] == [("好", f"{path}:2"), ("末", f"{path}:7")]
    assert report.skipped == {"wrong number of fields": 2, "not valid CSV": 2}
    path = write(tmp_path / "b.csv", 'text\n"开\n')
    assert (
        failure(path)
        == f"b.csv:2: not valid CSV (unexpected end of data); is a quotation mark unpaired?{SKIP}"
    )


def test_bad_tsv_rows(tmp_path):
    path = write(tmp_path / "a.tsv", 'id\ttext\n1\t好\n2\t"两\n行"\n3\t末\n')
    assert failure(path) == f"a.tsv:4: found 1 fields, expected 2 as in the header{SKIP}"
    assert texts(path, on_bad_row="skip") == ["好", '"两', "末"]


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_headers_without_the_column_fail_in_any_case(tmp_path, ending):
    separator = "," if ending == ".csv" else "\t"
    path = write(
        tmp_path / f"a{ending}", separator.join(["id", "texts"]) + "\n" + separator.join("1好") + "\n"
    )
    expected = "no column 'text' in the header; did you mean texts? (found 'id', 'texts'); "
    expected += "name the right one with --text-field"
    assert failure(path, on_bad_row="skip") == f"a{ending}:1: {expected}"
    path = write(tmp_path / f"b{ending}", separator.join(["text", "text"]) + "\n")
    assert failure(path) == f"b{ending}:1: the header names 'text' more than once (found 'text', 'text')"
    path = write(tmp_path / f"c{ending}", separator.join(["文字", "text"]).encode("gbk") + b"\n")
    assert failure(path, on_bad_row="skip").startswith(
        f"c{ending}:1: not valid UTF-8 (byte 0xCE at column 1)"
    )


def test_bad_parquet_rows(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["好", None, "末"], "n": [1, 2, 3]}), path)
    assert failure(path) == f"a.parquet:2: field 'text' is null, expected a string{SKIP}"
    report = ReadReport()
    assert texts(path, on_bad_row="skip", report=report) == ["好", "末"]
    assert report.skipped == {"not a string": 1}
    assert failure(path, text_field="n") == f"a.parquet:1: field 'n' is a number (1), expected a string{SKIP}"
    assert "no column 'txt' in the header; did you mean text?" in failure(path, text_field="txt")
    assert failure(write(tmp_path / "b.parquet", b"PAR1 no")).startswith(
        "b.parquet: damaged or not Parquet ("
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "一"},\n{"text": 二"}]', "a.json:2: not valid JSON (Expecting value)"),
        ('[{"text": "一"}\n{"text": "二"}]', "a.json:2: not valid JSON (Expecting ',' or ']')"),
        ('[{"text": "一"},\n', "a.json:2: not valid JSON (Expecting value)"),
        ('[{"text": "一"}\n', "a.json:2: not valid JSON (the file ends within the array)"),
        ('[{"text": "一"}]\nx', "a.json:2: not valid JSON (Extra data behind the array)"),
        ('[{"text": "一', "a.json:1: not valid JSON (Unterminated string starting at)"),
    ],
)
def test_broken_json_fails_in_any_case(tmp_path, content, message):
    path = write(tmp_path / "a.json", content)
    expected = f"{message}; expected an array of objects, and nothing behind this can be read: mend the file"
    assert failure(path, on_bad_row="skip") == expected


def test_json_elements_that_are_no_rows_are_bad_rows(tmp_path):
    path = write(tmp_path / "a.json", json.dumps([12, {"text": "好"}, {"t": 1}], indent=0))
    assert failure(path) == f"a.json:2: found a number (12), expected an object with the field 'text'{SKIP}"
    report = ReadReport()
    assert texts(path, on_bad_row="skip", report=report) == ["好"]
    assert report.skipped == {"not an object": 1, "missing field": 1}


def test_chinese_in_a_legacy_encoding(tmp_path):
    path = write(tmp_path / "a.txt", "abc\nab春眠不觉晓\n".encode("gb18030"))
    assert failure(path) == (
        "a.txt:2: not valid UTF-8 (byte 0xB4 at column 3); convert it with "
        "`iconv -f GB18030 -t UTF-8 a.txt` or pass --encoding gb18030"
    )
    assert texts(path, encoding="gb18030") == ["abc\nab春眠不觉晓\n"]


def test_western_text_in_a_legacy_encoding(tmp_path):
    path = write(tmp_path / "a.txt", "好\ncaf\u00e9 noir\n".encode().replace("\u00e9".encode(), b"\xe9"))
    message = (
        "a.txt:2: not valid UTF-8 (byte 0xE9 at column 4); convert it with "
        "`iconv -f Windows-1252 -t UTF-8 a.txt` or pass --encoding windows-1252"
    )
    assert failure(path) == message
    assert failure(path, boundary="line") == message + SKIP
    assert texts(path, encoding="windows-1252")[0].endswith("café noir\n")


def test_a_wrong_byte_far_into_a_file_is_found_at_its_line_and_column(tmp_path):
    path = write(tmp_path / "a.txt", "字\r\n".encode() * 700_000 + "中文".encode() + b"\xff\n")
    assert failure(path).startswith("a.txt:700001: not valid UTF-8 (byte 0xFF at column 3)")
    path = write(tmp_path / "b.txt", ("字" * 1_000_000).encode()[:-1])
    assert failure(path).startswith("b.txt:1: not valid UTF-8 (byte 0xE5 at column 1000000)")


def test_a_named_encoding_that_does_not_fit(tmp_path):
    path = write(tmp_path / "a.txt", b"ok\nab\xff\n")
    expected = (
        "a.txt:2: not valid GB18030 (byte 0xFF at column 3); pass the file's own encoding with --encoding"
    )
    assert failure(path, encoding="gb18030") == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv"])
def test_rows_with_wrong_bytes_are_skipped_alone(tmp_path, name):
    row = '{{"text": "{}"}}' if name == "a.jsonl" else "{}"
    header = "" if name == "a.jsonl" else "text\n"
    fields = ["一".encode(), "春眠".encode("gbk"), b"\0", "二".encode()]
    content = b"".join(row.format("X").encode().replace(b"X", field) + b"\n" for field in fields)
    path = write(tmp_path / name, header.encode() + content)
    line = 2 if name == "a.jsonl" else 3
    assert failure(path).startswith(f"{name}:{line}: not valid UTF-8 (byte 0xB4 at column")
    report = ReadReport()
    assert texts(path, on_bad_row="skip", report=report) == ["一", "二"]
    assert report.skipped == {"not valid UTF-8": 1, "binary": 1}


def test_a_quoted_row_with_wrong_bytes_is_skipped_whole(tmp_path):
    path = write(tmp_path / "a.csv", b'text,n\n"\xff\n\xe4\xb8\x80",1\n\xe4\xba\x8c,2\n')
    assert texts(path, on_bad_row="skip") == ["二"]


def test_lines_with_wrong_bytes_are_skipped_alone_and_files_whole(tmp_path):
    good = write(tmp_path / "b.txt", "好\n")
    bad = write(tmp_path / "a.txt", "一\n".encode() + b"\xff\n" + "三\n".encode())
    report = ReadReport()
    documents = read_documents([bad, good], boundary="line", on_bad_row="skip", report=report)
    assert [d.text for d in documents] == ["一", "三", "好"]
    assert report.skipped == {"not valid UTF-8": 1}
    for boundary in ("auto", "blank"):
        report = ReadReport()
        documents = read_documents([bad, good], boundary=boundary, on_bad_row="skip", report=report)
        assert [d.text.strip() for d in documents] == ["好"]
        assert report.skipped == {"not valid UTF-8": 1}
        assert report.first == {"not valid UTF-8": str(bad)}


def test_binary_files_are_refused(tmp_path):
    path = write(tmp_path / "a.txt", b"ok\nab\0c")
    assert failure(path) == (
        "a.txt:2: found a NUL byte at column 3, expected text; the file is binary, or UTF-16 without a mark "
        "(then pass --encoding utf-16-le or utf-16-be)"
    )
    report = ReadReport()
    assert texts(path, on_bad_row="skip", report=report) == []
    assert report.skipped == {"binary": 1}


def test_damaged_archives_fail_in_any_case(tmp_path):
    content = "".join(f"第{n}行\n" for n in range(9999)).encode()
    whole = gzip.compress(content)
    cases = {
        "a.txt.gz": (whole[:-20], "damaged or not gzip data"),
        "b.txt.gz": (b"plain", "damaged or not gzip data"),
        "c.txt.gz": (whole[:200] + b"\0\0\0\0" + whole[204:], "damaged or not gzip data"),
        "d.txt.zst": (zstandard.compress(content)[:-5], "the zstd data end too early; the file is cut short"),
        "e.txt.zst": (b"plain", "damaged or not zstd data"),
    }
    for name, (data, message) in cases.items():
        found = failure(write(tmp_path / name, data), on_bad_row="skip")
        assert re.match(rf"{name}: {message}", found), found


def test_archives_of_several_members_are_read_whole(tmp_path):
    for name, pack in (("a.txt.gz", gzip.compress), ("b.txt.zst", zstandard.compress)):
        path = write(tmp_path / name, pack("一\n".encode()) + pack("二\n".encode()))
        assert texts(path) == ["一\n二\n"]
