"""One decoding step of a Transformer as machine code, shared by several threads. [generation]

Shape letters: B rows of the batch, D width, H query heads, K key/value heads, C head width, F hidden
width, S slots, V vocabulary, L layers, J columns of a matrix, M texts that an encoder read.

Decoding one token multiplies every weight once, so its speed is that of reading memory. Each weight
is therefore read once a step for the whole batch, straight from the model's own tensors.

All threads run `decode_step` on the same buffers. A step is a sequence of phases (project to queries,
keys and values; attend; …), and a phase is cut into pieces that threads claim from an atomic counter.
A phase begins when all pieces of the one before are done. No thread needs the others to come: one that
arrives late, or loses its core to another program, finds its pieces taken and runs through.

The norm before a projection is computed by every thread for itself, from buffers that a later phase
overwrites. That is sound: when the later phase has begun, no piece of the projection is left to claim,
so what a late thread computed goes unused.

`plan` is a table of int64: sizes, addresses of buffers, and three entries a matrix. Importing this module
imports numba.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types

from langmill.core import native as basics
from langmill.core.files import digest
from langmill.core.native import exponential, fetch_add, floats, give_way, integers, native
from langmill.generation import native as arithmetic
from langmill.generation.native import ONE, THREE, ZERO, activate, mix, multiply

# Entries of the plan: sizes …
LAYERS, ROWS, WIDTH, HEADS, KV_HEADS, HEAD_WIDTH, HIDDEN, VOCABULARY = np.arange(8)
RMS, NORM_FIRST, QK_NORM, ACTIVATION, ROTARY, SLOT, SLOTS, WINDOW, LANES = np.arange(8, 17)
CROSS, SHARING, MEMORY_SLOTS = np.arange(17, 20)  # an encoder's texts, each SHARING rows side by side look at
# … addresses of buffers: token ids (B,) and each row's first slot (B,), both int64; rotary radians a
# position (C / 2,); what a thread has for itself (LANES, SCRATCH_BYTES); states (B, D); queries, keys and
# values (B, (H + 2K) C); mixed values (B, H C); hidden and gates (B, F); the cache, keys and values
# (L, B, K, S, C); logits (B, V); of every piece of a row of logits the index of the largest (int64) and the
# sum of exponentials (B, pieces), and the same of the whole row, there the logarithm of the sum (B,); the
# bias of attention to what stands so far behind (H, S); of each text the first token and how many there are
# (2, M), int64; and three numbers …
IDS, FIRST, RATES, SCRATCH, SCRATCH_BYTES, STATES, PROJECTED, MIXED, INNER, GATES = np.arange(20, 30)
KEYS, VALUES, LOGITS, TOPS, SUMS, BEST, LOG_TOTAL, COUNTERS, BIAS, TEXTS, NUMBERS = np.arange(30, 41)
EMBED_SCALE, ATTENTION_SCALE, OUTPUT_SCALE = np.arange(3)
# … and from here on of each matrix or norm: address, address of its bias (0 where there is none), rows.
EMBED, POSITIONS, INPUT_NORM, FINAL_NORM, SCORES, FIRST_LAYER = np.arange(41, 59, 3)
# The same, counted from a layer's first entry; MEMORY holds the addresses of keys and values (M, K, S, C).
ATTENTION_NORM, QUERY, KEY, VALUE, QUERY_NORM, KEY_NORM, OUTPUT = np.arange(0, 21, 3)
CROSS_NORM, CROSS_QUERY, CROSS_OUTPUT, MEMORY, FEED_NORM, UP, GATE, DOWN, LAYER_ENTRIES = np.arange(21, 48, 3)
STORE, ADD, EXPAND, SCORE = np.arange(4)
"""What a phase of multiplication does with its products."""

PIECE_BYTES = np.int64(128 * 1024)
"""How much weight a thread claims at a time: long enough to stream, short enough to share evenly."""
SCORE_ROWS = np.int64(64)
"""Rows of the output layer in a piece, each with its own maximum and sum."""
LINE_BYTES = np.int64(64)
"""Counters stand a cache line apart, so that they do not slow each other."""
PHASES_PER_LAYER = np.int64(11)
SPINS = np.int64(2000)
"""How often a thread looks whether the others are done before it lends its core to another program."""


@native()
def claim(plan, phase):
    """Return the number of the next piece of `phase` that nobody has taken."""
    return fetch_add(plan[COUNTERS] + 2 * phase * LINE_BYTES, ONE)


@native()
def finish(plan, phase):
    """Note that one piece of `phase` is done."""
    fetch_add(plan[COUNTERS] + (2 * phase + 1) * LINE_BYTES, ONE)


@native()
def wait(plan, phase, pieces):
    """Return once all `pieces` of `phase` are done; the core is lent to others after a short spin."""
    spins = 0
    while fetch_add(plan[COUNTERS] + (2 * phase + 1) * LINE_BYTES, ZERO) < pieces:
        spins += 1
        if spins > SPINS:
            give_way()


@native()
def normalise(plan, entry, eps, x, out, width):
    """Write the layer or RMS norm of x (width,) to out, which may be x."""
    mean = np.float32(0)
    if not plan[RMS]:
        for j in range(width):
            mean += x[j]
        mean /= np.float32(width)
    square = np.float32(0)
    for j in range(width):
        square += (x[j] - mean) * (x[j] - mean)
    scale = np.float32(1) / np.sqrt(square / np.float32(width) + eps)
    weight = floats(plan[entry])
    for j in range(width):
        out[j] = (x[j] - mean) * scale * weight[j]
    if plan[entry + 1]:
        bias = floats(plan[entry + 1])
        for j in range(width):
            out[j] += bias[j]


@native()
def normalise_rows(plan, entry, eps, x, out):
    for b in range(plan[ROWS]):
        offset = 4 * b * plan[WIDTH]
        normalise(plan, entry, eps, floats(x + offset), floats(out + offset), plan[WIDTH])


@native()
def turn(plan, position, x):
    """Rotate channels c and c + C/2 of x (C,) in place, as `positions.rotate` does."""
    half, rates = plan[HEAD_WIDTH] // 2, floats(plan[RATES])
    for c in range(half):
        angle = np.float32(position) * rates[c]
        cos, sin = np.cos(angle), np.sin(angle)
        low, high = x[c], x[c + half]
        x[c] = low * cos - high * sin
        x[c + half] = high * cos + low * sin


@native()
def attend_one(query, keys, values, width, count, scale, bias, scores, out):
    """Attend with query (C,) over keys and values (count, C) into out (C,); scores (count,) is scratch.

    bias: what is added to the last score, the last but one …; 0 for nothing. All are addresses but `scale`.
    """
    multiply(keys, ZERO, query, width, ONE, scores, ZERO, ZERO, count, False)
    weights = floats(scores)
    for s in range(count):
        weights[s] *= scale
    if bias:
        behind = floats(bias)
        for s in range(count):
            weights[s] += behind[count - 1 - s]
    top = np.float32(-3.4e38)
    for s in range(count):
        top = max(top, weights[s])
    total = np.float32(0)
    for s in range(count):
        weights[s] = exponential(weights[s] - top)
        total += weights[s]
    for s in range(count):
        weights[s] /= total
    mix(weights, values, width, count, floats(out))


@native()
def attend(plan, layer, entry, eps, b, k, scores):
    """Store the new key and value of row b, head k, and attend with the queries that share them."""
    heads, kv_heads, width, slot = plan[HEADS], plan[KV_HEADS], plan[HEAD_WIDTH], plan[SLOT]
    first = integers(plan[FIRST])[b]
    seen = max(first, slot + 1 - plan[WINDOW])  # the earliest slot that is looked at
    past = 4 * ((layer * plan[ROWS] + b) * kv_heads + k) * plan[SLOTS] * width
    keys, values = plan[KEYS] + past, plan[VALUES] + past  # (S, C)
    row = plan[PROJECTED] + 4 * b * (heads + 2 * kv_heads) * width
    scale = floats(plan[NUMBERS])[ATTENTION_SCALE]
    group = heads // kv_heads
    for member in range(group + 1):  # the key, then its queries
        head = heads + k if member == 0 else k * group + member - 1
        part = floats(row + 4 * head * width)
        if plan[QK_NORM]:
            normalise(plan, entry + (KEY_NORM if member == 0 else QUERY_NORM), eps, part, part, width)
        if plan[ROTARY]:
            turn(plan, slot - first, part)
        if member == 0:
            key, value = floats(keys + 4 * slot * width), floats(values + 4 * slot * width)
            new = floats(row + 4 * (heads + kv_heads + k) * width)
            for c in range(width):
                key[c], value[c] = part[c], new[c]
        else:
            query, out = row + 4 * head * width, plan[MIXED] + 4 * (b * heads + head) * width
            begin, count = 4 * seen * width, slot + 1 - seen
            bias = plan[BIAS] + 4 * head * plan[SLOTS] if plan[BIAS] else ZERO
            attend_one(query, keys + begin, values + begin, width, count, scale, bias, scores, out)


@native()
def attend_across(plan, entry, b, k, scores):
    """Attend with the queries of row b that share head k of the encoder's keys and values."""
    heads, width, slots = plan[HEADS], plan[HEAD_WIDTH], plan[MEMORY_SLOTS]
    text, group = b // plan[SHARING], heads // plan[KV_HEADS]
    first, count = integers(plan[TEXTS])[text], integers(plan[TEXTS])[plan[ROWS] // plan[SHARING] + text]
    place = 4 * ((text * plan[KV_HEADS] + k) * slots + first) * width
    keys, values = plan[entry + MEMORY] + place, plan[entry + MEMORY + 1] + place
    scale = floats(plan[NUMBERS])[ATTENTION_SCALE]
    for head in range(k * group, (k + 1) * group):
        at = 4 * (b * heads + head) * width
        attend_one(plan[PROJECTED] + at, keys, values, width, count, scale, ZERO, scores, plan[MIXED] + at)


@native()
def attend_phase(plan, layer, entry, eps, across, lane, phase):
    """A phase: attention of every row and head, to the past or across to an encoder's text."""
    scores = plan[SCRATCH] + lane * plan[SCRATCH_BYTES]
    pieces = plan[ROWS] * plan[KV_HEADS]
    piece = claim(plan, phase)
    while piece < pieces:
        b, k = piece // plan[KV_HEADS], piece % plan[KV_HEADS]
        if across:
            attend_across(plan, entry, b, k, scores)
        else:
            attend(plan, layer, entry, eps, b, k, scores)
        finish(plan, phase)
        piece = claim(plan, phase)
    wait(plan, phase, pieces)


@native()
def summarise(logits, begin, end, tops, sums, piece):
    """Note the index of the largest of logits begin..end, and the sum of their exponentials relative to it."""
    top = begin
    for j in range(begin, end):
        if logits[j] > logits[top]:
            top = j
    total = np.float32(0)
    for j in range(begin, end):
        total += exponential(logits[j] - logits[top])
    tops[piece], sums[piece] = top, total


@native()
def join(plan):
    """Put together what `summarise` noted of the pieces."""
    pieces = (plan[VOCABULARY] + SCORE_ROWS - 1) // SCORE_ROWS
    for b in range(plan[ROWS]):
        logits = floats(plan[LOGITS] + 4 * b * plan[VOCABULARY])
        tops, sums = integers(plan[TOPS] + 8 * b * pieces), floats(plan[SUMS] + 4 * b * pieces)
        best = tops[0]
        for piece in range(pieces):
            if logits[tops[piece]] > logits[best]:
                best = tops[piece]
        total = np.float32(0)
        for piece in range(pieces):
            total += sums[piece] * exponential(logits[tops[piece]] - logits[best])
        integers(plan[BEST])[b] = best
        floats(plan[LOG_TOTAL])[b] = logits[best] + np.log(total)


@native()
def piece_rows(rows, columns, lanes):
    """Return how many rows of a matrix make a piece, a multiple of 4."""
    size = min(rows // (4 * lanes), PIECE_BYTES // (4 * columns)) // 4 * 4
    return size if size > 4 else 4


@native()
def act_on(plan, action, gated, out, stride, begin, end, piece):
    """Do what follows a product: activate rows begin..end of each row of the batch, or summarise them."""
    pieces = (plan[VOCABULARY] + SCORE_ROWS - 1) // SCORE_ROWS
    for b in range(plan[ROWS]):
        if action == SCORE:
            tops, sums = integers(plan[TOPS] + 8 * b * pieces), floats(plan[SUMS] + 4 * b * pieces)
            summarise(floats(out + 4 * b * stride), begin, end, tops, sums, piece)
        else:
            offset = 4 * (b * stride + begin)
            active = (plan[GATES] if gated else out) + offset
            activate(floats(active), end - begin, plan[ACTIVATION])
            if gated:
                o, g = floats(out + offset), floats(active)
                for j in range(end - begin):
                    o[j] *= g[j]


@native()
def multiply_phase(plan, action, entry, matrices, x, columns, out, stride, phase):
    """A phase: x (B, J) times the matrices from `entry` on, side by side into out (B, stride).

    action: STORE the products; ADD them to out; EXPAND: activate them, or multiply them by the activated
    products of the gate, the next matrix, if there is one; SCORE: store and `summarise`.
    """
    total = ZERO
    for m in range(matrices):
        total += plan[entry + 3 * m + 2]
    size = SCORE_ROWS if action == SCORE else piece_rows(total, columns, plan[LANES])
    pieces = ZERO
    for m in range(matrices):
        pieces += (plan[entry + 3 * m + 2] + size - 1) // size
    piece = claim(plan, phase)
    while piece < pieces:
        here, begin, target = entry, piece * size, out
        while begin >= plan[here + 2]:  # not in this matrix
            begin -= (plan[here + 2] + size - 1) // size * size
            target += 4 * plan[here + 2]
            here += 3
        end = min(plan[here + 2], begin + size)
        gated = action == EXPAND and plan[entry + 3] != 0
        for side in range(2 if gated else 1):
            w, z = plan[here + 3 * side], plan[here + 3 * side + 1]
            place = plan[GATES] if side else target
            multiply(w, z, x, columns, plan[ROWS], place, stride, begin, end, action == ADD)
        if action >= EXPAND:
            act_on(plan, action, gated, out, stride, begin, end, piece)
        finish(plan, phase)
        piece = claim(plan, phase)
    wait(plan, phase, pieces)


@native()
def embed_phase(plan, eps, phase):
    """A phase: the tokens' embeddings, with what a table says of positions if there is one. One thread does it."""
    width, scale = plan[WIDTH], floats(plan[NUMBERS])[EMBED_SCALE]
    if claim(plan, phase) == 0:
        for b in range(plan[ROWS]):
            x = floats(plan[STATES] + 4 * b * width)
            token = floats(plan[EMBED] + 4 * integers(plan[IDS])[b] * width)
            for j in range(width):
                x[j] = scale * token[j]
            if plan[POSITIONS]:
                position = floats(plan[POSITIONS] + 4 * (plan[SLOT] - integers(plan[FIRST])[b]) * width)
                for j in range(width):
                    x[j] += position[j]
        if plan[INPUT_NORM]:
            normalise_rows(plan, INPUT_NORM, eps, plan[STATES], plan[STATES])
        finish(plan, phase)
    wait(plan, phase, 1)


@native()
def normalise_phase(plan, entry, eps, phase):
    """A phase: the states become their norm, as in models that normalise after adding. One thread does it."""
    if claim(plan, phase) == 0:
        normalise_rows(plan, entry, eps, plan[STATES], plan[STATES])
        finish(plan, phase)
    wait(plan, phase, 1)


@native()
def layer_phases(plan, layer, eps, lane, phase):
    """One layer on the states (B, D), in place; its first phase has number `phase`."""
    entry, width, states = FIRST_LAYER + layer * LAYER_ENTRIES, plan[WIDTH], plan[STATES]
    inner = plan[HEADS] * plan[HEAD_WIDTH]
    projected = inner + 2 * plan[KV_HEADS] * plan[HEAD_WIDTH]
    before = plan[NORM_FIRST] != 0
    source = plan[SCRATCH] + lane * plan[SCRATCH_BYTES] if before else states
    if before:
        normalise_rows(plan, entry + ATTENTION_NORM, eps, states, source)
    multiply_phase(plan, STORE, entry + QUERY, THREE, source, width, plan[PROJECTED], projected, phase)
    attend_phase(plan, layer, entry, eps, False, lane, phase + 1)
    multiply_phase(plan, ADD, entry + OUTPUT, ONE, plan[MIXED], inner, states, width, phase + 2)
    if not before:
        normalise_phase(plan, entry + ATTENTION_NORM, eps, phase + 3)
    if plan[CROSS]:
        if before:
            normalise_rows(plan, entry + CROSS_NORM, eps, states, source)
        query = entry + CROSS_QUERY
        multiply_phase(plan, STORE, query, ONE, source, width, plan[PROJECTED], inner, phase + 4)
        attend_phase(plan, layer, entry, eps, True, lane, phase + 5)
        multiply_phase(plan, ADD, entry + CROSS_OUTPUT, ONE, plan[MIXED], inner, states, width, phase + 6)
        if not before:
            normalise_phase(plan, entry + CROSS_NORM, eps, phase + 7)
    if before:
        normalise_rows(plan, entry + FEED_NORM, eps, states, source)
    multiply_phase(plan, EXPAND, entry + UP, ONE, source, width, plan[INNER], plan[HIDDEN], phase + 8)
    multiply_phase(plan, ADD, entry + DOWN, ONE, plan[INNER], plan[HIDDEN], states, width, phase + 9)
    if not before:
        normalise_phase(plan, entry + FEED_NORM, eps, phase + 10)


@native()
def output_states(plan, eps, lane):
    """Return the address of what the output layer reads, (B, D): the states, normalised and scaled."""
    scale = floats(plan[NUMBERS])[OUTPUT_SCALE]
    if not plan[FINAL_NORM] and scale == 1:
        return plan[STATES]
    out = plan[SCRATCH] + lane * plan[SCRATCH_BYTES]
    if plan[FINAL_NORM]:
        normalise_rows(plan, FINAL_NORM, eps, plan[STATES], out)
    x, source = floats(out), floats(out if plan[FINAL_NORM] else plan[STATES])
    for j in range(plan[ROWS] * plan[WIDTH]):
        x[j] = scale * source[j]
    return out


def decode_step(address, eps, lane):
    """Push one token a row through the model, on every thread that calls it, each with its own `lane`.

    address: of the plan. eps: the norms' epsilon. The counters, two a phase, must be zero.
    """
    plan = integers(address)
    embed_phase(plan, eps, ZERO)
    for layer in range(plan[LAYERS]):
        layer_phases(plan, layer, eps, lane, 1 + layer * PHASES_PER_LAYER)
    states = output_states(plan, eps, lane)
    phase = 1 + plan[LAYERS] * PHASES_PER_LAYER
    multiply_phase(plan, SCORE, SCORES, ONE, states, plan[WIDTH], plan[LOGITS], plan[VOCABULARY], phase)
    if lane == 0:
        join(plan)


def compile_step() -> Any:
    """Return `decode_step` as machine code, kept on disk where numba finds a place to write.

    numba notices a change of this file, but not of those that this file calls: so the name under which
    the machine code is kept carries their digest.
    """
    called = digest(*(Path(str(module.__file__)).read_bytes() for module in (basics, arithmetic)))
    decode_step.__qualname__ = f"decode_step_{called}"
    signature = types.void(types.int64, types.float32, types.int64)
    basics.keep_functions_general()
    try:
        return njit(signature, cache=True, error_model="numpy", nogil=True)(decode_step)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(signature, error_model="numpy", nogil=True)(decode_step)
