"""Answers without learning."""

from __future__ import annotations

import numpy as np
import pytest

from langmill.tasks.qa_baseline import SENTENCE, window_answer, window_baseline
from langmill.text.labelled_questions import Answer, QuestionExample

CONTEXT = (
    "The mill is old. It was built by Ann Lee in 1890. Version 2.5 stands in Paris, the town of the mill."
)


def asked(question: str, context: str, *answers: str) -> QuestionExample:
    found = tuple(Answer(text, context.index(text)) for text in answers)
    return QuestionExample("", question, context, found, not answers)


def test_sentences_end_behind_signs_but_not_within_numbers():
    assert [found.group().strip() for found in SENTENCE.finditer(CONTEXT)] == [
        "The mill is old",
        "It was built by Ann Lee in 1890",
        "Version 2.5 stands in Paris, the town of the mill",
    ]
    assert [found.group() for found in SENTENCE.finditer("磨坊很旧。谁建的？李安")] == [
        "磨坊很旧",
        "谁建的",
        "李安",
    ]


def test_the_rarest_words_of_the_likest_sentence():
    weights = {"ann": 3.0, "lee": 3.0, "built": 2.0, "1890": 1.0}
    question = asked("Who built the old one?", CONTEXT)
    assert window_answer(question, weights) == "Ann Lee"
    assert window_answer(question, {**weights, "old": 9.0}) == "mill", "the first where none is rare"
    assert window_answer(asked("Who?", "?!"), weights) == ""


def test_a_chinese_question_gets_the_whole_sentence():
    context = "磨坊很旧。1990年李安来了！在北京。"
    assert window_answer(asked("1990年谁来了？", context), {"1990": 2.0}) == "1990年李安来了"


def test_figures():
    examples = [asked("Who built it?", CONTEXT, "Ann Lee"), asked("What is old?", CONTEXT)]
    found = window_baseline(examples)
    # "by", "ann" and "lee" stand in one sentence each and are equally rare; there is always an answer.
    by_ann_lee = 2 * (2 / 3) / (2 / 3 + 1)
    assert found.figures["f1"] == pytest.approx(by_ann_lee / 2) and found.main == "f1"
    assert found.figures["exact_match"] == 0 and not found.right.any()
    assert found.score(np.array([0, 0])) == pytest.approx(by_ann_lee)
