"""Places of tags in texts, windows over long ones, tags and what may follow what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from langmill.batches.labelled import TOKEN_FILL
from langmill.metrics.spans import Scheme, spans_to_tags, tags_to_spans
from langmill.tasks.tags import (
    Places,
    TagSet,
    decode,
    pieces,
    placed,
    places_of,
    rows_of,
    tags_of,
    windows,
)
from langmill.text.labelled_entities import Span
from langmill.tokens.tokenizer import Tokenizer
from langmill.tokens.train import train_tokenizer

TEXTS = [
    "Barack Obama visited Paris-Nord in 2011.",
    "北京大学在中国的首都北京，创办于1898年。",
    "emoji 👩‍👩‍👧 and café, naïve e\u0301tude",
    "हिन्दी में लिखा, 渡辺麻友は日本人",
] * 5
KINDS = ("bpe", "wordpiece", "unigram", "char")


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    vocabulary = None if request.param == "char" else 400
    return train_tokenizer(TEXTS, kind=request.param, vocabulary=vocabulary)


def cut(text: str) -> list[str]:
    return [text[begin:end] for begin, end in pieces(text)]


def test_pieces() -> None:
    assert cut("U.S. stocks, 3.5%") == ["U", ".", "S", ".", "stocks", ",", "3", ".", "5", "%"]
    assert cut("我爱NLP2") == ["我", "爱", "NLP2"]
    assert cut("e\u0301te\u0301 👩‍👧 हिन्दी") == ["e\u0301te\u0301", "👩‍", "👧", "हिन्दी"]
    assert cut(" \n\u3000 ") == cut("") == []


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=40))
def test_places_lie_in_order_and_cover_what_tokens_cover(text: str) -> None:
    tokenizer = byte_tokenizer()
    found = places_of(text, tokenizer)
    flat = found.extents.ravel().tolist()
    assert flat == sorted(flat) and all(begin < end for begin, end in found.extents.tolist())
    assert sorted(set(found.tokens.tolist())) == found.tokens.tolist()
    seen = "".join(text[begin:end] for begin, end in found.extents.tolist())
    assert seen == "".join(text[begin:end] for begin, end in pieces(text))


_BYTES: list[Tokenizer] = []


def byte_tokenizer() -> Tokenizer:
    if not _BYTES:
        _BYTES.append(train_tokenizer(TEXTS, kind="bpe", vocabulary=300))
    return _BYTES[0]


@pytest.mark.parametrize("text", TEXTS[:2])
def test_places_are_the_same_by_every_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    found = places_of(text, tokenizer)
    extents = [tuple(extent) for extent in found.extents.tolist()]
    whole = set(pieces(text))
    if tokenizer.kind in ("char", "wordpiece"):
        assert extents == pieces(text)
    # Where a token covers several pieces they are one place; borders are borders of pieces anyhow.
    assert {begin for begin, _ in extents} <= {begin for begin, _ in whole}
    assert {end for _, end in extents} <= {end for _, end in whole}
    for (begin, end), token in zip(extents, found.tokens.tolist()):
        _, first, _ = tokenizer.encode_offsets(text)[token]
        assert first <= begin < end


def test_a_token_over_several_characters_is_one_place() -> None:
    tokenizer = train_tokenizer(["北京 北京"] * 20, kind="bpe", vocabulary=280)
    found = places_of("在北京", tokenizer)
    assert [tuple(extent) for extent in found.extents.tolist()] == [(0, 1), (1, 3)]
    spans, torn = placed([Span(1, 2, "X")], found.extents)
    assert len(spans) == 1 and torn == [Span(1, 2, "X")]


def test_spans_that_are_torn_are_kept_as_far_as_whole_places_go() -> None:
    extents = np.array([[0, 2], [2, 5], [6, 9]])
    spans = [Span(1, 2, "A"), Span(2, 5, "B"), Span(5, 9, "C")]
    assert placed(spans, extents) == ([(0, 1, "A"), (1, 2, "B"), (2, 3, "C")], [spans[0], spans[2]])
    # Two in one place: the first has it, the second is left without any.
    assert placed([Span(0, 1, "A"), Span(1, 2, "B")], extents) == (
        [(0, 1, "A")],
        [Span(0, 1, "A"), Span(1, 2, "B")],
    )
    assert placed([Span(5, 6, "A")], extents) == ([], [Span(5, 6, "A")])


def made(count: int, *, words: int = 1) -> Places:
    """Places of `words` tokens each."""
    extents = np.stack([np.arange(count), np.arange(count) + 1], 1)
    return Places(extents, np.arange(count) * words, np.arange(count * words, dtype=np.int32))


@pytest.mark.parametrize("count", [1, 5, 6, 7, 13, 50, 51, 200])
@pytest.mark.parametrize("words", [1, 3])
def test_windows_ask_for_every_place_once_in_the_middle(count: int, words: int) -> None:
    places, tags = made(count, words=words), np.arange(count)
    found = windows(places, tags, ([900], [901, 902]), limit=23, segments=False)
    asked = [label for window in found for label in window.row.target.tolist() if label != TOKEN_FILL]
    assert asked == list(range(count))
    at = 0
    for number, window in enumerate(found):
        ids = window.row.ids.tolist()
        assert len(ids) <= 23 and ids[0] == 900 and ids[-2:] == [901, 902]
        assert window.begin == at
        at += len(window.positions)
        assert [ids[place] for place in window.positions] == places.tokens[window.begin : at].tolist()
        if 0 < number < len(found) - 1:  # at least a quarter of what may be read stands on either side
            assert window.positions[0] >= 5 and len(ids) - window.positions[-1] >= 5


def test_windows_of_a_text_without_places() -> None:
    empty = Places(np.zeros((0, 2), np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32))
    assert windows(empty, None, ([1], [2]), limit=8, segments=True) == []
    assert list(rows_of([empty, made(2)], [None, None], ([], []), limit=8, segments=True).owners) == [1]


def test_rows_have_segments_where_the_model_tells_them_apart() -> None:
    (window,) = windows(made(2), None, ([1], [2]), limit=8, segments=True)
    assert window.row.segments is not None and window.row.segments.tolist() == [0, 0, 0, 0]
    assert window.row.target.tolist() == [TOKEN_FILL] * 4


@pytest.mark.parametrize("scheme", ["BIO", "BIOES", "BMES", "BILOU"])
def test_chains_that_are_allowed_are_those_that_the_strict_reading_keeps(scheme: Scheme) -> None:
    labels = tags_of(scheme, ["A", "B"], outside=True)
    tags = TagSet(labels, scheme)
    generator = torch.Generator().manual_seed(0)
    emissions = [torch.randn(9, len(labels), generator=generator).numpy() * 3 for _ in range(60)]
    free = [[labels[i] for i in scores.argmax(1)] for scores in emissions]
    found = decode(emissions, torch.zeros(len(labels) + 1, len(labels) + 1), tags)
    for chain in [each.tags for each in found]:
        spans = tags_to_spans(chain, strict=scheme)
        assert spans_to_tags(spans, len(chain), scheme) == chain
    assert any(chain.tags != best for chain, best in zip(found, free))
    for chain in free:  # and what is legal already stays
        if spans_to_tags(tags_to_spans(chain, strict=scheme), len(chain), scheme) == chain:
            assert found[free.index(chain)].tags == chain


def test_plain_names_and_unknown_schemes_are_left_free() -> None:
    assert TagSet(("NOUN", "VERB")).allowed.all()
    assert TagSet(("O", "I-A", "B-A")).allowed.all()  # may be IOB1
    assert not TagSet(("O", "B-A", "I-A"), "BIO").allowed[0, 2]
    assert not TagSet(("B", "M", "E", "S")).allowed.all()
    assert TagSet(("O", "PER", "LOC")).spans(["PER", "PER", "O", "LOC"]) == [(0, 2, "PER"), (3, 4, "LOC")]
    assert TagSet(("NOUN", "VERB")).spans(["NOUN", "NOUN"]) == [(0, 1, "NOUN"), (1, 2, "NOUN")]


def test_decoding_texts_of_any_length_together_is_decoding_each() -> None:
    tags = TagSet(("O", "B-A", "I-A"), "BIO")
    generator = torch.Generator().manual_seed(0)
    emissions = [torch.randn(n, 3, generator=generator).numpy() for n in (3, 0, 7, 1)]
    transitions = torch.randn(4, 4, generator=generator)
    together = decode(emissions, transitions, tags)
    assert together == [decode([each], transitions, tags)[0] for each in emissions]
    assert together[1].tags == []


def test_scores_of_spans_are_probabilities_without_a_crf_of_tags_by_themselves() -> None:
    tags = TagSet(("NOUN", "VERB"))
    emissions = np.array([[0.0, 1.0], [2.0, 0.0]], np.float32)
    (chain,) = decode([emissions], torch.zeros(3, 3), tags)
    assert chain.chances == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2))], rel=1e-5)


def test_a_piece_of_a_text_may_begin_and_end_inside_a_span() -> None:
    tags = TagSet(("O", "B-A", "I-A", "E-A", "S-A"), "BIOES")
    assert not tags.allowed[-1, 2] and not tags.allowed[1, -1]
    assert tags.within[-1].all() and tags.within[:, -1].all()
    assert torch.equal(tags.within[:-1, :-1], tags.allowed[:-1, :-1])
