"""Files, folders and globs name the same files in the same order everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from langmill.core.errors import DataError
from langmill.text.documents import ReadReport
from langmill.text.paths import expand, source_fingerprint
from langmill.text.readers import read_documents


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    seen = ["乙.txt", "甲.md", "b/2.jsonl.gz", "b/10.py", "a.CSV"]
    for name in [*seen, "图.png", ".hidden.txt", ".git/x.txt", "LICENSE", "b/package.json"]:
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("好\n", encoding="utf-8")
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "corpus" / "b")
    return tmp_path / "corpus"


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_folders_are_sorted_and_what_is_ignored_is_counted(corpus):
    report = ReadReport()
    assert names(expand([corpus], report=report), corpus) == [
        "a.CSV",
        "乙.txt",
        "甲.md",
        "b/10.py",
        "b/2.jsonl.gz",
    ]
    assert report.ignored == {".png": 1, "hidden": 2, "without ending": 1, ".json": 1, "linked folder": 1}
    assert "files not read: 1 .json (first: " in str(report)


def test_order_is_as_given_and_each_file_comes_once(corpus):
    report = ReadReport()
    given = [corpus / "甲.md", corpus / "LICENSE", str(corpus), corpus / "b" / ".." / "甲.md"]
    found = expand(given, report=report)
    assert report.ignored["named more than once"] == 2
    assert names(found, corpus) == ["甲.md", "LICENSE", "a.CSV", "乙.txt", "b/10.py", "b/2.jsonl.gz"]


def test_globs(corpus, monkeypatch):
    assert names(expand([f"{corpus}/*.txt"]), corpus) == ["乙.txt"]
    found = names(expand([f"{corpus}/**/*.[jp]*"]), corpus)
    assert found == ["b/10.py", "b/2.jsonl.gz", "b/package.json", "图.png"]  # not those behind the link again
    assert names(expand([f"{corpus}/b*"]), corpus) == ["b/10.py", "b/2.jsonl.gz"]
    monkeypatch.chdir(corpus)
    assert expand(["*.md"]) == [Path("甲.md")]
    with pytest.raises(DataError, match=r"\*\.tex: no file matches this pattern"):
        expand(["*.tex"])


def test_a_file_named_like_a_glob_is_that_file(tmp_path):
    path = tmp_path / "a[1].txt"
    path.write_text("好")
    assert expand([path]) == [path]


def test_a_missing_path_suggests_its_sibling(corpus, monkeypatch):
    with pytest.raises(
        DataError, match=r"corpus/甲.mb: no such file or folder; did you mean .*corpus/甲.md\?$"
    ):
        read_documents([corpus / "甲.mb"])
    with pytest.raises(DataError, match=r"corpsu/甲.md: no such file or folder; did you mean .*/corpus\?$"):
        expand([corpus.parent / "corpsu" / "甲.md"])
    with pytest.raises(DataError, match=r"zzzzzz: no such file or folder$"):
        expand([corpus / "zzzzzz"])
    monkeypatch.chdir(corpus)
    with pytest.raises(DataError, match=r"^LICENCE: no such file or folder; did you mean LICENSE\?$"):
        expand(["LICENCE"])


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="no data given"):
        expand([])
    (tmp_path / "a.png").touch()
    with pytest.raises(
        DataError, match=r"the folder holds no text or data file \(found 1 .png\); expected such as"
    ):
        expand([tmp_path])
    (tmp_path / "b.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"b.txt: a link to something that does not exist"):
        expand([tmp_path / "b.txt"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file; data are read more than once"):
        expand([tmp_path / "pipe"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_and_folders_without_permission(tmp_path):
    path = tmp_path / "a" / "a.txt"
    path.parent.mkdir()
    path.write_text("好")
    path.chmod(0)
    with pytest.raises(DataError, match=r"a.txt: cannot be read \(Permission denied\)"):
        list(read_documents([path]))
    path.parent.chmod(0)
    try:
        with pytest.raises(DataError, match=r"a: the folder cannot be read \(Permission denied\)"):
            expand([tmp_path])
        with pytest.raises(DataError, match=r"a.txt: cannot be read \(Permission denied\)"):
            expand([path])
    finally:
        path.parent.chmod(0o700)


def test_a_file_that_vanishes_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("好")
    documents = read_documents([path])
    path.unlink()
    with pytest.raises(DataError, match=r"a.txt: no such file"):
        list(documents)


def test_the_fingerprint_changes_with_any_file_and_with_nothing_else(tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in files:
        path.write_text("好")
    before = source_fingerprint([tmp_path])
    assert source_fingerprint([tmp_path]) == before == source_fingerprint(files[::-1])
    files[0].write_text("好好")
    larger = source_fingerprint([tmp_path])
    os.utime(files[0], ns=(1, 1))
    touched = source_fingerprint([tmp_path])
    (tmp_path / "c.txt").write_text("好")
    assert len({before, larger, touched, source_fingerprint([tmp_path])}) == 4
