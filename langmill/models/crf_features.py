"""What a tagger of n-grams looks at: words, parts and shapes of words, and their neighbours, as 64-bit keys. [models]

Of characters' ids units are made, of which each gets a tag: a run of letters and digits, a single Chinese or Japanese
character, a single sign. A unit has attributes (how it is spelt, its first and last letters, its shape), and a feature is
some of these of one unit or of several around it, by a template: `lower@-1 lower@0` is a unit with the one before it.
After Ratinov and Roth 2009, "Design Challenges and Misconceptions in Named Entity Recognition", section 3. Chinese has the
same templates: n-grams of words are n-grams of characters there.

Keys are hashes as in `bag_features`. Shape letters: M tokens of all texts, P units, K templates, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import ConfigError
from langmill.models.bag_features import FACTOR, STEP, Keys, Numbers, mix

SPACE, MARK, LOWER, UPPER, LETTER, DIGIT, HAN, SIGN = range(8)
"""What a token is: a space, a mark on what is before it, four kinds of which words are made, two that stand alone."""
REACH = 3
"""How many units to either side a template may look."""
AFFIX = 4
"""Letters of the longest prefix and suffix."""
FAR = 3
"""Places from a text's begin or end that are told apart."""
ATTRIBUTES = (
    *("word", "lower", "shape", "short", "space", "left", "right"),
    *(f"{side}{size}" for size in range(1, AFFIX + 1) for side in ("prefix", "suffix")),
)
"""| name             | of a unit                                                             |
|------------------|-----------------------------------------------------------------------|
| word, lower      | how it is spelt, and in lower case                                    |
| prefix1, suffix1 | its first and last letters in lower case, if it has more              |
| shape, short     | the kinds of its letters (Xxx00), and each run of a kind once (Xx0)   |
| space            | whether white space is before it                                      |
| left, right      | how many units from the text's begin and end, as far as `FAR`         |"""
TEMPLATES = (
    "word@0",
    *(f"lower@{place}" for place in range(-REACH, REACH + 1)),
    *("lower@-2 lower@-1", "lower@-1 lower@0", "lower@0 lower@1", "lower@1 lower@2", "lower@-1 lower@1"),
    *("lower@-2 lower@0", "lower@0 lower@2", "lower@-2 lower@1", "lower@-1 lower@2"),
    *("lower@-2 lower@-1 lower@0", "lower@-1 lower@0 lower@1", "lower@0 lower@1 lower@2"),
    *(f"{side}{size}@0" for size in range(1, AFFIX + 1) for side in ("prefix", "suffix")),
    *("shape@-1", "shape@0", "shape@1", *(f"short@{place}" for place in range(-2, 3))),
    *("short@-1 short@0", "short@0 short@1", "suffix3@-1 suffix3@0", "suffix3@0 suffix3@1"),
    *(
        "lower@-1 short@0",
        "short@0 lower@1",
        "lower@-1 short@0 lower@1",
        "short@-1 lower@0",
        "lower@0 short@1",
    ),
    *("short@-2 short@-1 short@0", "short@-1 short@0 short@1", "short@0 short@1 short@2"),
    *("space@0", "left@0", "right@0", "left@0 short@0", "right@0 short@0"),
)
"""What is looked at; chosen on a part held out of the training files (docs/log.md)."""
PART = re.compile(r"([a-z]+[0-9]?)@(-?[0-9])")
Template = tuple[tuple[str, int], ...]
"""Attributes, and of which unit each is, counted from the one that is tagged."""


def read_template(text: str) -> Template:
    """Return a template, or raise ConfigError.

    >>> read_template("lower@-1 lower@0")
    (('lower', -1), ('lower', 0))
    """
    parts = [PART.fullmatch(part) for part in text.split(" ")]
    found = tuple((part[1], int(part[2])) for part in parts if part)
    if len(found) < len(parts) or any(name not in ATTRIBUTES or abs(place) > REACH for name, place in found):
        raise ConfigError(
            f"template {text!r} is not known; it must be attributes such as lower@-1 between spaces, of"
            f" {', '.join(ATTRIBUTES)}, from -{REACH} to {REACH}"
        )
    return found


@dataclass(frozen=True)
class Letters:
    """What units need to know of a tokenizer's ids."""

    folded: Numbers
    """The id that stands for each (V,): see `bag_features.Alphabet`."""
    kinds: Numbers
    """SPACE to SIGN, (V,)."""


@dataclass(frozen=True)
class Units:
    """What is tagged in several texts, one after the other."""

    begins: Numbers
    """The token that each begins with, (P,)."""
    owners: Numbers
    """The unit of each token, (M,); -1: it is a space."""
    places: Numbers
    """Where each stands in a row in which `REACH` blanks are round every text, (P,)."""
    starts: Numbers
    """Where each text's units begin, (texts + 1,)."""
    attributes: dict[str, Keys]
    """(P,) each; 0: it has none."""


def spell(codes: Keys, starts: Numbers) -> Keys:
    """Return a key for each run of codes (N,), which begin at `starts` and fill all of it."""
    if not len(starts):
        return codes
    places = np.arange(len(codes)) - np.repeat(starts, np.diff(starts, append=len(codes)))
    return mix(np.add.reduceat(mix(codes + places.astype(np.uint64) * STEP), starts))


def coded(numbers: Numbers) -> Keys:
    """Return a random key for each number from 0, none of them 0."""
    return mix((numbers + 1).astype(np.uint64) * STEP)


def begins_unit(kinds: Numbers) -> NDArray[np.bool_]:
    """Return at which of some tokens (N,), the first of them a space, a unit begins.

    >>> begins_unit(np.array([SPACE, UPPER, MARK, LOWER, SIGN, SIGN, SPACE, DIGIT])).nonzero()[0].tolist()
    [1, 4, 5, 7]
    """
    before = np.append(SPACE, kinds[:-1])
    marked = np.maximum.accumulate(np.where(kinds != MARK, np.arange(len(kinds)), 0))
    below = np.append(SPACE, kinds[marked][:-1])  # the kind of what is before, or of what its marks are on
    word, after_word = ((each >= LOWER) & (each <= DIGIT) for each in (kinds, below))
    return (kinds != SPACE) & ~((kinds == MARK) & (before != SPACE)) & ~(word & after_word)


def units_of(texts: Sequence[Numbers], letters: Letters) -> Units:
    """Return the units of texts of token ids, with their attributes."""
    space = len(letters.kinds)  # stands before each text
    lengths = np.array([len(text) for text in texts], np.int64)
    ids = np.concatenate([part for text in texts for part in (np.array([space]), text)])
    rows = np.repeat(np.arange(len(texts)), lengths + 1)
    kinds = np.append(letters.kinds, SPACE)[ids]
    begins = begins_unit(kinds)
    own = np.ones(len(ids), np.bool_)
    own[np.cumsum(lengths + 1) - lengths - 1] = False
    owners = np.where(kinds == SPACE, -1, np.cumsum(begins) - 1)[own]
    inside = np.flatnonzero(kinds != SPACE)
    starts = np.flatnonzero(begins[inside])
    first, row = np.flatnonzero(begins), rows[begins]
    bounds = np.searchsorted(row, np.arange(len(texts) + 1))
    order = np.arange(len(first)) - bounds[row]
    attributes = spellings(ids[inside], kinds[inside], starts, letters)
    attributes["space"] = coded((kinds[first - 1] == SPACE).astype(np.int64))
    attributes["left"] = coded(np.minimum(order, FAR))
    attributes["right"] = coded(np.minimum(bounds[row + 1] - 1 - bounds[row] - order, FAR))
    return Units(first - row - 1, owners, np.arange(len(first)) + REACH * (row + 1), bounds, attributes)


def spellings(ids: Numbers, kinds: Numbers, starts: Numbers, letters: Letters) -> dict[str, Keys]:
    """Return how units look that begin at `starts` (P,) in characters (N,)."""
    lower, shape = coded(letters.folded[ids]), coded(kinds)
    lengths = np.diff(starts, append=len(ids))
    ends = starts + lengths
    new = np.append(True, kinds[1:] != kinds[:-1])[: len(ids)]
    new[starts] = True
    found = {
        "word": spell(coded(ids), starts),
        "lower": spell(lower, starts),
        "shape": spell(shape, starts),
        "short": spell(shape[new], np.cumsum(new)[starts] - 1),
    }
    prefix, suffix = np.zeros((2, len(starts)), np.uint64)
    for size in range(1, AFFIX + 1):
        longer = lengths > size
        prefix = prefix * FACTOR + lower[np.minimum(starts + size - 1, len(ids) - 1)]
        suffix = suffix * FACTOR + lower[np.maximum(ends - size, 0)]
        found[f"prefix{size}"] = np.where(longer, mix(prefix), np.uint64(0))
        found[f"suffix{size}"] = np.where(longer, mix(suffix), np.uint64(0))
    return found


def template_keys(units: Units, templates: Sequence[Template]) -> Keys:
    """Return a key for each feature (P, K) of units; 0: it has none. What is outside the text is one blank unit."""
    size = len(units.places) + REACH * (len(units.starts) + 1)
    spread: dict[str, Keys] = {}
    for name, values in units.attributes.items():
        spread[name] = np.full(size, STEP, np.uint64)
        spread[name][units.places] = values
    keys = np.empty((len(units.places), len(templates)), np.uint64)
    for number, template in enumerate(templates):
        key = np.full(len(keys), number + 1, np.uint64)
        none = np.zeros(len(keys), np.bool_)
        for name, place in template:
            part = spread[name][units.places + place]
            none |= part == 0
            key = key * FACTOR + mix(part)
        keys[:, number] = np.where(none, np.uint64(0), mix(key))
    return keys
