"""Arithmetic as machine code: rows of weights times activations, and what follows. [generation]

The code is written over addresses (int64) instead of arrays, which numba compiles several times faster.
Importing this module imports numba.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

native = functools.partial(
    njit, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp", "afn"}, no_cpython_wrapper=True
)
"""Compiles a function. Sums may be reordered and vectorised; infinities and NaN keep their meaning, and
a division by zero gives an infinity (a check for it would keep loops from vectorising)."""
intrinsic: Any = extending.intrinsic

# Numbers that functions are called with are NumPy's: of plain ones numba makes a constant, and compiles the
# function again for each.
ZERO, ONE, THREE = np.int64(0), np.int64(1), np.int64(3)
RELU, GELU, GELU_TANH, SILU = np.arange(4)
FLOAT, INTEGER = types.CPointer(types.float32), types.CPointer(types.int64)
_give_way = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.int32())


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


@native()
def dot(w, x, columns):
    total = np.float32(0)
    for j in range(columns):
        total += w[j] * x[j]
    return total


@native()
def put(address, value, add):
    place = floats(address)
    place[0] = value + (place[0] if add else np.float32(0))


@native()
def multiply_4x1(weight, x, columns, out, add):
    """Four rows of weights, one after another, with one of activations."""
    w0, w1 = floats(weight), floats(weight + 4 * columns)
    w2, w3 = floats(weight + 8 * columns), floats(weight + 12 * columns)
    a = b = c = d = np.float32(0)
    for j in range(columns):
        t = x[j]
        a += w0[j] * t
        b += w1[j] * t
        c += w2[j] * t
        d += w3[j] * t
    put(out, a, add)
    put(out + 4, b, add)
    put(out + 8, c, add)
    put(out + 12, d, add)


@native()
def multiply_2x4(weight, x, columns, out, stride, add):
    """Two rows of weights with four of activations, both one after another; out's rows are `stride` apart."""
    w0, w1 = floats(weight), floats(weight + 4 * columns)
    x0, x1, x2, x3 = floats(x), floats(x + 4 * columns), floats(x + 8 * columns), floats(x + 12 * columns)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
    for j in range(columns):
        s, t = w0[j], w1[j]
        p, q, u, v = x0[j], x1[j], x2[j], x3[j]
        a0 += s * p
        a1 += s * q
        a2 += s * u
        a3 += s * v
        b0 += t * p
        b1 += t * q
        b2 += t * u
        b3 += t * v
    put(out, a0, add)
    put(out + 4, b0, add)
    put(out + 4 * stride, a1, add)
    put(out + 4 * stride + 4, b1, add)
    put(out + 8 * stride, a2, add)
    put(out + 8 * stride + 4, b2, add)
    put(out + 12 * stride, a3, add)
    put(out + 12 * stride + 4, b3, add)


@native()
def multiply(weight, bias, x, columns, batch, out, stride, begin, end, add):
    """Write or add rows begin..end of a matrix (N, J) times x (B, J), plus bias (N,), to out (B, stride).

    Four rows of weights at a time stay in the innermost cache until every row of the batch has had them.
    """
    fours = batch // 4 * 4
    row = begin
    while row + 4 <= end:
        here = weight + 4 * row * columns
        for half in range(0, 4, 2):
            for b in range(0, fours, 4):
                spot = out + 4 * (b * stride + row + half)
                multiply_2x4(here + 4 * half * columns, x + 4 * b * columns, columns, spot, stride, add)
        for b in range(fours, batch):
            multiply_4x1(here, floats(x + 4 * b * columns), columns, out + 4 * (b * stride + row), add)
        row += 4
    for r in range(row, end):
        for b in range(batch):
            product = dot(floats(weight + 4 * r * columns), floats(x + 4 * b * columns), columns)
            put(out + 4 * (b * stride + r), product, add)
    if bias:
        z = floats(bias)
        for b in range(batch):
            o = floats(out + 4 * b * stride)
            for r in range(begin, end):
                o[r] += z[r]


@native()
def activate(x, count, kind):
    """Apply an activation to x (count,) in place.

    The exact GELU's error function is Abramowitz and Stegun 7.1.26 (to 1.5e-7); the approximate one's
    hyperbolic tangent is written as a logistic function: (1 + tanh u) / 2 = 1 / (1 + exp(-2u)).
    """
    one = np.float32(1)
    if kind == RELU:
        for j in range(count):
            x[j] = max(x[j], np.float32(0))
    elif kind == SILU:
        for j in range(count):
            x[j] = x[j] / (one + exponential(-x[j]))
    elif kind == GELU_TANH:
        for j in range(count):
            t = x[j]
            u = np.float32(0.7978845608028654) * (t + np.float32(0.044715) * t * t * t)
            x[j] = t / (one + exponential(np.float32(-2) * u))
    else:
        for j in range(count):
            z = abs(x[j]) * np.float32(0.7071067811865476)
            t = one / (one + np.float32(0.3275911) * z)
            p = np.float32(1.061405429) * t + np.float32(-1.453152027)
            p = p * t + np.float32(1.421413741)
            p = p * t + np.float32(-0.284496736)
            p = p * t + np.float32(0.254829592)
            tail = p * t * exponential(-z * z)  # 1 - erf(z)
            x[j] = x[j] * (one - np.float32(0.5) * tail if x[j] > 0 else np.float32(0.5) * tail)
