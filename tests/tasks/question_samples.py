"""Questions for tests: short ones in two languages, and files of them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from langmill.text.labelled_questions import Answer, QuestionExample
from langmill.tokens.tokenizer import Tokenizer
from langmill.tokens.train import SPECIALS, train_tokenizer

WORDS = "the mill turns raw text into models with care 磨坊 把 文本 变成 模型".split()
HARD = "Café́ 👩‍👩‍👧 said: naïve 北京大学（清华）in\u00a01990s — ½ price, e\u0301té!\n 次の駅は東京 "
"""Combining characters, an emoji of several, two spaces of other kinds, Chinese, Japanese."""


def example(question: str, context: str, *answers: str, impossible: bool = False) -> QuestionExample:
    found = tuple(Answer(text, context.index(text)) for text in answers)
    return QuestionExample("", question, context, found, impossible)


def new_tokenizer(kind: str, *, layout: bool = True) -> Tokenizer:
    """Return one trained on the texts of this file; layout: with [CLS] and [SEP]."""
    specials = SPECIALS[kind]
    if layout:
        specials = replace(specials, cls=specials.cls or "<|cls|>", sep=specials.sep or "<|sep|>")
    texts = [" ".join(WORDS), HARD, "when how many who 0123456789 多少 谁"] * 20
    vocabulary = None if kind == "char" else 500
    return train_tokenizer(texts, kind=kind, vocabulary=vocabulary, specials=specials)  # type: ignore[arg-type]


def numbers(
    count: int, *, impossible: int = 0, seed: int = 0
) -> list[tuple[str, str, list[tuple[str, int]]]]:
    """Return questions for the one number of a text; of the last `impossible` the text has none."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        words = draw.choices(WORDS, k=8)
        answer = str(draw.randrange(10, 100))
        if number < count - impossible:
            words[draw.randrange(8)] = answer
        context = " ".join(words)
        answers = [(answer, context.index(answer))] if answer in words else []
        found.append((draw.choice(["how many?", "多少？"]), context, answers))
    return found


def write_squad(path: Path, rows: Sequence[tuple[str, str, list[tuple[str, int]]]]) -> Path:
    """Write them as SQuAD 2.0 does."""
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "id": str(number),
                    "question": question,
                    "answers": [{"text": text, "answer_start": begin} for text, begin in answers],
                    "is_impossible": not answers,
                }
            ],
        }
        for number, (question, context, answers) in enumerate(rows)
    ]
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}, ensure_ascii=False), encoding="utf-8")
    return path
