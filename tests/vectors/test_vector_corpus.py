"""A corpus as ids on disk. [tests]"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from langmill.core.errors import DataError
from langmill.text.documents import Document
from langmill.text.readers import read_documents
from langmill.vectors import corpus
from langmill.vectors.corpus import EncodedCorpus, Vocabulary, encode_corpus


def decoded(encoded: EncodedCorpus) -> list[list[str]]:
    """Return the sentences as words."""
    begins = [0, *encoded.ends[:-1]]
    spell = encoded.vocabulary.words
    return [[spell[word] for word in encoded.ids[a:b]] for a, b in zip(begins, encoded.ends, strict=True)]


def test_a_small_text_by_hand() -> None:
    text = "b a c a\n\na b x\nx2 x3\na"
    with encode_corpus([Document(text, "text")], words="spaces", min_count=2) as encoded:
        assert encoded.vocabulary.words == ["a", "b"]
        assert encoded.vocabulary.counts.tolist() == [4, 2]
        assert encoded.ids.tolist() == [1, 0, 0, 0, 1, 0]
        assert encoded.ends.tolist() == [3, 5, 6]
        assert (encoded.read_tokens, encoded.read_words) == (10, 6)


def test_renumbering_in_pieces_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CHUNK", 7)
    random = Random(0)
    lines = [
        [
            random.choice("abcdefghijk") if random.random() < 0.9 else f"x{random.randrange(50)}"
            for _ in range(random.randrange(9))
        ]
        for _ in range(60)
    ]
    counts = Counter(word for line in lines for word in line)
    text = "\n".join(map(" ".join, lines))
    with encode_corpus([Document(text, "text")], words="spaces", min_count=5) as encoded:
        assert encoded.vocabulary.words == [word for word, count in counts.most_common() if count >= 5]
        kept = [[word for word in line if counts[word] >= 5] for line in lines]
        assert decoded(encoded) == [line for line in kept if line]


def test_chinese_is_cut_into_words_and_signs_are_dropped(tmp_path: Path) -> None:
    pytest.importorskip("rjieba")
    (tmp_path / "诗.txt").write_text("我们喜欢北京，我们喜欢上海。\nHello, Hello!\n", encoding="utf-8")
    with encode_corpus(read_documents([tmp_path]), min_count=1) as encoded:
        assert decoded(encoded) == [
            ["我们", "喜欢", "北京", "我们", "喜欢", "上海"],
            ["hello", "hello"],
        ]


def test_a_long_sentence_is_cut_and_nothing_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SENTENCE_WORDS", 10)
    with encode_corpus([Document("w " * 25, "text")], words="spaces", min_count=1) as encoded:
        assert np.diff(encoded.ends, prepend=0).tolist() == [10, 10, 5]


def test_a_word_cut_by_the_parts_of_a_document_is_whole() -> None:
    parts = [
        Document("one tw", "text", 0, last=False),
        Document("o three", "text", 1, last=False),
        Document(" four", "text", 2),
        Document("five", "another"),
    ]
    with encode_corpus(parts, words="spaces", min_count=1) as encoded:
        assert [word for line in decoded(encoded) for word in line] == ["one", "two", "three", "four", "five"]


def test_nothing_left_is_said(own_cache: Path) -> None:
    with (
        pytest.raises(
            DataError, match="none of the 3 different words of the text \\(4 in all\\) occurs 5 times; lower"
        ),
        encode_corpus([Document("a b c a", "text")], words="spaces", min_count=5),
    ):
        pass
    with pytest.raises(DataError, match="holds no word"), encode_corpus([], words="spaces"):
        pass
    assert not list((own_cache / "corpora").iterdir())


def test_the_files_go_when_the_block_ends(own_cache: Path) -> None:
    with encode_corpus([Document("a a", "text")], min_count=1):
        assert list((own_cache / "corpora").iterdir())
    assert not list((own_cache / "corpora").iterdir())


def test_what_was_forgotten_is_read_again() -> None:
    with encode_corpus([Document("a b a\nb c", "text")], words="spaces", min_count=1) as encoded:
        before = decoded(encoded)
        encoded.forget()
        assert decoded(encoded) == before


def test_the_fingerprint_tells_texts_apart() -> None:
    def fingerprint(text: str) -> str:
        with encode_corpus([Document(text, "text")], min_count=1) as encoded:
            return encoded.fingerprint()

    assert len({fingerprint(text) for text in ("a a b", "a b a", "a a\nb", "a a c")}) == 4
    assert fingerprint("a a b") == fingerprint("a a b")


def test_frequent_words_are_skipped_as_the_paper_says() -> None:
    counts = np.array([900_000, 90_000, 10_000 - 100, 100])
    keep = Vocabulary(["the", "of", "whale", "ambergris"], counts).keep(1e-3)
    shares = counts / 1e6
    paper = 1 - np.sqrt(1e-3 / shares)  # probability of being left out, Mikolov et al. 2013b, equation 5
    assert keep[:3] == pytest.approx(1 - paper[:3] + 1e-3 / shares[:3])  # and what word2vec's program adds
    assert keep[0] == pytest.approx(1 / 30 + 1 / 900)
    assert keep[3] == 1
    assert (Vocabulary(["a"], counts[:1]).keep(0) == 1).all()
