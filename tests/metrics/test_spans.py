"""Tags and spans equal what seqeval 1.2.2 makes of them; tags and back in every scheme."""

from __future__ import annotations

import itertools
import random
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langmill.core.errors import DataError
from langmill.metrics.classification import Score, score_of_counts
from langmill.metrics.spans import (
    Scheme,
    Span,
    find_scheme,
    span_counts,
    span_scores,
    spans_to_tags,
    tags_to_spans,
)

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

# Mode; true tags; predicted tags (sentences set apart by |); what seqeval 1.2.2 gives with zero_division=0:
# micro precision, recall and F1, and macro F1. "lenient" is its default, a scheme's name its mode="strict".
SEQEVAL = """
lenient; I-PER E-a-b S-PER I-PER E-LOC; O I-LOC S-PER I-PER E-a-b; 0.5 0.4 0.444444444444 0.266666666667
lenient; S-LOC O | E-PER B-LOC I-LOC | B-LOC O; O E-PER | E-PER I-PER I-LOC | O O; 0.25 0.25 0.25 0.25
lenient; S-PER E-LOC E-LOC S-a-b | B-PER E-PER E-PER E-PER S-PER B-PER E-PER; S-PER E-LOC E-LOC I-PER | B-PER E-PER E-LOC E-PER S-PER B-PER O; 0.666666666667 0.666666666667 0.666666666667 0.488888888889
lenient; I-PER O S-PER O S-PER | E-PER O B-PER I-PER; E-PER O S-PER O S-PER | E-PER O S-LOC B-PER; 0.666666666667 0.8 0.727272727273 0.4
lenient; B-PER B-PER I-PER E-PER S-PER I-PER; S-PER O I-PER E-PER S-PER I-PER; 0.75 0.75 0.75 0.75
lenient; S-PER | I-a-b | O E-LOC E-LOC S-LOC; S-PER | I-a-b | O E-LOC S-a-b S-LOC; 0.8 0.8 0.8 0.822222222222
lenient; B-PER S-PER O I-PER B-LOC; B-PER S-PER E-LOC E-PER B-LOC; 0.8 1.0 0.888888888889 0.833333333333
lenient; I-PER | E-PER S-LOC E-PER S-LOC | E-PER I-LOC I-LOC S-LOC O; B-PER | E-PER S-LOC O S-LOC | E-PER S-PER E-PER S-LOC O; 0.75 0.75 0.75 0.761904761905
lenient; B-PER S-PER O B-PER I-PER B-PER B-PER | O; B-PER S-PER O O I-PER S-PER B-PER | O; 0.8 0.8 0.8 0.8
lenient; I-PER I-PER I-a-b E-LOC I-LOC B-PER O E-LOC; I-PER E-PER I-a-b E-LOC O B-PER B-a-b E-LOC; 0.833333333333 0.833333333333 0.833333333333 0.822222222222
BIO; O O O | O B-PER I-PER O O O | B-a-b I-a-b I-a-b; O I-LOC B-PER | O B-PER I-PER O B-PER O | B-a-b O I-a-b; 0.25 0.5 0.333333333333 0.25
BIO; O O O O O O B-LOC I-LOC | I-PER B-PER B-PER I-PER; O O O B-PER O O B-PER I-LOC | B-PER B-PER B-PER O; 0.2 0.333333333333 0.25 0.142857142857
BIO; B-PER I-PER I-PER O B-PER; O I-PER I-PER O B-PER; 1.0 0.5 0.666666666667 0.666666666667
BIO; B-PER O B-LOC | I-PER | B-a-b I-a-b I-a-b B-PER I-PER I-PER; B-PER I-PER B-LOC | O | B-a-b I-a-b I-a-b B-PER B-LOC O; 0.4 0.5 0.444444444444 0.555555555556
BIO; O | B-LOC I-LOC O O B-LOC; B-PER | B-LOC I-LOC O B-PER B-LOC; 0.5 1.0 0.666666666667 0.5
BIO; O O O O O | O I-PER | O B-PER B-a-b O; I-LOC O O O O | O I-PER | B-LOC B-PER I-LOC O; 0.5 0.5 0.5 0.333333333333
BIO; O O O O | O I-PER I-PER B-PER B-PER | B-LOC O; O O O O | O I-PER I-PER I-LOC B-PER | B-PER O; 0.5 0.333333333333 0.4 0.25
BIO; O B-a-b | I-PER I-PER | B-LOC I-LOC; O B-a-b | O I-PER | B-LOC I-LOC; 1.0 1.0 1.0 1.0
BIO; B-PER I-PER B-a-b I-a-b O O O O; B-PER I-PER B-LOC B-LOC O O O O; 0.333333333333 0.5 0.4 0.333333333333
BIO; B-PER O B-PER I-PER I-PER O O I-PER; B-PER O B-a-b I-a-b B-PER I-PER O O; 0.333333333333 0.5 0.4 0.25
IOB1; O | O O O I-LOC O; O | O I-LOC O B-PER O; 0.0 0.0 0.0 0.0
IOB1; O | I-LOC I-LOC I-LOC | I-PER I-PER O O I-PER I-PER O; B-PER | I-LOC I-LOC I-LOC | I-PER I-LOC O O I-PER O O; 0.25 0.333333333333 0.285714285714 0.333333333333
IOB1; O O I-PER I-LOC I-LOC | I-a-b I-a-b O I-PER I-PER I-PER O; O I-LOC I-PER I-LOC I-LOC | O O O I-PER I-PER I-PER O; 0.75 0.75 0.75 0.555555555556
IOB1; I-PER O | O O | B-a-b O | I-PER O B-PER I-PER O; I-a-b O | O O | B-a-b O | O O B-PER I-PER O; 0.5 0.333333333333 0.4 0.25
IOB1; B-a-b B-PER | O O I-LOC I-a-b I-a-b I-a-b | O I-a-b O | O; O B-PER | B-LOC O I-LOC I-a-b O I-a-b | O I-a-b O | O; 0.5 0.666666666667 0.571428571429 0.7
IOB1; O I-PER I-PER I-PER O I-PER; O I-PER I-PER O O I-PER; 0.5 0.5 0.5 0.5
IOB1; O I-PER B-LOC B-LOC B-LOC O; O I-PER B-LOC B-LOC O O; 1.0 0.666666666667 0.8 0.833333333333
IOB1; I-a-b I-a-b I-PER I-PER I-PER; B-PER I-a-b I-PER I-PER I-PER; 0.5 0.5 0.5 0.5
IOB1; O B-LOC I-PER B-PER B-PER I-PER B-PER B-LOC | I-PER; O B-LOC I-PER B-PER B-PER I-PER O I-PER | O; 0.75 0.75 0.75 0.75
IOB1; I-PER B-PER I-PER B-LOC | O B-PER O I-PER | I-LOC O I-a-b I-a-b; I-PER B-PER I-PER O | O B-PER O I-PER | I-LOC I-LOC I-PER I-PER; 0.6 0.6 0.6 0.285714285714
BIOES; B-PER E-PER O O O O B-LOC E-LOC; B-PER E-PER E-PER O O O B-LOC E-LOC; 1.0 1.0 1.0 1.0
BIOES; O | B-PER I-PER E-PER O S-LOC; O | O I-PER E-PER O O; 0.0 0.0 0.0 0.0
BIOES; I-a-b B-PER B-a-b S-a-b E-a-b O S-a-b; I-a-b B-PER B-LOC S-a-b E-LOC O O; 1.0 0.5 0.666666666667 0.666666666667
BIOES; S-PER B-a-b S-a-b | I-LOC I-PER | O B-PER S-PER B-PER S-PER; S-PER B-a-b O | O I-PER | O O S-PER B-PER S-PER; 1.0 0.75 0.857142857143 0.5
BIOES; B-LOC E-LOC B-PER E-PER S-PER B-LOC I-LOC E-LOC; B-LOC E-LOC E-PER E-PER S-PER B-LOC I-LOC E-LOC; 1.0 0.75 0.857142857143 0.833333333333
BIOES; B-LOC E-LOC B-a-b I-a-b E-a-b O | B-LOC I-PER S-PER; E-PER E-LOC B-a-b I-a-b E-a-b O | B-LOC I-PER O; 1.0 0.333333333333 0.5 0.333333333333
BIOES; S-PER O | E-PER B-PER I-PER I-PER E-LOC E-PER I-LOC; S-PER O | E-PER B-PER I-PER I-PER B-PER E-PER I-LOC; 0.5 1.0 0.666666666667 0.666666666667
BIOES; S-PER B-LOC E-LOC S-LOC S-PER B-a-b E-a-b O | O O; S-PER O E-LOC B-a-b S-PER B-a-b E-a-b O | O O; 1.0 0.6 0.75 0.666666666667
BIOES; B-PER B-LOC S-PER S-a-b O E-a-b; B-PER I-LOC S-PER S-LOC S-LOC E-a-b; 0.333333333333 0.5 0.4 0.333333333333
BIOES; I-LOC O E-LOC I-PER B-PER | O O B-PER E-PER S-LOC; I-LOC O E-LOC I-PER O | O O B-PER I-PER S-LOC; 1.0 0.5 0.666666666667 0.5
BILOU; L-PER L-PER I-PER U-LOC | O O I-PER U-PER; L-PER I-a-b I-PER O | O O I-PER U-PER; 1.0 0.5 0.666666666667 0.5
BILOU; O B-PER L-PER O | O O | I-PER L-PER | B-LOC B-LOC L-PER I-PER; O I-LOC L-PER O | O O | U-a-b L-PER | B-LOC O L-PER I-PER; 0.0 0.0 0.0 0.0
BILOU; U-LOC B-PER O U-LOC U-a-b; U-LOC L-PER U-PER U-LOC U-a-b; 0.75 1.0 0.857142857143 0.666666666667
BILOU; I-PER | U-LOC U-PER O; I-PER | O U-PER O; 1.0 0.5 0.666666666667 0.5
BILOU; O O B-LOC L-LOC B-a-b L-a-b; B-LOC O B-LOC L-LOC O L-a-b; 1.0 0.5 0.666666666667 0.5
BILOU; U-LOC U-a-b B-PER I-PER L-PER O | L-PER | I-PER O; U-LOC U-a-b B-PER B-PER B-LOC O | L-PER | I-PER O; 1.0 0.666666666667 0.8 0.666666666667
BILOU; U-PER B-a-b I-a-b L-a-b O | L-PER O L-PER | B-LOC I-LOC L-LOC U-PER; L-LOC B-a-b I-a-b L-a-b O | L-PER O L-a-b | B-LOC I-LOC L-PER U-PER; 1.0 0.5 0.666666666667 0.555555555556
BILOU; O B-LOC U-PER L-a-b O O O; L-PER B-LOC U-PER L-a-b O B-PER L-LOC; 1.0 1.0 1.0 1.0
BILOU; O O I-PER U-LOC U-PER; O O U-LOC U-LOC U-PER; 0.666666666667 1.0 0.8 0.833333333333
BILOU; L-PER U-LOC O | L-PER I-LOC I-PER B-PER L-LOC O U-LOC; I-LOC U-LOC O | L-PER I-LOC I-PER B-PER B-a-b O O; 1.0 0.5 0.666666666667 0.666666666667
"""


def sentences(text: str) -> list[list[str]]:
    return [part.split() for part in text.split("|")]


@pytest.mark.parametrize("case", SEQEVAL.strip().splitlines())
def test_scores_are_those_of_seqeval(case):
    mode, truth, predicted, figures = (part.strip() for part in case.split(";"))
    strict = None if mode == "lenient" else mode
    one, other = (
        [tags_to_spans(tags, strict=strict) for tags in sentences(text)] for text in (truth, predicted)
    )
    table = span_scores(one, other)
    mine = (table.micro.precision, table.micro.recall, table.micro.f1, table.macro.f1)
    assert mine == pytest.approx([float(figure) for figure in figures.split()], abs=1e-11)


def test_1000_random_cases_a_mode_equal_seqeval_where_it_is_installed():
    """The cases above were drawn in this way; this draws many more."""
    pytest.importorskip("seqeval")
    from seqeval import scheme as schemes
    from seqeval.metrics import sequence_labeling, v1

    letters = {"BIO": "BIO", "IOB1": "BIO", "BIOES": "BIESO", "BILOU": "BILUO"}
    theirs = {
        "BIO": schemes.IOB2,
        "IOB1": schemes.IOB1,
        "BIOES": schemes.IOBES,
        "BILOU": schemes.BILOU,
    }
    for strict in (None, *letters):
        generator = random.Random(str(strict))
        tags = [
            "O" if a == "O" else f"{a}-{b}" for a in letters[strict or "BIOES"] for b in ("PER", "LOC", "a-b")
        ]
        for _ in range(1000):
            truth = [generator.choices(tags, k=generator.randrange(1, 9)) for _ in range(3)]
            predicted = [
                [t if generator.random() < 0.7 else generator.choice(tags) for t in each] for each in truth
            ]
            table = span_scores(
                *([tags_to_spans(t, strict=strict) for t in side] for side in (truth, predicted))
            )
            for average in ("micro", "macro", "weighted"):
                module, options = (v1, {"scheme": theirs[strict]}) if strict else (sequence_labeling, {})
                expected = module.precision_recall_fscore_support(
                    truth, predicted, average=average, zero_division=0, **options
                )
                mine = getattr(table, average)
                if table.per_class:  # seqeval's mean over no labels is NaN
                    assert (mine.precision, mine.recall, mine.f1) == pytest.approx(expected[:3], abs=1e-12)
                    assert mine.support == expected[3]


@st.composite
def spans_of_a_sentence(draw):
    """Draw a length, and spans in it that do not overlap."""
    edges = sorted(draw(st.sets(st.integers(0, 12), max_size=8)))
    spans = [
        (begin, end, draw(st.sampled_from(["PER", "LOC", "a-b", "机构", "two words", "_"])))
        for begin, end in itertools.pairwise(edges)
        if draw(st.booleans())
    ]
    return 12, spans


@given(spans_of_a_sentence(), st.sampled_from(SCHEMES))
def test_spans_come_back_from_their_tags(sentence, scheme):
    length, spans = sentence
    tags = spans_to_tags(spans, length, scheme)
    assert len(tags) == length
    assert tags_to_spans(tags, strict=scheme) == spans
    assert tags_to_spans(tags) == spans


@given(spans_of_a_sentence(), st.sampled_from(SCHEMES))
def test_the_scheme_found_reads_the_tags_alike(sentence, scheme):
    length, spans = sentence
    tags = spans_to_tags(spans, length, scheme)
    assert tags_to_spans(tags, strict=find_scheme([tags])) == spans


def test_every_scheme_writes_its_own_letters():
    spans = [(0, 1, "A"), (1, 3, "A"), (4, 7, "B")]
    expected = {
        "BIO": "B-A B-A I-A O B-B I-B I-B",
        "IOB1": "I-A B-A I-A O I-B I-B I-B",
        "BIOES": "S-A B-A E-A O B-B I-B E-B",
        "BMES": "S-A B-A E-A O B-B M-B E-B",
        "BILOU": "U-A B-A L-A O B-B I-B L-B",
    }
    assert {scheme: " ".join(spans_to_tags(spans, 7, scheme)) for scheme in SCHEMES} == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-A I-A | B-A B-A", "BIO"),
        ("I-A B-A | O I-B I-A", "IOB1"),
        ("I-A O | B-A I-A", "BIO"),  # begins in both ways: more likely BIO with a mistake
        ("O", "BIO"),
        ("", "BIO"),
        ("B-A E-A | S-B", "BIOES"),
        ("B M M E S", "BMES"),
        ("B-A L-A U-B O", "BILOU"),
        ("B-LOC B-PER I-LOC I-PER O", "BIO"),  # the set of tags alone
        ("O I-LOC I-PER", "IOB1"),
    ],
)
def test_scheme_is_told_from_tags(tags, expected):
    assert find_scheme(sentences(tags)) == expected


def test_chinese_words_are_spans():
    truth = [tags_to_spans("B E B M E S".split())]  # 北京|大学生|好
    predicted = [tags_to_spans("B E B E S S".split())]  # 北京|大学|生|好
    table = span_scores(truth, predicted)
    assert table.micro == Score(precision=2 / 4, recall=2 / 3, f1=4 / 7, support=3)
    assert list(table.per_class) == ["_"]


def test_words_without_a_label_need_a_word_before_them_in_iob1():
    assert tags_to_spans(["O", "B", "O", "I", "B"], strict="IOB1") == [(3, 4, "_"), (4, 5, "_")]


def test_equal_spans_in_other_sentences_are_not_right():
    spans = [(0, 1, "A")]
    assert span_scores([spans, []], [[], spans]).micro == Score(0.0, 0.0, 0.0, 1)
    assert span_scores([spans, []], [spans, []]).micro == Score(1.0, 1.0, 1.0, 1)


def test_a_label_that_is_only_predicted_lowers_the_macro_average():
    table = span_scores([[(0, 1, "A")]], [[(0, 1, "A"), (1, 2, "B")]])
    assert table.per_class == {"A": Score(1.0, 1.0, 1.0, 1), "B": Score(0.0, 0.0, 0.0, 0)}
    assert table.macro.f1 == 0.5
    assert table.weighted.f1 == 1.0


def test_sentences_without_spans_score_0():
    table = span_scores([[], []], [[], []])
    assert table.micro == table.macro == Score(0.0, 0.0, 0.0, 0)
    assert tags_to_spans([]) == tags_to_spans([], strict="BIO") == spans_to_tags([], 0, "BIO") == []


def test_counts_of_sentences_add_up_to_the_micro_average():
    generator = np.random.default_rng(1)
    tags = [generator.choice(["B-A", "I-A", "B-B", "O"], size=(20, 8)).tolist() for _ in range(2)]
    one, other = ([tags_to_spans(sentence) for sentence in side] for side in tags)
    counts = span_counts(one, other)
    assert counts.shape == (20, 3)
    assert score_of_counts(*counts.sum(axis=0)) == span_scores(one, other).micro


def test_errors_name_the_fault():
    for tag in ("X-PER", "PER", "B_PER", "", "o", "O-PER"):
        with pytest.raises(DataError, match=f"'{tag}' is no tag"):
            tags_to_spans(["O", tag])
    with pytest.raises(DataError, match="'E-A' is no tag: allowed are O and B, I, bare or with"):
        tags_to_spans(["B-A", "E-A"], strict="BIO")
    with pytest.raises(
        DataError, match=r"begin with B I M, which no one scheme has; use one of BIO \(B I O\), IOB1"
    ):
        find_scheme([["B-A", "I-A"], ["M-A"]])
    for spans in ([(0, 2, "A"), (1, 3, "A")], [(2, 2, "A")], [(3, 5, "A")], [(-1, 1, "A")]):
        with pytest.raises(DataError, match="must not be empty, overlap or reach outside"):
            spans_to_tags(spans, 4, "BIO")
    with pytest.raises(DataError, match="2 sentences are given and 1 predictions"):
        span_scores([[], []], [[]])
    with pytest.raises(DataError, match="0 examples"):
        span_scores([], [])


def test_a_span_is_a_tuple():
    assert Span(0, 2, "A") == (0, 2, "A")
    assert span_scores([[Span(0, 2, "A")]], [[(0, 2, "A")]]).micro.f1 == 1.0
