"""One decoding step of a Transformer as machine code, shared by several threads. [generation]

Shape letters: B rows of the batch, D width, H query heads, K key/value heads, C head width, F hidden
width, S slots, V vocabulary, L layers.

Decoding one token multiplies every weight once, so its speed is that of reading memory. Each weight
is therefore read once a step for the whole batch, straight from the model's own tensors.

All threads run `decode_step` on the same buffers. A step is a sequence of phases (project to queries,
keys and values; attend; …), and a phase is cut into pieces that threads claim from an atomic counter.
A phase begins when all pieces of the one before are done. No thread needs the others to come: one that
arrives late, or loses its core to another program, finds its pieces taken and runs through.

The norm before a projection is computed by every thread for itself, from buffers that a later phase
overwrites. That is sound: when the later phase has begun, no piece of the projection is left to claim,
so what a late thread computed goes unused.

Everything is in this one file because numba's cache on disk notices changes of a function's own file
only. Importing this module imports numba.
"""

from __future__ import annotations

import functools
import os

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

FAST = {"reassoc", "contract", "nsz", "arcp", "afn"}
"""Sums may be reordered and vectorised; infinities and NaN keep their meaning."""

native = functools.partial(njit, error_model="numpy", fastmath=FAST)
"""Compiles a function; a division by zero gives an infinity, for a check would keep loops from vectorising."""

WORD_BYTES = 64
"""Counters stand a cache line apart, so that they do not slow each other."""


@intrinsic
def _as_pointer(typing, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@intrinsic
def _fetch_add(typing, address, amount):
    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


_give_way = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.int32())


@native()
def vector(address, length):
    """Return the float32 array (length,) that lies at `address`; of length 0 if `address` is 0."""
    return carray(_as_pointer(address), (length if address else 0,), np.float32)


@native()
def matrix(address, rows, columns):
    """Return the float32 array (rows, columns) that lies at `address`."""
    return carray(_as_pointer(address), (rows, columns), np.float32)


@native()
def claim(counters, phase):
    """Return the number of the next piece of `phase` that nobody has taken."""
    return _fetch_add(counters + 2 * phase * WORD_BYTES, 1)


@native()
def finish(counters, phase):
    """Note that one piece of `phase` is done."""
    _fetch_add(counters + (2 * phase + 1) * WORD_BYTES, 1)


@native()
def wait(counters, phase, pieces):
    """Return once all `pieces` of `phase` are done; the core is lent to others after a short spin."""
    spins = 0
    while _fetch_add(counters + (2 * phase + 1) * WORD_BYTES, 0) < pieces:
        spins += 1
        if spins > 100:
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


# Columns of `weights` (L, 22): addresses, each bias after its weight, 0 where the model has no such tensor.
ATTENTION_NORM, QUERY, KEY, VALUE, QUERY_NORM, KEY_NORM, OUTPUT, FEED_NORM, UP, GATE, DOWN = range(0, 22, 2)
# Entries of `ends` (8,), likewise.
EMBED, POSITIONS, FINAL_NORM, SCORES = range(0, 8, 2)
# Entries of `sizes` (9,).
HEADS, KV_HEADS, HEAD_WIDTH, RMS, NORM_FIRST, QK_NORM, ACTIVATION, SLOT, LANES = range(9)
RELU, GELU, GELU_TANH, SILU = range(4)
STORE, ADD, EXPAND, SCORE = range(4)
"""What a phase of multiplication does with its products."""

PIECE_BYTES = 64 * 1024
"""How much weight a thread claims at a time: long enough to stream, short enough to share evenly."""
SCORE_ROWS = 64
"""Rows of the output layer in a piece, each with its own maximum and sum."""


@native()
def piece_rows(rows, columns, lanes):
    """Return how many rows of a matrix make a piece, a multiple of 4."""
    fair = rows // (4 * lanes)
    return max(4, min(fair, PIECE_BYTES // (4 * columns)) // 4 * 4)


@native()
def pieces_of(rows, size):
    return (rows + size - 1) // size


@native()
def dot(w, x):
    total = np.float32(0)
    for j in range(x.shape[0]):
        total += w[j] * x[j]
    return total


@native()
def dot_4x1(w0, w1, w2, w3, x):
    """Four rows of weights with one of activations."""
    a = b = c = d = np.float32(0)
    for j in range(x.shape[0]):
        t = x[j]
        a += w0[j] * t
        b += w1[j] * t
        c += w2[j] * t
        d += w3[j] * t
    return a, b, c, d


@native()
def dot_2x4(w0, w1, x0, x1, x2, x3):
    """Two rows of weights with four of activations."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
    for j in range(x0.shape[0]):
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
    return a0, a1, a2, a3, b0, b1, b2, b3


@native()
def put(out, row, column, value, add):
    out[row, column] = value + (out[row, column] if add else np.float32(0))


@native()
def multiply(weight, bias, x, out, offset, begin, end, add):
    """Write or add rows begin..end of weight (N, J) times x (B, J), plus bias, at out (B, ·)[:, offset + row].

    Four rows of weights at a time stay in the innermost cache until every row of the batch has had them.
    """
    fours = x.shape[0] // 4 * 4
    row = begin
    while row < end:
        rows = 4 if row + 4 <= end else 1
        if rows == 4:
            for r in range(row, row + 4, 2):
                for b in range(0, fours, 4):
                    a0, a1, a2, a3, b0, b1, b2, b3 = dot_2x4(
                        weight[r], weight[r + 1], x[b], x[b + 1], x[b + 2], x[b + 3]
                    )
                    put(out, b, offset + r, a0, add)
                    put(out, b + 1, offset + r, a1, add)
                    put(out, b + 2, offset + r, a2, add)
                    put(out, b + 3, offset + r, a3, add)
                    put(out, b, offset + r + 1, b0, add)
                    put(out, b + 1, offset + r + 1, b1, add)
                    put(out, b + 2, offset + r + 1, b2, add)
                    put(out, b + 3, offset + r + 1, b3, add)
            for b in range(fours, x.shape[0]):
                a0, a1, a2, a3 = dot_4x1(weight[row], weight[row + 1], weight[row + 2], weight[row + 3], x[b])
                put(out, b, offset + row, a0, add)
                put(out, b, offset + row + 1, a1, add)
                put(out, b, offset + row + 2, a2, add)
                put(out, b, offset + row + 3, a3, add)
        else:
            for b in range(x.shape[0]):
                put(out, b, offset + row, dot(weight[row], x[b]), add)
        row += rows
    if bias.shape[0]:
        for b in range(x.shape[0]):
            for r in range(begin, end):
                out[b, offset + r] += bias[r]


@native()
def normalise(x, out, weight, bias, rms, eps):
    """Write the norm of x (J,) to out, which may be x: layer norm or RMS norm."""
    n = x.shape[0]
    mean = np.float32(0)
    if not rms:
        for j in range(n):
            mean += x[j]
        mean /= np.float32(n)
    square = np.float32(0)
    for j in range(n):
        square += (x[j] - mean) * (x[j] - mean)
    scale = np.float32(1) / np.sqrt(square / np.float32(n) + eps)
    for j in range(n):
        out[j] = (x[j] - mean) * scale * weight[j]
    for j in range(bias.shape[0]):
        out[j] += bias[j]


@native()
def activate(x, kind):
    """Apply an activation to x (J,) in place.

    The exact GELU's error function is Abramowitz and Stegun 7.1.26 (to 1.5e-7); the approximate one's
    hyperbolic tangent is written as a logistic function: (1 + tanh u) / 2 = 1 / (1 + exp(-2u)).
    """
    one = np.float32(1)
    if kind == RELU:
        for j in range(x.shape[0]):
            x[j] = max(x[j], np.float32(0))
    elif kind == SILU:
        for j in range(x.shape[0]):
            x[j] = x[j] / (one + exponential(-x[j]))
    elif kind == GELU_TANH:
        for j in range(x.shape[0]):
            t = x[j]
            u = np.float32(0.7978845608028654) * (t + np.float32(0.044715) * t * t * t)
            x[j] = t / (one + exponential(np.float32(-2) * u))
    else:
        for j in range(x.shape[0]):
            z = abs(x[j]) * np.float32(0.7071067811865476)
            t = one / (one + np.float32(0.3275911) * z)
            p = np.float32(1.061405429) * t + np.float32(-1.453152027)
            p = p * t + np.float32(1.421413741)
            p = p * t + np.float32(-0.284496736)
            p = p * t + np.float32(0.254829592)
            tail = p * t * exponential(-z * z)  # 1 - erf(z)
            x[j] = x[j] * (one - np.float32(0.5) * tail if x[j] > 0 else np.float32(0.5) * tail)


@native()
def turn(x, cos, sin):
    """Rotate channels c and c + C/2 of x (C,) in place; cos and sin are (C / 2,), or empty for none."""
    half = cos.shape[0]
    for c in range(half):
        low, high = x[c], x[c + half]
        x[c] = low * cos[c] - high * sin[c]
        x[c + half] = high * cos[c] + low * sin[c]


@native()
def attend_one(query, scale, keys, values, scores, out):
    """Attend with query (C,) over keys and values (S, C) into out (C,); scores (S,) is scratch."""
    top = np.float32(-3.4e38)
    for s in range(keys.shape[0]):
        scores[s] = scale * dot(query, keys[s])
        top = max(top, scores[s])
    total = np.float32(0)
    for s in range(keys.shape[0]):
        scores[s] = exponential(scores[s] - top)
        total += scores[s]
    for c in range(out.shape[0]):
        out[c] = 0
    for s in range(keys.shape[0]):
        share, value = scores[s] / total, values[s]
        for c in range(out.shape[0]):
            out[c] += share * value[c]


@native()
def attend(weights, sizes, eps, b, k, row, keys, values, first, cos, sin, scores, mixed):
    """Store the new key and value of head k, and attend with the queries that share it.

    row: queries, keys and values side by side, ((H + 2K) C,). keys, values: (S, C), the cache of this row
    and head. first: the row's first slot that holds a token. mixed: (B, H C), of which row b is written.
    """
    heads, width, slot = sizes[HEADS], sizes[HEAD_WIDTH], sizes[SLOT]
    group = heads // sizes[KV_HEADS]
    scale = np.float32(1) / np.sqrt(np.float32(width))
    for member in range(group + 1):  # the key, then its queries
        head = heads + k if member == 0 else k * group + member - 1
        part = row[head * width : (head + 1) * width]
        if sizes[QK_NORM]:
            column = KEY_NORM if member == 0 else QUERY_NORM
            norm, bias = vector(weights[column], width), vector(weights[column + 1], width)
            normalise(part, part, norm, bias, sizes[RMS], eps)
        turn(part, cos, sin)
        if member == 0:
            value = (heads + sizes[KV_HEADS] + k) * width
            for c in range(width):
                keys[slot, c], values[slot, c] = part[c], row[value + c]
        else:
            out = mixed[b, head * width : (head + 1) * width]
            attend_one(part, scale, keys[first : slot + 1], values[first : slot + 1], scores, out)


@native()
def attend_phase(weights, sizes, eps, projected, keys, values, first, cos, sin, mixed, counters, phase):
    """A phase: attention of every row and head. projected: (B, (H + 2K) C). keys, values: (B, K, S, C)."""
    scores = np.empty(keys.shape[2], np.float32)
    pieces = keys.shape[0] * keys.shape[1]
    piece = claim(counters, phase)
    while piece < pieces:
        b, k = piece // keys.shape[1], piece % keys.shape[1]
        attend(
            weights,
            sizes,
            eps,
            b,
            k,
            projected[b],
            keys[b, k],
            values[b, k],
            first[b],
            cos[b],
            sin[b],
            scores,
            mixed,
        )
        finish(counters, phase)
        piece = claim(counters, phase)
    wait(counters, phase, pieces)


@native()
def summarise(logits, begin, tops, sums, piece):
    """Note the index of the largest of `logits` (a row's entries from `begin` on) and its sum of exponentials."""
    top = 0
    for j in range(1, logits.shape[0]):
        if logits[j] > logits[top]:
            top = j
    total = np.float32(0)
    for j in range(logits.shape[0]):
        total += exponential(logits[j] - logits[top])
    tops[piece], sums[piece] = begin + top, total


@native()
def multiply_phase(action, weights, rows, x, out, gates, tops, sums, sizes, counters, phase):
    """A phase: x (B, J) times one matrix or several.

    weights: addresses of weight and bias by turns. rows: each matrix's rows. action STORE writes the
    products side by side into out (B, N); ADD adds to it; EXPAND multiplies by one matrix, and by a
    second one (into gates) if there is one, and activates; SCORE also fills tops and sums (B, pieces).
    """
    columns = x.shape[1]
    size = SCORE_ROWS if action == SCORE else piece_rows(rows.sum(), columns, sizes[LANES])
    matrices = 1 if action == EXPAND else rows.shape[0]
    pieces = 0
    for m in range(matrices):
        pieces += pieces_of(rows[m], size)
    piece = claim(counters, phase)
    while piece < pieces:
        m, begin, offset = 0, piece * size, 0
        while begin >= pieces_of(rows[m], size) * size:
            begin -= pieces_of(rows[m], size) * size
            offset += rows[m]
            m += 1
        end = min(rows[m], begin + size)
        gated = action == EXPAND and weights[2] != 0
        for side in range(2 if gated else 1):
            w, z = (
                matrix(weights[2 * (m + side)], rows[m], columns),
                vector(weights[2 * (m + side) + 1], rows[m]),
            )
            multiply(w, z, x, out if side == 0 else gates, offset, begin, end, action == ADD)
        for b in range(x.shape[0]):
            if action == EXPAND:
                activate((gates if gated else out)[b, begin:end], sizes[ACTIVATION])
                for j in range(begin, end if gated else begin):
                    out[b, j] *= gates[b, j]
            elif action == SCORE:
                summarise(out[b, begin:end], begin, tops[b], sums[b], piece)
        finish(counters, phase)
        piece = claim(counters, phase)
    wait(counters, phase, pieces)


@native()
def normalise_rows(x, out, weights, sizes, eps):
    norm, bias = vector(weights[0], x.shape[1]), vector(weights[1], x.shape[1])
    for b in range(x.shape[0]):
        normalise(x[b], out[b], norm, bias, sizes[RMS], eps)


@native()
def normalise_phase(x, weights, sizes, eps, counters, phase):
    """A phase: x (B, D) becomes its norm, as in models that normalise after adding. One thread does it."""
    if claim(counters, phase) == 0:
        normalise_rows(x, x, weights, sizes, eps)
        finish(counters, phase)
    wait(counters, phase, 1)


@native()
def embed_phase(ids, first, sizes, ends, x, counters, phase):
    """A phase: x (B, D) = the tokens' embeddings, with learned positions if there are any. One thread does it."""
    width = x.shape[1]
    if claim(counters, phase) == 0:
        for b in range(x.shape[0]):
            token = vector(ends[EMBED] + 4 * width * ids[b], width)
            for j in range(width):
                x[b, j] = token[j]
            if ends[POSITIONS]:
                position = vector(ends[POSITIONS] + 4 * width * (sizes[SLOT] - first[b]), width)
                for j in range(width):
                    x[b, j] += position[j]
        finish(counters, phase)
    wait(counters, phase, 1)


@native()
def layer_phases(
    weights, sizes, eps, rows, x, own, projected, mixed, hidden, gates, keys, values, first, cos, sin, tops, sums,
    counters, phase,
):  # fmt: skip
    """One layer on x (B, D), in place; return the next phase's number. own: (B, D), x itself if the norms come after.

    rows: of query, key, value, output, up. The other arguments are `decode_step`'s.
    """
    before = sizes[NORM_FIRST] != 0
    if before:
        normalise_rows(x, own, weights[ATTENTION_NORM:], sizes, eps)
    multiply_phase(
        STORE, weights[QUERY:], rows[:3], own, projected, gates, tops, sums, sizes, counters, phase
    )
    attend_phase(weights, sizes, eps, projected, keys, values, first, cos, sin, mixed, counters, phase + 1)
    multiply_phase(ADD, weights[OUTPUT:], rows[3:4], mixed, x, gates, tops, sums, sizes, counters, phase + 2)
    if before:
        normalise_rows(x, own, weights[FEED_NORM:], sizes, eps)
    else:
        normalise_phase(x, weights[ATTENTION_NORM:], sizes, eps, counters, phase + 3)
    multiply_phase(EXPAND, weights[UP:], rows[4:], own, hidden, gates, tops, sums, sizes, counters, phase + 4)
    multiply_phase(ADD, weights[DOWN:], rows[3:4], hidden, x, gates, tops, sums, sizes, counters, phase + 5)
    if not before:
        normalise_phase(x, weights[FEED_NORM:], sizes, eps, counters, phase + 6)
    return phase + 7


def decode_step(
    weights, ends, sizes, eps, rates, ids, first, x, projected, mixed, hidden, gates, keys, values,
    logits, tops, sums, counters,
):  # fmt: skip
    """Push one token a row through the model, on every thread that calls it with the same arguments.

    weights, ends, sizes: see the constants above. rates: rotary radians a position, (C / 2,), or empty.
    ids: (B,). first: (B,), the slot of each row's first token; the new token's slot is sizes[SLOT].
    x … gates: buffers (B, D), (B, (H + 2K) C), (B, H C), (B, F), (B, F or 0). keys, values: the cache,
    (L, B, K, S, C). logits: (B, V), the result. tops, sums: (B, pieces), see `summarise`. counters: the
    address of two zeroed counters a phase.
    """
    batch, half = ids.shape[0], rates.shape[0]
    cos, sin = np.empty((batch, half), np.float32), np.empty((batch, half), np.float32)
    for b in range(batch):
        for c in range(half):
            angle = np.float32(sizes[SLOT] - first[b]) * rates[c]
            cos[b, c], sin[b, c] = np.cos(angle), np.sin(angle)
    queries, entries = mixed.shape[1], sizes[KV_HEADS] * sizes[HEAD_WIDTH]
    rows = np.array(
        (queries, entries, entries, x.shape[1], hidden.shape[1], hidden.shape[1], logits.shape[1])
    )
    embed_phase(ids, first, sizes, ends, x, counters, 0)
    phase = 1
    own = np.empty_like(x)
    for layer in range(weights.shape[0]):
        phase = layer_phases(
            weights[layer], sizes, eps, rows[:6], x, own if sizes[NORM_FIRST] else x, projected, mixed, hidden, gates,
            keys[layer], values[layer], first, cos, sin, tops, sums, counters, phase,
        )  # fmt: skip
    if ends[FINAL_NORM]:
        normalise_rows(x, own, ends[FINAL_NORM:], sizes, eps)
    states = own if ends[FINAL_NORM] else x
    multiply_phase(SCORE, ends[SCORES:], rows[6:], states, logits, gates, tops, sums, sizes, counters, phase)


def compile_step():
    """Return `decode_step` as machine code, kept on disk where numba finds a place to write."""
    try:
        return native(nogil=True, cache=True)(decode_step)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return native(nogil=True)(decode_step)
