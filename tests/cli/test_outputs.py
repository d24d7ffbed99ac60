"""What `langmill data` and `langmill vectors` write: never over an input, over a file only when asked, or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_runs import CommandLine

from langmill.core.errors import LangmillError
from langmill.core.files import check_writable
from langmill.vectors.formats import write_vectors
from langmill.vectors.table import WordVectors

COMMANDS = {
    "clean": ("data clean rows.jsonl -o", "out.jsonl"),
    "dedup": ("data dedup rows.jsonl -o", "out.jsonl"),
    "split": ("data split rows.jsonl -o", "parts"),
    "stats": ("data stats rows.jsonl -o", "out.json"),
    "html": ("data stats rows.jsonl --html", "out.html"),
    "augment": ("data augment classify rows.jsonl -o", "out.jsonl"),
    "words": ("data words rows.jsonl -o", "out.txt"),
    "phrases": ("data words rows.jsonl -o w.txt --learn-phrases", "p.json"),
    "train": ("vectors train rows.jsonl --min-count 1 --epochs 1 --dim 4 -o", "out.vec"),
    "convert": ("vectors convert v.npz", "out.vec"),
    "picture": ("vectors picture v.npz -o", "out.png"),
}
NEEDS = {
    "stats": ("py3langid",),
    "html": ("py3langid", "matplotlib"),
    "words": ("rjieba",),
    "phrases": ("rjieba",),
    "train": ("rjieba", "numba"),
    "picture": ("matplotlib",),
}
Case = tuple[list[str], Path]


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Case]:
    """Return what makes a command up to its output, and the output; its inputs lie in the folder at hand."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"text": f"The mill number {n} grinds {n * n} sacks of grain.", "label": "ab"[n % 2]}
        for n in range(12)
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_vectors("v.npz", WordVectors(["a", "b", "c"], np.eye(3, dtype=np.float32)))

    def make(name: str) -> Case:
        for module in NEEDS.get(name, ()):
            pytest.importorskip(module)
        begun, output = COMMANDS[name]
        return begun.split(), Path(output)

    return make


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_is_replaced_only_when_asked(
    command: CommandLine, case: Callable[[str], Case], name: str
) -> None:
    begun, output = case(name)
    said = command(*begun, output)
    assert said.status == 0, said.err
    Path("w.txt").unlink(missing_ok=True)
    file = output / "train.jsonl" if name == "split" else output
    file.write_text("precious")
    assert f"{file}: exists; pass --overwrite to replace it" in command(*begun, output).error
    assert file.read_text() == "precious"
    assert command(*begun, output, "--overwrite").status == 0
    assert not file.read_bytes().startswith(b"precious")


@pytest.mark.parametrize("kept", ["out.rejects.jsonl", "out.report.json"])
def test_files_beside_the_output_belong_to_it(
    command: CommandLine, case: Callable[[str], Case], kept: str
) -> None:
    begun, output = case("clean")
    Path(kept).write_text("precious")
    assert f"{kept}: exists" in command(*begun, output).error
    assert Path(kept).read_text() == "precious" and not output.exists()


@pytest.mark.parametrize("name", ["clean", "dedup", "words", "train", "augment", "stats"])
def test_an_input_is_never_replaced(command: CommandLine, case: Callable[[str], Case], name: str) -> None:
    begun, _ = case(name)
    source = "rows.txt" if name == "train" else "rows.jsonl"
    before = Path("rows.jsonl").rename(source).read_bytes()
    os.link(source, "same" + Path(source).suffix)
    begun = [source if part == "rows.jsonl" else part for part in begun]
    for output in (source, "same" + Path(source).suffix):
        assert "is among the files to be read" in command(*begun, output, "--overwrite").error
    assert Path(source).read_bytes() == before


@pytest.mark.parametrize("name", COMMANDS)
def test_what_cannot_be_written_is_told_before_the_work(
    command: CommandLine, case: Callable[[str], Case], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, output = case(name)

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    before = sorted(Path().iterdir())
    error = command(*begun, Path("new", output)).error
    assert "cannot write there (Permission denied); choose another folder" in error
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("name", ["clean", "html", "train"])
def test_a_folder_or_a_place_without_files_is_no_output(
    command: CommandLine, case: Callable[[str], Case], name: str
) -> None:
    begun, output = case(name)
    output.mkdir()
    assert f"{output}: a file or folder of another kind is in the way" in command(*begun, output).error
    if Path("/proc").is_dir():
        assert f"/proc/{output}: cannot be written" in command(*begun, f"/proc/{output}").error


@pytest.mark.parametrize("name", ["clean", "words", "split"])
def test_an_output_does_not_become_data(command: CommandLine, case: Callable[[str], Case], name: str) -> None:
    begun, output = case(name)
    Path("raw/inner").mkdir(parents=True)
    Path("rows.jsonl").rename("raw/rows.jsonl")
    begun = ["raw" if part == "rows.jsonl" else part for part in begun]
    assert "which is read, and would be taken for data" in command(*begun, f"raw/inner/{output}").error
    assert command(*begun, output).status == 0


def test_a_writable_place_stays_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "a.txt")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "file")
    with pytest.raises(LangmillError, match="another kind is in the way"):
        check_writable(tmp_path / "file" / "a.txt")
