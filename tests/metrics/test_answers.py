"""Answers are scored by the published rules of SQuAD 1.1, SQuAD 2 and CMRC 2018, written again here step by step."""

from __future__ import annotations

import re
import string

import numpy as np
import pytest

from langmill.core.errors import DataError
from langmill.metrics.answers import (
    best_no_answer_threshold,
    chinese_answer_tokens,
    normalise_answer,
    normalise_chinese_answer,
    score_answer,
    score_answers,
)

WORDS = [
    "the",
    "a",
    "An",
    "THE",
    "cat",
    "Cat",
    "cats",
    "U.S.",
    "don't",
    "3.5%",
    "–",
    "«dog»",
    "É",
    "-",
    "theatre",
]
WORDS += ["a-b", "an.", "(the)", "mat", "of", "x"]
CHINESE = list("北京大学《》，。：·-") + ["NBA", "nba ", " 2008", "3.5", "!", "%", "％", "（", "…", "the "]
CMRC_SIGNS = [
    "-",
    ":",
    "_",
    "*",
    "^",
    "/",
    "\\",
    "~",
    "`",
    "+",
    "=",
    "，",
    "。",
    "：",
    "？",
    "！",
    "“",
    "”",
    "；",
]
CMRC_SIGNS += ["’", "《", "》", "……", "·", "、", "「", "」", "（", "）", "－", "～", "『", "』"]


def squad_words(text: str) -> list[str]:
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def shared_words(one: list[str], other: list[str]) -> int:
    rest, shared = list(other), 0
    for word in one:
        if word in rest:
            rest.remove(word)
            shared += 1
    return shared


def harmonic(shared: int, said: int, wanted: int) -> float:
    if not shared:
        return 0.0
    precision, recall = shared / said, shared / wanted
    return 2 * precision * recall / (precision + recall)


def squad_1(prediction: str, references: list[str]) -> tuple[float, float]:
    said, every = squad_words(prediction), [squad_words(text) for text in references]
    return (
        float(max(said == words for words in every)),
        max(harmonic(shared_words(said, words), len(said), len(words)) for words in every),
    )


def squad_2(prediction: str, references: list[str]) -> tuple[float, float]:
    said = squad_words(prediction)
    every = [words for text in references if (words := squad_words(text))] or [[]]
    f1 = [
        harmonic(shared_words(said, words), len(said), len(words)) if said and words else float(said == words)
        for words in every
    ]
    return float(max(said == words for words in every)), max(f1)


def cmrc_tokens(text: str) -> list[str]:
    """Cut as CMRC's script does, with NLTK's cut of what is not Chinese spelt out for the signs that are used here."""
    tokens, other = [], ""
    for character in text.lower().strip() + "一":
        if character in CMRC_SIGNS:
            continue
        if "\u4e00" <= character <= "\u9fa5":
            tokens += re.sub(r"([!%])", r" \1 ", other).split()
            tokens.append(character)
            other = ""
        else:
            other += character
    return tokens[:-1]


def longest_run(one: list[str], other: list[str]) -> int:
    table = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else 0
    return int(table.max())


def cmrc(prediction: str, references: list[str]) -> tuple[float, float]:
    plain = [
        "".join(c for c in text.lower().strip() if c not in CMRC_SIGNS) for text in (prediction, *references)
    ]
    said = cmrc_tokens(prediction)
    f1 = [
        harmonic(longest_run(said, words), len(said), len(words))
        for words in (cmrc_tokens(text) for text in references)
    ]
    return float(plain[0] in plain[1:]), max(f1)


def draw_text(generator: np.random.Generator, words: list[str], separator: str, least: int = 0) -> str:
    return separator.join(generator.choice(words, size=generator.integers(least, 7)))


def test_1000_random_answers_follow_squad_1():
    generator = np.random.default_rng(1)
    scores, cases = [], 0
    while cases < 1000:
        prediction = draw_text(generator, WORDS, " ")
        references = [draw_text(generator, WORDS, "  ", 1) for _ in range(generator.integers(1, 4))]
        if generator.random() < 0.3:
            prediction = references[0].upper() + "."
        if not all(squad_words(text) for text in references):
            continue  # where 1.1 and 2 differ: see the next test
        cases += 1
        scores.append(score_answer(prediction, references))
        assert scores[-1] == pytest.approx(squad_1(prediction, references), abs=1e-12), (
            prediction,
            references,
        )
    exact, f1 = np.array(scores).T
    assert 0.2 < exact.mean() < 0.5 and exact.mean() < f1.mean() < 0.9, (
        "the cases are neither all right nor wrong"
    )


def test_1000_random_answers_follow_squad_2():
    generator = np.random.default_rng(2)
    empty = 0
    for _ in range(1000):
        prediction = draw_text(generator, WORDS[: int(generator.integers(3, len(WORDS)))], " ")
        references = [draw_text(generator, WORDS, " ") for _ in range(generator.integers(0, 4))]
        expected = squad_2(prediction, references)
        empty += not any(squad_words(text) for text in references)
        assert score_answer(prediction, references) == pytest.approx(expected, abs=1e-12), (
            prediction,
            references,
        )
    assert empty > 100


def test_where_squad_1_and_2_differ_2_is_followed():
    assert (squad_1("The", ["the"]), squad_2("The", ["the"])) == ((1.0, 0.0), (1.0, 1.0))
    assert score_answer("The", ["the"]) == (1.0, 1.0)
    assert score_answer("a", ["the", "cat"]) == squad_2("a", ["the", "cat"]) == (0.0, 0.0)


def test_1000_random_chinese_answers_follow_cmrc():
    generator = np.random.default_rng(3)
    scores, cases = [], 0
    while cases < 1000:
        prediction = draw_text(generator, CHINESE, "")
        references = [draw_text(generator, CHINESE, "", 2) for _ in range(generator.integers(1, 4))]
        if generator.random() < 0.3:
            prediction = f"《{references[0]}》。"
        if not re.search("[北京大学]", "".join(references)) or not all(map(cmrc_tokens, references)):
            continue
        cases += 1
        scores.append(score_answer(prediction, references))
        assert scores[-1] == pytest.approx(cmrc(prediction, references), abs=1e-12), (prediction, references)
    exact, f1 = np.array(scores).T
    assert 0.2 < exact.mean() < 0.5 and exact.mean() < f1.mean() < 0.9


def test_normalisation_by_hand():
    assert normalise_answer(" A  Theatre, the\tCAT's! ") == "theatre cats"
    assert normalise_answer("«Élan» – 3.5%") == "«élan» – 35", "signs beyond ASCII stay"
    assert normalise_answer("x–the–y") == "x– –y", "an article is a space"
    assert normalise_chinese_answer(" 《红楼梦》（1791年）…… ") == "红楼梦1791年……"
    tokens = ["iphone", "6s", "约", "4,999", "元", "(", "50％", ")", ",", "don't", "s.g.tan", "."]
    assert chinese_answer_tokens("iphone 6s约4,999元(50％), don't s.g.tan.") == tokens


def test_the_language_is_that_of_the_references():
    assert score_answer("the 北京", ["北京"]) == (0.0, pytest.approx(2 * 2 / (3 + 2)))
    assert score_answer("the Beijing 北京", ["Beijing"]) == (0.0, pytest.approx(2 / 3)), (
        "English: an article goes"
    )
    assert score_answer("京北", ["北京"])[1] == 0.5, "the longest run, not the shared characters"
    assert score_answer("Beijing", ["北京", "Beijing"]) == (1.0, 1.0)


@pytest.mark.parametrize("references", [[], [""], ["", ""], ["..."]])
def test_no_answer_is_right_only_when_none_is_given(references):
    assert score_answer("", references) == score_answer(" . ", references) == (1.0, 1.0)
    assert score_answer("Paris", references) == score_answer("北京", references) == (0.0, 0.0)


def test_a_long_answer_is_compared_whole():
    text = "北京" * 150
    assert score_answer("市" + text, [text]) == (0.0, pytest.approx(2 * 300 / 601))


def test_an_empty_answer_to_a_chinese_question_is_wrong():
    assert score_answer("", ["北京"]) == score_answer("。", ["北京"]) == (0.0, 0.0)


def test_the_language_of_the_question_is_taken_where_it_is_given():
    assert score_answer("以搭配Glade", ["Glade"]) == (0.0, 0.0)
    assert score_answer("以搭配Glade", ["Glade"], chinese=True) == (0.0, pytest.approx(2 / 5))
    scores = score_answers(["BCPL的", "the BCPL"], [["BCPL"], ["BCPL"]], chinese=[True, False])
    assert scores.f1.tolist() == [pytest.approx(2 / 3), 1.0]


def test_many_answers_have_a_score_each():
    scores = score_answers(["the cat", "dog", "北京"], [["cat"], ["a dog runs"], ["北京", "京"]])
    assert scores.exact.tolist() == [1, 0, 1]
    assert scores.f1.tolist() == [1, pytest.approx(2 / 3), 1]


def test_errors_name_the_fault():
    with pytest.raises(DataError, match="2 questions have 1 answers; give each exactly one"):
        score_answers(["x"], [["x"], ["y"]])
    for call in (lambda: score_answers([], []), lambda: best_no_answer_threshold([], [], [])):
        with pytest.raises(DataError, match="0 examples"):
            call()


def squad_2_threshold(nulls, scores, answerable):
    """Search as SQuAD 2's script does: answer one more question at a time, by rising null score."""
    total = best = float(sum(not each for each in answerable))
    threshold = None
    for at in sorted(range(len(nulls)), key=lambda at: nulls[at]):
        total += scores[at] if answerable[at] else scores[at] - 1
        if total > best:
            best, threshold = total, nulls[at]
    return best / len(nulls), threshold


def test_threshold_is_that_of_squad_2_in_1000_random_cases():
    generator = np.random.default_rng(4)
    never = 0
    for _ in range(1000):
        count = int(generator.integers(1, 15))
        answerable = generator.random(count) < 0.6
        nulls = generator.normal(size=count) - answerable
        scores = np.where(answerable, generator.integers(0, 5, count) / 4, generator.random(count) < 0.2)
        found = best_no_answer_threshold(nulls, scores, answerable)
        score, threshold = squad_2_threshold(nulls, scores, answerable)
        assert found.score == pytest.approx(score, abs=1e-12)
        assert found.threshold == threshold if threshold is not None else found.threshold < nulls.min()
        applied = np.where(nulls > found.threshold, ~answerable, scores).mean()
        assert applied == pytest.approx(found.score, abs=1e-12), (
            "the threshold gives the score that is promised"
        )
        never += threshold is None
    assert 50 < never < 500


def test_equal_null_scores_are_answered_together():
    found = best_no_answer_threshold([1.0, 1.0], [1.0, 0.0], [True, False])
    assert found.score == 0.5 and found.threshold < 1.0
    assert squad_2_threshold([1.0, 1.0], [1.0, 0.0], [True, False]) == (1.0, 1.0), "which no threshold gives"
