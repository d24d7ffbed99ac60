"""Scores of word vectors against what people say: similarity of pairs, and analogies. [vectors]

Files are those that the field shares, in their own form or as tab-separated values:

    pairs        two words and a score a line (WordSim-353, SimLex-999, wordsim-240), with or without a header
    analogies    four words a line under `: section` (questions-words.txt), or section and four words with tabs

A word that the vectors do not know as it is written is looked up in lower case. What has no vector is counted
and left out of the score, as is the custom; the coverage says how much that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import DataError
from langmill.metrics.association import share_interval, spearman, spearman_interval
from langmill.text.streams import text_lines
from langmill.vectors.query import EPSILON, made_of_pieces
from langmill.vectors.table import WordVectors, unit

VOCABULARY_BLOCK = 4096
QUESTION_BLOCK = 128
"""Together these fit into a processor's cache."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of words and what people score their likeness."""

    name: str
    pairs: list[tuple[str, str]]
    scores: list[float]


@dataclass(frozen=True)
class Questions:
    """Analogies: a is to b as c is to d."""

    name: str
    sections: list[str]
    """Of each question."""
    words: list[tuple[str, str, str, str]]


@dataclass(frozen=True)
class PairsResult:
    """How well cosines follow people's scores."""

    name: str
    spearman: float
    """Rank correlation with people's scores over the pairs that have vectors; NaN with fewer than two."""
    low: float
    high: float
    """Bounds of its 95 % interval."""
    pairs: int
    scored: int
    """Pairs both of whose words have a vector."""
    from_pieces: int
    """Scored pairs that have a word whose vector comes from its pieces alone."""
    reference: str


@dataclass(frozen=True)
class SectionResult:
    """How many analogies of a section are solved."""

    section: str
    questions: int
    scored: int
    """Questions all of whose words are in the vocabulary."""
    add: int
    """Solved by 3CosAdd."""
    multiply: int
    """Solved by 3CosMul."""


@dataclass(frozen=True)
class AnalogiesResult:
    """How many analogies are solved, by section and in all."""

    name: str
    sections: list[SectionResult]
    total: SectionResult
    add_interval: tuple[float, float]
    """95 % interval of the share that 3CosAdd solves."""
    multiply_interval: tuple[float, float]
    vocabulary: int
    """Words among which the answer was sought."""
    reference: str


REFERENCES = {
    "wordsim-?353|ws-?353": "skip-gram, 300 numbers, 6 G words of Wikipedia and Gigaword: 0.628;"
    " GloVe on the same: 0.658 (Pennington et al. 2014, table 3)",
    "simlex": "skip-gram, 1 G words of Wikipedia: 0.37 (the set's own page, fh295.github.io/simlex.html)",
    "google|questions-words": "skip-gram, 300 numbers, 6 G words of Wikipedia and Gigaword: 69.1 % of all 19,544;"
    " GloVe on the same: 71.7 % (Pennington et al. 2014, table 2)",
}
"""What is published of a set, by its file's name. Small corpora stay far below."""


def reference_of(name: str, chance: str) -> str:
    """Return what a score is to be seen beside."""
    found = [text for pattern, text in REFERENCES.items() if re.search(pattern, name.lower())]
    return "; ".join([*found, f"chance: {chance}"])


def score(
    vectors: WordVectors, test: Pairs | Questions, *, restrict: int | None = None
) -> PairsResult | AnalogiesResult:
    """Score vectors on pairs or analogies.

    restrict: seek answers of analogies only among so many most frequent words, and count questions with
    others as not covered.
    """
    if isinstance(test, Pairs):
        return score_pairs(vectors, test)
    return score_analogies(vectors, test, restrict=restrict)


def read_test(path: Path | str) -> Pairs | Questions:
    """Read a file of pairs or of analogies; see the head of this module."""
    path = Path(path)
    rows: list[tuple[int, list[str]]] = []
    separator: str | None = None
    for number, text, reason, _ in text_lines(path, encoding="utf-8"):
        if reason:
            raise DataError(
                f"{path}:{number}: {reason}; expected a set of pairs or analogies: UTF-8 text with two words and a"
                " score, or four words, a line"
            )
        if not rows:
            separator = "\t" if "\t" in text else "," if text.count(",") > 1 else None
        if text.strip():
            rows.append((number, [part.strip() for part in text.strip().split(separator)]))
    if not rows:
        raise DataError(f"{path}: is empty; expected pairs with scores, or analogies")
    if not rows[0][1][0].startswith(":"):
        for column in (2, 3):  # of the first line, or of the second where that is a header
            if any(len(row) > column and number_of(row[column]) is not None for _, row in rows[:2]):
                return read_pairs(path, rows, column)
    return read_questions(path, rows)


def number_of(text: str) -> float | None:
    """Return the finite number that a text is, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def read_pairs(path: Path, rows: list[tuple[int, list[str]]], column: int) -> Pairs:
    """Read pairs, their scores being in a column."""
    pairs, scores = [], []
    for place, (number, row) in enumerate(rows):
        score = number_of(row[column]) if len(row) > column else None
        if score is None and place == 0 and len(row) > column:
            continue  # a header
        if score is None or not row[0] or not row[1]:
            found = " ".join(row)[:60]
            raise DataError(f"{path}:{number}: expected two words and a score, found {found!r}")
        pairs.append((row[0], row[1]))
        scores.append(score)
    return Pairs(path.name, pairs, scores)


def read_questions(path: Path, rows: list[tuple[int, list[str]]]) -> Questions:
    """Read analogies."""
    section, sections, words = "", [], []
    for place, (number, row) in enumerate(rows):
        if row[0].startswith(":"):
            section = " ".join(row)[1:].strip()
            continue
        if place == 0 and row[1:] == ["a", "b", "c", "d"]:
            continue
        if len(row) not in (4, 5) or not all(row[-4:]):
            found = " ".join(row)[:60]
            raise DataError(
                f"{path}:{number}: expected four words, or a section and four words with tabs between them (or, in a"
                f" file of pairs, two words and a score), found {found!r}"
            )
        a, b, c, d = row[-4:]
        sections.append(row[0] if len(row) == 5 else section)
        words.append((a, b, c, d))
    if not words:
        raise DataError(f"{path}: holds no analogy")
    return Questions(path.name, sections, words)


def score_pairs(vectors: WordVectors, test: Pairs) -> PairsResult:
    """Correlate the cosines of pairs with people's scores."""
    known = {
        word: vectors.matrix[row]
        for word, row in rows_of(vectors, (w for p in test.pairs for w in p)).items()
    }
    unknown = sorted({word for pair in test.pairs for word in pair if word not in known})
    lower = made_of_pieces(vectors, sorted({word.lower() for word in unknown}))
    made = {word: lower[word.lower()] for word in unknown if word.lower() in lower}
    table = known | made
    scored = [place for place, pair in enumerate(test.pairs) if pair[0] in table and pair[1] in table]
    left, right = (
        unit(np.array([table[test.pairs[place][side]] for place in scored]).reshape(-1, vectors.width))
        for side in (0, 1)
    )
    correlation = spearman(np.einsum("pd,pd->p", left, right), [test.scores[place] for place in scored])
    low, high = spearman_interval(correlation, len(scored))
    pieces = sum(any(word in made for word in test.pairs[place]) for place in scored)
    reference = reference_of(test.name, "0")
    return PairsResult(test.name, correlation, low, high, len(test.pairs), len(scored), pieces, reference)


def rows_of(vectors: WordVectors, words: Iterable[str]) -> dict[str, int]:
    """Return the rows of the words that the vocabulary has, as they are written or in lower case."""
    index = vectors.index
    found = {word: index.get(word, index.get(word.lower(), -1)) for word in words}
    return {word: row for word, row in found.items() if row >= 0}


def score_analogies(vectors: WordVectors, test: Questions, *, restrict: int | None = None) -> AnalogiesResult:
    """Solve analogies by 3CosAdd and 3CosMul; the words of the question are no answers."""
    vocabulary = min(restrict or len(vectors.words), len(vectors.words))
    rows = rows_of(vectors, {word for words in test.words for word in words})
    rows = {word: row for word, row in rows.items() if row < vocabulary}
    scored = np.array([all(word in rows for word in words) for words in test.words])
    asked = [words for words, there in zip(test.words, scored, strict=True) if there]
    questions = np.array([[rows[word] for word in words] for words in asked], np.int64).reshape(-1, 4)
    solved = np.zeros((len(test.words), 2), bool)
    solved[scored] = solve(vectors.units[:vocabulary], questions[:, :3]) == questions[:, 3:]
    names, place = np.unique(test.sections, return_inverse=True)
    order = sorted(range(len(names)), key=lambda number: int(np.argmax(place == number)))
    sections = [section_of(str(names[number]), place == number, scored, solved) for number in order]
    total = section_of("all", np.ones(len(scored), bool), scored, solved)
    return AnalogiesResult(
        test.name,
        sections,
        total,
        share_interval(total.add, total.scored),
        share_interval(total.multiply, total.scored),
        vocabulary,
        reference_of(test.name, f"{1 / max(1, vocabulary - 3):.2%}"),
    )


def section_of(
    name: str, chosen: NDArray[np.bool_], scored: NDArray[np.bool_], solved: NDArray[np.bool_]
) -> SectionResult:
    """Count the chosen questions."""
    add, multiply = solved[chosen].sum(0).tolist()
    return SectionResult(name, int(chosen.sum()), int(scored[chosen].sum()), add, multiply)


def solve(units: NDArray[np.float32], questions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the answers of 3CosAdd and 3CosMul (questions, 2), as rows of `units`.

    questions: (questions, 3), the rows of a, b and c. The cosines of all words that occur with a block of the
    vocabulary are one matrix product; what a question asks for is put together from three of its rows.
    """
    asked, place = np.unique(questions, return_inverse=True)
    place = place.reshape(questions.shape)
    best = np.full((len(questions), 2), -np.inf, np.float32)
    answers = np.zeros((len(questions), 2), np.int64)
    for first in range(0, len(units), VOCABULARY_BLOCK):
        cosines = units[asked] @ units[first : first + VOCABULARY_BLOCK].T  # (asked, block)
        shifted = (1 + cosines) / 2
        inverse = 1 / (shifted + np.float32(EPSILON))
        for begin in range(0, len(questions), QUESTION_BLOCK):
            span = slice(begin, begin + QUESTION_BLOCK)
            a, b, c = place[span].T
            scores = np.stack([cosines[b] + cosines[c] - cosines[a], shifted[b] * shifted[c] * inverse[a]], 1)
            own = questions[span] - first
            question, word = np.nonzero((own >= 0) & (own < scores.shape[2]))
            scores[question, :, own[question, word]] = -np.inf
            found = scores.argmax(2)
            score = np.take_along_axis(scores, found[:, :, None], 2)[:, :, 0]
            better = score > best[span]
            best[span] = np.where(better, score, best[span])
            answers[span] = np.where(better, found + first, answers[span])
    return answers
