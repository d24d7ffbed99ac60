"""Answers to questions, and what they are worth. [tasks]"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langmill.metrics.answers import best_no_answer_threshold, is_chinese, score_answers
from langmill.tasks.assessment import Assessment, ratio_score
from langmill.tasks.qa_windows import Candidates
from langmill.text.labelled_questions import QuestionExample

SHOWN = 5
"""Candidates that a result tells of."""
THRESHOLD = "null_threshold"
"""The decision above which odds there is said to be no answer; a model without one always answers."""


@dataclass(frozen=True)
class Candidate:
    """A piece of the context that may be the answer; without text: that there is none."""

    text: str
    begin: int
    end: int
    """`context[begin:end] == text`."""
    probability: float
    """Among the best twenty and, of a model that can say so, no answer."""


@dataclass(frozen=True)
class Answer:
    """What a model finds in a context."""

    text: str
    """A piece of the context as it stands there; empty: there is no answer."""
    begin: int
    end: int
    """`context[begin:end] == text`."""
    probability: float
    """Among the best twenty and, of a model that can say so, no answer."""
    alternatives: tuple[Candidate, ...]
    """The likeliest candidates, best first."""

    def columns(self) -> dict[str, Any]:
        """Return what is added to a row."""
        places = {"predicted_begin": self.begin, "predicted_end": self.end}
        return {"predicted_answer": self.text, **places, "probability": round(self.probability, 6)}

    def summary(self, question: str) -> str:
        """Return the answer to a question as a line."""
        answer = " ".join(self.text.split()) or "(no answer)"
        return f"{answer}\t{self.probability:.4f}\t{' '.join(question.split())}"


def answer_of(found: Candidates, context: str, threshold: float) -> Answer:
    """Return the best candidate, or that there is no answer where its odds are above `threshold`.

    >>> answer_of(Candidates({(0, 2): 3.0, (3, 5): 3.0}, 0.0), "ab cd", math.inf).text
    'ab'
    >>> answer_of(Candidates({(0, 2): 3.0}, 4.0), "ab cd", 0.5).text
    ''
    """
    scores = dict(found.spans)
    if math.isfinite(threshold) or not scores:
        scores[0, 0] = found.none
    highest = max(scores.values())
    total = sum(math.exp(score - highest) for score in scores.values())
    listed = {
        piece: Candidate(context[slice(*piece)], *piece, math.exp(score - highest) / total)
        for piece, score in scores.items()
    }
    chosen = listed[0, 0] if found.odds > threshold or not found.spans else next(iter(listed.values()))
    best = sorted(listed.values(), key=lambda each: -each.probability)[:SHOWN]
    return Answer(chosen.text, chosen.begin, chosen.end, chosen.probability, tuple(best))


def best_threshold(found: Sequence[Candidates], examples: Sequence[QuestionExample]) -> float:
    """Return the threshold with the best F1."""
    answers = [answer_of(each, example.context, math.inf).text for each, example in zip(found, examples)]
    return best_no_answer_threshold(
        [each.odds for each in found],
        scores_of_answers(answers, examples)[1],
        [not example.impossible for example in examples],
    ).threshold


def scores_of_answers(
    answers: Sequence[str], examples: Sequence[QuestionExample]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return exact match and F1 of each answer, by the rules of its question's language."""
    references = [[answer.text for answer in example.answers] for example in examples]
    chinese = [is_chinese(example.question) for example in examples]
    scores = score_answers(answers, references, chinese=chinese)
    return scores.exact, scores.f1


def assess_answers(answers: Sequence[str], examples: Sequence[QuestionExample]) -> Assessment:
    """Return all metrics of answers, empty where there is said to be none. The main one is F1."""
    exact, f1 = scores_of_answers(answers, examples)
    figures: dict[str, Any] = {"exact_match": float(exact.mean()), "f1": float(f1.mean())}
    impossible = np.array([example.impossible for example in examples])
    if impossible.any():
        parts = {"has answer": ~impossible, "no answer": impossible}
        figures["by_kind"] = {
            name: {
                "exact_match": float(exact[part].mean()),
                "f1": float(f1[part].mean()),
                "questions": int(part.sum()),
            }
            for name, part in parts.items()
            if part.any()
        }
    return Assessment(figures, "f1", ratio_score(f1, np.ones(len(f1))), exact == 1)
