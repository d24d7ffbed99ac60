"""Files of word vectors."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from langmill.core.errors import DataError
from langmill.vectors.formats import read_vectors

ROWS = "the 1 -0.5 2e-1\n磨坊 0.25 0 3\n. . 4 5 6\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("header", ["", "3 3\n"])
def test_word2vec_and_glove(tmp_path: Path, header: str) -> None:
    vectors = read_vectors(write(tmp_path / "a.vec", header + ROWS))
    assert vectors.words == ["the", "磨坊", ". ."]
    np.testing.assert_array_equal(vectors.matrix, np.array([[1, -0.5, 0.2], [0.25, 0, 3], [4, 5, 6]], "f4"))
    (tmp_path / "a.vec.gz").write_bytes(gzip.compress((header + ROWS.replace("\n", " \r\n")).encode()))
    assert read_vectors(tmp_path / "a.vec.gz").words == vectors.words


def test_only_what_is_wanted_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.vec", "a 1 2\nb 3 4\na 5 6\n")
    vectors = read_vectors(file, wanted={"a", "c"})
    assert (vectors.words, vectors.matrix.tolist()) == (["a"], [[1.0, 2.0]])
    assert "a.vec: 1 word comes again; the first vector of each counts" in capsys.readouterr().err
    assert read_vectors(file, wanted=()).matrix.shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 3\na 1 2 3\nb 1 2\n", "a.vec:3: found 2 numbers behind 'b', expected 3"),
        ("a 1 2 3\nb 1 2 3 4\n", "a.vec:2: found 4 numbers behind 'b', expected 3"),
        ("a 1 2\n\nb 1 2\n", "a.vec:2: found 0 numbers behind ''"),
        ("a 1 2\nb 1 two\n", "a.vec:2: not a number"),
        ("a 1 2\nb 1 nan\n", "a.vec:2: a number is not finite"),
        ("word\n", "a.vec:1: found 0 numbers behind 'word', expected some"),
        ("3 2\na 1 2\nb 1 2\n", "its first line says 3 words, found 2; the file is cut short"),
        ("", "expected a word and its numbers a line, found 0"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_vectors(write(tmp_path / "a.vec", text))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.vec").write_bytes(b"a 1 2\n\xff\xfe 1 2\n")
    with pytest.raises(DataError, match=r"a\.vec:2: not valid UTF-8"):
        read_vectors(tmp_path / "a.vec")
    with pytest.raises(DataError, match="no such file"):
        read_vectors(tmp_path / "none.vec")
