"""Fitting a tagger of n-grams. [tasks]"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from langmill.batches.labelled import LabelledRow
from langmill.models.bag_features import Alphabet
from langmill.models.crf import CrfTagger
from langmill.models.crf_features import DIGIT, HAN, LETTER, LOWER, MARK, SIGN, SPACE, UPPER, Letters
from langmill.models.heads import HeadConfig
from langmill.tasks.bags import Fitting
from langmill.tasks.tags import TagSet, kind_of
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import TrainSettings

CRF = "crf"
"""The layout's name."""


def letter_kind(piece: bytes) -> int:
    """Return what a character is, so that units are what `tags.pieces` finds, or a byte of one that was not learned.

    By its first byte such a character is told: of Chinese, of another script, a sign; further bytes go with it.

    >>> [letter_kind(piece) == kind for piece, kind in ((b"a", LOWER), ("爱".encode(), HAN), (b"\\xe7", HAN), (b"-", SIGN))]
    [True, True, True, True]
    """
    first = piece[0]
    if len(piece) == 1 and first >= 0x80:
        if first < 0xC0:
            return MARK
        return HAN if 0xE3 <= first <= 0xE9 else SIGN if first in (0xC2, 0xE2) or first > 0xED else LETTER
    character = piece.decode()
    kind = kind_of(character)
    if kind == "word":
        cases = ((DIGIT, character.isnumeric()), (UPPER, character.isupper()), (LOWER, character.islower()))
        return next((number for number, found in cases if found), LETTER)
    return {"space": SPACE, "mark": MARK}.get(kind, HAN if character.isalpha() else SIGN)


def letters_of(tokenizer: Tokenizer) -> Letters:
    """Return what the ids of a tokenizer of characters are."""
    kinds = [
        SPACE if tokenizer.is_special(number) else letter_kind(tokenizer.piece(number))
        for number in range(tokenizer.vocabulary_size)
    ]
    return Letters(Alphabet.of(tokenizer).folded, np.array(kinds))


def fit_tagger(
    rows: Sequence[LabelledRow], head: HeadConfig, tokenizer: Tokenizer, settings: TrainSettings
) -> CrfTagger:
    """Return a tagger fitted to rows of characters."""
    from langmill.models.crf_fit import fit_crf

    return fit_crf(
        [row.ids.astype(np.int64) for row in rows],
        [np.asarray(row.target) for row in rows],
        head,
        letters=letters_of(tokenizer),
        allowed=TagSet.of(head).allowed.numpy(),
        seed=settings.seed,
    )


TAGGER = Fitting(
    "langmill_crf",
    "a conditional random field over n-grams",
    ("seed", "device", "tensorboard", "model.family", "labels.scheme", "labels.crf"),
    fit_tagger,
)
