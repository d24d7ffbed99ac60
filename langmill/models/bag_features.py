"""N-grams of words and of characters, from token ids, as 64-bit keys. [models]

Of characters' ids two kinds of units are made: words (runs of letters, or one other sign, or one Han character) and
the characters themselves. N-grams of words may stand anywhere in a text; n-grams of characters cross no white space, but
may begin or end with it, which tells prefixes from suffixes (`char_wb` in scikit-learn; Bojanowski et al. 2017,
arXiv:1607.04606, section 3.2). Another tokenizer's tokens are a word each.

A key is a hash. Keys of different n-grams are equal with a probability of about 2^-60, so that among a million of each
one in a million models has a wrong feature.

Shape letters: M tokens of all texts, N n-grams, V vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from langmill.tokens.kinds import is_split_han

if TYPE_CHECKING:
    from langmill.tokens.tokenizer import Tokenizer

Keys = NDArray[np.uint64]
Numbers = NDArray[np.int64]

SPACE, LETTER, SIGN = range(3)
"""What a token is: between words, a part of a word, a word by itself."""
STEP = np.uint64(0x9E3779B97F4A7C15)
FACTOR = np.uint64(0xD1342543DE82EF95)
"""Odd numbers: 2^64 over the golden ratio, and a multiplier of a linear congruential generator (Steele and Vigna 2021,
arXiv:2001.05304)."""


@dataclass(frozen=True)
class Alphabet:
    """What n-grams need to know of a tokenizer's ids."""

    folded: Numbers
    """The id that stands for each (V,): that of the same letter in another case or width, the lowest of them."""
    roles: Numbers
    """SPACE, LETTER or SIGN, (V,)."""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Alphabet:
        """Return what a tokenizer's tokens are; those with a use of their own ([SEP]) count as spaces."""
        size = tokenizer.vocabulary_size
        folded, roles = np.arange(size), np.full(size, SIGN)
        first: dict[str, int] = {}
        for number in range(size):
            if tokenizer.is_special(number):
                roles[number] = SPACE
            elif tokenizer.kind == "char":
                # Of a character that was not learned the bytes are read: those of ASCII are characters still.
                character = tokenizer.piece(number).decode(errors="surrogateescape")
                plain = unicodedata.normalize("NFKC", character).casefold()
                folded[number] = first.setdefault(plain, number)
                roles[number] = role_of(character)
        return cls(folded, roles)


def role_of(character: str) -> int:
    """Return what a character is; a byte that is none by itself (a surrogate here) is a part of a word.

    >>> [role_of(character) for character in ["a", "7", " ", "中", "!", chr(0xDCF0)]]
    [1, 1, 0, 2, 2, 1]
    """
    if character.isspace():
        return SPACE
    joins = (
        character.isalnum() or character == "_" or unicodedata.category(character) in ("Mn", "Mc", "Me", "Cs")
    )
    return LETTER if joins and not is_split_han(character) else SIGN


def mix(x: Keys) -> Keys:
    """Return each number as another that looks random, one to one: SplitMix64's last steps (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Units:
    """Characters or words of several texts, one after the other."""

    codes: Keys
    """A random number for each different unit, (M,)."""
    rows: Numbers
    """Which text each is of, (M,), rising."""


def characters_of(texts: Sequence[Numbers], alphabet: Alphabet) -> tuple[Units, Numbers]:
    """Return all texts' characters and their roles, with one space between words and round every text.

    The space after a text counts as its own; the first of all belongs to none.
    """
    space = len(alphabet.roles)
    between = np.array([space])
    ids = np.concatenate([between, *(part for text in texts for part in (text, between))])
    rows = np.concatenate([[0], np.repeat(np.arange(len(texts)), [len(text) + 1 for text in texts])])
    roles = np.append(alphabet.roles, SPACE)[ids]
    first = (roles != SPACE) | (np.append(SIGN, roles[:-1]) != SPACE)
    ids, rows, roles = ids[first], rows[first], roles[first]
    ids = np.where(roles == SPACE, space, np.append(alphabet.folded, space)[ids])
    return Units(mix((ids + 1).astype(np.uint64) * STEP), rows), roles


def words_of(characters: Units, roles: Numbers) -> Units:
    """Return the words that the characters make."""
    inside = roles != SPACE
    joined = (roles[1:] == LETTER) & (roles[:-1] == LETTER)
    starts = np.flatnonzero((inside & ~np.append(False, joined))[inside])
    codes, rows = characters.codes[inside], characters.rows[inside]
    if not len(starts):
        return Units(codes, rows)
    places = np.arange(len(codes)) - np.repeat(starts, np.diff(starts, append=len(codes)))
    spelt = mix(codes + places.astype(np.uint64) * STEP)
    return Units(mix(np.add.reduceat(spelt, starts)), rows[starts])


def ngrams_of(units: Units, order: int) -> tuple[Keys, NDArray[np.bool_]]:
    """Return a key for the n-gram that begins at each unit but the last, and whether it is of one text."""
    count = max(0, len(units.codes) - order + 1)
    keys = np.full(count, order, dtype=np.uint64)
    for place in range(order):
        keys = keys * FACTOR + units.codes[place : place + count]
    return mix(keys), units.rows[:count] == units.rows[order - 1 :][:count]


def word_ngrams(words: Units, order: int) -> tuple[Keys, Numbers]:
    """Return the keys (N,) of all n-grams of words and which text each is of (N,)."""
    keys, whole = ngrams_of(words, order)
    return keys[whole], words.rows[: len(keys)][whole]


def piece_ngrams(characters: Units, roles: Numbers, order: int) -> tuple[Keys, Numbers]:
    """Return the keys (N,) of all n-grams of at least two characters within words, and their texts (N,)."""
    keys, _ = ngrams_of(characters, order)
    count = len(keys)
    blanks = np.append(0, np.cumsum(roles == SPACE))
    inner = blanks[order - 1 :][:count] - blanks[1 : count + 1]  # spaces between the first and the last
    only = (roles[:count] == SPACE) & (roles[1 : count + 1] == SPACE) if order == 2 else False
    within = (inner == 0) & ~np.asarray(only)
    return keys[within], characters.rows[1 : count + 1][within]


def all_ngrams(
    texts: Sequence[Numbers], alphabet: Alphabet, words: int, pieces: int
) -> list[tuple[Keys, Numbers]]:
    """Return keys and texts of n-grams of 1 to `words` words, and of 2 to `pieces` characters, in two sets."""
    characters, roles = characters_of(texts, alphabet)
    whole = words_of(characters, roles)
    blocks = [
        [word_ngrams(whole, order) for order in range(1, words + 1)],
        [piece_ngrams(characters, roles, order) for order in range(2, pieces + 1)],
    ]
    none = (np.zeros(0, np.uint64), np.zeros(0, np.int64))
    return [tuple(map(np.concatenate, zip(none, *block))) for block in blocks]  # type: ignore[misc]
