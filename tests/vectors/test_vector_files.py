"""Files of word vectors, written and read: every form, words that have no place, damage. [tests]"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vector_samples import WORDS, some_pieces, some_vectors

from langmill.core.errors import ConfigError, DataError, LangmillError
from langmill.vectors.formats import read_vectors, write_vectors
from langmill.vectors.table import Subwords, WordVectors

EVERY_FORM = (".vec", ".txt", ".bin", ".npz", ".safetensors")
WHOLE = (".npz", ".safetensors")


def same_words_and_numbers(one: WordVectors, other: WordVectors) -> None:
    assert one.words == other.words
    np.testing.assert_array_equal(one.matrix, other.matrix)
    assert one.matrix.dtype == other.matrix.dtype == np.float32


@pytest.mark.parametrize("ending", EVERY_FORM)
def test_every_form_gives_back_words_and_numbers_to_the_bit(tmp_path: Path, ending: str) -> None:
    random = np.random.default_rng(0)
    vectors = some_vectors(width=7)
    # Numbers of every size, the smallest and largest that there are, and one that needs nine digits.
    vectors.matrix[:] = random.normal(size=vectors.matrix.shape) * 10.0 ** random.integers(
        -30, 30, (len(WORDS), 7)
    )
    vectors.matrix[0, :6] = np.float32([3.4028235e38, -1.1754944e-38, 1e-45, -0.0, 1000.00006, 9e9 + 600])
    write_vectors(tmp_path / f"a{ending}", vectors)
    read = read_vectors(tmp_path / f"a{ending}")
    same_words_and_numbers(read, vectors)
    assert read.index["磨坊"] == 1 and read.width == 7
    assert [path.name for path in tmp_path.iterdir()] == [f"a{ending}"]


@pytest.mark.parametrize("ending", WHOLE)
@pytest.mark.parametrize("vectors", [some_vectors(), some_vectors(counts=False), some_pieces()])
def test_arrays_keep_all_that_is_known(tmp_path: Path, ending: str, vectors: WordVectors) -> None:
    write_vectors(tmp_path / f"a{ending}", vectors)
    read = read_vectors(tmp_path / f"a{ending}")
    same_words_and_numbers(read, vectors)
    assert read.facts == vectors.facts
    assert (read.counts is None) == (vectors.counts is None)
    assert vectors.counts is None or np.array_equal(read.counts, vectors.counts)
    assert (read.subwords is None) == (vectors.subwords is None)
    if read.subwords and vectors.subwords:
        np.testing.assert_array_equal(read.subwords.matrix, vectors.subwords.matrix)
        assert (read.subwords.shortest, read.subwords.longest) == (2, 4)


def test_fasttexts_own_form_keeps_words_with_pieces(tmp_path: Path) -> None:
    vectors = some_pieces()
    write_vectors(tmp_path / "a.bin", vectors)
    read = read_vectors(tmp_path / "a.bin")
    assert read.words == vectors.words
    np.testing.assert_allclose(read.matrix, vectors.matrix, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(read.counts, vectors.counts)
    assert read.subwords and vectors.subwords
    np.testing.assert_array_equal(read.subwords.matrix, vectors.subwords.matrix)
    assert (read.subwords.shortest, read.subwords.longest) == (2, 4)
    assert (read.facts["window"], read.facts["buckets"], read.facts["predict"]) == ("7", "50", "context")


def test_text_says_that_it_has_no_room_for_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_vectors(tmp_path / "a.vec", some_pieces())
    assert "no room for the vectors of pieces" in capsys.readouterr().err
    same_words_and_numbers(read_vectors(tmp_path / "a.vec"), some_pieces())


@pytest.mark.parametrize("ending", [".vec", ".txt", ".bin"])
@pytest.mark.parametrize("word", ["New York", "", "a\nb", "tab\t", "nul\0", "\r"])
@pytest.mark.parametrize("pieces", [False, True])
def test_a_word_that_has_no_place_is_refused(tmp_path: Path, ending: str, word: str, pieces: bool) -> None:
    subwords = Subwords(np.ones((3, 2), np.float32)) if pieces else None
    vectors = WordVectors(["ok", word], np.ones((2, 2), np.float32), subwords=subwords)
    with pytest.raises(DataError, match=r"no place in this form.*write \.npz or \.safetensors"):
        write_vectors(tmp_path / f"a{ending}", vectors)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", WHOLE)
def test_arrays_hold_any_word(tmp_path: Path, ending: str) -> None:
    words = ["New York", "", "a\nb", "\0", "你 好", "\ufeff", "\u2028"]
    write_vectors(tmp_path / f"a{ending}", WordVectors(words, np.ones((7, 2), np.float32)))
    assert read_vectors(tmp_path / f"a{ending}").words == words


@pytest.mark.parametrize("ending", EVERY_FORM)
def test_what_cannot_be_written(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").write_bytes(b"before")
    ones = np.ones((2, 2), np.float32)
    for vectors, message in [
        (WordVectors(["a", "a"], ones), "the word 'a' comes twice"),
        (WordVectors(["a", "\ud800"], ones), "no valid text"),
        (WordVectors(["a", "b"], ones * np.float32([[1], [np.nan]])), "the vector of 'b' .* not finite"),
        (WordVectors([], np.ones((0, 2), np.float32)), "no word to write"),
    ]:
        with pytest.raises(DataError, match=message):
            write_vectors(tmp_path / f"a{ending}", vectors)
    assert (tmp_path / f"a{ending}").read_bytes() == b"before"


def test_unknown_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown ending '.gz'; allowed: .vec .txt .bin .npz .safetensors"):
        write_vectors(tmp_path / "a.vec.gz", some_vectors())
    (tmp_path / "a.npz.gz").write_bytes(b"")
    with pytest.raises(DataError, match="not read packed; unpack it first"):
        read_vectors(tmp_path / "a.npz.gz")


@pytest.mark.parametrize("vectors", [some_vectors(), some_pieces()])
def test_packed_binary_files_are_read(tmp_path: Path, vectors: WordVectors) -> None:
    write_vectors(tmp_path / "a.bin", vectors)
    (tmp_path / "b.bin.gz").write_bytes(gzip.compress((tmp_path / "a.bin").read_bytes()))
    same_words_and_numbers(read_vectors(tmp_path / "b.bin.gz"), read_vectors(tmp_path / "a.bin"))


@pytest.mark.parametrize("ending", EVERY_FORM)
def test_only_what_is_wanted(tmp_path: Path, ending: str) -> None:
    vectors = some_vectors()
    write_vectors(tmp_path / f"a{ending}", vectors)
    read = read_vectors(tmp_path / f"a{ending}", wanted={"中国", "king", "unheard"})
    assert read.words == ["king", "中国"]
    np.testing.assert_array_equal(read.matrix, vectors.matrix[[2, 7]])


def test_words_that_come_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.arange(3, dtype=np.float32).reshape(3, 1)
    body = b"".join(word + b" " + row.tobytes() for word, row in zip([b"a", b"b", b"a"], rows, strict=True))
    (tmp_path / "a.bin").write_bytes(b"3 1\n" + body)  # as gensim writes it, without line ends
    read = read_vectors(tmp_path / "a.bin")
    assert (read.words, read.matrix.tolist()) == (["a", "b"], [[0], [1]])
    assert "1 word comes again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at byte 0: found b'', expected a line with how many words"),
        (b"some text\nof lines", "found b'some text', expected a line"),
        (
            b"2 2\na " + b"\0" * 8 + b"\nb " + b"\0" * 7,
            "at byte 17: the file ends, 8 bytes more were expected",
        ),
        (b"2 2\na " + b"\0" * 8 + b"\nb", "at byte 15: the file ends within a word"),
        (b"1 2\na " + b"\0" * 8 + b"\nb " + b"\0" * 8, "goes on behind the 1 words"),
        (b"1 2\na " + np.float32([1, np.inf]).tobytes(), "the vector of 'a' has a number that is not finite"),
        (b"1 1\n\xff\xfe " + b"\0" * 4, "is not UTF-8"),
        (b"9999999999 9999999\n" + b"a " * 50, "the file ends"),
    ],
)
def test_damaged_binary_files_name_the_byte(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_vectors(tmp_path / "a.bin")
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "number", "message"),
    [
        (4, 11, "fastText's version 11 of this form is not read"),
        (8 + 4 * 7, 3, "this is fastText's classifier"),
        (8, 0, "no sizes of word vectors"),
        (8, 6, "expected 64 × 6"),
        (8 + 4 * 8, 51, "expected 65 × 5"),
    ],
)
def test_fasttext_files_that_are_not_read(tmp_path: Path, place: int, number: int, message: str) -> None:
    write_vectors(tmp_path / "a.bin", some_pieces())
    data = bytearray((tmp_path / "a.bin").read_bytes())
    data[place : place + 4] = number.to_bytes(4, "little")
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / "a.bin")


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    good = {
        "words": np.frombuffer(b"ab", np.uint8),
        "offsets": np.array([0, 1, 2]),
        "matrix": np.ones((2, 3), "f4"),
    }
    np.savez(path, **good)
    assert read_vectors(path).words == ["a", "b"]
    for change, message in [
        ({"offsets": np.array([0, 1, 3])}, "words and offsets not as langmill"),
        ({"offsets": np.array([0, 3, 2])}, "words and offsets not as"),
        ({"offsets": np.array([], np.int64)}, "words and offsets, matrix not as"),
        ({"matrix": np.ones((3, 3), "f4")}, "matrix not as"),
        ({"matrix": np.ones((2, 3), "f8")}, "matrix not as"),
        ({"matrix": np.full((2, 3), np.nan, "f4")}, "matrix holds a number that is not finite"),
        ({"counts": np.ones(3, np.int64)}, "counts not as"),
        ({"subwords": np.ones((2, 3), "f4")}, "subwords not as"),
        ({"subwords": np.ones((2, 2), "f4"), "lengths": np.array([3, 6])}, "subwords not as"),
        ({"words": np.frombuffer(b"\xff\xfe", np.uint8)}, "not UTF-8"),
        ({"words": np.array([{"a": 1}, 2], object)}, "Object arrays cannot be loaded"),
        ({"facts": np.frombuffer(b"[1]", np.uint8)}, "facts not as"),
    ]:
        np.savez(path, **(good | change))
        with pytest.raises(DataError, match=message):
            read_vectors(path)
    np.savez(path, other=np.ones(3))
    with pytest.raises(DataError, match="words, offsets, matrix missing"):
        read_vectors(path)


@pytest.mark.parametrize("ending", EVERY_FORM)
def test_a_file_that_is_not_there(tmp_path: Path, ending: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_vectors(tmp_path / f"none{ending}")


@pytest.mark.parametrize("form", [".vec", ".bin", "fasttext", ".npz", ".safetensors"])
def test_damage_is_an_error_or_harmless(tmp_path_factory: pytest.TempPathFactory, form: str) -> None:
    """Cut, overwrite or lengthen a file at random: never another error than one for users."""
    folder = tmp_path_factory.mktemp("damage")
    path = folder / ("a.bin" if form == "fasttext" else f"a{form}")
    write_vectors(path, some_pieces(buckets=3) if form == "fasttext" else some_vectors())
    whole = path.read_bytes()

    @given(st.integers(0, len(whole)), st.integers(0, len(whole)), st.binary(max_size=12))
    @settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def damaged(begin: int, end: int, put: bytes) -> None:
        path.write_bytes(whole[:begin] + put + whole[end:])
        told, read = "", None
        try:
            read = read_vectors(path)
        except LangmillError as error:
            told = str(error)
        if read is None:
            assert told.startswith(str(path)) and "\n" not in told
        else:
            assert read.matrix.shape == (len(read.words), read.width)
            assert np.isfinite(read.matrix).all()

    damaged()
