"""Questions to word vectors: similar words, analogies, the odd one out, likeness. [vectors]

Likeness is the cosine of two vectors. Every question takes words that are not in the vocabulary too, where the
vectors know the pieces of words.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import DataError
from langmill.vectors.subwords import hashed_pieces, sums_of_rows
from langmill.vectors.table import WordVectors, unit

Method = Literal["add", "multiply"]
"""add: 3CosAdd. multiply: 3CosMul."""
EPSILON = 0.001
"""Keeps 3CosMul from dividing by zero, as in its paper; gensim has 1e-6."""
GUESSED_AMONG = 50_000
"""Most frequent words among which one of like spelling is looked for."""


class Scored(NamedTuple):
    """A word and its score."""

    word: str
    score: float


def vectors_of(vectors: WordVectors, words: Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors of words (words, width): a word that is not known has the mean of its pieces.

    Raises DataError naming every word that has no vector, and words of like spelling.
    """
    unknown = sorted({word for word in words if word not in vectors.index})
    made = made_of_pieces(vectors, unknown)
    if missing := [word for word in unknown if word not in made]:
        raise DataError("; ".join(unknown_word(vectors, word) for word in missing))
    return np.stack([made[word] if word in made else vectors.matrix[vectors.index[word]] for word in words])


def made_of_pieces(vectors: WordVectors, words: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the mean of the pieces of those words of which any piece has a vector."""
    if vectors.subwords is None or not words:
        return {}
    pieces = vectors.subwords
    begins, buckets = hashed_pieces(words, pieces.shortest, pieces.longest, len(pieces.matrix))
    means = sums_of_rows(pieces.matrix, begins, buckets) / np.maximum(1, np.diff(begins))[:, None]
    return {word: mean for word, mean in zip(words, means.astype(np.float32), strict=True) if mean.any()}


def vector_of(vectors: WordVectors, word: str) -> NDArray[np.float32]:
    """Return the vector of one word; see `vectors_of`."""
    return vectors_of(vectors, [word])[0]


def unknown_word(vectors: WordVectors, word: str) -> str:
    """Say that a word has no vector, and which words are spelled alike."""
    folded = word.casefold()
    alike = [known for known in vectors.words if known.casefold() == folded][:3]
    if not alike:
        among = [known for known in vectors.words[:GUESSED_AMONG] if abs(len(known) - len(word)) < 3]
        alike = difflib.get_close_matches(word, among, n=3, cutoff=0.6)
    hint = f"; did you mean {', '.join(alike)}?" if alike else ""
    return f"{word!r} is not among the {len(vectors.words):,} words of these vectors{hint}"


def similarity(vectors: WordVectors, one: str, other: str) -> float:
    """Return the cosine of two words, from -1 to 1; 1 minus it is their distance."""
    a, b = unit(vectors_of(vectors, [one, other]))
    return float(a @ b)


def most_similar(
    vectors: WordVectors,
    positive: Sequence[str],
    negative: Sequence[str] = (),
    *,
    top: int = 10,
    method: Method = "add",
) -> list[Scored]:
    """Return the words nearest to the positive and farthest from the negative ones, without those named.

    add: the cosine with the sum of the unit vectors, negative ones subtracted (3CosAdd: Mikolov, Yih and
    Zweig 2013, section 4). multiply: the product of the cosines with the positive words, moved to 0 to 1, over
    that of the negative ones (3CosMul: Levy and Goldberg 2014, equation 4).
    """
    if not positive and not negative:
        raise DataError("no word given; name at least one")
    if top < 1:
        raise DataError(f"top: at least 1 word, given {top}")
    given = unit(vectors_of(vectors, [*positive, *negative]))
    cosines = vectors.units @ given.T  # (words, given)
    near, far = cosines[:, : len(positive)], cosines[:, len(positive) :]
    if method == "add":
        middle = near.sum(1) - far.sum(1)
        length = float(np.linalg.norm(given[: len(positive)].sum(0) - given[len(positive) :].sum(0)))
        scores = middle / length if length else middle
    else:
        scores = ((1 + near) / 2).prod(1) / (((1 + far) / 2).prod(1) + EPSILON if len(negative) else 1)
    return best(vectors, scores, top=top, without={*positive, *negative})


def best(vectors: WordVectors, scores: NDArray[np.float32], *, top: int, without: set[str]) -> list[Scored]:
    """Return the words of the highest scores, the highest first and the more frequent of equal ones."""
    count = min(len(scores), top + len(without))
    lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
    rows = np.flatnonzero(scores >= lowest)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    found = (Scored(vectors.words[row], float(scores[row])) for row in rows.tolist())
    return [each for each in found if each.word not in without][:top]


def analogy(
    vectors: WordVectors, a: str, b: str, c: str, *, top: int = 10, method: Method = "add"
) -> list[Scored]:
    """Return what is to `c` as `b` is to `a`: man, king and woman ask for queen."""
    return most_similar(vectors, [b, c], [a], top=top, method=method)


def odd_one_out(vectors: WordVectors, words: Sequence[str]) -> list[Scored]:
    """Return words with their cosine to the mean of all their unit vectors, the odd one first."""
    if len(words) < 3:
        raise DataError(f"which is the odd one of {len(words)}? Name at least three words")
    rows = unit(vectors_of(vectors, words))
    scores = rows @ unit(rows.mean(0))
    return [Scored(words[place], float(scores[place])) for place in np.argsort(scores, kind="stable")]
