"""Words with tags, glued or in columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langmill.core.errors import ConfigError, DataError
from langmill.text.tagged import read_columns, read_tagged, tagged_words, units


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_glued_tags() -> None:
    assert tagged_words("The_DET bank_NOUN ._.") == [("The", "DET"), ("bank", "NOUN"), (".", ".")]
    assert tagged_words("银行/n 1/2/m") == [("银行", "n"), ("1/2", "m")]
    assert tagged_words("a_b|X c|Y") == [("a_b", "X"), ("c", "Y")]
    assert tagged_words("a_b/X", separator="/") == [("a_b", "X")]
    assert tagged_words(" ") == []
    assert units(tagged_words("bank/NOUN")) == ["bank|NOUN"]
    with pytest.raises(DataError, match="no sign stands between"):
        tagged_words("bank_NOUN of")
    with pytest.raises(DataError, match="found 'of'"):
        tagged_words("of", separator="_")


def test_one_separator_a_file(tmp_path: Path) -> None:
    """`a_b/X` alone would be read with `_`; the other lines tell."""
    path = write(tmp_path / "a.txt", "a_b/X\n\nbank/Y\n")
    assert list(read_tagged(path)) == [[("a_b", "X")], [("bank", "Y")]]
    with pytest.raises(DataError, match=r"a\.txt:2: found 'of'"):
        list(read_tagged(write(tmp_path / "a.txt", "a/X\nof\n"), separator="/"))


def test_columns(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\nPeter NNP B-NP B-PER"
    path = write(tmp_path / "a.conll", text)
    assert list(read_tagged(path)) == [[("EU", "B-ORG"), ("rejects", "O")], [("Peter", "B-PER")]]
    assert list(read_tagged(path, tag_column=2))[1] == [("Peter", "NNP")]
    assert [each.line for each in read_columns(path)] == [3, 7]
    windows = write(tmp_path / "b.tsv", "New York\tB-LOC\r\n吴\tO\r\n")
    assert list(read_tagged(windows)) == [[("New York", "B-LOC"), ("吴", "O")]]


def test_universal_columns(tmp_path: Path) -> None:
    rows = [
        "# text = Du lac",
        "1-2\tDu\t_\t_",
        "1\tDe\tde\tADP",
        "2\tle\tle\tDET",
        "2.1\tx\t_\t_",
        "3\tlac\tlac\tNOUN",
    ]
    path = write(tmp_path / "a.conllu", "\n".join(rows) + "\n")
    assert list(read_tagged(path)) == [[("De", "ADP"), ("le", "DET"), ("lac", "NOUN")]]
    assert next(iter(read_columns(path))).head == ("# text = Du lac",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EU B-ORG\nrejects\n", r"a\.conll:2: found 1 columns in 'rejects', expected 2"),
        ("EU B-ORG\nrejects X O\n", r"a\.conll:2: found 3 columns"),
        ("EU\n", r"a\.conll:1: found 1 columns"),
        (" \tO\n\tO", r"a\.conll:1"),
    ],
)
def test_broken_columns(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_tagged(write(tmp_path / "a.conll", text)))


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "EU B-ORG\n")
    with pytest.raises(DataError, match="expected 3"):
        list(read_tagged(path, tag_column=3))
    with pytest.raises(ConfigError, match="counted from 1"):
        list(read_tagged(path, tag_column=-1))
    path.write_bytes(b"EU B-ORG\n\xff O\n")
    with pytest.raises(DataError, match=r"a\.conll:2: not valid UTF-8"):
        list(read_tagged(path))


@settings(max_examples=1000, deadline=None)
@given(
    text=st.text(st.sampled_from("ab/_|\t \n\r#-.0中O\ufeff\x00é"), max_size=40),
    ending=st.sampled_from(["txt", "conll", "conllu"]),
)
def test_nasty_files(tmp_path_factory: pytest.TempPathFactory, text: str, ending: str) -> None:
    """Whatever the file, there are words with tags, or one error that names the line."""
    path = write(tmp_path_factory.getbasetemp() / f"nasty.{ending}", text)
    found, said = [], f"nasty.{ending}:"
    try:
        found = list(read_tagged(path))
    except DataError as error:
        said = str(error)
    assert f"nasty.{ending}:" in said
    assert all(len(pair) == 2 and all(pair) for sentence in found for pair in sentence)
    assert all(found)
