"""Word2Vec and FastText as machine code, shared by several threads. [vectors]

All threads run `train_chunks` on the same matrices without locks (Hogwild, Recht et al. 2011) and claim
chunks of sentences from an atomic counter. A chunk brings its learning rate and the seed of its random
choices with it, so that one thread gives the same bits every time, wherever it was interrupted.

A position's predictions are made together: its inputs (rows of the matrix of words) against its targets (rows
of the other matrix, each with the label that it belongs or not). In skip-gram all neighbours of a word predict
it, against the same random words (Ji et al. 2016, "Parallelizing Word2Vec in Shared and Distributed Memory"):
a product of two small matrices in place of many inner products, with rows read once. For the rest:

    skip-gram   inputs: each neighbour.               targets: the word, or its path in the tree
    CBOW        input: the mean of the neighbours.    targets: the same
    FastText    input: the mean of the word's pieces. targets: each neighbour; or as CBOW with all pieces

`plan` and, for each thread, `lane` are tables of int64: sizes, and addresses of buffers. Importing this
module imports numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from langmill.core.native import exponential, fetch_add, floats, integers, intrinsic, native
from langmill.vectors.layout import (
    ALIAS,
    BEGINS,
    CHANCES,
    CHANGES,
    CHUNKS,
    COLUMNS,
    DELTA,
    FIRST,
    HIDDEN,
    IDS,
    INPUT,
    INPUTS,
    JOINED,
    KEEP,
    KEPT,
    LABELS,
    LOSS,
    LOSSES,
    NEGATIVE,
    NEXT,
    NODES,
    OUTPUT,
    OWN,
    PATHS,
    PIECE_ROWS,
    PIECES,
    PREDICTIONS,
    PRODUCT,
    RATES,
    SCORES,
    SEED,
    STATE,
    STOP,
    TARGETS,
    WEIGHTS,
    WINDOW,
    WORDS,
)
from langmill.vectors.tiles import STEP, TILE, add_row, products_of_one, products_of_two, update

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
TINY = 1e-60
"""A running product of chances is put away before it gets smaller than float64 holds."""
WHOLE = np.float32(2.0**-24)
"""Turns 24 random bits into a number from 0 to 1."""


def pointer(kind: Any) -> Any:
    """Return a function that takes an address for that of numbers of a kind."""
    numbers = types.CPointer(kind)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(numbers))

    return intrinsic(lambda typing, address: (numbers(types.int64), generate))


shorts, naturals, doubles = pointer(types.int32), pointer(types.uint64), pointer(types.float64)


@native()
def scramble(z):
    """Return a thoroughly mixed uint64 (Steele et al. 2014, SplitMix)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@native()
def logarithm(x):
    """Return ln x of a normal float64 above 0, to 1e-13: the exponent's bits, and 2 artanh((m - 1) / (m + 1))."""
    bits = np.float64(x).view(np.int64)
    mantissa = np.int64((bits & 0xFFFFFFFFFFFFF) | (1023 << 52)).view(np.float64)
    step = (mantissa - 1) / (mantissa + 1)
    power, total = step, 0.0
    for odd in range(1, 27, 2):
        total += power / odd
        power *= step * step
    return ((bits >> 52) - 1023) * 0.6931471805599453 + 2 * total


@native()
def draw(lane):
    """Return a random uint64."""
    state = naturals(lane[OWN])
    state[STATE] += GOLDEN
    return scramble(state[STATE])


@native()
def below(number, limit):
    """Turn a random uint64 into an int64 from 0 to limit - 1."""
    return np.int64(((number >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32))


@native()
def other_word(plan, lane):
    """Return a random word, by Walker's alias method: a place, and the odds that its other word stands there."""
    number = draw(lane)
    place = below(number, plan[WORDS])
    entry = naturals(plan[ALIAS])[place]
    low = np.uint64(0xFFFFFFFF)
    return place if (number & low) < (entry >> np.uint64(32)) else np.int64(entry & low)


@native()
def gradients(lane, labels, inputs, targets, rate):
    """Turn scores (inputs, STEP) into gradients, and count the loss.

    The loss of a prediction, -log s with s = sigmoid(label * score), is summed as the logarithm of products.
    """
    weights, chances, loss = floats(labels), floats(lane[CHANCES]), doubles(lane[OWN])
    for i in range(inputs):
        scores = floats(lane[SCORES] + 4 * STEP * i)
        for t in range(STEP):
            label = weights[t]
            sign = np.float32(1) if label > 0 else np.float32(-1)
            chance = np.float32(1) / (np.float32(1) + exponential(-sign * scores[t]))
            chances[t] = chance
            scores[t] = rate * label * (np.float32(1) - chance)
        product = 1.0
        for t in range(targets):
            for _ in range(np.int64(abs(weights[t]))):
                product *= chances[t]
        loss[PRODUCT] *= product
        if loss[PRODUCT] < TINY:
            loss[LOSS] -= logarithm(loss[PRODUCT])
            loss[PRODUCT] = 1.0


@native()
def learn(plan, lane, inputs, table, changes, targets, rate):
    """Move inputs and targets by the gradient of their predictions' loss.

    table, changes: of inputs and of where their changes are added; see `tiles.update`. The lane holds the
    targets, and their labels times how often they were drawn.
    """
    columns = plan[COLUMNS]
    groups = (targets + TILE - 1) // TILE
    first = 0
    for group in range(groups):
        size = (targets - first + groups - group - 1) // (groups - group)
        outputs = lane[TARGETS] + 8 * first
        for i in range(0, inputs - 1, 2):
            products_of_two(table + 8 * i, outputs, size, columns, lane[SCORES] + 4 * STEP * i)
        if inputs % 2:
            i = inputs - 1
            products_of_one(table + 8 * i, outputs, size, columns, lane[SCORES] + 4 * STEP * i)
        gradients(lane, lane[WEIGHTS] + 4 * first, inputs, size, rate)
        update(table, changes, inputs, outputs, size, lane[SCORES], columns)
        first += size


@native()
def choose_targets(plan, lane, word, first):
    """Append what a word is predicted with to the lane's `first` targets; return how many there are now."""
    targets, weights, size = integers(lane[TARGETS]), floats(lane[WEIGHTS]), 4 * plan[COLUMNS]
    count = first
    if plan[PATHS]:
        nodes, labels = shorts(plan[NODES]), floats(plan[LABELS])
        for step in range(integers(plan[PATHS])[word], integers(plan[PATHS])[word + 1]):
            targets[count], weights[count] = plan[OUTPUT] + size * nodes[step], labels[step]
            count += 1
        return count
    own = plan[OUTPUT] + size * word
    targets[count], weights[count] = own, np.float32(1)
    count += 1
    for _ in range(plan[NEGATIVE]):
        row = plan[OUTPUT] + size * other_word(plan, lane)
        same = first
        while same < count and targets[same] != row:
            same += 1
        if same == count:
            targets[count], weights[count] = row, np.float32(-1)
            count += 1
        elif same > first:  # drawn twice: counts twice. The word itself is no random word.
            weights[same] -= np.float32(1)
    return count


@native()
def add_pieces(plan, lane, word, count):
    """Append the rows that a word is made of to the lane's inputs; return how many there are now."""
    inputs, size = integers(lane[INPUTS]), 4 * plan[COLUMNS]
    if not plan[PIECES]:
        inputs[count] = plan[INPUT] + size * word
        return count + 1
    rows, begins = shorts(plan[PIECE_ROWS]), integers(plan[PIECES])
    for piece in range(begins[word], begins[word + 1]):
        inputs[count] = plan[INPUT] + size * rows[piece]
        count += 1
    return count


@native()
def clear(row, count):
    """Write zeros."""
    numbers = floats(row)
    for j in range(count):
        numbers[j] = np.float32(0)


@native()
def separate(plan, lane, begin, place, end, rate):
    """Skip-gram: each neighbour of a word predicts it. Returns the number of predictions."""
    words, columns = shorts(lane[KEPT]), plan[COLUMNS]
    inputs = np.int64(0)
    for neighbour in range(begin, end):
        if neighbour != place:
            inputs = add_pieces(plan, lane, words[neighbour], inputs)
    targets = choose_targets(plan, lane, words[place], 0)
    if targets <= TILE:
        learn(plan, lane, inputs, lane[INPUTS], lane[INPUTS], targets, rate)
        return inputs
    clear(lane[DELTA], inputs * columns)
    learn(plan, lane, inputs, lane[INPUTS], lane[CHANGES], targets, rate)
    for i in range(inputs):
        add_row(integers(lane[INPUTS])[i], lane[DELTA] + 4 * columns * i, np.float32(1), columns)
    return inputs


@native()
def joined(plan, lane, begin, place, end, rate):
    """CBOW and FastText: one input, the mean of rows, for one prediction after another. Returns how many."""
    words, columns, rows = shorts(lane[KEPT]), plan[COLUMNS], integers(lane[INPUTS])
    inputs = np.int64(0)
    predictions = np.int64(0)
    for neighbour in range(begin, end):
        if (neighbour == place) != (plan[JOINED] != 0):
            inputs = add_pieces(plan, lane, words[neighbour], inputs)
    hidden, change = lane[HIDDEN], lane[DELTA]
    total = change + 4 * columns
    clear(hidden, columns)
    clear(change, 2 * columns)
    share = np.float32(1) / np.float32(inputs)
    for i in range(inputs):
        add_row(hidden, rows[i], share, columns)
    for neighbour in range(begin, end):
        if (neighbour == place) == (plan[JOINED] != 0):
            targets = choose_targets(plan, lane, words[neighbour], 0)
            learn(plan, lane, 1, lane[OWN] + 8 * HIDDEN, lane[CHANGES], targets, rate)
            # Where every row moves by as much, so does their mean: the next prediction is made with what this one
            # learned, as if the rows had been changed already.
            add_row(hidden, change, np.float32(1), columns)
            add_row(total, change, np.float32(1), columns)
            clear(change, columns)
            predictions += 1
    # Every row gets the whole gradient, as in word2vec's and fastText's programs; that of the mean is 1/inputs.
    for i in range(inputs):
        add_row(rows[i], total, np.float32(1), columns)
    return predictions


@native()
def keep_words(plan, lane, begin, end):
    """Copy a sentence's words to the lane, frequent ones left out at random; return how many there are."""
    words, kept, odds = shorts(plan[IDS]), shorts(lane[KEPT]), floats(plan[KEEP])
    count = np.int64(0)
    for place in range(begin, end):
        word = words[place]
        chance = odds[word]
        if chance >= 1 or np.float32(draw(lane) >> np.uint64(40)) * WHOLE < chance:
            kept[count] = word
            count += 1
    return count


@native()
def train_sentence(plan, lane, count, rate):
    """Train on each of a sentence's words with its neighbours; return the number of predictions."""
    predictions = np.int64(0)
    pairs = plan[PIECES] == 0 and plan[JOINED] == 0
    for place in range(count):
        reach = 1 + below(draw(lane), plan[WINDOW])
        begin, end = max(np.int64(0), place - reach), min(count, place + reach + 1)
        if end - begin < 2:
            continue
        if pairs:
            predictions += separate(plan, lane, begin, place, end, rate)
        else:
            predictions += joined(plan, lane, begin, place, end, rate)
    return predictions


def train_chunks(plan_address, lane_address):
    """Train on chunks until none is left to claim, or the plan says to stop."""
    plan, lane = integers(plan_address), integers(lane_address)
    loss = doubles(lane_address)
    first, begins = integers(plan[FIRST]), integers(plan[BEGINS])
    while integers(plan[STOP])[0] == 0:
        chunk = fetch_add(plan[NEXT], np.int64(1))
        if chunk >= plan[CHUNKS]:
            break
        naturals(lane_address)[STATE] = scramble(np.uint64(plan[SEED]) + np.uint64(chunk) * GOLDEN)
        loss[LOSS], loss[PRODUCT] = 0.0, 1.0
        rate = floats(plan[RATES])[chunk]
        predictions = np.int64(0)
        for sentence in range(first[chunk], first[chunk + 1]):
            count = keep_words(plan, lane, begins[sentence], begins[sentence + 1])
            predictions += train_sentence(plan, lane, count, rate)
        doubles(plan[LOSSES])[chunk] = loss[LOSS] - logarithm(loss[PRODUCT])
        integers(plan[PREDICTIONS])[chunk] = predictions
