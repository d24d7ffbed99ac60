"""Cutting Chinese: by dictionary, by tags, and without either."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langmill.core.errors import DataError, MissingDependencyError
from langmill.text import segmentation
from langmill.text.segmentation import dictionary_segmenter, segmenter_from_tags

SENTENCE = "李小福是创新办主任也是云计算方面的专家"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_dictionary_keeps_its_words_whole(tmp_path: Path) -> None:
    pytest.importorskip("rjieba")
    plain = segmentation.chinese_segmenter()
    assert plain is not None
    assert not {"云计算", "创新办"} & set(plain(SENTENCE))
    own = dictionary_segmenter(write(tmp_path / "words.txt", "云计算\n创新办 3 i\n\n"))
    assert {"云计算", "创新办"} <= set(own(SENTENCE))
    assert "".join(own(SENTENCE)) == SENTENCE
    assert "云计算" not in plain(SENTENCE), "one dictionary does not leak into the other"


def test_a_frequency_counts(tmp_path: Path) -> None:
    pytest.importorskip("rjieba")
    text = "我们中出了一个叛徒"
    assert "中出" in dictionary_segmenter(write(tmp_path / "a.txt", "中出 100000 v\n"))(text)


def test_other_characters_in_a_dictionary_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rjieba")
    dictionary_segmenter(write(tmp_path / "words.txt", "T恤 5 n\n云计算\nC++\n"))
    assert "2 words with other than Chinese characters" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["云计算 n 300", "云计算 300 n x"])
def test_a_line_that_is_no_entry(tmp_path: Path, line: str) -> None:
    pytest.importorskip("rjieba")
    with pytest.raises(DataError, match=r"words\.txt:2: .*expected a word"):
        dictionary_segmenter(write(tmp_path / "words.txt", f"诗\n{line}\n"))


def test_a_dictionary_needs_rjieba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"langmill\[zh\]"):
        dictionary_segmenter(tmp_path / "words.txt")


def test_without_rjieba_characters_are_words_and_it_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from langmill.text.words import tokenise

    segmentation.default_segmenter.cache_clear()
    monkeypatch.setattr(segmentation, "chinese_segmenter", lambda: None)
    try:
        assert tokenise("床前 明月") == ["床", "前", "明", "月"]
        assert tokenise("疑是") == ["疑", "是"]
        assert capsys.readouterr().err.count("langmill[zh]") == 1
    finally:
        segmentation.default_segmenter.cache_clear()


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ("B E S B M E", ["我们", "爱", "天安门"]),
        ("B-n E-n S-v B-n M-n E-n", ["我们", "爱", "天安门"]),
        ("B I O B I I", ["我们", "爱", "天安门"]),
        ("B-n I-v B-v I-v I-v I-n", ["我", "们", "爱天安", "门"]),
        ("M M E M S E", ["我们爱", "天", "安", "门"]),
        ("E E I O O O", ["我", "们", "爱", "天", "安", "门"]),
        ("B B B B B B", list("我们爱天安门")),
    ],
)
def test_tags_become_words(tags: str, words: list[str]) -> None:
    assert segmenter_from_tags(lambda characters: tags.split())("我们爱天安门") == words


def test_tags_that_are_none() -> None:
    with pytest.raises(DataError, match="gave 1 tags for the 2 characters"):
        segmenter_from_tags(lambda characters: ["S"])("诗人")
    with pytest.raises(DataError, match="'X'.*trained to segment"):
        segmenter_from_tags(lambda characters: ["X"] * len(characters))("诗")


def test_a_model_cuts_where_it_is_given() -> None:
    from langmill.text.words import tokenise

    pairs = segmenter_from_tags(lambda characters: (["B", "E"] * len(characters))[: len(characters)])
    assert tokenise("春眠不觉晓, don't", segment=pairs) == ["春眠", "不觉", "晓", "don't"]


def test_another_script_ends_a_run_of_chinese() -> None:
    text = "iPhone手机v2"
    assert next(text[a:b] for a, b in segmentation.words(text)) == "iPhone"
    assert segmentation.HAN.fullmatch("𠮷野")


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.tuples(st.characters(), st.sampled_from("B M E S I O B-x I-x I-y E-".split())), max_size=30)
)
def test_any_tags_cut_the_whole_text(tagged: list[tuple[str, str]]) -> None:
    text = "".join(character for character, _ in tagged)
    words = segmenter_from_tags(lambda characters: [tag for _, tag in tagged])(text)
    assert "".join(words) == text and all(words)


@settings(max_examples=1000, deadline=None)
@given(st.text(st.one_of(st.sampled_from("中国人民不爱𠮷㐀豈a1 ，\n"), st.characters()), max_size=60))
def test_words_cover_any_text(text: str) -> None:
    assert "".join(text[begin:end] for begin, end in segmentation.words(text)) == text
    segment = segmentation.chinese_segmenter() or list
    assert all("".join(segment(run)) == run for run in segmentation.HAN.findall(text))
