"""Files that are either whole or not there. [core]

Everything langmill leaves on disk is written aside, flushed to the device and renamed into place, so
that a process killed at any moment leaves the previous version or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from langmill.core.errors import LangmillError

PARTIAL = ".partial-"
"""Prefix of files and folders being written; whatever carries it may be deleted."""


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into a message that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as caught:
        error = caught if isinstance(caught, OSError) else system_error(caught)
        if error is None:
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LangmillError(
                f"{path}: the disk is full; free some space and run the command again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise LangmillError(
                f"{path}: cannot write there ({os.strerror(error.errno)}); choose another folder"
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise LangmillError(f"{path}: a file or folder of another kind is in the way") from error
        raise LangmillError(f"{path}: cannot be written ({error.strerror or error})") from error


def system_error(error: SafetensorError) -> OSError | None:
    """Return the operating system's refusal that safetensors tells of in words, if it does.

    >>> system_error(SafetensorError("I/O error: No space left on device (os error 28)"))
    OSError(28, 'No space left on device')
    """
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable, where the file system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> Path:
    """Create `folder` and its parents, or say why that is not possible."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(path: Path) -> None:
    """Find out before the work, not after it, that the file `path` cannot be written; nothing is left behind."""
    with writing_to(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(each for each in path.absolute().parents if each.exists())
        tempfile.TemporaryFile(dir=folder).close()


def atomic_write(path: Path | str, content: str | bytes | Callable[[Path], Any]) -> None:
    """Write a whole file at once.

    content: the text (as UTF-8), the bytes, or a function that writes the file at the path it is
    given. On failure nothing is left behind and the former file, if any, is untouched.
    """
    with atomic_file(path) as aside:
        if callable(content):
            content(aside)
        else:
            aside.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield where to write a file that becomes `path` when the block ends without an error."""
    path = Path(path)
    make_folder(path.parent)
    with writing_to(path):
        handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        aside = Path(name)
        try:
            yield aside
            with open(aside, "rb") as stream:
                os.fsync(stream.fileno())
            os.chmod(aside, 0o644)
            os.replace(aside, path)
            sync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically."""
    atomic_write(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file, or raise a LangmillError that says where it is broken."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LangmillError(f"{path}: no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LangmillError(
            f"{path}: not valid JSON ({error}); the file is damaged or of another kind"
        ) from error


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a folder to fill; when the block ends without an error it becomes `path`.

    An existing `path` is replaced. On failure the new folder is removed and `path` is untouched.
    """
    path = Path(path)
    make_folder(path.parent)
    with writing_to(path):
        aside = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent))
        try:
            yield aside
            for file in aside.rglob("*"):
                if file.is_file():
                    with open(file, "rb") as stream:
                        os.fsync(stream.fileno())
            os.chmod(aside, 0o755)
            old = None
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent))
                os.replace(path, old / "old")
            os.replace(aside, path)
            sync_folder(path.parent)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def remove_partial(folder: Path, *, idle_seconds: float = 0.0) -> None:
    """Delete what a killed process left half-written in `folder`.

    idle_seconds: spare what was written to more recently, where another process may be at work.
    """
    for path in folder.glob(PARTIAL + "*"):
        if idle_seconds and time.time() - _last_change(path) < idle_seconds:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _last_change(path: Path) -> float:
    """Return when `path`, or anything in it, was last written to; now if it vanishes meanwhile."""
    try:
        return max(each.stat().st_mtime for each in (path, *path.rglob("*")))
    except OSError:
        return time.time()


def digest(*parts: str | bytes) -> str:
    """Return a hexadecimal BLAKE2b digest (32 digits) of `parts`, each set apart from the next.

    >>> digest("ab", "c") == digest("a", "bc")
    False
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def cache_folder() -> Path:
    """Return where derived files are kept: $LANGMILL_CACHE, else $XDG_CACHE_HOME or ~/.cache, /langmill."""
    if named := os.environ.get("LANGMILL_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "langmill"
