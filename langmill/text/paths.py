"""Which files are meant: folders, globs, endings, and a fingerprint of them all. [text]"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.core.files import check_writable, digest
from langmill.text.documents import ReadReport

Kind = Literal["text", "jsonl", "json", "csv", "tsv", "parquet"]
Compression = Literal["gz", "zst", ""]

_PROSE = "txt text md markdown rst adoc tex org"
_CODE = """py pyi js mjs cjs jsx ts tsx c h cc cpp cxx hh hpp cs java kt scala swift go rs zig rb php pl lua r
jl hs ml clj ex erl dart sql sh bash zsh ps1 html htm xml css scss less vue toml yaml yml ini cfg cmake"""
_ROWS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
ENDINGS: dict[str, Kind] = {**{f".{name}": "text" for name in f"{_PROSE} {_CODE}".split()}, **_ROWS}
"""Ending → how such a file is read; `.gz` or `.zst` may follow any of them."""


def split_ending(path: Path) -> tuple[str, Compression]:
    """Return the lower-case ending that tells the format, and the compression around it.

    >>> split_ending(Path("诗.JSONL.gz"))
    ('.jsonl', 'gz')
    """
    compressed = path.suffix.lower()
    if compressed == ".gz":
        return path.with_suffix("").suffix.lower(), "gz"
    if compressed == ".zst":
        return path.with_suffix("").suffix.lower(), "zst"
    return compressed, ""


def kind_of(path: Path) -> Kind:
    """Return how `path` is read; an unknown ending is taken for text."""
    return ENDINGS.get(split_ending(path)[0], "text")


def expand(
    paths: Sequence[str | Path], *, report: ReadReport | None = None, also: Collection[str] = ()
) -> list[Path]:
    """Return the files that `paths` name, in the order given, each once (links seen through).

    - A file is taken whatever its ending; an unknown ending is read as text.
    - A folder is searched to any depth, in sorted order, for the `ENDINGS`. Hidden entries, linked
      folders, unknown endings and `.json` (in folders mostly settings, not data) are not taken but
      counted in `report.ignored`.
    - A glob (`*`, `?`, `[…]`, `**`) stands for what the shell makes of it, sorted; hidden files need a
      pattern that names the dot.

    also: further endings that are taken from folders.

    Raises DataError for a missing path, for a folder or glob that yields nothing, and for what is not a
    regular file (a pipe cannot be read twice).
    """
    report = ReadReport() if report is None else report
    if not paths:
        raise DataError("no data given; name at least one file, folder or glob")
    found: dict[str, Path] = {}
    for given in paths:
        for path in _named(str(given), report, also):
            key = os.path.realpath(path)
            if key in found:
                report.ignore("named more than once", str(path))
            else:
                found[key] = path
    return list(found.values())


def _named(given: str, report: ReadReport, also: Collection[str]) -> list[Path]:
    """Return the files that one argument names, or raise DataError."""
    try:
        os.lstat(given)  # before the glob, so that a file may be called a[1].txt
        return _file_or_folder(Path(given), report, also)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise DataError(f"{given}: cannot be read ({error.strerror})") from error
    if glob.has_magic(given):
        matches = sorted(Path(match) for match in glob.glob(given, recursive=True))
        if not matches:
            raise DataError(f"{given}: no file matches this pattern")
        return [path for match in matches for path in _file_or_folder(match, report, also)]
    raise DataError(f"{given}: no such file or folder{closest(Path(given))}")


def _file_or_folder(path: Path, report: ReadReport, also: Collection[str]) -> list[Path]:
    try:
        if path.is_dir():
            return _in_folder(path, report, also)
        if path.is_file():
            return [path]
        exists = path.exists()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if exists:
        raise DataError(
            f"{path}: not a regular file; data are read more than once, so save them to a file first"
        )
    raise DataError(f"{path}: a link to something that does not exist")


def closest(path: Path) -> str:
    """Return a hint for the first missing name of `path`, taken from what lies beside it."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    try:
        siblings = sorted(entry.name for entry in missing.parent.iterdir())
    except OSError:
        return ""
    prefix = "" if str(missing.parent) == "." else f"{missing.parent}{os.sep}"
    return did_you_mean(
        prefix + missing.name, [prefix + name for name in siblings if _alike(missing.name, name)]
    )


def _alike(name: str, sibling: str) -> bool:
    """Compare names alone, without the ending: a long common folder or `.txt` makes no unlike names alike."""
    return bool(did_you_mean(Path(name).stem, [Path(sibling).stem]))


def _in_folder(folder: Path, report: ReadReport, also: Collection[str]) -> list[Path]:
    ignored = ReadReport()
    files = list(_walk(folder, ignored, also))
    report.ignored.update(ignored.ignored)
    for reason, place in ignored.first.items():
        report.first.setdefault(reason, place)
    if not files:
        seen = ", ".join(f"{count:,} {reason}" for reason, count in sorted(ignored.ignored.items()))
        raise DataError(
            f"{folder}: the folder holds no text or data file{f' (found {seen})' if seen else ''}; "
            "expected such as .txt, .md, .jsonl, .csv, .tsv, .parquet or code; "
            "other files must be named one by one"
        )
    return files


def _walk(folder: Path, report: ReadReport, also: Collection[str]) -> Iterator[Path]:
    """Yield the files under `folder` that are read, sorted; count the others."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror})") from error

    for name, folders, files in os.walk(folder, onerror=refuse):
        here = Path(name)
        for inner in list(folders):
            reason = (
                "hidden" if inner.startswith(".") else "linked folder" if (here / inner).is_symlink() else ""
            )
            if reason:
                folders.remove(inner)
                report.ignore(reason, str(here / inner))
        folders.sort()
        for file in sorted(files):
            path = here / file
            if reason := _why_ignored(path, also):
                report.ignore(reason, str(path))
            else:
                yield path


def _why_ignored(path: Path, also: Collection[str]) -> str:
    if path.name.startswith("."):
        return "hidden"
    if not path.is_file():
        return "not a regular file"
    ending = split_ending(path)[0]
    if ending not in also and (ending == ".json" or ending not in ENDINGS):
        return ending or "without ending"
    return ""


def check_outputs(
    outputs: Iterable[Path], *, read: Sequence[str | Path] = (), overwrite: bool = False
) -> None:
    """Raise LangmillError, before the work, where a file must not or cannot be written.

    read: the files, folders and globs that the work reads: no output may be one of them or, as the next run would
    read it too, lie in such a folder. overwrite: replace files that are there.
    """
    sources = expand(read) if read else []
    folders = [Path(os.path.realpath(given)) for given in read if os.path.isdir(given)]
    for output in outputs:
        check_writable(output)
        place = Path(os.path.realpath(output))
        if output.exists() and any(output.samefile(path) for path in sources):
            raise DataError(f"{output}: is among the files to be read; choose another -o")
        if (ending := split_ending(output)[0]) in ENDINGS and ending != ".json":
            for folder in folders:
                if place.is_relative_to(folder):
                    raise DataError(
                        f"{output}: lies in {folder}, which is read, and would be taken for data the next time;"
                        " choose another -o"
                    )
        if output.exists() and not overwrite:
            raise ConfigError(f"{output}: exists; pass --overwrite to replace it, or choose another -o")


def source_fingerprint(paths: Sequence[str | Path]) -> str:
    """Return a digest that changes when any file behind `paths` does: its place, size or time of change."""
    entries = []
    for path in expand(paths):
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        entries.append((os.path.abspath(path), status.st_size, status.st_mtime_ns))
    return digest(*(str(value) for entry in sorted(entries) for value in entry))
