"""What can be answered without having learned anything: the piece of a text that shares most with the question. [tasks]

Sliding windows over texts were the first baseline of such data (Richardson et al. 2013, "MCTest"; Rajpurkar et al.
2016, section 4.1).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from langmill.tasks.assessment import Assessment
from langmill.tasks.qa_answers import assess_answers
from langmill.text.labelled_questions import QuestionExample
from langmill.text.segmentation import HAN, words

ANSWER_WORDS = 4
"""Words of an answer at most. Answers in Chinese data are often clauses: there it is the whole sentence."""
SENTENCE = re.compile(r"[^\n.!?。！？；]+(?:[.!?](?=\S)[^\n.!?。！？；]*)*")
"""A dot within a number or a name ends no sentence."""

Word = tuple[str, int, int]
"""In lower case, and its begin and end in the text."""


def window_baseline(examples: Sequence[QuestionExample]) -> Assessment:
    """Return the metrics of answering each question by `window_answer`.

    Words weigh log(sentences / sentences with the word) over all contexts (Sparck Jones 1972).
    """
    sentences = {
        found.group()
        for context in {example.context for example in examples}
        for found in SENTENCE.finditer(context)
    }
    counts = Counter(word for each in sentences for word in {word for word, _, _ in words_of(each)})
    weights = {word: math.log(len(sentences) / count) for word, count in counts.items()}
    return assess_answers([window_answer(each, weights) for each in examples], examples)


def window_answer(example: QuestionExample, weights: Mapping[str, float]) -> str:
    """Return the rarest words beside those of the question in the sentence that shares the rarest with it.

    Rare are words next to each other whose weights sum to most, over the root of their number.

    >>> context = "The mill is old. It was built by Ann Lee in spring. It stands."
    >>> window_answer(QuestionExample("", "Who built it?", context), {"built": 2.0, "ann": 3.0, "lee": 3.0})
    'Ann Lee'
    """
    asked = {word for word, _, _ in words_of(example.question)}
    sentences = [words_of(example.context, *found.span()) for found in SENTENCE.finditer(example.context)]

    def weight(chosen: Iterable[Word]) -> float:
        return sum(weights.get(word, 0.0) for word, _, _ in chosen)

    best = max(sentences, key=lambda each: weight({(w, 0, 0) for w, _, _ in each if w in asked}), default=[])
    pieces = [best]
    if not HAN.search(example.question):
        runs = [list(run) for new, run in groupby(best, lambda word: word[0] not in asked) if new]
        pieces = [
            run[begin : begin + count]
            for run in runs
            for count in range(1, ANSWER_WORDS + 1)
            for begin in range(len(run) - count + 1)
        ]
    chosen = max(pieces, key=lambda piece: weight(piece) / math.sqrt(max(1, len(piece))), default=[])
    return example.context[chosen[0][1] : chosen[-1][2]] if chosen else ""


def words_of(text: str, low: int = 0, high: int | None = None) -> list[Word]:
    """Return the words of text[low:high].

    >>> words_of("Ann Lee.", 4)
    [('lee', 4, 7)]
    """
    piece = text[low:high]
    return [
        (piece[begin:end].lower(), low + begin, low + end)
        for begin, end in words(piece)
        if piece[begin].isalnum()
    ]
