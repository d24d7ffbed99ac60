"""Exact match and F1 of answers to questions about a text, in English and Chinese. [metrics]

The rules are those of two official scripts: in Chinese of CMRC 2018 (Cui et al. 2019, "A Span-Extraction Dataset
for Chinese Machine Reading Comprehension"), else of SQuAD (Rajpurkar et al. 2016, 2018). Both take the best of
several references. Which language it is the question says best: the answer to a Chinese one may be "BCPL".

SQuAD 1.1 and 2 differ in one thing: of an answer and a reference that both have nothing left once punctuation
and articles are gone ("The"), 1.1 has F1 0 and exact match 1; 2 has 1 in both, and counts such a reference only
where there is no other. Here the rule of 2 holds: an answer that is empty is right where a reference is.

CMRC's script cuts what is not Chinese with NLTK's tokenizer. Here a regular expression does, which cuts alike but
for English contractions ("don't" stays one word), abbreviations at the end ("U.S." is U.S and a stop), and Chinese
characters outside the first block of Unicode, each of which is a token here.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt

from langmill.core.errors import DataError
from langmill.metrics.classification import Floats, need_examples
from langmill.text.segmentation import HAN, HAN_CHARACTERS

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WITHOUT_CHINESE_SIGNS = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""CMRC's list; its "……" of two characters never applies there, as signs are taken one by one."""
_CHINESE_TOKEN = re.compile(
    rf'[{HAN_CHARACTERS}]|(?:[^\s{HAN_CHARACTERS};@#$%&?!()\[\]{{}}<>",.]|,(?=\d)|\.(?!\s*(?:[{HAN_CHARACTERS}]|$)))+|\S'
)
"""A Chinese character; what stands together of other scripts, cut at signs as NLTK cuts it; or such a sign."""


@dataclass(frozen=True)
class AnswerScores:
    """How well each question was answered, between 0 and 1; the means are the scores of the answers."""

    exact: Floats
    """`(N,)`, 1 where the answer equals a reference after normalisation."""
    f1: Floats
    """`(N,)`, the overlap with the nearest reference."""


@dataclass(frozen=True)
class NoAnswerThreshold:
    """When to say that a text has no answer: where the score for that is above `threshold`."""

    threshold: float
    score: float
    """The mean score with that threshold."""


def normalise_answer(text: str) -> str:
    """Lower the case, remove ASCII punctuation, then the articles a, an and the, and extra white space.

    >>> normalise_answer("The  U.S. Army's an-swer")
    'us armys answer'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def normalise_chinese_answer(text: str) -> str:
    """Lower the case, remove white space round the text, and the signs that CMRC's script removes.

    >>> normalise_chinese_answer("《Hello，世界》 ")
    'hello世界'
    """
    return text.lower().strip().translate(_WITHOUT_CHINESE_SIGNS)


def chinese_answer_tokens(text: str) -> list[str]:
    """Cut a normalised text into Chinese characters, words and numbers of other scripts, and other signs.

    >>> chinese_answer_tokens("于2008年在nba得3.5%")
    ['于', '2008', '年', '在', 'nba', '得', '3.5', '%']
    """
    return _CHINESE_TOKEN.findall(text)


def is_chinese(*texts: str) -> bool:
    """Return whether one of the texts contains a Chinese character."""
    return any(HAN.search(text) for text in texts)


def score_answer(
    prediction: str, references: Sequence[str], *, chinese: bool | None = None
) -> tuple[float, float]:
    """Return exact match and F1 of an answer, each the best over the references.

    references: the accepted answers; none of them, or only empty ones, where the text has no answer, which an
    empty prediction is right about. F1 of words is of how many are shared, in any order; of Chinese, of the
    longest run of tokens that both have. chinese: whose rules hold; None: Chinese where a reference is.

    >>> score_answer("the Denver Broncos", ["Denver Broncos", "Broncos"])
    (1.0, 1.0)
    >>> score_answer("在北京大学", ["北京大学。"]) == (0.0, 2 * 4 / (5 + 4))
    True
    >>> score_answer("", []), score_answer("Paris", [""])
    ((1.0, 1.0), (0.0, 0.0))
    """
    if chinese is None:
        chinese = is_chinese(*references)
    normalise, overlap = (
        (normalise_chinese_answer, _chinese_overlap) if chinese else (normalise_answer, _word_overlap)
    )
    answer, accepted = (
        normalise(prediction),
        [text for each in references if (text := normalise(each))] or [""],
    )
    return float(answer in accepted), max(overlap(answer, text) for text in accepted)


def score_answers(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, chinese: Sequence[bool] | None = None
) -> AnswerScores:
    """Return the scores of many answers; see `score_answer`.

    chinese: for each question; `[is_chinese(question) for question in questions]` is best.
    Raises DataError when there are none, or not as many predictions as questions.
    """
    count = len(references)
    need_examples(count)
    if len(predictions) != count:
        raise DataError(f"{count} questions have {len(predictions)} answers; give each exactly one")
    languages = [None] * count if chinese is None else chinese
    assert len(languages) == count
    rows = zip(predictions, references, languages)
    scores = np.array([score_answer(said, wanted, chinese=zh) for said, wanted, zh in rows], dtype=np.float64)
    return AnswerScores(exact=scores[:, 0], f1=scores[:, 1])


def best_no_answer_threshold(
    null_scores: npt.ArrayLike, scores: npt.ArrayLike, answerable: npt.ArrayLike
) -> NoAnswerThreshold:
    """Return the threshold on `null_scores` with the best mean score, as SQuAD 2's script searches it.

    null_scores: `(N,)`, higher where no answer is more likely. scores: `(N,)`, exact match or F1 of what would be
    answered. answerable: `(N,)`, whether there is an answer. Of thresholds that are equally good the lowest is
    returned; just below all null scores where it is best never to answer. Questions with equal null scores are
    answered together, as any threshold does (the script tries what none can give). Raises DataError for none.

    >>> best_no_answer_threshold([-2.0, 0.5, 3.0], [1.0, 0.8, 0.0], [True, True, False])
    NoAnswerThreshold(threshold=0.5, score=0.9333333333333332)
    """
    nulls, gains = np.asarray(null_scores, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    unanswerable = ~np.asarray(answerable, dtype=bool)
    need_examples(len(nulls))
    assert nulls.shape == gains.shape == unanswerable.shape
    levels, place = np.unique(nulls, return_inverse=True)
    steps = np.bincount(place, weights=gains - unanswerable, minlength=len(levels))
    totals = np.cumsum([float(unanswerable.sum()), *steps])
    best = int(totals.argmax())
    lowest = float(np.nextafter(levels[0], -np.inf))
    return NoAnswerThreshold(
        threshold=float(levels[best - 1]) if best else lowest, score=float(totals[best]) / len(nulls)
    )


def _word_overlap(prediction: str, reference: str) -> float:
    said, wanted = prediction.split(), reference.split()
    return _overlap((Counter(said) & Counter(wanted)).total(), said, wanted)


def _chinese_overlap(prediction: str, reference: str) -> float:
    said, wanted = chinese_answer_tokens(prediction), chinese_answer_tokens(reference)
    matcher = SequenceMatcher(None, said, wanted, autojunk=False)
    return _overlap(matcher.find_longest_match().size, said, wanted)


def _overlap(common: int, said: Sequence[str], wanted: Sequence[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    return 2 * common / (len(said) + len(wanted))
