"""Scores on pairs and analogies: forms of files, by hand, and beside gensim. [tests]"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from vector_samples import some_pieces

from langmill.core.errors import DataError
from langmill.vectors import benchmarks
from langmill.vectors.benchmarks import (
    AnalogiesResult,
    Pairs,
    PairsResult,
    Questions,
    read_test,
    score,
    solve,
)
from langmill.vectors.query import analogy
from langmill.vectors.table import WordVectors

PAIRS = [("cup", "mug"), ("鲸", "海")]


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    "text",
    [
        "word1\tword2\tscore\ncup\tmug\t9.5\n鲸\t海\t1\n",
        "cup\tmug\t9.5\n鲸\t海\t1\n",
        "Word 1,Word 2,Human (mean),1,2\ncup,mug,9.5,9,10\n\n鲸,海,1,1,1\n",
        "cup mug 9.5\n鲸  海 1\n",
        "word1\tword2\tPOS\tSimLex999\tconc(w1)\ncup\tmug\tN\t9.5\t3\n鲸\t海\tN\t1\t4\n",
    ],
)
def test_every_form_of_pairs(tmp_path: Path, text: str) -> None:
    assert read_test(write(tmp_path, "a.txt", text)) == Pairs("a.txt", PAIRS, [9.5, 1.0])


@pytest.mark.parametrize(
    "text",
    [
        ": capital\nParis France Rome Italy\n\n: 首都\n北京 中国 东京 日本\n",
        "section\ta\tb\tc\td\ncapital\tParis\tFrance\tRome\tItaly\n首都\t北京\t中国\t东京\t日本\n",
    ],
)
def test_every_form_of_analogies(tmp_path: Path, text: str) -> None:
    words = [("Paris", "France", "Rome", "Italy"), ("北京", "中国", "东京", "日本")]
    assert read_test(write(tmp_path, "a.txt", text)) == Questions("a.txt", ["capital", "首都"], words)
    assert read_test(write(tmp_path, "b", "a b c d\n")) == Questions("b", [""], [("a", "b", "c", "d")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.txt: is empty"),
        ("a\tb\t1\nc\td\n", "a.txt:2: expected two words and a score, found 'c d'"),
        ("a\tb\tscore\nc\td\t1\ne\tf\tmany\n", "a.txt:3: expected two words and a score, found 'e f many'"),
        ("a\tb\t1\nc\td\tnan\n", "a.txt:2: expected two words and a score, found 'c d nan'"),
        (": x\na b c d\na b c\n", "a.txt:3: expected four words"),
        ("prose is no test of anything\n", "a.txt:1: expected four words"),
        (": nothing\n", "holds no analogy"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_test(write(tmp_path, "a.txt", text))
    assert message in str(caught.value)


def test_pairs_by_hand() -> None:
    angles = np.radians([0, 10, 40, 90, 170])
    vectors = WordVectors(list("abcde"), np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))
    pairs = [("a", "b"), ("a", "C"), ("a", "d"), ("a", "e"), ("a", "nothing"), ("a", "a")]
    result = score(vectors, Pairs("WordSim353.csv", pairs, [9.0, 5.0, 6.0, 1.0, 8.0, 10.0]))
    assert isinstance(result, PairsResult)
    # Cosines fall as 1 (a a), b, C, d, e; people have C and d the other way round: 1 - 6 * 2 / (5 * 24).
    assert result.spearman == pytest.approx(0.9)
    assert (result.pairs, result.scored, result.from_pieces) == (6, 5, 0)
    assert result.low < 0.9 < result.high < 1
    assert "0.628" in result.reference and result.reference.endswith("chance: 0")


def test_pairs_none_of_which_is_known() -> None:
    vectors = WordVectors(["a"], np.ones((1, 2), np.float32))
    result = score(vectors, Pairs("x", [("b", "c")], [1.0]))
    assert isinstance(result, PairsResult)
    assert math.isnan(result.spearman) and (result.low, result.high, result.scored) == (-1, 1, 0)


def test_pieces_stand_for_unknown_words_and_are_counted() -> None:
    result = score(
        some_pieces(), Pairs("x", [("king", "kings"), ("king", "queen"), ("北京", "北京人")], [3, 2, 1])
    )
    assert isinstance(result, PairsResult)
    assert (result.scored, result.from_pieces) == (3, 2)


def regular(count: int, *, seed: int = 0) -> WordVectors:
    """Return two rows of words, `a…` and `b…`, a step apart, with some noise."""
    random = np.random.default_rng(seed)
    base = random.normal(size=(count, 12))
    moved = base + random.normal(size=12) * 1.2 + random.normal(size=base.shape) * 0.5
    words = [f"{side}{number}" for number in range(count) for side in "ab"]
    return WordVectors(words, np.stack([base, moved], 1).reshape(-1, 12).astype(np.float32))


def questions(count: int) -> Questions:
    rows = [(f"a{i}", f"b{i}", f"a{j}", f"b{j}") for i in range(count) for j in range(count) if i != j]
    return Questions("questions-words.txt", ["low" if row[0] < "a5" else "high" for row in rows], rows)


def test_blocks_of_questions_give_what_each_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, asked = regular(12), questions(12)
    monkeypatch.setattr(benchmarks, "VOCABULARY_BLOCK", 7)
    monkeypatch.setattr(benchmarks, "QUESTION_BLOCK", 5)
    rows = np.array([[vectors.index[word] for word in words[:3]] for words in asked.words])
    answers = solve(vectors.units, rows)
    for words, found in zip(asked.words, answers, strict=True):
        for place, method in enumerate(("add", "multiply")):
            assert vectors.words[found[place]] == analogy(vectors, *words[:3], top=1, method=method)[0].word


def test_accuracy_by_section_is_gensims(tmp_path: Path) -> None:
    keyed = pytest.importorskip("gensim.models.keyedvectors")
    vectors, asked = regular(12), questions(14)
    theirs = keyed.KeyedVectors(12)
    theirs.add_vectors(vectors.words, vectors.matrix)
    lines = []
    for section in ("low", "high"):
        lines.append(f": {section}")
        lines += [" ".join(w) for w, s in zip(asked.words, asked.sections, strict=True) if s == section]
    path = write(tmp_path, "q.txt", "\n".join(lines) + "\n")
    for restrict in (None, 17):
        accuracy, sections = theirs.evaluate_word_analogies(str(path), restrict_vocab=restrict or 300000)
        result = score(vectors, read_test(path), restrict=restrict)
        assert isinstance(result, AnalogiesResult)
        assert 0 < result.total.add < result.total.scored < result.total.questions == 14 * 13
        assert result.total.add / result.total.scored == pytest.approx(accuracy)
        for ours, other in zip(result.sections, sections, strict=False):
            assert ours.section == other["section"]
            assert (ours.add, ours.scored) == (
                len(other["correct"]),
                len(other["correct"]) + len(other["incorrect"]),
            )
        assert result.vocabulary == (restrict or 24)
        assert result.add_interval[0] < accuracy < result.add_interval[1]
    assert "69.1 %" in score(vectors, asked).reference


def test_of_equal_answers_the_more_frequent_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "VOCABULARY_BLOCK", 2)
    vectors = WordVectors(list("abcdef"), np.float32([[1, 0], [1, 0], [1, 0.1], [-1, 0], [-1, 0], [-1, 0]]))
    assert solve(vectors.units, np.array([[0, 1, 2]])).tolist() == [[3, 3]]


def test_words_of_the_question_are_no_answers() -> None:
    vectors = WordVectors(list("abcd"), np.float32([[1, 0], [1, 0], [1, 0.1], [-1, 0]]))
    assert solve(vectors.units, np.array([[0, 1, 2]])).tolist() == [[3, 3]]
