"""A thousand nasty files for each reader: an error that is told at most, and never a lost row."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langmill.core.errors import LangmillError
from langmill.text.documents import ReadReport
from langmill.text.pipeline import clean
from langmill.text.readers import SEPARATOR, read_documents
from langmill.text.rows import Row, as_json, as_reject
from langmill.text.settings import PipelineSettings
from langmill.text.sifting import numbered_rows

NASTY = [
    b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x90", b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b",
    b"\x1c", b" ", b"\t", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xe2\x80\x8b", "中文".encode(), "磨".encode("gb18030"),
    b"\x1f\x8b", b"(\xb5/\xfd", b"a", b"0", SEPARATOR.encode(), f"\n{SEPARATOR}\n".encode(),
]  # fmt: skip
JSON = [
    b'{"text": "good"}', b'{"text": ""}', b'{"text": "\\ud800"}', b'{"text": 1, "n": 2}', b'{"text": "a", "n": "\\udc00"}',
    b"{", b"}", b"[", b"]", b"{}", b",", b":", b'"', b"null", b"NaN", b"1e999", b"[" * 2000, b'{"a":' * 2000, b"9" * 5000,
    b'{"text": "x", "text": 2}', b'{"text": "\\u0000", "source": "s", "reason": []}',
]  # fmt: skip
CSV = [
    b"text,label\n",
    b"text\n",
    b"x,text\n",
    b'"',
    b'""',
    b",",
    b"a,b\n",
    b'"a\nb",c\n',
    b"text,text\n",
    b"''",
    b"=1",
]
TSV = [b"text\tlabel\n", b"text\n", b"a\tb\n", b'"', b'"a""b"\tc\n', b"\t\t"]
FORMATS = {"jsonl": JSON, "json": JSON, "csv": CSV, "tsv": TSV, "txt": []}
THOUSAND = settings(max_examples=1000, deadline=None, derandomize=True,
                    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip


def pieces(own: list[bytes]) -> st.SearchStrategy[bytes]:
    """Files that begin well, as often as not, and go on badly."""
    piece = st.sampled_from([*NASTY, *own, *own]) if own else st.sampled_from(NASTY)
    head = st.sampled_from([own[0], b""]) if own else st.just(b"")
    return st.builds(
        lambda first, rest: first + b"".join(rest), head, st.lists(piece | st.binary(max_size=3), max_size=12)
    )


WHOLE_JSON = st.builds(
    lambda values, opened: opened + (b"," if opened else b"\n").join(values) + (b"]" if opened else b""),
    st.lists(
        st.sampled_from(
            [value for value in JSON if value[:1] == b"{" and value[-1:] == b"}"] + [b"[]", b"null"]
        )
    ),
    st.sampled_from([b"[", b""]),
)
"""Files of JSON that hold together, with rows that cannot be used."""


def rows_of(path: Path, boundary: str = "auto") -> list[Row]:
    """All rows of a file, or nothing if it cannot be read; the counts must agree with those of the plain reader."""
    report, plain = ReadReport(), ReadReport()
    try:
        rows = [row for _, row in numbered_rows([path], PipelineSettings(boundary=boundary), report)]
        good = list(read_documents([path], boundary=boundary, on_bad_row="skip", report=plain))
    except LangmillError:
        return []
    assert len(rows) == report.documents + report.skipped.total()
    assert [row.text for row in rows if not row.reason] == [document.text for document in good]
    assert plain.skipped == report.skipped
    assert len({row.source for row in rows}) == len(rows)
    for row in rows:
        assert json.loads(as_json(row) if not row.reason else as_reject(row, row.reason))["text"] == row.text
    return rows


def marked(data: bytes) -> bool:
    return data.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"))


@pytest.mark.parametrize("ending", FORMATS)
def test_no_row_is_lost(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"nasty.{ending}"
    read = []

    @THOUSAND
    @given(pieces(FORMATS[ending]) | WHOLE_JSON if ending == "json" else pieces(FORMATS[ending]))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        for boundary in ("file", "line", "blank") if ending == "txt" else ("auto",):
            rows = rows_of(path, boundary)
            read.append(bool(rows))
            if not rows or marked(data):
                continue
            lines = data.removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xef\xbb\xbf").split(b"\n")
            visible = [line for line in lines if line.decode("utf-8", "backslashreplace").strip()]
            if ending == "jsonl":
                assert len(rows) == max(1, len(visible))
            elif ending == "tsv":
                width = lines[0].removesuffix(b"\r").count(b"\t") + 1
                rest = [line for line in lines[1:-1] if line not in (b"", b"\r")] + [
                    line for line in lines[-1:] if line
                ]
                assert len(rows) == len(rest) or width == 1 or (len(rows), len(rest)) == (1, 0)
            elif boundary == "line":
                texts = [line.decode("utf-8", "backslashreplace").strip() for line in visible]
                assert len(rows) == max(1, len([text for text in texts if text != SEPARATOR]))

    check()
    assert sum(read) > 300, "most of these files are not worth a test"


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_broken_archives_are_told(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"nasty.jsonl.{ending}"
    magic = {"gz": b"\x1f\x8b\x08\0", "zst": b"(\xb5/\xfd"}[ending]

    @settings(THOUSAND, max_examples=200)
    @given(st.builds(bytes.__add__, st.sampled_from([magic, b""]), st.binary(max_size=30)))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        rows_of(path)

    check()


def test_parquet_of_any_values(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    path = tmp_path / "nasty.parquet"
    values = st.one_of(st.none(), st.text(max_size=5), st.just("good"))
    others = st.one_of(st.binary(max_size=4), st.none())

    @settings(THOUSAND, max_examples=150)
    @given(st.lists(st.tuples(values, others), max_size=6), st.binary(max_size=3), st.integers(0, 200))
    def check(rows: list, damage: bytes, place: int) -> None:
        table = arrow.table(
            {"text": arrow.array([r[0] for r in rows], arrow.string()), "b": [r[1] for r in rows]}
        )
        sink = io.BytesIO()
        parquet.write_table(table, sink)
        data = bytearray(sink.getvalue())
        data[place : place + len(damage)] = damage
        path.write_bytes(data)
        found = rows_of(path)
        assert damage or len(found) == max(1, len(rows))

    check()


def test_whole_runs_add_up() -> None:
    """What `clean` itself asserts, and that both files hold what the report counts."""

    @settings(THOUSAND, max_examples=100)
    @given(st.lists(st.sampled_from(list(FORMATS)), min_size=1, max_size=3, unique=True), st.data())
    def check(endings: list[str], data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as name:
            files = []
            for ending in endings:
                files.append(Path(name, f"in.{ending}"))
                files[-1].write_bytes(data.draw(pieces(FORMATS[ending])))
            output = Path(name, "out.jsonl")
            try:
                report = clean(files, output, settings=PipelineSettings(workers=1, paragraphs="near"))
            except LangmillError:
                assert {path.name for path in Path(name).iterdir()} == {path.name for path in files}
                return
            assert len(output.read_bytes().splitlines()) == report.kept
            assert len(Path(name, "out.rejects.jsonl").read_bytes().splitlines()) == sum(
                report.rejected.values()
            )

    check()
