"""Phrases: scores by hand, the same as gensim's, kept in files."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from langmill.core.errors import ConfigError, DataError, LangmillError
from langmill.text.phrases import Phrases, joined, learn_phrases, load_phrases, ngrams

CORPUS = [["new", "york", "is", "big"], ["in", "new", "york"], ["new", "is", "york"], ["is", "in"]]


def drawn(seed: int = 0, sentences: int = 400) -> list[list[str]]:
    """Return sentences in which some words like to follow others."""
    draw = random.Random(seed)
    words = [f"w{number}" for number in range(60)]
    out = []
    for _ in range(sentences):
        sentence = []
        for _ in range(12):
            word = words[min(int(draw.expovariate(0.1)), 59)]
            sentence += [word, f"after-{word}"] if draw.random() < 0.3 else [word]
        out.append(sentence)
    return out


def test_scores_by_hand() -> None:
    """12 words; "new" and "york" 3 times each, 2 of them together."""
    found = learn_phrases(CORPUS, min_count=1, threshold=-1)
    assert found.scores[("new", "york")] == pytest.approx((2 - 1) / (3 * 3) * 12)
    assert found.scores[("is", "big")] == 0.0
    npmi = learn_phrases(CORPUS, measure="npmi", min_count=1, threshold=-2)
    expected = math.log((2 / 12) / (3 / 12 * 3 / 12)) / -math.log(2 / 12)
    assert npmi.scores[("new", "york")] == pytest.approx(expected)
    assert set(learn_phrases(CORPUS, min_count=2, threshold=-1).scores) == {("new", "york")}
    assert learn_phrases(CORPUS, min_count=1, threshold=12 / 9).scores == {}, (
        "the threshold is to be exceeded"
    )
    assert learn_phrases([["a", "a"]], measure="npmi", min_count=1, threshold=-2).scores.keys() == {
        ("a", "a")
    }


@pytest.mark.parametrize("measure", ["mikolov", "npmi"])
def test_phrases_are_those_of_gensim(measure: str) -> None:
    gensim = pytest.importorskip("gensim.models.phrases")
    sentences = drawn()
    theirs_threshold = 3.0 if measure == "mikolov" else 0.3
    scoring = "default" if measure == "mikolov" else "npmi"
    theirs = gensim.Phrases(
        sentences, min_count=4, threshold=theirs_threshold, scoring=scoring, delimiter="_"
    )
    # gensim multiplies by the entries of its table, word2phrase by the words of the corpus: another unit.
    total = sum(map(len, sentences))
    unit = total / len(theirs.vocab) if measure == "mikolov" else 1.0
    ours = learn_phrases(sentences, measure=measure, min_count=4, threshold=theirs_threshold * unit)  # type: ignore[arg-type]
    expected = {tuple(pair.split("_")): score * unit for pair, score in theirs.export_phrases().items()}
    assert len(expected) > 20
    assert ours.scores == pytest.approx(expected)
    assert [ours.join(sentence) for sentence in sentences] == list(theirs[sentences])


def test_memory_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    sentences = drawn(sentences=2000)
    whole, small = (learn_phrases(sentences, threshold=5, maximum_pairs=most) for most in (10**6, 300))
    assert small.forgotten > 0 and whole.forgotten == 0
    frequent = ("w5", "after-w5")
    assert small.scores[frequent] == pytest.approx(whole.scores[frequent], rel=0.05)
    assert "forgotten" in capsys.readouterr().err


def test_joining() -> None:
    phrases = Phrases({("new", "york"): 9.0, ("york", "city"): 9.0, ("人工", "智能"): 9.0, ("a", "a"): 9.0})
    assert phrases.join(["new", "york", "city"]) == ["new_york", "city"]
    assert phrases.join(["york", "city", "new"]) == ["york_city", "new"]
    assert phrases.join(["人工", "智能", "new"]) == ["人工智能", "new"]
    assert phrases.join(["a", "a", "a"]) == ["a_a", "a"]
    assert phrases.join([]) == []
    assert joined(["3", "号", "楼"]) == "3_号楼"


def test_ngrams() -> None:
    assert ngrams(["红", "楼", "梦"], 2) == ["红楼", "楼梦"]
    assert ngrams(["a", "b"], 3) == []


def test_files(tmp_path: Path) -> None:
    phrases = learn_phrases([["人工", "智能", "x"]] * 9, measure="npmi", threshold=0.1)
    assert len(phrases.scores) == 2
    phrases.save(tmp_path / "p.json")
    assert load_phrases(tmp_path / "p.json") == phrases
    assert "人工" in (tmp_path / "p.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "not a file of phrases"),
        ({"format": "langmill phrases 1", "measure": "luck"}, "not a file of phrases"),
        ({"format": "langmill phrases 1", "measure": "npmi", "threshold": 1}, "lacks its phrases"),
        (
            {"format": "langmill phrases 1", "measure": "npmi", "threshold": 1, "phrases": [["a", "b"]]},
            r"found \['a', 'b'\], expected \[word, word, score\]",
        ),
    ],
)
def test_files_that_are_none(tmp_path: Path, tree: object, message: str) -> None:
    (tmp_path / "p.json").write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_phrases(tmp_path / "p.json")
    with pytest.raises(LangmillError, match="no such file"):
        load_phrases(tmp_path / "none.json")


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="did you mean mikolov"):
        learn_phrases([], measure="mikolow")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="min_count"):
        learn_phrases([], min_count=0)
