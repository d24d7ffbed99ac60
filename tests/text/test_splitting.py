"""Documents dealt out: shares, groups, time, labels, and likeness on one side."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from langmill.core.errors import ConfigError, DataError
from langmill.text.settings import SplitSettings
from langmill.text.splitting import SplitReport, parse_parts, split

WORDS = [f"word{number}" for number in range(500)]


def write(path: Path, count: int = 200) -> Path:
    draw = random.Random(1)
    rows = [
        {
            "text": " ".join(draw.choices(WORDS, k=30)),
            "author": f"a{number % 17}",
            "day": f"2024-01-{1 + number // 10:02d}",
            "label": "rare" if number % 10 == 0 else "common",
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def run(tmp_path: Path, **settings: object) -> tuple[SplitReport, dict[str, list[dict]]]:
    source = tmp_path / "in.jsonl"
    if not source.exists():
        write(source)
    report = split([source], tmp_path / "parts", settings=SplitSettings(**settings), overwrite=True)
    parts = {name: read(tmp_path / "parts", name) for name in report.parts}
    assert report.read == sum(map(len, parts.values())) + sum(report.rejected.values())
    for name, rows in parts.items():
        assert report.parts[name].documents == len(rows)
        assert report.parts[name].characters == sum(len(row["text"]) for row in rows)
    return report, parts


def test_shares_are_met_and_the_order_of_files_does_not_matter(tmp_path: Path) -> None:
    report, parts = run(tmp_path)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 160, "dev": 20, "test": 20}
    assert report.units == 200
    lines = (tmp_path / "in.jsonl").read_text().splitlines()
    (tmp_path / "in.jsonl").write_text("\n".join(reversed(lines)))
    _, again = run(tmp_path)
    assert {row["text"] for row in again["test"]} == {row["text"] for row in parts["test"]}
    _, other = run(tmp_path, seed=1)
    assert {row["text"] for row in other["test"]} != {row["text"] for row in parts["test"]}


def test_groups_stay_together(tmp_path: Path) -> None:
    report, parts = run(tmp_path, group_field="author", parts="train=0.5,test=0.5")
    authors = [{row["author"] for row in rows} for rows in parts.values()]
    assert not authors[0] & authors[1]
    assert all(authors)
    assert report.units == 17
    assert abs(len(parts["train"]) - 100) <= 12


def test_later_is_test(tmp_path: Path) -> None:
    _, parts = run(tmp_path, time_field="day", parts="train=0.75,test=0.25")
    assert max(row["day"] for row in parts["train"]) < min(row["day"] for row in parts["test"])
    assert len(parts["train"]) == 150


def test_numbers_are_times_too(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "year": n} for n in (9, 10, 100, 8)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, parts = run(tmp_path, time_field="year", parts="train=0.75,test=0.25")
    assert [row["year"] for row in parts["test"]] == [100]
    (tmp_path / "in.jsonl").write_text('{"text": "a", "year": 1}\n{"text": "b", "year": "2024-05"}')
    with pytest.raises(DataError, match="numbers and text"):
        run(tmp_path, time_field="year")


@pytest.mark.parametrize("time", ["May", "ham", "5 May 2024", "2024-5-1", "nan", [2024]])
def test_what_is_no_time_is_refused(tmp_path: Path, time: object) -> None:
    rows = [{"text": f"text {n}", "at": at} for n, at in enumerate(["2024-05-01 10:30:00+02:00", time])]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        DataError, match=r"in\.jsonl:2: field 'at' is .*, expected a time: a number, or such as 2024"
    ):
        run(tmp_path, time_field="at")


def test_a_part_far_off_its_share_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"text {n}", "by": "ab"[n % 10 == 0] if n % 3 else "c"} for n in range(60)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report, _ = run(tmp_path, group_field="by", parts="train=0.5,test=0.5", near_duplicates=False)
    assert sorted(part.documents for part in report.parts.values()) == [20, 40]
    said = capsys.readouterr().err
    assert "part train has 66.7% of the documents where 50.0% were asked for" in said or (
        "part train has 33.3% of the documents where 50.0% were asked for" in said
    )
    assert "3 groups of unequal size; another --seed" in said
    run(tmp_path, parts="train=0.5,test=0.5")
    assert "asked for" not in capsys.readouterr().err


def test_every_label_has_its_share(tmp_path: Path) -> None:
    report, _ = run(tmp_path, label_field="label")
    assert report.parts["train"].labels == {"common": 144, "rare": 16}
    assert report.parts["test"].labels == {"common": 18, "rare": 2}


def test_likeness_stays_on_one_side(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", 100)
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    rows += [{**row, "text": row["text"] + " more"} for row in rows] + [
        {**row, "text": row["text"].upper()} for row in rows
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def sides(**settings: object) -> int:
        _, parts = run(tmp_path, parts="train=0.5,test=0.5", **settings)
        found = [{row["text"].lower().removesuffix(" more") for row in rows} for rows in parts.values()]
        return len(found[0] & found[1])

    assert sides() == 0
    assert sides(near_duplicates=False) > 20


def test_bad_rows_are_written_and_counted(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", 20)
    source.write_text(source.read_text() + "{broken\n")
    report, _ = run(tmp_path)
    assert report.rejected == {"not valid JSON": 1}
    assert read(tmp_path / "parts", "rejects")[0]["text"] == "{broken"


def test_a_missing_field_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"in\.jsonl:1: no field 'autor'; did you mean author\?"):
        run(tmp_path, group_field="autor")


@pytest.mark.parametrize("parts", ["train", "train=0.8,dev=0.3", "a=0.5,a=0.5", "a/b=1", "train=1.5,x=-0.5"])
def test_parts_that_make_no_sense(parts: str) -> None:
    with pytest.raises(ConfigError, match="--parts"):
        parse_parts(parts)


def test_an_empty_part_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in.jsonl", 3)
    run(tmp_path)
    assert "part test is empty" in capsys.readouterr().err
