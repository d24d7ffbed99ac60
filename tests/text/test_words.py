"""Texts as words and sentences."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langmill.core.errors import ConfigError, MissingDependencyError
from langmill.text.segmentation import HAN
from langmill.text.stop_words import remove_stop_words, stop_words
from langmill.text.words import pieces, sentences, tokenise

NASTY = st.text(
    st.one_of(
        st.sampled_from(
            "aA1 .,'’-_@/:?!。！？…“”()\n\t\r\u3000\u0301中国人不𠮷ßİＡé\u200d\ufeff\x00\ud800한भा"
        ),
        st.characters(),
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't we'll Ahab's o’clock", ["Don't", "we'll", "Ahab's", "o’clock"]),
        ("'tis the dogs' bone", ["tis", "the", "dogs", "bone"]),
        ("state-of-the-art snake_case __init__ a -- b", "state-of-the-art snake_case init a b".split()),
        ("1,000.50 3.14 10:30 2024-05-01 1/2, 7.", ["1,000.50", "3.14", "10:30", "2024-05-01", "1/2", "7"]),
        ("U.S.A. e.g. p.m. Ph.D. vs. etc.", ["U.S.A.", "e.g.", "p.m.", "Ph.D.", "vs.", "etc."]),
        ("Mr. Smith met Dr. Who, not St.Paul.", ["Mr.", "Smith", "met", "Dr.", "Who", "not", "St", "Paul"]),
        ("See https://a.org/x?y=1#z, or www.b.cn.", ["See", "https://a.org/x?y=1#z", "or", "www.b.cn"]),
        ("见https://a.org/x。谢谢", ["见", "https://a.org/x", "谢谢"]),
        ("mail a.b+c@d-e.com.cn!", ["mail", "a.b+c@d-e.com.cn"]),
        ("at@home @you a@b", ["at", "home", "you", "a", "b"]),
        ("cafe\u0301s naïve", ["cafe\u0301s", "naïve"]),
        ("iPhone15手机很好", ["iPhone15", "手机", "很", "好"]),
        ("", []),
        (" \n…—？", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    pytest.importorskip("rjieba")
    assert tokenise(text, lowercase=False) == words


def test_signs_and_case() -> None:
    assert tokenise("“Go!” said AHAB...", signs=True) == [*"“", "go", *"!”", "said", "ahab", *"..."]
    assert tokenise("Mr. AHAB", lowercase=False) == ["Mr.", "AHAB"]
    assert tokenise("mr. ahab") == ["mr.", "ahab"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("He said no. Then he left. 5 men", ["He said no. ", "Then he left. ", "5 men"]),
        ("Mr. Brown met J. K. Rowling. Good!", ["Mr. Brown met J. K. Rowling. ", "Good!"]),
        ("“Yes.” “No?” he said. ok", ["“Yes.” ", "“No?” he said. ok"]),
        ("他说：“你好。”我走了……再见", ["他说：“你好。”", "我走了……", "再见"]),
        ("a headline\nanother\n\n  third", ["a headline\n", "another\n\n  ", "third"]),
        ("It cost 3.50 then... and so", ["It cost 3.50 then... and so"]),
        ("", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


@settings(max_examples=1000, deadline=None)
@given(NASTY)
def test_nothing_is_lost(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert "".join(sentences(text)) == text
    assert all(pieces(text)) and all(sentences(text))
    with_signs = tokenise(text, lowercase=False, signs=True)
    assert "".join(with_signs) == "".join(text.split())
    assert set(tokenise(text, lowercase=False)) <= set(with_signs)
    assert all(any(each.isalnum() or HAN.match(each) for each in word) for word in tokenise(text))


def test_stop_words() -> None:
    pytest.importorskip("stopwordsiso")
    assert {"the", "of", "don't"} <= stop_words("en")
    assert {"的", "了", "和"} <= stop_words("zh")
    assert remove_stop_words(["The", "鲸", "的", "whale"]) == ["鲸", "whale"]
    assert remove_stop_words(["The", "的"], languages=["en"]) == ["的"]
    assert remove_stop_words(["The"], languages=[]) == ["The"]
    with pytest.raises(ConfigError, match="no stop words of 'english'"):
        stop_words("english")


def test_stop_words_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "stopwordsiso", None)
    stop_words.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"langmill\[data\]"):
        stop_words("en")
