"""What this machine can do, measured in a few seconds. [evaluation]"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Timer

from langmill.core.device import can_compile, choose_device, measure_machine

EXTRAS = {
    "numba": "fast decoding on CPUs; pip install 'langmill[fast]'",
    "pyarrow": "Parquet files; pip install 'langmill[data]'",
    "zstandard": ".zst files; pip install 'langmill[data]'",
    "matplotlib": "curve.png; pip install 'langmill[viz]'",
    "tensorboard": "TensorBoard events; pip install 'langmill[track]'",
    "transformers": "comparison in `langmill doctor CKPT`; pip install transformers",
}
"""Optional packages: what each is for, and what brings it."""
MATRIX = {"cpu": 1024, "cuda": 8192}
MEASURE_SECONDS = 0.5


@dataclass(frozen=True)
class MachineReport:
    """What was found and measured."""

    python: str
    torch: str
    system: str
    processor: str
    cores: int
    """Cores that this process may use."""
    threads: int
    """Threads that torch uses."""
    memory_bytes: int
    """Main memory, or what a container is allowed of it; 0: not known."""
    free_memory_bytes: int
    """0: not known."""
    free_disk_bytes: int
    """Where the command runs."""
    device: str
    """On which the figures below were measured."""
    gpus: tuple[str, ...]
    matmul_flops: dict[str, float]
    """Precision → floating-point operations a second in a large matrix product."""
    read_bytes: float
    """Bytes a second read from memory by a matrix-vector product."""
    can_compile: bool
    """Whether torch.compile finds its compiler."""
    compile_seconds: float | None
    """What compiling and running a small function took; None: not tried, or it failed."""
    compile_note: str
    packages: dict[str, str | None]
    """Optional package → its version, None where it is not installed."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Return (what, how much) for people."""
        rates = ", ".join(f"{kind} {value / 1e9:,.0f} GFLOP/s" for kind, value in self.matmul_flops.items())
        out = [
            ("python", f"{self.python}, torch {self.torch}, {self.system}"),
            ("processor", f"{self.processor}, {self.cores} cores, torch uses {self.threads} threads"),
            ("memory", f"{_gigabytes(self.memory_bytes)}, {_gigabytes(self.free_memory_bytes)} free"),
            ("disk here", f"{_gigabytes(self.free_disk_bytes)} free"),
            ("GPU", "; ".join(self.gpus) or "none that torch can use"),
            ("matrix product", f"{rates} on {self.device}"),
            ("memory read", f"{self.read_bytes / 1e9:,.1f} GB/s on {self.device}"),
            ("torch.compile", self.compile_note),
        ]
        for name, version in self.packages.items():
            out.append((name, version or f"not installed ({EXTRAS[name]})"))
        return out


def inspect_machine(*, try_compile: bool = False) -> MachineReport:
    """Look at this machine and measure it, for about three seconds; with `try_compile` up to a minute."""
    device = choose_device()
    measured = measure_machine(device, seconds=2 * MEASURE_SECONDS)
    compiles, seconds, note = _compiling(device, try_compile=try_compile)
    memory, free = memory_bytes()
    return MachineReport(
        python=platform.python_version(),
        torch=torch.__version__,
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=_cores(),
        threads=torch.get_num_threads(),
        memory_bytes=memory,
        free_memory_bytes=free,
        free_disk_bytes=shutil.disk_usage(".").free,
        device=str(device),
        gpus=_gpus(),
        matmul_flops=_matmul_flops(device, measured.matmul_flops),
        read_bytes=measured.read_bytes,
        can_compile=compiles,
        compile_seconds=seconds,
        compile_note=note,
        packages={name: _version(name) for name in EXTRAS},
    )


def _matmul_flops(device: torch.device, known: float) -> dict[str, float]:
    """Return float32, and bfloat16 where that is the faster of the two."""
    if device.type != "cuda":
        rates = {"float32": known, "bfloat16": matmul_flops(device, torch.bfloat16)}
    else:
        rates = {"float32": matmul_flops(device, torch.float32), "bfloat16": known}
    return {kind: rate for kind, rate in rates.items() if kind == "float32" or rate > rates["float32"]}


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of a large matrix product in `dtype`."""
    size = MATRIX.get(device.type, MATRIX["cpu"])
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    found = Timer("a @ b", globals={"a": a, "b": b}, num_threads=torch.get_num_threads())
    return 2 * size**3 / found.blocked_autorange(min_run_time=MEASURE_SECONDS).median


def _compiling(device: torch.device, *, try_compile: bool) -> tuple[bool, float | None, str]:
    """Return whether torch.compile can work, what it took, and a word about it."""
    if not can_compile(device):
        needs = "Triton" if device.type == "cuda" else "a C++ compiler: install g++, or name one in CXX"
        return False, None, f"no: it needs {needs}"
    if not try_compile:
        return True, None, "its compiler is here (--compile tries it)"
    begin = time.perf_counter()
    x = torch.randn(64, 64, device=device)
    try:
        torch.compile(_small_function)(x)
    except (RuntimeError, OSError, ImportError) as error:
        return (
            False,
            None,
            f"does not work here: {type(error).__name__}: {str(error).strip().splitlines()[0]}",
        )
    seconds = time.perf_counter() - begin
    return True, seconds, f"works; a small function took {seconds:.1f} s"


def _small_function(x: torch.Tensor) -> torch.Tensor:
    return (x @ x).relu().softmax(-1)


def memory_bytes() -> tuple[int, int]:
    """Return (in all, free) bytes of main memory, a container's limit taken into account; 0: not known."""
    whole = free = 0
    info = Path("/proc/meminfo")
    if info.is_file():
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in info.read_text().splitlines()}
        whole, free = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, used = (_number(Path(f"/sys/fs/cgroup/memory.{name}")) for name in ("max", "current"))
    if limit and limit < whole:
        whole, free = limit, min(free, max(0, limit - used))
    return whole, free


def _number(path: Path) -> int:
    """Return the number in a file of the kernel's; 0 where there is none."""
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpus() -> tuple[str, ...]:
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        return tuple(f"{each.name}, {each.total_memory / 2**30:.0f} GiB" for each in found)
    return ("Apple GPU (mps)",) if torch.backends.mps.is_available() else ()


def _version(package: str) -> str | None:
    return importlib.metadata.version(package) if importlib.util.find_spec(package) else None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count else "unknown"
