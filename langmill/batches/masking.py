"""Which tokens a masked language model has to guess, and what it sees in their place. [batches]

Shape letters: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from langmill.batches.batch import TokenBatch
from langmill.text.segmentation import words
from langmill.tokens.tokenizer import Tokenizer

Unit = Literal["token", "word", "span"]
IGNORED = -100
LONGEST_SPAN, SPAN_STOP = 10, 0.2
"""A span's length in words is geometric with this chance to end, but at most so long (Joshi et al. 2020,
arXiv:1907.10529, section 3.1): 3.8 on average."""


@dataclass(frozen=True)
class Mask:
    """How tokens are hidden (Devlin et al. 2019, arXiv:1810.04805, section 3.1)."""

    share: float = 0.15
    """Of the tokens that are to be guessed."""
    unit: Unit = "word"
    """What is hidden together: a token, a word, or a span of words."""
    masked: float = 0.8
    """Of the tokens to be guessed, the share that the mask token replaces."""
    replaced: float = 0.1
    """The share that a token drawn from the vocabulary replaces; the rest stays as it is."""


class Masker:
    """Hides tokens of packed rows."""

    def __init__(self, tokenizer: Tokenizer, mask: Mask) -> None:
        assert tokenizer.mask_id is not None
        self.mask, self.mask_id = mask, tokenizer.mask_id
        size = tokenizer.vocabulary_size
        self.special = np.array([tokenizer.is_special(number) for number in range(size)])
        self.ordinary = np.flatnonzero(~self.special)
        self.pieces = [b"" if self.special[number] else tokenizer.piece(number) for number in range(size)]
        self.inner: NDArray[np.bool_] | None = None
        """For WordPiece, whose tokens do not tell of the spaces: which of them continue a word."""
        if tokenizer.kind == "wordpiece":
            self.inner = np.array([tokenizer.token(number).startswith("##") for number in range(size)])

    def word_numbers(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the word that each token of a row (T,) belongs to; numbers never fall."""
        if self.mask.unit == "token":
            return np.arange(len(ids))
        if self.inner is not None:
            # A row may begin within a word.
            return np.cumsum(~self.inner[ids]) - (~self.inner[ids[0]]).astype(int)
        parts = [self.pieces[number] for number in ids]
        ends = np.cumsum([len(part) for part in parts])
        text = b"".join(parts).decode("utf-8", "replace")
        # Where words begin, in bytes. A space belongs to the word after it, as it does in a token.
        begins, place, spaced = [], 0, False
        for begin, end in words(text):
            unit = text[begin:end]
            if not spaced:
                begins.append(place)
            spaced = unit.isspace()
            place += len(unit.encode("utf-8", "replace")) if "\ufffd" not in unit else 1
        starts = ends - [len(part) for part in parts]
        numbers = np.searchsorted(np.asarray(begins or [0]), starts, side="right")
        # A special token is a word by itself: it has no bytes.
        alone = self.special[ids]
        return np.cumsum(np.diff(numbers, prepend=numbers[:1]) + alone + np.append(False, alone[:-1]) > 0)

    def __call__(self, batch: TokenBatch, generator: np.random.Generator) -> TokenBatch:
        """Return the rows with tokens hidden, and those tokens as targets."""
        ids = batch.ids.numpy()
        chosen = np.stack([self.choose(row, generator) for row in ids])  # (B, T)
        fate = generator.random(ids.shape)
        seen = np.where(chosen & (fate < self.mask.masked), self.mask_id, ids)
        drawn = generator.choice(self.ordinary, ids.shape)
        replaced = chosen & (fate >= self.mask.masked) & (fate < self.mask.masked + self.mask.replaced)
        seen = np.where(replaced, drawn, seen)
        targets = np.where(chosen, ids, IGNORED)
        return TokenBatch(torch.from_numpy(seen), torch.from_numpy(targets), batch.starts, batch.segments)

    def choose(self, ids: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.bool_]:
        """Return which tokens of a row (T,) are to be guessed: at least one, special tokens never."""
        numbers = self.word_numbers(ids)
        open_words = np.unique(numbers[~self.special[ids]])
        if not len(open_words):
            return np.zeros(len(ids), bool)
        sizes = np.bincount(numbers, minlength=int(numbers[-1]) + 1)
        wanted = max(1, round(self.mask.share * int((~self.special[ids]).sum())))
        taken: set[int] = set()
        count = 0
        for begin in generator.permutation(len(open_words)):
            if count >= wanted:
                break
            length = 1
            if self.mask.unit == "span":
                length = min(int(generator.geometric(SPAN_STOP)), LONGEST_SPAN)
            for word in open_words[begin : begin + length].tolist():
                if word not in taken and count < wanted:
                    taken.add(word)
                    count += int(sizes[word])
        return np.isin(numbers, np.fromiter(taken, np.int64)) & ~self.special[ids]


def most_common(tokens: Sequence[int] | NDArray[np.integer], limit: int = 1 << 22) -> int:
    """Return the id that occurs most among the first `limit` tokens: what a guess without context would say."""
    return int(np.bincount(np.asarray(tokens[:limit], np.int64)).argmax())
