"""The machine: which device, which precision, how fast. [core]"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from statistics import median

import torch

from langmill.core.errors import ConfigError


def choose_device(name: str = "auto", *, local_rank: int = 0) -> torch.device:
    """Return the device called `name`; "auto" takes a GPU if there is one, else Apple's, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local_rank)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} asked for, but torch sees no CUDA GPU here; use --device cpu")
    return device


def training_dtype(device: torch.device) -> torch.dtype:
    """Return the precision of matrix products in training: bfloat16 on GPUs that have it, else float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile can work: it needs a C++ compiler on the CPU and Triton on a GPU."""
    if device.type == "cuda":
        import importlib.util

        return importlib.util.find_spec("triton") is not None
    return device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is not None


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Machine:
    """What a machine was measured to do."""

    device: str
    threads: int
    matmul_flops: float
    """Floating-point operations a second in a large matrix product, in the training precision."""
    read_bytes: float
    """Bytes a second read from memory by a matrix-vector product."""


def measure_machine(device: torch.device, *, seconds: float = 1.0) -> Machine:
    """Measure peak matrix product and memory reading for about `seconds`; medians of several."""
    flops = measure_matmul(device, seconds=seconds / 2)
    # Half a gigabyte (two on a GPU), so that the cache of a large processor does not answer for the memory.
    rows = 1 << (18 if device.type == "cuda" else 16)
    table, vector = torch.ones(rows, 2048, device=device), torch.ones(2048, device=device)
    read = table.numel() * 4 / _median_seconds(lambda: table @ vector, device, seconds / 2)
    return Machine(str(device), torch.get_num_threads(), flops, read)


def measure_matmul(device: torch.device, *, seconds: float = 0.5) -> float:
    """Return the operations a second of a large matrix product in the training precision, measured for `seconds`."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=training_dtype(device)) for _ in range(2))
    return 2 * size**3 / _median_seconds(lambda: a @ b, device, seconds)


def _median_seconds(work, device: torch.device, seconds: float) -> float:
    work()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return median(times)
