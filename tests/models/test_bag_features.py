"""N-grams of words and characters: by hand, and as scikit-learn makes them."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from langmill.models.bag_features import (
    LETTER,
    SIGN,
    SPACE,
    Alphabet,
    all_ngrams,
    characters_of,
    mix,
    piece_ngrams,
    word_ngrams,
    words_of,
)
from langmill.tokens.train import train_tokenizer

TEXTS = ["Hello hello, the café 中文好!  x", "", "a b", "the cat's\t中 文好", " ", "naïve   CAFÉ_2 中文"]
WORD = re.compile(r"[一-鿿]|[^\W一-鿿]+|[^\w\s]")


def read(texts, learned=TEXTS):
    tokenizer = train_tokenizer(learned, kind="char")
    rows = [np.array(row, dtype=np.int64) for row in tokenizer.encode_batch(texts)]
    return rows, Alphabet.of(tokenizer)


def counts_of(block, text):
    keys, rows = block
    return Counter(keys[rows == text].tolist())


def test_by_hand():
    """`ab` and `ba` share no piece but the space; case and width do not tell words apart, order does."""
    rows, alphabet = read(["ab ba ab", "AB ｂａ", "ba ab"], ["ab ba AB ｂａ"])
    words, pieces = all_ngrams(rows, alphabet, 2, 3)
    assert sorted(counts_of(words, 0).values()) == [1, 1, 1, 2]  # ab, ba, ab ba, ba ab
    assert not counts_of(words, 1) - counts_of(words, 0)  # ab, ba, ab ba
    assert len(counts_of(words, 2) - counts_of(words, 1)) == 1  # ba ab
    # " ab ": " a", "ab", "b ", " ab", "ab "; twice, and those of " ba " once.
    assert sorted(counts_of(pieces, 0).values()) == [1] * 5 + [2] * 5
    assert counts_of(pieces, 1) == counts_of(pieces, 2)  # which do not look across words


def test_roles():
    tokenizer = train_tokenizer(["a7_ é́\n中!😀"], kind="char")
    alphabet = Alphabet.of(tokenizer)
    roles = {tokenizer.token(number): role for number, role in enumerate(alphabet.roles)}
    assert [roles[each] for each in "a7_é\u0301"] == [LETTER] * 5
    assert [roles[each] for each in "中!😀"] == [SIGN] * 3
    assert [roles[each] for each in (" ", "\n", "<|endoftext|>")] == [SPACE] * 3


def test_ascii_that_was_not_learned_is_read_all_the_same():
    rows, alphabet = read(["GOOD, Day", "good, day"], ["good day"])
    for block in all_ngrams(rows, alphabet, 2, 5):
        assert counts_of(block, 0) == counts_of(block, 1)
    unseen, _ = read(["gooñd"], ["good day"])
    assert len(all_ngrams(unseen, alphabet, 1, 0)[0][0]) == 1  # one word, as its bytes are parts of it


def test_tokens_of_other_tokenizers_are_words():
    tokenizer = train_tokenizer(["low lower lowest " * 5], kind="bpe", vocabulary=270)
    alphabet = Alphabet.of(tokenizer)
    assert set(alphabet.roles.tolist()) == {SPACE, SIGN}
    ids = np.array(tokenizer.encode("lower low"))
    (_, rows), _ = all_ngrams([ids], alphabet, 1, 0)
    assert len(rows) == len(ids)


def test_words_are_those_of_a_count_vectorizer():
    rows, alphabet = read(TEXTS)
    words, _ = all_ngrams(rows, alphabet, 2, 0)
    theirs = CountVectorizer(ngram_range=(1, 2), tokenizer=WORD.findall, token_pattern=None)
    agree(words, theirs.fit_transform(TEXTS))


def test_pieces_are_those_of_char_wb():
    rows, alphabet = read(TEXTS)
    _, pieces = all_ngrams(rows, alphabet, 1, 5)
    agree(pieces, CountVectorizer(analyzer="char_wb", ngram_range=(2, 5)).fit_transform(TEXTS))


def agree(block, theirs):
    """See that two ways count alike: n-grams that are one n-gram there are one here, as often in each text."""
    keys, rows = block
    distinct, numbers = np.unique(keys, return_inverse=True)
    ours = np.zeros((theirs.shape[0], len(distinct)), dtype=int)
    np.add.at(ours, (rows, numbers), 1)
    assert sorted(map(tuple, ours.T.tolist())) == sorted(map(tuple, theirs.toarray().T.tolist()))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_nothing_crosses_texts(order):
    rows, alphabet = read(TEXTS)
    whole, roles = characters_of(rows, alphabet)
    together = Counter(zip(*map(np.ndarray.tolist, word_ngrams(words_of(whole, roles), order))))
    alone = Counter()
    for number, row in enumerate(rows):
        characters, roles = characters_of([row], alphabet)
        keys, _ = word_ngrams(words_of(characters, roles), order)
        alone.update((key, number) for key in keys.tolist())
    assert together == alone


def test_no_text_has_no_ngrams():
    rows, alphabet = read(["", " \n "])
    assert [len(keys) for keys, _ in all_ngrams(rows, alphabet, 3, 4)] == [0, 0]
    characters, roles = characters_of([], alphabet)
    assert len(piece_ngrams(characters, roles, 2)[0]) == 0


def test_different_ngrams_have_different_keys():
    """All of 20,000 unigrams, bigrams and trigrams of ids that differ little."""
    ids = np.random.default_rng(3).integers(0, 40, 60_000)
    alphabet = Alphabet(np.arange(40), np.full(40, SIGN))
    keys, _ = all_ngrams([ids], alphabet, 3, 0)[0]
    windows = [set(zip(*(ids[place:].tolist() for place in range(order)))) for order in (1, 2, 3)]
    assert len(np.unique(keys)) == sum(map(len, windows))
    assert len(np.unique(mix(np.arange(1000, dtype=np.uint64)))) == 1000
