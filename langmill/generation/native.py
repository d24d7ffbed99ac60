"""Arithmetic as machine code: rows of weights times activations, and what follows. [generation]

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from langmill.core.native import LANES, WIDE, declare, exponential, floats, intrinsic, native

# Numbers that functions are called with are NumPy's: of plain ones numba makes a constant, and compiles the
# function again for each.
ZERO, ONE, THREE = np.int64(0), np.int64(1), np.int64(3)
RELU, GELU, GELU_TANH, SILU = np.arange(4)


@native()
def dot(w, x, columns):
    total = np.float32(0)
    for j in range(columns):
        total += w[j] * x[j]
    return total


def make_tile(rows: int, batch: int, fetched: int) -> Any:
    """Return a function that adds the products of `rows` rows of weights with `batch` rows of activations.

    The function's arguments: addresses of weights (rows, J) and activations (batch, J); J, a multiple of
    STEP; how many numbers lie between two rows of both; address of the first sum; how many numbers lie
    between two rows of sums; and an address from which `fetched` rows of J numbers are brought nearer
    meanwhile.

    LLVM is told which vectors to keep in registers, because left alone it takes narrower ones; and the next
    weights must be on their way while these are multiplied, or memory and arithmetic take turns.
    """
    number, word, size = ir.FloatType(), ir.IntType(64), ir.IntType(32)
    vector, pointer = ir.VectorType(number, LANES), ir.IntType(8).as_pointer()

    def generate(context, builder, signature, arguments):
        weight, x, columns, distance, out, stride, ahead = arguments
        fma = declare(builder, f"fma.v{LANES}f32", vector, vector, vector, vector)
        total = declare(builder, f"vector.reduce.fadd.v{LANES}f32", number, number, vector)
        fetch = declare(builder, "prefetch.p0", ir.VoidType(), pointer, size, size, size)

        def place(base, row, apart, offset, kind):
            """Return base + 4 (row * apart + offset) as a pointer."""
            steps = builder.add(builder.mul(word(row), apart), offset)
            return builder.inttoptr(builder.add(base, builder.shl(steps, word(2))), kind)

        def load(base, row, offset):
            return builder.load(place(base, row, distance, offset, vector.as_pointer()), align=4)

        tiles = [(r, b) for r in range(rows) for b in range(batch)]
        sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES)) for _ in tiles]
        with cgutils.for_range(builder, builder.sdiv(columns, word(STEP)), intp=word) as loop:
            j = builder.mul(loop.index, word(STEP))
            for row in range(fetched):
                line = place(ahead, row, distance, j, pointer)
                builder.call(fetch, (line, size(0), size(2), size(1)))
            for part in range(0, STEP, LANES):
                offset = builder.add(j, word(part))
                w = [load(weight, r, offset) for r in range(rows)]
                t = [load(x, b, offset) for b in range(batch)]
                for held, (r, b) in zip(sums, tiles):
                    builder.store(builder.call(fma, (w[r], t[b], builder.load(held))), held)
        for held, (r, b) in zip(sums, tiles):
            target = place(out, b, stride, word(r), number.as_pointer())
            product = builder.call(total, (builder.load(target), builder.load(held)), fastmath=("reassoc",))
            builder.store(product, target)
        return context.get_dummy_value()

    integer = types.int64
    signature = types.void(*[integer] * 7)
    return intrinsic(lambda typing, w, x, columns, distance, out, stride, ahead: (signature, generate))


STEP = 16
"""Numbers of a row that a tile takes at a time: a cache line of them."""
TILE_ROWS = 4 if WIDE else 2
"""Rows of weights whose products with 4 rows of activations fit the registers."""
BLOCK_ROWS = 4
"""Rows of weights that stay in the innermost cache until every row of the batch has had them."""
BLOCK_COLUMNS = 768
"""At most so many columns at a time, for the same reason."""
single_tile = make_tile(BLOCK_ROWS, 1, BLOCK_ROWS)
wide_tile = make_tile(TILE_ROWS, 4, TILE_ROWS // 2)


@native()
def multiply_block(weight, x, columns, distance, batch, out, stride, ahead):
    """Add BLOCK_ROWS rows of weights times x (B, columns), rows `distance` apart, to out."""
    fours = batch // 4 * 4
    for row in range(0, BLOCK_ROWS, TILE_ROWS):
        for b in range(0, fours, 4):
            spot = out + 4 * (b * stride + row)
            here, there = weight + 4 * row * distance, x + 4 * b * distance
            wide_tile(here, there, columns, distance, spot, stride, ahead)
            ahead += 4 * (TILE_ROWS // 2) * distance
    for b in range(fours, batch):
        single_tile(weight, x + 4 * b * distance, columns, distance, out + 4 * b * stride, stride, ahead)


@native()
def multiply(weight, bias, x, columns, batch, out, stride, begin, end, add):
    """Write or add rows begin..end of a matrix (N, J) times x (B, J), plus bias (N,), to out (B, stride)."""
    for b in range(batch):
        o, z = floats(out + 4 * b * stride), floats(bias)
        for r in range(begin, end):
            o[r] = (o[r] if add else np.float32(0)) + (z[r] if bias else np.float32(0))
    row = begin
    if columns % STEP == 0:
        row += (end - begin) // BLOCK_ROWS * BLOCK_ROWS
        parts = (columns + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
        size = (columns // STEP + parts - 1) // parts * STEP
        for j in range(0, columns, size):
            for r in range(begin, row, BLOCK_ROWS):
                here = weight + 4 * (r * columns + j)
                ahead = here + 4 * BLOCK_ROWS * columns
                if r + BLOCK_ROWS == row:  # the next block is that of the next columns, or somebody else's
                    ahead = weight + 4 * (begin * columns + j + size) if j + size < columns else here
                count = min(size, columns - j)
                multiply_block(here, x + 4 * j, count, columns, batch, out + 4 * r, stride, ahead)
    for r in range(row, end):
        for b in range(batch):
            o = floats(out + 4 * (b * stride + r))
            o[0] += dot(floats(weight + 4 * r * columns), floats(x + 4 * b * columns), columns)


@native()
def mix(weights, rows, columns, count, out):
    """Write the sum of rows (count, columns), at an address, each times its weight, to out (columns,)."""
    for j in range(columns):
        out[j] = np.float32(0)
    fours = count // 4 * 4
    for s in range(0, fours, 4):  # four at a time, to read and write the sum less often
        here = rows + 4 * s * columns
        a, b = floats(here), floats(here + 4 * columns)
        c, d = floats(here + 8 * columns), floats(here + 12 * columns)
        p, q, u, v = weights[s], weights[s + 1], weights[s + 2], weights[s + 3]
        for j in range(columns):
            out[j] += p * a[j] + q * b[j] + u * c[j] + v * d[j]
    for s in range(fours, count):
        a, p = floats(rows + 4 * s * columns), weights[s]
        for j in range(columns):
            out[j] += p * a[j]


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
