"""Files exchanged with gensim and fastText: equal vectors both ways. [tests]"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from vector_samples import WORDS, buckets_of, some_pieces, some_vectors

from langmill.vectors.formats import read_vectors, write_vectors
from langmill.vectors.query import vector_of
from langmill.vectors.subwords import hashed_pieces

pytest.importorskip("gensim")
UNKNOWN = ["kings", "北京人", "中国猫", "naïvely", "x"]
SENTENCES = [
    ["the", "king", "saw", "the", "queen"],
    ["猫", "在", "北京", "看", "国王"],
    ["😀", "naïve", "the"],
] * 20


@pytest.mark.parametrize("binary", [False, True])
def test_word2vec_files_both_ways(tmp_path: Path, binary: bool) -> None:
    from gensim.models import KeyedVectors

    ending = "bin" if binary else "vec"
    vectors = some_vectors(width=9)
    write_vectors(tmp_path / f"ours.{ending}", vectors)
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / f"ours.{ending}"), binary=binary)
    assert theirs.index_to_key == WORDS
    np.testing.assert_array_equal(theirs.vectors, vectors.matrix)
    theirs.save_word2vec_format(str(tmp_path / f"theirs.{ending}"), binary=binary)
    again = read_vectors(tmp_path / f"theirs.{ending}")
    assert again.words == WORDS
    np.testing.assert_array_equal(again.matrix, vectors.matrix)
    theirs.save_word2vec_format(str(tmp_path / "glove.txt"), write_header=False)
    np.testing.assert_array_equal(read_vectors(tmp_path / "glove.txt").matrix, vectors.matrix)


def test_our_fasttext_file_in_gensim(tmp_path: Path) -> None:
    from gensim.models.fasttext import load_facebook_model, load_facebook_vectors

    vectors = some_pieces(width=9)
    write_vectors(tmp_path / "ours.bin", vectors)
    theirs = load_facebook_vectors(str(tmp_path / "ours.bin"))
    assert theirs.index_to_key == WORDS
    assert [theirs.get_vecattr(word, "count") for word in WORDS] == vectors.counts.tolist()
    for word in WORDS + UNKNOWN:
        np.testing.assert_allclose(theirs[word], vector_of(vectors, word), rtol=1e-5, atol=1e-6)
    model = load_facebook_model(str(tmp_path / "ours.bin"))
    assert (model.window, model.wv.bucket, model.wv.min_n, model.wv.max_n) == (7, 50, 2, 4)


def test_gensims_fasttext_file_here(tmp_path: Path) -> None:
    from gensim.models.fasttext import FastText, save_facebook_model

    model = FastText(
        SENTENCES, vector_size=6, min_count=1, bucket=100, min_n=1, max_n=3, epochs=2, seed=3, workers=1
    )
    save_facebook_model(model, str(tmp_path / "theirs.bin"))
    read = read_vectors(tmp_path / "theirs.bin")
    assert read.words == model.wv.index_to_key
    np.testing.assert_allclose(read.matrix, model.wv.vectors, rtol=1e-5, atol=1e-6)
    for word in UNKNOWN:
        np.testing.assert_allclose(vector_of(read, word), model.wv[word], rtol=1e-5, atol=1e-6)
    assert read.facts["epochs"] == "2" and read.facts["hs"] == "False"


@pytest.mark.parametrize("loss", ["ns", "hs"])
def test_fasttexts_own_program_both_ways(tmp_path: Path, loss: str) -> None:
    fasttext = pytest.importorskip("fasttext")
    (tmp_path / "text.txt").write_text("\n".join(map(" ".join, SENTENCES)) + "\n", encoding="utf-8")
    settings = {
        "dim": 6,
        "minCount": 1,
        "bucket": 100,
        "minn": 2,
        "maxn": 3,
        "epoch": 2,
        "thread": 1,
        "verbose": 0,
    }
    model = fasttext.train_unsupervised(str(tmp_path / "text.txt"), "cbow", loss=loss, **settings)
    model.save_model(str(tmp_path / "theirs.bin"))
    read = read_vectors(tmp_path / "theirs.bin")
    assert read.words == model.words and "</s>" in read.words
    assert (read.facts["predict"], read.facts["hs"]) == ("word", str(loss == "hs"))
    write_vectors(tmp_path / "ours.bin", read)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = fasttext.load_model(str(tmp_path / "ours.bin"))
    assert again.words == model.words
    made = [
        word for word in UNKNOWN if model.get_word_vector(word).any()
    ]  # of zeros alone is no vector, to us
    for word in [*read.words, *made]:
        np.testing.assert_allclose(vector_of(read, word), model.get_word_vector(word), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(again[word], model.get_word_vector(word), rtol=1e-5, atol=1e-6)
    assert [name for _, name in again.get_nearest_neighbors("king", 3)] == [
        name for _, name in model.get_nearest_neighbors("king", 3)
    ]


@pytest.mark.parametrize(("shortest", "longest"), [(3, 6), (1, 3), (2, 2), (1, 1)])
def test_pieces_of_many_words_are_those_of_each(shortest: int, longest: int) -> None:
    words = [*WORDS, "", "a", "é", "x" * 40, "</s>", "👩‍👩‍👧"]
    begins, found = hashed_pieces(words, shortest, longest, 1009)
    for place, word in enumerate(words):
        expected = [] if word == "</s>" else buckets_of(word, shortest, longest, 1009)
        assert found[begins[place] : begins[place + 1]].tolist() == expected, word
    assert hashed_pieces([], 3, 6, 10)[0].tolist() == [0]
