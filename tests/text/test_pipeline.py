"""Passes over a corpus: nothing is lost, the order stays, and workers make no difference."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from langmill.core.errors import DataError
from langmill.text.pipeline import CleaningReport, beside, clean, without
from langmill.text.readers import read_documents
from langmill.text.settings import PipelineSettings
from langmill.text.steps import Outcome

WORDS = "the mill turns raw text into models with one command line and much care over every row".split()


@dataclass(frozen=True)
class Shout:
    """A step for tests: marks turn into a count, whispers are rejected."""

    name: str = "shout"

    def __call__(self, text: str) -> Outcome:
        if "whisper" in text:
            return Outcome(text, "too quiet")
        return Outcome(text.replace("!", ""), "", {"mark": text.count("!")} if "!" in text else {})


def shouting() -> list[Shout]:
    return [Shout()]


def sentences(count: int, *, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=30)) for _ in range(count)]


def write_rows(path: Path, texts: list[str], **fields: object) -> Path:
    rows = [{"id": number, "text": text, **fields} for number, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict]:
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as stream:
        return [json.loads(line) for line in stream]


def adds_up(report: CleaningReport, output: Path) -> None:
    rejects = read_rows(beside(output, "rejects.jsonl"))
    assert report.read == report.kept + sum(report.rejected.values())
    assert sum(report.rejected.values()) == len([row for row in rejects if "part" not in row])
    for reason, count in report.rejected.items():
        assert count == len([row for row in rejects if row["reason"] == reason and "part" not in row])


def test_steps_duplicates_and_fields(tmp_path: Path) -> None:
    one, two, three = sentences(3)
    texts = [one, two + "!", "whisper", f"  {one.upper()} ", two.replace("mill", "Mill") + " indeed", three]
    source = write_rows(tmp_path / "in.jsonl", texts, label="L")
    output = tmp_path / "out.jsonl"
    report = clean([source], output, make_steps=shouting, settings=PipelineSettings(workers=1))
    assert (report.read, report.kept) == (6, 3)
    assert report.rejected == {"too quiet": 1, "exact duplicate": 1, "near-duplicate": 1}
    assert report.changes == {"mark": 1}
    adds_up(report, output)
    assert read_rows(output) == [
        {"text": one, "id": 0, "label": "L", "source": f"{source}:1"},
        {"text": two, "id": 1, "label": "L", "source": f"{source}:2"},
        {"text": three, "id": 5, "label": "L", "source": f"{source}:6"},
    ]
    rejects = read_rows(tmp_path / "out.rejects.jsonl")
    assert [row["fields"]["id"] for row in rejects] == [2, 3, 4]
    assert rejects[1]["duplicate_of"] == f"{source}:1"
    assert rejects[2]["duplicate_of"] == f"{source}:2"
    written = json.loads((tmp_path / "out.report.json").read_text(encoding="utf-8"))
    assert written["read"] == 6
    assert written["examples"]["too quiet"]["text"] == "whisper"


@pytest.mark.parametrize("dedup", ["none", "exact", "near"])
def test_levels(tmp_path: Path, dedup: str) -> None:
    [text] = sentences(1)
    source = write_rows(tmp_path / "in.jsonl", [text, text, text + " indeed"])
    report = clean([source], tmp_path / "out.jsonl", settings=PipelineSettings(dedup=dedup, workers=1))
    assert report.kept == {"none": 3, "exact": 2, "near": 1}[dedup]


def test_workers_make_no_difference(tmp_path: Path) -> None:
    texts = sentences(900)
    source = write_rows(
        tmp_path / "in.jsonl", [*texts, "whisper", *texts[::3], *(t + " so" for t in texts[::7])]
    )
    outputs = {}
    for workers in (1, 2):
        output = tmp_path / f"{workers}.jsonl"
        report = clean([source], output, make_steps=shouting, settings=PipelineSettings(workers=workers))
        adds_up(report, output)
        outputs[workers] = (
            output.read_bytes(),
            beside(output, "rejects.jsonl").read_bytes(),
            report.rejected,
        )
    assert outputs[1] == outputs[2]
    assert outputs[1][2]["exact duplicate"] == 300


def test_bad_rows_are_rejects_with_what_stood_there(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"text": "good"}\n{"text": "b\xffd"}\n{"text": broken}\n{"txt": 1}\n{"text": " "}\n')
    output = tmp_path / "out.jsonl"
    report = clean([source], output, settings=PipelineSettings(workers=1))
    assert report.rejected == {"not valid UTF-8": 1, "not valid JSON": 1, "missing field": 1, "empty": 1}
    adds_up(report, output)
    found = [row["text"] for row in read_rows(tmp_path / "out.rejects.jsonl")]
    assert found == ['{"text": "b\\xffd"}', '{"text": broken}', '{"txt": 1}', " "]
    with pytest.raises(DataError, match=r"in\.jsonl:2: not valid UTF-8"):
        clean([source], output, settings=PipelineSettings(workers=1, on_bad_row="fail"), overwrite=True)


def test_broken_rows_of_tables(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_bytes(b'label,text\nx,good\ny\nz,"b\xff,\n2"\n')
    (tmp_path / "in/a.tsv").write_bytes(b"label\ttext\nx\tgood too\ny\n")
    (tmp_path / "in/a.txt").write_bytes(b"caf\xe9\n")
    output = tmp_path / "out.jsonl"
    report = clean([tmp_path / "in"], output, settings=PipelineSettings(workers=1))
    assert report.read == 6
    assert [(row["text"], row["label"]) for row in read_rows(output)] == [("good", "x"), ("good too", "x")]
    rejects = {
        row["source"].rpartition("/")[2]: row["text"] for row in read_rows(beside(output, "rejects.jsonl"))
    }
    assert rejects == {"a.csv:3": "y", "a.csv:4": 'z,"b\\xff,\n2"', "a.tsv:3": "y", "a.txt": "caf\\xe9\n"}


def test_gigantic_documents_are_rejected_in_parts(tmp_path: Path) -> None:
    giant = "0123456789\n" * 250_000
    inputs = [tmp_path / "giant.txt", tmp_path / "small.txt"]
    for path, text in zip(inputs, (giant, "small"), strict=True):
        path.write_text(text)
    output = tmp_path / "out" / "out.jsonl"
    report = clean(inputs, output, settings=PipelineSettings(workers=1, maximum_characters=1_500_000))
    assert (report.read, report.kept, report.rejected) == (2, 1, {"too long": 1})
    assert report.characters_in == len(giant) + 5
    adds_up(report, output)
    parts = read_rows(beside(output, "rejects.jsonl"))
    assert "".join(row["text"] for row in parts) == giant
    assert [row.get("part", 0) for row in parts] == [0, 1]


@pytest.mark.parametrize(("name", "boundary"), [("o.txt", "auto"), ("o.txt.gz", "auto"), ("o.txt.zst", "line"),
                                                ("o.jsonl.gz", "auto"), ("o.jsonl.zst", "auto")])  # fmt: skip
def test_outputs_are_read_back(tmp_path: Path, name: str, boundary: str) -> None:
    texts = (
        ["one  line", "床前明月光"] if boundary == "line" else ["one\n\nline\n", "床前\n明月光\n", "  x\n"]
    )
    source = write_rows(tmp_path / "in.jsonl", texts)
    clean([source], tmp_path / name, settings=PipelineSettings(workers=1, dedup="none", boundary=boundary))
    found = [document.text for document in read_documents([tmp_path / name], boundary=boundary)]
    assert found == texts


def test_text_files_hold_no_separators(tmp_path: Path) -> None:
    texts = ["a\n<|endoftext|> \nb", "a\0b", "two\nlines", "fine <|endoftext|>"]
    source = write_rows(tmp_path / "in.jsonl", texts)
    settings = PipelineSettings(workers=1, boundary="line")
    report = clean([source], tmp_path / "out.txt", settings=settings)
    assert report.rejected == {"more than one line": 2, "NUL character or byte order mark": 1}
    report = clean([source], tmp_path / "out.txt", settings=PipelineSettings(workers=1), overwrite=True)
    assert report.rejected == {"separator within": 1, "NUL character or byte order mark": 1}


def test_fields_that_json_hardly_holds(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a", "half": "\\ud800", "source": "mine", "n": 1e999}\n')
    clean([source], tmp_path / "out.jsonl", settings=PipelineSettings(workers=1))
    [row] = read_rows(tmp_path / "out.jsonl")
    assert row == {"text": "a", "half": "\ud800", "source": "mine", "n": float("inf")}


def test_repeated_paragraphs(tmp_path: Path) -> None:
    notice = "All rights are reserved by the mill and by everyone who has ever worked in it."
    one, two = sentences(2)
    changed = notice.replace("everyone", "all")
    texts = [f"{one}\n{notice}\n", f"{notice}\n\n{two}\nshort", f"{notice}\n{notice}\n", f"short\n{changed}"]
    source = write_rows(tmp_path / "in.jsonl", texts)
    output = tmp_path / "out.jsonl"
    report = clean([source], output, settings=PipelineSettings(workers=1, paragraphs="exact"))
    assert [row["text"] for row in read_rows(output)] == [texts[0], f"{two}\nshort", texts[3]]
    assert report.rejected == {"only repeated paragraphs": 1}
    assert report.changes == {"repeated paragraphs": 1}
    assert report.characters_out == sum(len(row["text"]) for row in read_rows(output))
    adds_up(report, output)
    settings = PipelineSettings(workers=1, paragraphs="near", threshold=0.3, dedup="none")
    clean([source], output, settings=settings, overwrite=True)
    assert [row["text"] for row in read_rows(output)] == [texts[0], f"{two}\nshort", "short"]


def test_changes_are_counted_in_documents(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", ["a!!! b!", "c!", "d", "e! whisper"])
    report = clean(
        [source], tmp_path / "out.jsonl", make_steps=shouting, settings=PipelineSettings(workers=1)
    )
    assert report.changes == {"mark": 2}


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", ["a"] * 3)
    output, wrong = tmp_path / "out.jsonl", PipelineSettings(workers=1, text_field="body")
    with pytest.raises(
        DataError, match=r"no document to clean: .*in\.jsonl:1: no field 'body' \(found 'id', 'text'\)"
    ):
        clean([source], output, settings=wrong)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"no document to clean: 1 empty \(first: .*empty\.txt\)"):
        clean([tmp_path / "empty.txt"], output, settings=wrong)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.txt", "in.jsonl"]


def test_a_field_that_most_rows_lack_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"t {n}"} for n in range(4)] + [{"body": "b"}] * 3
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    clean([source], tmp_path / "a.jsonl", settings=PipelineSettings(workers=1))
    assert "rows have no field" not in capsys.readouterr().err
    clean([source], tmp_path / "b.jsonl", settings=PipelineSettings(workers=1, text_field="body"))
    assert (
        "4 rows have no field 'body' and are left out, more than the 3 that have it"
        in capsys.readouterr().err
    )


def test_without_keeps_the_rest() -> None:
    assert without("ab\ncd\n", [(0, 3)], [True]) == "cd\n"
    assert without("ab\ncd", [(0, 3), (3, 5)], [False, False]) == "ab\ncd"


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", ["a"])
    with pytest.raises(DataError, match="among the files to be read; choose another -o"):
        clean([tmp_path], source, overwrite=True)
    (tmp_path / "o.rejects.jsonl").write_text("")
    with pytest.raises(DataError, match="among the files to be read; choose another -o"):
        clean([tmp_path / "o.rejects.jsonl"], tmp_path / "o.jsonl.gz", overwrite=True)
    with pytest.raises(DataError, match="would be taken for data the next time; choose another -o"):
        clean([tmp_path], tmp_path / "out" / "o.jsonl.gz")
    with pytest.raises(DataError, match=r"cannot write \.csv; expected \.jsonl or \.txt"):
        clean([source], tmp_path / "out.csv")


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.jsonl", sentences(100_000))
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "langmill", "data", "dedup", source, "-o", tmp_path / "out" / "o.jsonl"],
        stderr=subprocess.PIPE,
    )
    while not list((tmp_path / "out").glob(".partial-*/rows")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert not list((tmp_path / "out").iterdir())
