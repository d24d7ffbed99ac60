"""GloVe's loops as machine code: counting pairs of words, and training on them. [vectors]

The code gives the interpreter free while it runs, so that threads of Python share the work. Importing this
module imports numba.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import njit

ONE = 1 << 28
"""A count of 1. Counts are whole numbers of this part, so that their sums do not depend on their order."""
EMPTY = -1
native = functools.partial(njit, nogil=True, cache=True, error_model="numpy", fastmath=True)


@native()
def slot_of(key, keys):
    """Return where a key stands in a table, or would: places are tried one after another."""
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    last = len(keys) - 1
    slot = np.int64(mixed >> np.uint64(20)) & last
    while keys[slot] != EMPTY and keys[slot] != key:
        slot = (slot + 1) & last
    return slot


@native()
def count_pairs(ids, ends, sentence, place, last, window, words, keys, counts, filled, limit):
    """Count pairs into a table until sentence `last` or until the table holds `limit` pairs.

    keys, counts: the table (slots, a power of two); a pair of words low <= high is the key low * words + high.
    Returns the sentence and the place to go on at, and how many pairs the table holds.
    """
    while sentence < last:
        while place < ends[sentence]:
            word = np.int64(ids[place])
            for distance in range(1, min(window, ends[sentence] - place - 1) + 1):
                other = np.int64(ids[place + distance])
                key = min(word, other) * words + max(word, other)
                slot = slot_of(key, keys)
                if keys[slot] == EMPTY:
                    keys[slot] = key
                    filled += 1
                # A word beside itself stands in its context twice, once on each side.
                counts[slot] += (2 if word == other else 1) * np.int64(ONE / distance + 0.5)
            place += 1
            if filled >= limit:
                return sentence, place, filled
        sentence += 1
    return sentence, place, filled


@native()
def move_pairs(keys, counts, new_keys, new_counts):
    """Copy a table into a larger, empty one."""
    for place in range(len(keys)):
        if keys[place] != EMPTY:
            slot = slot_of(keys[place], new_keys)
            new_keys[slot] = keys[place]
            new_counts[slot] = counts[place]


@native()
def step(word, context, word_squares, context_squares, dim, target, weight, rate):
    """Move a word and a context along the gradient of weight * (w · c + b_w + b_c - target)²; return that.

    Column `dim` of each is its bias, whose partner is 1. The gradient's factor 2 is left out, as in the
    authors' program.
    """
    score = np.float32(word[dim] + context[dim])
    for d in range(dim):
        score += word[d] * context[d]
    difference = score - target
    slope = weight * difference
    for d in range(dim):
        word_slope, context_slope = slope * context[d], slope * word[d]
        word[d] -= rate * word_slope / math.sqrt(word_squares[d])
        context[d] -= rate * context_slope / math.sqrt(context_squares[d])
        word_squares[d] += word_slope * word_slope
        context_squares[d] += context_slope * context_slope
    word[dim] -= rate * slope / math.sqrt(word_squares[dim])
    context[dim] -= rate * slope / math.sqrt(context_squares[dim])
    word_squares[dim] += slope * slope
    context_squares[dim] += slope * slope
    return weight * difference * difference


@native()
def train_pairs(pairs, words, contexts, word_squares, context_squares, dim, x_max, power, rate):
    """Train on pairs in both directions; return the sum of their losses."""
    loss = 0.0
    for place in range(len(pairs)):
        low, high, count = pairs[place].low, pairs[place].high, pairs[place].count
        target = np.float32(math.log(count))
        weight = np.float32(1 if count >= x_max else (count / x_max) ** power)
        loss += step(
            words[low], contexts[high], word_squares[low], context_squares[high], dim, target, weight, rate
        )
        if low != high:
            loss += step(
                words[high],
                contexts[low],
                word_squares[high],
                context_squares[low],
                dim,
                target,
                weight,
                rate,
            )
    return loss
