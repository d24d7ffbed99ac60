"""Inner products and updates of a few rows at a time, as vector instructions. [vectors]

Left to itself LLVM takes narrower vectors and reads rows again that could stay in registers. Rows are
float32, their length J a multiple of STEP; addresses are int64. Importing this module imports numba.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from langmill.core.native import LANES, WIDE, declare, intrinsic

STEP = 16
"""Numbers of a row that are taken at a time: a cache line of them."""
TILE = 6 if WIDE else 4
"""Targets whose rows and changes fit the registers together."""
NUMBER, WORD, SIZE = ir.FloatType(), ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(NUMBER, LANES)
INTEGER = types.int64


def at(builder, address, offset: Any, kind: Any) -> Any:
    """Return address + 4 offset as a pointer."""
    return builder.inttoptr(builder.add(address, builder.shl(offset, WORD(2))), kind.as_pointer())


def entry(builder, table, number: Any) -> Any:
    """Return an entry of a table of int64, which begins at an address."""
    return builder.load(builder.inttoptr(builder.add(table, builder.shl(number, WORD(3))), WORD.as_pointer()))


def load(builder, address, offset: Any) -> Any:
    """Return a vector of a row."""
    return builder.load(at(builder, address, offset, VECTOR), align=4)


def store(builder, value, address, offset: Any) -> None:
    """Write a vector of a row."""
    builder.store(value, at(builder, address, offset, VECTOR), align=4)


def fused(builder) -> Any:
    """Return LLVM's a * b + c."""
    return declare(builder, f"fma.v{LANES}f32", VECTOR, VECTOR, VECTOR, VECTOR)


def spread(builder, number: Any) -> Any:
    """Return a vector of one number."""
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, SIZE(0))
    return builder.shuffle_vector(
        first, ir.Constant(VECTOR, ir.Undefined), ir.Constant(ir.VectorType(SIZE, LANES), [0] * LANES)
    )


def sums(builder, vectors: list[Any]) -> Any:
    """Return a vector whose first elements are the sums of `vectors`.

    As a tree: two vectors fold into one that holds both, half as wide, until each is one element; a third
    of the instructions of summing each for itself.
    """
    width = LANES
    while len(vectors) > 1:
        half = width // 2
        blocks = LANES // width
        if len(vectors) % 2:
            vectors = [*vectors, ir.Constant(VECTOR, [0.0] * LANES)]
        low = [v * LANES + b * width + e for v in (0, 1) for b in range(blocks) for e in range(half)]
        folded = []
        for one, other in zip(vectors[::2], vectors[1::2], strict=True):
            folded.append(fold(builder, one, other, low, half))
        vectors, width = folded, half
    (left,) = vectors
    while width > 1:  # elements that are sums already move to the front, the rest is of no account
        half, blocks = width // 2, LANES // width
        low = [b * width + e for b in range(blocks) for e in range(half)]
        left = fold(builder, left, left, (low * LANES)[:LANES], half)
        width = half
    return left


def fold(builder, one, other, low: list[int], half: int) -> Any:
    """Return the elements `low` of two vectors plus those that stand `half` behind."""
    mask = ir.VectorType(SIZE, LANES)
    below = builder.shuffle_vector(one, other, ir.Constant(mask, low))
    above = builder.shuffle_vector(one, other, ir.Constant(mask, [place + half for place in low]))
    return builder.fadd(below, above, flags=("reassoc",))


def each_size(builder, number: Any, generate: Callable[[int], None]) -> None:
    """Generate code for 1 to TILE targets, and the choice among them by `number`."""
    function = builder.function
    ways = [function.append_basic_block() for _ in range(TILE)]
    after = function.append_basic_block()
    choice = builder.switch(number, after)
    for size, way in enumerate(ways, start=1):
        choice.add_case(WORD(size), way)
        builder.position_at_end(way)
        generate(size)
        builder.branch(after)
    builder.position_at_end(after)


def make_products(rows: int) -> Any:
    """Return a function that writes the inner products of `rows` rows with 1 to TILE target rows.

    Its arguments: a table of the rows' addresses, one of the targets', how many targets, J, and the address of
    the products (rows, STEP); what is behind the products of a row there is overwritten with anything.
    """

    def generate(context, builder, signature, arguments):
        inputs, outputs, number, columns, products = arguments
        multiply_add, zero = fused(builder), ir.Constant(VECTOR, [0.0] * LANES)
        x = [entry(builder, inputs, WORD(r)) for r in range(rows)]

        def multiply(targets: int) -> None:
            y = [entry(builder, outputs, WORD(t)) for t in range(targets)]
            held = [[cgutils.alloca_once(builder, VECTOR) for _ in y] for _ in x]
            for place in itertools.chain(*held):
                builder.store(zero, place)
            with cgutils.for_range(builder, builder.sdiv(columns, WORD(LANES)), intp=WORD) as loop:
                j = builder.mul(loop.index, WORD(LANES))
                theirs = [load(builder, row, j) for row in y]
                for row, totals in zip(x, held, strict=True):
                    mine = load(builder, row, j)
                    for their, total in zip(theirs, totals, strict=True):
                        builder.store(builder.call(multiply_add, (mine, their, builder.load(total))), total)
            for r, totals in enumerate(held):
                row_sums = sums(builder, [builder.load(total) for total in totals])
                store(builder, row_sums, products, WORD(r * STEP))

        each_size(builder, number, multiply)
        return context.get_dummy_value()

    signature = types.void(*[INTEGER] * 5)
    return intrinsic(lambda typing, inputs, outputs, number, columns, products: (signature, generate))


products_of_one, products_of_two = make_products(1), make_products(2)


@intrinsic
def update(typing, inputs, changes, count, outputs, number, gradients, columns):
    """Add gradients: to target rows, and to what belongs to the inputs. Both change by gradient times each other.

    inputs: a table of addresses. changes: a table of where an input's change is added: the input itself, or a
    sum to be used later. count: how many they are. outputs: a table of the targets' addresses; number: how
    many, 1 to TILE. gradients: the address of (inputs, STEP). columns: J.
    """

    def generate(context, builder, signature, arguments):
        inputs, changes, count, outputs, number, gradients, columns = arguments
        multiply_add = fused(builder)

        def add(targets: int) -> None:
            y = [entry(builder, outputs, WORD(t)) for t in range(targets)]
            new = [cgutils.alloca_once(builder, VECTOR) for _ in y]
            with cgutils.for_range(builder, builder.sdiv(columns, WORD(LANES)), intp=WORD) as blocks:
                j = builder.mul(blocks.index, WORD(LANES))
                old = [load(builder, row, j) for row in y]
                for row, place in zip(old, new, strict=True):
                    builder.store(row, place)
                with cgutils.for_range(builder, count, intp=WORD) as loop:
                    x = load(builder, entry(builder, inputs, loop.index), j)
                    change = entry(builder, changes, loop.index)
                    total = load(builder, change, j)
                    first = builder.mul(loop.index, WORD(STEP))
                    for t in range(targets):
                        gradient = at(builder, gradients, builder.add(first, WORD(t)), NUMBER)
                        factor = spread(builder, builder.load(gradient))
                        total = builder.call(multiply_add, (factor, old[t], total))
                        builder.store(builder.call(multiply_add, (factor, x, builder.load(new[t]))), new[t])
                    store(builder, total, change, j)
                for row, place in zip(y, new, strict=True):
                    store(builder, builder.load(place), row, j)

        each_size(builder, number, add)
        return context.get_dummy_value()

    return types.void(*[INTEGER] * 7), generate


@intrinsic
def add_row(typing, target, source, factor, columns):
    """Add `factor` times a row to another; both are addresses."""

    def generate(context, builder, signature, arguments):
        target, source, factor, columns = arguments
        multiply_add, times = fused(builder), spread(builder, factor)
        with cgutils.for_range(builder, builder.sdiv(columns, WORD(LANES)), intp=WORD) as loop:
            j = builder.mul(loop.index, WORD(LANES))
            total = builder.call(multiply_add, (times, load(builder, source, j), load(builder, target, j)))
            store(builder, total, target, j)
        return context.get_dummy_value()

    return types.void(INTEGER, INTEGER, types.float32, INTEGER), generate
