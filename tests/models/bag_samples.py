"""A few labelled texts of two languages, and how they are read."""

from __future__ import annotations

import numpy as np
import torch

from langmill.models.bag_features import Alphabet
from langmill.tokens.train import train_tokenizer

PRAISE = ("great", "lovely", "好 great", "很好", "太棒了")
BLAME = ("awful", "boring", "很脏", "差劲", "awful 脏")
THINGS = ("movie", "房间", "film", "酒店", "hotel room", "服务")
LABELS = ("good 😀", "bad", "other")
TEXTS = [
    *(f"a {word} {thing}" for word in PRAISE for thing in THINGS),
    *(f"a {word} {thing}" for word in BLAME for thing in THINGS),
    *(f"the score was {number} to {other}" for number in ("two", "three", "六") for other in range(10)),
]


def targets() -> np.ndarray:
    """Return the number of each text's label."""
    return np.repeat([0, 1, 2], 30)


def read(texts, learned=None):
    """Return texts' token ids, and what the ids are."""
    tokenizer = train_tokenizer(learned or texts or TEXTS, kind="char")
    rows = [np.array(row, dtype=np.int64) for row in tokenizer.encode_batch(list(texts))]
    return rows, Alphabet.of(tokenizer)


def padded(rows, extra: int = 0, filler: int = 0):
    """Return rows as a batch, and where they are not padding."""
    width = max(map(len, rows)) + extra
    ids = torch.full((len(rows), width), filler)
    valid = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.from_numpy(row)
        valid[number, : len(row)] = True
    return ids, valid
