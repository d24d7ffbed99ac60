"""A dirty corpus: exactly what should go goes, and the counts by reason add up, in either engine."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from dirty_corpus import KEPT, MAXIMUM_CHARACTERS, build, fates

from langmill.text.cleaning import CleanSettings, build_steps
from langmill.text.duplicates import normal
from langmill.text.pipeline import clean
from langmill.text.settings import PipelineSettings

pytest.importorskip("ftfy")
pytest.importorskip("opencc")
pytest.importorskip("py3langid")

STEPS = partial(build_steps, CleanSettings(html="strip", chinese="simplified", languages="en,zh"))
SETTINGS = PipelineSettings(workers=2, maximum_characters=MAXIMUM_CHARACTERS)


def read(path: Path) -> dict[int, dict]:
    """Line of the corpus → row."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {int(row["source"].rpartition(":")[2]): row for row in rows}


def test_exactly_what_should_go_goes(tmp_path: Path) -> None:
    source, output = tmp_path / "dirty.jsonl", tmp_path / "clean.jsonl"
    lines = build(source)
    report = clean([source], output, make_steps=STEPS, settings=SETTINGS)
    kept, rejected = read(output), read(tmp_path / "clean.rejects.jsonl")
    found = {number: row["reason"] for number, row in rejected.items()} | dict.fromkeys(kept, KEPT)
    wrong = {
        number: (line.data[:80], line.fate, found.get(number))
        for number, line in enumerate(lines, 1)
        if found.get(number) != line.fate
    }
    assert not wrong
    assert len(found) == len(kept) + len(rejected) == len(lines)
    for number, row in kept.items():
        assert row["text"] == lines[number - 1].text
    assert report.read == len(lines)
    assert report.kept == len(kept)
    assert report.rejected == dict(fates(lines))
    assert report.changes == dict(Counter(change for line in lines for change in line.changes)) | {
        name: count for name, count in report.changes.items() if name in SEEN_IN_DUPLICATES
    }
    for name in SEEN_IN_DUPLICATES:  # documents are mended before they are found to be duplicates
        assert report.changes[name] >= sum(name in line.changes for line in lines)


SEEN_IN_DUPLICATES = ("mojibake", "HTML tags", "white space", "invisible characters", "Chinese script")


def test_duplicates_name_what_they_repeat(tmp_path: Path) -> None:
    source = tmp_path / "dirty.jsonl"
    build(source, rounds=4)
    clean([source], tmp_path / "clean.jsonl", make_steps=STEPS, settings=SETTINGS)
    kept = read(tmp_path / "clean.jsonl")
    for row in read(tmp_path / "clean.rejects.jsonl").values():
        if "duplicate" in row["reason"]:
            first = kept[int(row["duplicate_of"].rpartition(":")[2])]["text"]
            assert row["reason"] == "near-duplicate" or normal(first) == normal(row["text"])


def test_datatrove_gives_the_same(tmp_path: Path) -> None:
    """Two workers, three tasks; then again after a task's mark is gone, which does that one anew."""
    pytest.importorskip("datatrove")
    from langmill.text import cluster

    tasks = 3

    source = tmp_path / "dirty.jsonl"
    build(source, rounds=4)
    clean([source], tmp_path / "local.jsonl", make_steps=STEPS, settings=SETTINGS)
    output = tmp_path / "tasks.jsonl"
    run = partial(cluster.clean_in_tasks, [source], output, tasks=tasks, make_steps=STEPS, settings=SETTINGS)
    with pytest.MonkeyPatch.context() as patch:  # a run that ends before its last step
        patch.setattr(cluster, "settle", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not output.exists()
    work = tmp_path / "tasks.work"
    stamps = {rank: (work / "shards" / f"{rank:05d}" / "rows").stat().st_mtime_ns for rank in range(tasks)}
    (work / "logs" / "completions" / "00001").unlink()
    shards = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "settle", lambda folders, *a, **k: remembered(folders, shards, *a, **k))
        report = run()
    assert shards[0] == stamps[0]
    assert shards[2] == stamps[2]
    assert shards[1] > stamps[1]
    assert not work.exists()
    for ending in ("jsonl", "rejects.jsonl"):
        assert (tmp_path / f"tasks.{ending}").read_bytes() == (tmp_path / f"local.{ending}").read_bytes()
    local = json.loads((tmp_path / "local.report.json").read_text(encoding="utf-8"))
    assert (report.read, report.kept, report.rejected) == (local["read"], local["kept"], local["rejected"])
    assert report.changes == local["changes"]


def interrupted(*arguments: object, **options: object) -> None:
    raise KeyboardInterrupt


def remembered(folders: list[Path], shards: dict[int, int], *arguments: object, **options: object) -> object:
    from langmill.text.pipeline import settle

    shards |= {rank: (folder / "rows").stat().st_mtime_ns for rank, folder in enumerate(folders)}
    return settle(folders, *arguments, **options)
