"""Which model a tagger is where none is named, and how one of n-grams is fitted. [tasks]"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from langmill.batches.labelled import LabelledRow
from langmill.core.config import flatten, nest, resolve
from langmill.core.errors import ConfigError
from langmill.core.log import say
from langmill.models.bag_features import Alphabet
from langmill.models.crf import CrfTagger
from langmill.models.crf_features import DIGIT, HAN, LETTER, LOWER, MARK, SIGN, SPACE, UPPER, Letters
from langmill.models.heads import HeadConfig
from langmill.tasks.bags import Fitting, say_stepwise, unfollowed
from langmill.tasks.tags import TagSet, kind_of
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import TrainSettings

CRF = "crf"
"""The layout's name."""
RECIPES: Mapping[str, Mapping[str, Any]] = {
    CRF: {"labels.crf": "yes"},
    "lstm": {
        "model.layers": 1,
        "model.width": 128,
        "model.dropout": 0.4,
        "tokenizer": "char",
        "labels.crf": "yes",
        "batch": 32,
    },
}
"""What a model has from scratch where nothing else is asked for."""
WITHOUT_CRF = ("labels.smoothing", "labels.focus")
"""Settings of a loss token by token."""


def letter_kind(piece: bytes) -> int:
    """Return what a character is, so that units are what `tags.pieces` finds, or a byte of one that was not learned.

    By its first byte such a character is told, well enough: of Chinese, of another script, an accent, a sign; further bytes
    go with it.

    >>> [letter_kind(piece) == kind for piece, kind in ((b"a", LOWER), ("爱".encode(), HAN), (b"\\xe7", HAN), (b"-", SIGN))]
    [True, True, True, True]
    """
    first = piece[0]
    if len(piece) == 1 and first >= 0x80:
        if first < 0xC0 or first == 0xCC:
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


def choose_model(settings: TrainSettings) -> TrainSettings:
    """Return the settings with the model that does best from scratch where none is asked for (docs/log.md).

    That is a CRF over n-grams, or where settings are given that it has no use for an LSTM that reads characters: names
    are told by how they are spelt. A Transformer needs more text than a set of a few thousand sentences has, or a checkpoint.

    Raises ConfigError for --model crf without a CRF.
    """
    family = settings.model.family
    if settings.from_checkpoint or family not in ("auto", *RECIPES):
        return settings
    given = flatten(settings.model_dump(exclude_defaults=True))
    if family == "auto":
        idle = unfollowed(settings, TAGGER.followed)
        idle += ["--labels.crf no"] if settings.labels.crf == "no" else []
        family = "lstm" if idle else CRF
        if idle:
            say_stepwise("an LSTM that reads characters", idle, TAGGER, CRF)
        else:
            say(f"model auto: {TAGGER.what}; or name another with --model, or begin --from one")
    if family == CRF and settings.labels.crf == "no":
        raise ConfigError(f"--model {CRF} is a CRF; leave out --labels.crf no, or name another model")
    chosen = {name: value for name, value in RECIPES[family].items() if name not in given}
    if family != CRF and any(name in given for name in WITHOUT_CRF):
        chosen.pop("labels.crf", None)
    return resolve(TrainSettings, nest({**flatten(settings.model_dump()), **chosen, "model.family": family}))
