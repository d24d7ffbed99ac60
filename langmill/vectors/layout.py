"""How rows of numbers lie in memory, and the entries of the tables that the machine code reads. [vectors]"""

LINE_NUMBERS = 16
"""Float32 numbers in a cache line."""


def padded(columns: int) -> int:
    """Return the next multiple of the numbers in a cache line."""
    return -(-columns // LINE_NUMBERS) * LINE_NUMBERS


# Entries of the plan. Sizes: words, numbers a row (J, padded), window, negative, whether all of a word's
# neighbours are joined into one input (CBOW), chunks, and the epoch's seed …
WORDS, COLUMNS, WINDOW, NEGATIVE, JOINED, CHUNKS, SEED = range(7)
# … addresses: next chunk; whether to stop; of each chunk its first sentence (chunks + 1,), learning rate
# (float32), loss (float64) and predictions; where sentences begin (sentences + 1,); word ids (int32); how
# probably a word is kept (float32); matrices of inputs and of targets; the table of random words (uint64) …
NEXT, STOP, FIRST, RATES, LOSSES, PREDICTIONS, BEGINS, IDS, KEEP, INPUT, OUTPUT, ALIAS = range(7, 19)
# … in hierarchical softmax (otherwise 0) where each word's path begins (words + 1,), its nodes (int32) and
# their labels (float32: 1 or -1); in FastText (otherwise 0) where each word's pieces begin (words + 1,), and
# their rows (int32).
PATHS, NODES, LABELS, PIECES, PIECE_ROWS, PLAN_ENTRIES = range(19, 25)
# Entries of a lane: its own address, and the state of its random numbers; the sum of losses and a running
# product of chances (float64's bits); addresses of a sentence's words that are kept (int32), of tables of inputs,
# of where they change, and of targets; of labels (targets + STEP,), scores (inputs, STEP) and chances (STEP,),
# all float32; of a row for the joined input, and rows for changes (inputs, J).
OWN, STATE, LOSS, PRODUCT, KEPT, INPUTS, CHANGES, TARGETS, WEIGHTS, SCORES, CHANCES = range(11)
HIDDEN, DELTA, LANE_ENTRIES = range(11, 14)
