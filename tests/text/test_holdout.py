"""The split depends on texts alone, keeps equal documents together and never loses a character."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from langmill.core.errors import ConfigError, DataError
from langmill.text.documents import PART_CHARACTERS, Document, cut_parts
from langmill.text.holdout import digest_number, is_held_out, plan_split, split_documents


def as_documents(texts: list[str]) -> list[Document]:
    return [
        Document(part, f"f:{place}", number, last)
        for place, text in enumerate(texts)
        for number, (part, last) in enumerate(cut_parts([text]))
    ]


def sides(documents: list[Document], **options) -> tuple[dict[bool, list[str]], str]:
    """Split, check parts, and return the whole texts of either side with the plan's sentence."""
    split = plan_split(documents, **options)
    whole: dict[bool, list[str]] = {False: [], True: []}
    parts: list[str] = []
    for document, held_out in split_documents(documents, split):
        assert document.part == len(parts)
        assert document.text
        parts.append(document.text)
        if document.last:
            whole[held_out].append("".join(parts))
            parts = []
    assert not parts
    if split.mode != "tails":
        assert split.held_out_documents == len(whole[True])
        assert split.held_out_characters == sum(map(len, whole[True]))
    return whole, str(split)


PINNED = 0.15813985749429893
POEMS = [f"第{number}首：床前明月光，疑是地上霜。\n" for number in range(1000)]


def test_numbers_are_pinned():
    assert digest_number("床前明月光", seed=0) == digest_number(" 床前明月光\n") == PINNED
    assert digest_number("床前明月光", seed=1) != PINNED
    assert is_held_out("床前明月光", fraction=PINNED + 1e-9)
    assert not is_held_out("床前明月光", fraction=PINNED)


def test_documents_are_held_out_by_their_text_alone():
    whole, sentence = sides(as_documents(POEMS), fraction=0.05)
    assert len(whole[True]) == 51
    assert sorted(whole[True] + whole[False]) == sorted(POEMS)
    assert sentence == (
        "51 of 1,000 documents (18,890 characters) held out, 963 characters (5.1%), "
        "chosen by the digest of their text with seed 0."
    )
    shuffled = random.Random(1).sample(POEMS, len(POEMS))
    assert set(sides(as_documents(shuffled), fraction=0.05)[0][True]) == set(whole[True])
    assert set(sides(as_documents(POEMS), fraction=0.1)[0][True]) > set(whole[True])
    assert set(sides(as_documents(POEMS), fraction=0.05, seed=1)[0][True]) != set(whole[True])


def test_equal_documents_stand_on_one_side():
    whole, _ = sides(as_documents(POEMS[:200] * 3), fraction=0.05)
    assert len(whole[True]) >= 30
    assert not set(whole[True]) & set(whole[False])
    assert all(whole[True].count(text) == 3 for text in whole[True])


def test_at_least_one_document_of_few_is_held_out():
    for seed in range(50):
        whole, _ = sides(as_documents(POEMS[:20]), fraction=0.05, seed=seed)
        assert 1 <= len(whole[True]) <= 2


def test_a_large_corpus_holds_out_no_more_than_the_maximum():
    whole, _ = sides(as_documents(POEMS), fraction=0.05, maximum_characters=200)
    assert 200 <= sum(map(len, whole[True])) < 200 + 20
    assert set(whole[True]) < set(sides(as_documents(POEMS), fraction=0.05)[0][True])


def test_one_book_gives_its_end_cut_at_a_line_end():
    book = "".join(f"第{number}回 话说天下大势，分久必合，合久必分。\n" for number in range(1000))
    whole, sentence = sides(as_documents([book]), fraction=0.05)
    [head], [tail] = whole[False], whole[True]
    assert head + tail == book
    assert head.endswith("\n")
    assert 0.045 * len(book) < len(tail) <= 0.05 * len(book)
    assert sentence.startswith("the end of each document is held out, about ")


@pytest.mark.parametrize("line_end", ["\n", ""])
@pytest.mark.parametrize("extra", [0, 1, 2, 55_000, 58_253, 58_254, 58_255, 524_288, PART_CHARACTERS])
def test_long_documents_lose_nothing_wherever_the_cut_falls(line_end, extra):
    length = PART_CHARACTERS + extra
    text = (("第一行话" * 9 + line_end) * (length // 30))[:length]
    short = "短文" * 30 + "\n" + "末尾"
    for fraction in (0.05, 0.5, 0.000001, extra / length if extra * 2 <= length else 0.1):
        whole, _ = sides(as_documents([short, text, short]), fraction=fraction, maximum_characters=10**9)
        by_text = defaultdict(str)
        heads, tails = iter(whole[False]), iter(whole[True])
        for place, original in enumerate([short, text, short]):
            head = next(heads)
            by_text[place] = head if head == original else head + next(tails)
            assert by_text[place] == original
            assert len(original) - len(head) <= fraction * len(original)
        assert next(heads, None) is next(tails, None) is None


def test_a_tail_is_at_most_a_megabyte_and_all_tails_at_most_the_maximum():
    text = "古文观止，\n" * 500_000
    documents = as_documents([text])
    whole, _ = sides(documents, fraction=0.5, maximum_characters=10**9)
    assert 999_990 < sum(map(len, whole[True])) <= 1_000_000
    whole, _ = sides(documents, fraction=0.5, maximum_characters=20_000)
    assert 19_990 < sum(map(len, whole[True])) <= 20_000


def test_documents_that_are_mostly_of_one_giant_are_split_by_tails():
    documents = as_documents([*POEMS[:30], "天地玄黄\n" * 500_000])
    assert plan_split(documents).mode == "tails"
    lopsided = as_documents(["独" * 900_000, *POEMS[:30]])
    modes = {plan_split(lopsided, seed=seed).mode for seed in range(100)}
    assert "tails" in modes  # for the seeds that would have held out nearly everything
    for seed in range(100):
        whole, _ = sides(lopsided, seed=seed)
        assert sum(map(len, whole[False])) > 800_000


def test_many_copies_of_one_document_are_split_by_tails_without_leaking():
    text = "".join(f"第{number}行\n" for number in range(300))
    whole, _ = sides(as_documents([text] * 40))
    assert len(set(whole[True])) == len(set(whole[False])) == 1
    assert whole[False][0] + whole[True][0] == text
    assert whole[True][0] not in whole[False][0]


def test_nothing_held_out_and_nothing_to_hold_out():
    whole, sentence = sides(as_documents(POEMS[:3]), fraction=0)
    assert whole == {False: POEMS[:3], True: []}
    assert sentence == "Nothing is held out of 3 documents (51 characters)."
    with pytest.raises(
        ConfigError, match=r"held-out fraction: 0.7 is not allowed; expected 0 \(none\) to 0.5"
    ):
        plan_split(as_documents(POEMS), fraction=0.7)
    with pytest.raises(DataError, match="no document to split"):
        plan_split([])
    whole, _ = sides(as_documents(["短"]))
    assert whole == {False: ["短"], True: []}
