"""Atomic files and folders: whole, or as they were before."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from langmill.core.errors import LangmillError
from langmill.core.files import (
    atomic_folder,
    atomic_write,
    cache_folder,
    digest,
    make_folder,
    read_json,
    remove_partial,
    write_json,
    writing_to,
)


def test_text_bytes_and_functions_are_written_whole(tmp_path: Path) -> None:
    atomic_write(tmp_path / "new" / "a.txt", "文本\n")
    atomic_write(tmp_path / "b.bin", b"\x00\xff")
    atomic_write(tmp_path / "c.txt", lambda path: path.write_text("made"))
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "文本\n"
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "c.txt").read_text() == "made"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.bin", "c.txt", "new"]
    assert (tmp_path / "b.bin").stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write(path, "old")

    def fail(aside: Path) -> None:
        aside.write_text("half of the n")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    atomic_write(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(LangmillError, match=r"a\.txt: the disk is full; free some space"):
        atomic_write(tmp_path / "a.txt", "new")
    with pytest.raises(LangmillError, match="the disk is full"), atomic_folder(tmp_path / "b") as aside:
        (aside / "inner").write_text("x")
    monkeypatch.undo()
    with pytest.raises(LangmillError, match="the disk is full"), atomic_folder(tmp_path / "b"):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError, match="of another kind"), atomic_folder(tmp_path / "b"):
        raise SafetensorError("of another kind")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "cannot write there"),
        (errno.EROFS, "cannot write there"),
        (errno.ENOTDIR, "of another kind is in the way"),
        (errno.ENOENT, "cannot be written"),
        (errno.ENAMETOOLONG, "cannot be written"),
    ],
)
def test_refusals_of_the_system_become_one_line(number: int, words: str) -> None:
    with pytest.raises(LangmillError, match=f"runs/a: .*{words}"), writing_to(Path("runs/a")):
        raise OSError(number, os.strerror(number))


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    for folder in (tmp_path / "runs", tmp_path / "runs" / "a"):
        with pytest.raises(LangmillError, match="in the way"):
            make_folder(folder)


def test_a_folder_appears_whole_and_replaces(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic_folder(tmp_path / "state") as aside:
            (aside / "inner").write_text(text)
            assert not (tmp_path / "state").exists() or (tmp_path / "state" / "inner").read_text() == "one"
    assert (tmp_path / "state" / "inner").read_text() == "two"

    def interrupted() -> None:
        with atomic_folder(tmp_path / "state") as aside:
            (aside / "inner").write_text("three")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "state" / "inner").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_partial_files_are_removed_once_they_are_idle(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".partial-old", tmp_path / ".partial-fresh"
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "tokens").write_text("1")
    hour_ago = time.time() - 3600
    for path in (old / "tokens", old):
        os.utime(path, (hour_ago, hour_ago))
    os.utime(fresh, (hour_ago, hour_ago))  # the file inside was written to just now
    (tmp_path / "kept").write_text("")
    remove_partial(tmp_path, idle_seconds=600)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-fresh", "kept"]
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_json_round_trip_and_damage(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"名": [1, None]})
    assert read_json(tmp_path / "a.json") == {"名": [1, None]}
    assert "名" in (tmp_path / "a.json").read_text(encoding="utf-8")
    (tmp_path / "b.json").write_text('{"a": ')
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00")
    for name in ("b.json", "c.json"):
        with pytest.raises(LangmillError, match=f"{name}: not valid JSON"):
            read_json(tmp_path / name)
    with pytest.raises(LangmillError, match="no such file"):
        read_json(tmp_path / "d.json")


def test_digest_sets_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("磨") == digest("磨".encode())
    assert len(digest()) == 32
    assert digest("\ud800")  # a lone surrogate has a digest too


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGMILL_CACHE", "/a")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("LANGMILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/langmill")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "langmill"
