"""Packed rows in the layout of sentence pairs: `[CLS] a [SEP] b [SEP]`. [batches]

Shape letters: B rows, T tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from langmill.batches.batch import TokenBatch
from langmill.tokens.tokenizer import Tokenizer

STOPS = (".", "!", "?", "。", "！", "？", "\n")
"""What ends a sentence, for a token that ends with it."""
ENDS_IN_A_PAIR = 3


def sentence_ends(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Return which tokens end a sentence, (vocabulary,)."""
    pieces = (tokenizer.piece(number).decode("utf-8", "replace") for number in range(len(tokenizer)))
    return np.array([piece.endswith(STOPS) for piece in pieces])


class PairLayout:
    """Makes two segments of every document in a packed row (Devlin et al. 2019, section 3.1, figure 2).

    A document's part of the row is cut in two behind a sentence, or anywhere if there is but one, so that b
    follows a in the text; which of a text's halves is which is all that the segments say. Unlike Devlin et al.
    no b is taken from elsewhere and nothing is predicted about the pair, which brings no better models
    (Liu et al. 2019, arXiv:1907.11692, section 4.2).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.cls_id is not None and tokenizer.sep_id is not None
        self.cls, self.sep = tokenizer.cls_id, tokenizer.sep_id
        self.filler = self.sep if tokenizer.pad_id is None else tokenizer.pad_id
        self.separator = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
        self.ends = sentence_ends(tokenizer)

    def __call__(self, batch: TokenBatch, generator: np.random.Generator) -> TokenBatch:
        """Return rows of the same length; the three tokens of each pair crowd out the row's last ones."""
        ids = batch.ids.numpy()
        starts = np.zeros_like(ids) if batch.starts is None else batch.starts.numpy()
        made = [self.row(each, begins, generator) for each, begins in zip(ids, starts)]
        rows, segments, firsts = (torch.from_numpy(np.stack(part)) for part in zip(*made))
        return TokenBatch(rows, rows, firsts if firsts.any() else None, segments)

    def row(
        self, ids: NDArray[np.int64], starts: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return tokens, segments and where each token's document begins, each (T,), for a row of documents."""
        length, place = len(ids), 0
        row = np.full(length, self.filler)
        segments, firsts = np.zeros(length, np.int64), np.arange(length)  # what fills up is by itself
        for text in np.split(ids, np.flatnonzero(np.diff(starts)) + 1):
            text = text[int(text[0] == self.separator) :][: max(0, length - place - ENDS_IN_A_PAIR)]
            if len(text) < 2:
                continue  # nothing that could be cut in two
            cut = self.cut(text, generator)
            pair = [self.cls, *text[:cut], self.sep, *text[cut:], self.sep]
            end = place + len(pair)
            row[place:end], firsts[place:end] = pair, place
            segments[place + cut + 2 : end] = 1
            place = end
        return row, segments, firsts

    def cut(self, text: NDArray[np.int64], generator: np.random.Generator) -> int:
        """Return how many tokens of a text of two or more come first."""
        places = np.flatnonzero(self.ends[text[:-1]]) + 1
        return int(generator.choice(places)) if len(places) else int(generator.integers(1, len(text)))
