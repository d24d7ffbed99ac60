"""The machine: which device, which precision, how fast. [core]"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import torch

from langmill.core.errors import ConfigError
from langmill.core.products import PRECISION_SWITCH, cpu_products, product


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


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or PRECISION_SWITCH is None:
        return False
    features = torch.cpu.get_capabilities()
    return bool(features.get("amx_bf16") or features.get("avx512_bf16"))


def training_dtype(device: torch.device, precision: str = "auto") -> torch.dtype:
    """Return the type in which training multiplies matrices; weights and sums are float32 always.

    precision: "float32", "bfloat16", or "auto", which is bfloat16 where the device `has_bfloat16`.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ConfigError(f"precision {precision!r} is unknown; use auto, float32 or bfloat16")
    if precision == "bfloat16" and not has_bfloat16(device):
        raise ConfigError(
            f"precision bfloat16 asked for, but {device} has no hardware for it; use auto or float32"
        )
    return torch.bfloat16 if precision != "float32" and has_bfloat16(device) else torch.float32


def forward_products(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Return the context of a forward pass whose products are in `dtype`: autocast, but on CPUs `cpu_products` does it."""
    return torch.autocast(device.type, dtype, enabled=device.type != "cpu" and dtype != torch.float32)


@contextlib.contextmanager
def inference_products(device: torch.device, precision: str = "auto") -> Iterator[None]:
    """While this lasts, models without gradient multiply matrices in `precision`; see `training_dtype`."""
    dtype = training_dtype(device, precision)
    with cpu_products(dtype), forward_products(device, dtype):
        yield


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile can work: it needs a C++ compiler on the CPU and Triton on a GPU."""
    if device.type == "cuda":
        import importlib.util

        return importlib.util.find_spec("triton") is not None
    return device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is not None


def other_load() -> float:
    """Return how many processes a core wanted to run in the last minute, this one left out; 0 if not known."""
    if not hasattr(os, "getloadavg"):
        return 0.0
    return max(0.0, os.getloadavg()[0] - 1) / (os.cpu_count() or 1)


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


def measure_matmul(device: torch.device, *, seconds: float = 0.5, dtype: torch.dtype | None = None) -> float:
    """Return the operations a second of a large matrix product as training multiplies, measured for `seconds`."""
    dtype = dtype or training_dtype(device)
    size = 8192 if device.type == "cuda" else 1024
    kept = torch.float32 if device.type == "cpu" else dtype
    a, b = (torch.randn(size, size, device=device, dtype=kept) for _ in range(2))
    with cpu_products(dtype), torch.no_grad():
        return 2 * size**3 / _median_seconds(lambda: product(a, b), device, seconds)


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
