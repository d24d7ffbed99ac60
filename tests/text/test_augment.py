"""Operations on words: what changes, and what must not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langmill.text.augment import (
    Changes,
    Delete,
    Insert,
    Operation,
    Passage,
    Place,
    Replace,
    Swap,
    capital,
    may_change,
    passage,
    render,
    variants,
)

pytest.importorskip("rjieba")
pytest.importorskip("stopwordsiso")

TEXTS = st.text(
    st.one_of(st.sampled_from("aBc  .,-'’’_1\n\t\u3000中国人民不爱。，!\u0301"), st.characters()), max_size=50
)


def shout(places: Sequence[Place]) -> list[list[tuple[str, float]]]:
    """Suggest a word for each."""
    return [
        [("鲸鱼" if place.word > "\u3400" else "whale", 1.0), (place.word, 5.0), ("x1", 9.0)]
        for place in places
    ]


OPERATIONS: list[Operation] = [
    Swap(0.5),
    Delete(0.5),
    Replace(0.5, shout, "synonym"),
    Insert(0.5, shout),
]


def changed(text: str, changes: Changes, protected: Sequence[tuple[int, int]] = ()) -> str:
    return render(passage(text, protected), changes)[0]


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("The cat sat, then ran.", {1: (2,), 2: (1,)}, "The sat cat, then ran."),
        ("The cat sat.", {0: (2,), 2: (0,)}, "Sat cat the."),
        ("I met Ann. Then Bob left.", {2: (4,), 4: (2,)}, "I met Bob. Then Ann left."),
        ("The cat sat.", {0: ()}, "Cat sat."),
        ("The cat sat.", {0: (), 1: ()}, "Sat."),
        ("The cat  sat.", {2: ()}, "The cat ."),
        ("The cat sat", {2: ()}, "The cat"),
        ("a cat sat", {0: (), 2: ()}, "cat"),
        ("go, cat, on", {1: ()}, "go, on"),
        ("go, cat! on", {1: ()}, "go,! on"),
        ("The CAT sat", {1: ("dog",)}, "The DOG sat"),
        ("Cats sat", {0: ("dogs",)}, "Dogs sat"),
        ("Cats sat", {0: (0, "big")}, "Cats big sat"),
        ("我们在家吃饭。", {1: ()}, "我们吃饭。"),
        ("我们在家吃饭。", {0: (0, "今天")}, "我们今天在家吃饭。"),
        ("书店，街，酒店", {1: ()}, "书店，酒店"),
        ("Java的Python", {1: ()}, "Java Python"),
        ("用C写Java", {1: (2,), 2: (1,)}, "用写C Java"),
        ("a cat", {}, "a cat"),
    ],
)
def test_rendering(text: str, changes: Changes, expected: str) -> None:
    assert changed(text, changes) == expected


def test_what_may_change() -> None:
    text = "I 've not seen 3 whales isn't it? 不错 see www.a.org 10:30 Ahab’s"
    each = passage(text)
    assert [each.word(number) for number in range(len(each.words))] == [
        "I",
        "seen",
        "whales",
        "it",
        "see",
        "Ahab’s",
    ]
    assert not may_change("没有") and may_change("有")
    each = passage("2008年5月去北京看3 头鲸鱼")
    assert [each.word(number) for number in range(len(each.words))] == ["去", "北京", "看", "头", "鲸鱼"]


def test_words_that_a_span_touches_stay() -> None:
    text = "Ann's cat saw New York twice"
    each = passage(text, [(0, 3), (14, 22), (18, 25)])
    assert [each.word(number) for number in range(len(each.words))] == ["cat", "saw"]
    assert each.protected == ((0, 3), (14, 25))


def test_swap_keeps_the_words() -> None:
    each = passage("one two three four five six")
    changes = Swap(0.5)([each], [Random(3)])[0]
    text = changed(each.text, changes)  # type: ignore[arg-type]
    assert text != each.text and Counter(text.split()) == Counter(each.text.split())


def test_delete_takes_its_share() -> None:
    each = passage("word " * 1000)
    (changes,) = Delete(0.2)([each], [Random(0)])
    assert 150 < len(changes) < 250
    assert Delete(0.9)([passage("alone")], [Random(0)]) == [{}]
    for seed in range(20):
        assert 1 <= len(Delete(1.0).one(3, Random(seed))) == 2
        assert len(Delete(0.01).one(3, Random(seed))) == 1


def test_stop_words_numbers_and_the_same_word_are_not_suggested() -> None:
    each = passage("the harpoon of the captain")
    for seed in range(10):
        changes = Replace(1.0, shout, "synonym")([each], [Random(seed)])[0]
        assert changes == {1: ("whale",), 4: ("whale",)}
    (changes,) = Insert(0.2, shout)([each], [Random(0)])
    assert isinstance(changes, dict) and [items[1:] for items in changes.values()] == [("whale",)]
    assert Replace(0.5, shout, "synonym")([passage("of the")], [Random(0)]) == [{}]


def test_a_suggestion_is_of_the_same_script() -> None:
    each = passage("鲸 whale")
    suggest = Replace(1.0, lambda places: [[("dog", 1.0), ("不好", 1.0)] for _ in places], "synonym")
    assert suggest([each], [Random(0)]) == [{1: ("dog",)}]


def test_variants_take_turns_and_are_all_new() -> None:
    texts = ["one two three four five six seven", "uno due", "鲸", "a b a b a b a b"]
    passages = [passage(text) for text in texts]

    def written(index: int, result: Changes | str, name: str) -> str:
        assert isinstance(result, dict)
        return render(passages[index], result)[0]

    found = variants(passages, [Swap(0.3), Delete(0.3)], written, per_row=4, seed=1)
    assert Counter(name for name, _ in found[0]) == {"swap": 2, "delete": 2}
    for index, (text, results) in enumerate(zip(texts, found)):
        new = [written(index, result, name) for name, result in results]
        assert len({*new, text}) == len(new) + 1
    assert {written(1, result, name) for name, result in found[1]} <= {"due uno", "due", "uno"} and found[1]
    assert found[2] == []
    backwards = variants(
        passages[::-1], [Swap(0.3), Delete(0.3)], lambda i, r, n: written(3 - i, r, n), per_row=4, seed=1
    )
    assert backwards[::-1] == found
    other = variants(passages, [Swap(0.3), Delete(0.3)], written, per_row=4, seed=2)
    assert other[0] != found[0]


@settings(max_examples=1000, deadline=None)
@given(
    text=TEXTS,
    cuts=st.lists(st.integers(0, 50), max_size=6),
    seed=st.integers(0, 99),
    number=st.integers(0, 3),
)
def test_what_is_protected_stays(text: str, cuts: list[int], seed: int, number: int) -> None:
    """Every span, nested and overlapping ones too, is found at its new place; other signs keep their order."""
    places = [min(cut, len(text)) for cut in cuts]
    spans = [(min(pair), max(pair)) for pair in zip(places[::2], places[1::2])]
    each = passage(text, spans)
    (changes,) = OPERATIONS[number]([each], [Random(seed)])
    assert isinstance(changes, dict)
    new, moved = render(each, changes)
    for span in spans:
        begin, end = moved(span)
        assert new[begin:end] == text[span[0] : span[1]]
        assert 0 <= begin <= end <= len(new)
    ordered = sorted(span for span in spans if span[0] < span[1])
    assert [moved(span)[0] for span in ordered] == sorted(moved(span)[0] for span in ordered)
    if not changes:
        assert new == text
    if number == 0:
        letters = Counter("".join(new.split()).lower())
        assert letters == Counter("".join(text.split()).lower())


def test_capitals_come_back() -> None:
    """A letter whose capital is another letter's stays as it is."""
    assert [capital(word) for word in ("word", "µ", "ßa", "Word", "")] == ["Word", "µ", "ßa", "Word", ""]


def test_spans_at_the_edges_of_edits() -> None:
    """An insertion right before a span moves it; a deletion does not eat its white space."""
    text = "他在北京 住"
    each = passage(text, [(2, 4)])
    new, moved = render(each, {0: (0, "们"), 1: ()})
    begin, end = moved((2, 4))
    assert new == "他们北京 住" and new[begin:end] == "北京"
    spaced = "see New York now"
    each = passage(spaced, [(3, 13)])
    new, moved = render(each, {0: (), 1: ()})
    begin, end = moved((3, 13))
    assert new[begin:end] == " New York "


def test_passages_of_other_segmenters() -> None:
    each: Passage = passage("红楼梦", segment=lambda text: [text])
    assert each.words == ((0, 3),)
