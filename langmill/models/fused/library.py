"""Compiling and loading `kernels.c`. [models]"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from langmill.core.errors import LangmillError
from langmill.core.files import atomic_write, cache_folder, digest

SOURCE = Path(__file__).with_name("kernels.c")
# Fast math lets the compiler use the vectorised exponential; it is not given to the linker, which
# would switch the whole process to flushing small numbers to zero.
COMPILE = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC", "-c")
LINK = ("-shared", "-fopenmp", "-lm")


def processor() -> str:
    """Return what tells one processor's instructions from another's."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), platform.processor())


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the kernels, compiled now if need be; None where that is not possible."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or os.name == "nt" or os.environ.get("LANGMILL_FUSED") == "0":
        return None
    source = SOURCE.read_text(encoding="utf-8")
    name = digest(source, compiler, *COMPILE, *LINK, processor())
    path = cache_folder() / "kernels" / f"{name}.so"
    try:
        if not path.is_file():
            build(compiler, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError, LangmillError):
        # A compiler without OpenMP, a cache that cannot be written: plain PyTorch does the same work.
        return None


def build(compiler: str, path: Path) -> None:
    """Compile and link `kernels.c` into `path`."""
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = f"{folder}/kernels.o", f"{folder}/kernels.so"
        for command in (
            (compiler, *COMPILE, str(SOURCE), "-o", compiled),
            (compiler, compiled, *LINK, "-o", linked),
        ):
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        atomic_write(path, Path(linked).read_bytes())
