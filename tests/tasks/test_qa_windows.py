"""Rows of questions and windows: layout, offsets, targets, and answers out of scores."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from langmill.core.errors import ConfigError
from langmill.tasks.qa_windows import (
    CANDIDATES,
    OVERLAP_TOKENS,
    Candidates,
    answer_places,
    cut_windows,
    gather_candidates,
    longest_answer,
    read_window,
    tidy,
    window_ends,
)
from langmill.tokens.tokenizer import Tokenizer
from tests.tasks.question_samples import HARD, WORDS, example, new_tokenizer

KINDS = ("bpe", "char", "wordpiece", "unigram")


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {kind: new_tokenizer(kind) for kind in KINDS}


def test_a_row_by_hand(tokenizers):
    tokenizer = tokenizers["char"]
    found = cut_windows([example("who?", "mill 磨坊", "磨坊")], tokenizer, limit=40, segments=True)
    (row,) = found.rows
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    assert row.ids.tolist() == [cls, *tokenizer.encode("who?"), sep, *tokenizer.encode("mill 磨坊"), sep]
    assert row.segments.tolist() == [0] * 6 + [1] * 8
    assert row.target.tolist() == [11, 12, 0, 6, 13]
    assert row.places.tolist() == [[place, place + 1] for place in range(7)]
    assert found.owners.tolist() == [0] and found.notes == []
    places = answer_places(torch.from_numpy(row.target)[None], 14)
    assert places.int().tolist() == [[1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]]


def test_without_a_layout_the_end_token_separates():
    tokenizer = new_tokenizer("bpe", layout=False)
    (row,) = cut_windows([example("who", "mill", "mill")], tokenizer, limit=40, segments=False).rows
    end = tokenizer.eos_id
    assert row.ids.tolist() == [*tokenizer.encode("who"), end, *tokenizer.encode("mill"), end]
    assert row.segments is None
    assert row.target[2] == len(row.ids) - 1, "the last token alone has read all in a decoder"


@pytest.mark.parametrize("limit", [30, 64])
def test_rows_are_those_of_transformers(tokenizers, tmp_path, limit):
    transformers = pytest.importorskip("transformers")
    tokenizer = tokenizers["wordpiece"]
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    context = " ".join(WORDS * 7)
    rows = cut_windows([example("who turns?", context)], tokenizer, limit=limit, segments=True).rows
    room = limit - 3 - len(tokenizer.encode("who turns?"))
    wanted = theirs(
        "who turns?",
        context,
        max_length=limit,
        stride=min(OVERLAP_TOKENS, room // 2),
        truncation="only_second",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert len(rows) > 3
    assert [row.ids.tolist() for row in rows] == wanted["input_ids"]
    assert [row.segments.tolist() for row in rows] == wanted["token_type_ids"]
    for number, row in enumerate(rows):
        offsets = [
            [*place]
            for place, part in zip(wanted["offset_mapping"][number], wanted.sequence_ids(number))
            if part == 1
        ]
        assert row.places.tolist() == offsets


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["北京大学", "👩‍👩‍👧", "naïve", "1990", "½", "東京", "Café́", "e\u0301té"])
def test_the_target_covers_the_answer_exactly(tokenizers, kind, answer):
    wanted = example("who?", HARD, answer)
    (row,) = cut_windows([wanted], tokenizers[kind], limit=256, segments=False).rows
    first, last, _, begin, _ = row.target
    span = HARD[slice(*tidy(HARD, row.places[first - begin, 0], row.places[last - begin, 1]))]
    assert answer in span
    # A token may hold more than the answer, but only at its ends.
    inner = row.places[first - begin : last - begin + 1]
    at = HARD.index(answer)
    assert inner[0, 1] > at and inner[-1, 0] < at + len(answer)
    if kind == "char":
        assert span.strip() == answer


@given(st.integers(0, 400), st.integers(2, 300))
def test_windows_cover_everything_once_or_in_their_overlap(count, size):
    ends = list(window_ends(count, size))
    assert ends[0][0] == 0 and ends[-1][1] == count
    overlap = min(OVERLAP_TOKENS, size // 2)
    assert all(end - begin == size for begin, end in ends[:-1])
    assert all(a[1] - b[0] == overlap for a, b in pairwise(ends))
    assert all(b[1] > a[1] for a, b in pairwise(ends)), "no window is within the one before"


def test_an_answer_is_in_every_window_that_holds_it_whole(tokenizers):
    context = "m" * 20 + "磨坊" + "x" * 20
    rows = cut_windows([example("?", context, "磨坊")], tokenizers["char"], limit=20, segments=False).rows
    held = 0
    for row in rows:
        first, last, none, begin, _ = row.target
        text = context[row.places[0, 0] : row.places[-1, 1]]
        if "磨坊" in text:
            held += 1
            assert context[row.places[first - begin, 0] : row.places[last - begin, 1]] == "磨坊"
        else:
            assert (first, last) == (none, none) == (0, 0)
    assert held == 2 < len(rows)


def test_white_space_around_an_answer_is_no_part_of_it(tokenizers):
    (row,) = cut_windows(
        [example("?", "the mill turns", " mill ")], tokenizers["bpe"], limit=40, segments=False
    ).rows
    first, last, _, begin, _ = row.target
    assert "the mill turns"[row.places[first - begin, 0] : row.places[last - begin, 1]].strip() == "mill"


def test_the_second_answer_counts_where_the_first_is_not_in_the_window(tokenizers):
    context = "磨坊" + "x" * 30 + "模型"
    rows = cut_windows(
        [example("?", context, "磨坊", "模型")], tokenizers["char"], limit=24, segments=False
    ).rows
    first, last, _, begin, _ = rows[-1].target
    assert context[rows[-1].places[first - begin, 0] : rows[-1].places[last - begin, 1]] == "模型"


def test_what_is_not_read_is_counted(tokenizers):
    asked = [example("who " * 30, "mill", "mill"), example("?", "m" * 60, "m" * 40), example("?", "mill")]
    found = cut_windows(asked, tokenizers["char"], limit=40, segments=False)
    assert (found.questions_cut, found.lost) == (1, 1)
    assert found.notes[0].startswith("1 question not read") and "answers to 1 question " in found.notes[1]
    assert max(len(row.ids) for row in found.rows) <= 40
    assert found.rows[0].target[3] == 2 + 37 // 4, "a quarter of the row"


def test_too_short_rows(tokenizers):
    with pytest.raises(ConfigError, match="--model.context 18.* at least 19 tokens"):
        cut_windows([example("?", "mill")], tokenizers["char"], limit=18, segments=False)


def test_long_contexts(tokenizers):
    context = (" ".join(WORDS) + "。") * 1700 + "北京大学"
    assert len(context) > 100_000
    for kind in ("bpe", "wordpiece"):
        found = cut_windows(
            [example("who?", context, "北京大学")] * 2, tokenizers[kind], limit=512, segments=True
        )
        last = found.rows[-1]
        begin, end = last.places[last.target[:2] - last.target[3]].ravel()[[0, 3]]
        assert context[begin:end].endswith("北京大学") and end == len(context)
        assert found.rows[0].places.base is found.rows[-1].places.base, (
            "one table of offsets, not a copy a window"
        )


# ------------------------------------------------------------------------------------------------
# From scores to answers


def test_candidates_are_the_best_of_all_spans(tokenizers):
    context = "磨坊把文本变成模型多少谁" * 4
    (row,) = cut_windows([example("谁", context)], tokenizers["char"], limit=80, segments=False).rows
    scores = np.random.default_rng(0).normal(size=(len(row.ids), 2)).astype(np.float32)
    found, none = read_window(row, scores, context, longest=7)
    first, end = row.target[3:]
    everything = {
        (a - first, b + 1 - first): float(scores[a, 0] + scores[b, 1])
        for a in range(first, end)
        for b in range(a, min(end, a + 7))
    }
    best = sorted(everything, key=everything.__getitem__, reverse=True)[:CANDIDATES]
    assert set(found) == set(best)
    assert all(found[span] == pytest.approx(everything[span], abs=1e-6) for span in best)
    assert none == pytest.approx(float(scores[0].sum()))


def test_answers_are_whole_words(tokenizers):
    context = "Ann Lee 1890 磨坊"
    (row,) = cut_windows([example("who?", context)], tokenizers["char"], limit=40, segments=False).rows
    begins = {int(place): token for token, place in enumerate(row.places[:, 0], row.target[3])}
    best = {}
    for piece in ("Ann", "Ann Lee", "1890", "磨", "坊", "磨坊", context, "A", "nn Lee", "890", "189"):
        scores = np.zeros((len(row.ids), 2), np.float32)
        at = context.index(piece)
        scores[begins[at], 0] = scores[begins[at + len(piece) - 1], 1] = 5.0
        found, _ = read_window(row, scores, context, longest=30)
        best[piece] = max(found.items(), key=lambda each: each[1])[0] == (at, at + len(piece))
    assert [piece for piece, right in best.items() if not right] == ["A", "nn Lee", "890", "189"]


def test_a_window_without_tokens_has_no_candidates(tokenizers):
    (row,) = cut_windows([example("who?", " ")], tokenizers["wordpiece"], limit=40, segments=False).rows
    assert row.target[3] == row.target[4]
    assert read_window(row, np.zeros((len(row.ids), 2), np.float32), " ", longest=30) == ({}, 0.0)


def test_windows_are_put_together():
    parts = [({(0, 2): 1.0, (3, 4): 2.0}, -1.0), ({(3, 4): 3.0, (5, 6): 3.0}, -2.0)]
    found = gather_candidates(parts)
    assert list(found.spans.items()) == [((3, 4), 3.0), ((5, 6), 3.0), ((0, 2), 1.0)]
    assert found.none == -2.0 and found.odds == -5.0
    assert 1e8 < Candidates({}, 1.0).odds < math.inf


def test_chinese_questions_have_longer_answers():
    assert (longest_answer("Who?"), longest_answer("谁？")) == (30, 60)
