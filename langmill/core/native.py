"""What machine code is made with: compilation, addresses, vectors, and the exponential function. [core]

Code is written over addresses (int64) instead of arrays, which numba compiles several times faster.
Importing this module imports numba.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils

native = functools.partial(
    njit, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp", "afn"}, no_cpython_wrapper=True
)
"""Compiles a function. Sums may be reordered and vectorised; infinities and NaN keep their meaning, and
a division by zero gives an infinity (a check for it would keep loops from vectorising)."""
intrinsic: Any = extending.intrinsic


@functools.cache
def keep_functions_general() -> None:
    """Keep LLVM from copying functions for arguments that are constants, for the rest of the process.

    LLVM 22's function specialisation takes the other arguments of such a copy for undefined, so that a loop
    over `columns` lost its end: attention then never returned, with some processors' code and not with others'.
    """
    llvmlite.binding.set_option("langmill", "-funcspec-max-clones=0")


FLOAT, INTEGER = types.CPointer(types.float32), types.CPointer(types.int64)
_give_way = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.int32())
PROCESSOR = numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name()  # type: ignore[attr-defined]
FEATURES = numba.config.CPU_FEATURES or llvmlite.binding.get_host_cpu_features().flatten()  # type: ignore[attr-defined]
WIDE = "+avx512f" in FEATURES
LANES = 16 if WIDE else 8
"""Numbers in a vector."""


@intrinsic
def floats(typing, address):
    """Return the float32 numbers that lie at `address`."""
    return FLOAT(types.int64), lambda context, builder, signature, arguments: builder.inttoptr(
        arguments[0], context.get_value_type(FLOAT)
    )


@intrinsic
def integers(typing, address):
    """Return the int64 numbers that lie at `address`."""
    return INTEGER(types.int64), lambda context, builder, signature, arguments: builder.inttoptr(
        arguments[0], context.get_value_type(INTEGER)
    )


@intrinsic
def fetch_add(typing, address, amount):
    """Add `amount` to the int64 at `address`, atomically; return what it was."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@native()
def give_way():
    """Lend the core to another program, if one waits for it."""
    _give_way()


@native()
def exponential(x):
    """Return e**x in float32 to a relative 3e-7, in a form that vectorises; x is kept in [-87, 88].

    x = n ln 2 + r with |r| <= ln(2) / 2: the Taylor polynomial of e**r to r**6 leaves 1.2e-7, and 2**n
    is written into the exponent's bits.
    """
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    scaled = x * np.float32(1.4426950408889634)
    n = np.int32(scaled + (np.float32(0.5) if scaled >= 0 else np.float32(-0.5)))
    r = (x - np.float32(n) * np.float32(0.693145751953125)) - np.float32(n) * np.float32(1.42860677e-06)
    p = np.float32(1 / 720) * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1)
    p = p * r + np.float32(1)
    return p * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


def declare(builder, name: str, result: ir.Type, *arguments: ir.Type) -> Any:
    """Return one of LLVM's own functions."""
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}")
