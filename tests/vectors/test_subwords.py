"""FastText's pieces of words, beside gensim's. [tests]"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_samples import buckets_of, piece_hash, pieces_of

from langmill.vectors.subwords import number_pieces

gensim = pytest.importorskip("gensim.models.fasttext_inner")
WORDS = ["whale", "a", "的", "你好", "红楼梦", "naïve", "l'été", "🐋鲸", "zzzzzzzzz", "ⅷ"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("sizes", [(3, 6), (1, 2), (2, 4)])
def test_pieces_and_hashes_are_gensims(word: str, sizes: tuple[int, int]) -> None:
    theirs = gensim.compute_ngrams_bytes(word, *sizes)
    assert pieces_of(word, *sizes) == theirs
    assert buckets_of(word, *sizes, 1000) == [gensim.ft_hash_bytes(piece) % 1000 for piece in theirs]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_as_gensim(word: str) -> None:
    from gensim.models.fasttext import ft_ngram_hashes

    assert buckets_of(word, 3, 6, 2_000_000) == ft_ngram_hashes(word, 3, 6, 2_000_000)


def test_bytes_above_127_count_as_negative() -> None:
    # Of 0xE4 the sign is carried into the upper bits before the product, unlike in FNV-1a as published.
    assert piece_hash(b"\xe4") == (2166136261 ^ 0xFFFFFFE4) * 16777619 % 2**32


def test_rows_of_words_and_their_pieces() -> None:
    pieces = number_pieces(["ab", "abab"], 3, 3, 1000)
    first, second = (pieces.rows[a:b].tolist() for a, b in itertools.pairwise(pieces.begins))
    assert first == [0, 2, 3]  # itself, "<ab", "ab>"
    assert second == [1, 2, 4, 5, 3]  # itself, "<ab", "aba", "bab", "ab>"
    assert pieces.buckets.tolist() == [piece_hash(each) % 1000 for each in (b"<ab", b"ab>", b"aba", b"bab")]
    assert number_pieces(["ab"], 3, 0, 10).rows.tolist() == [0]
    assert np.array_equal(number_pieces([], 3, 6, 10).begins, [0])
