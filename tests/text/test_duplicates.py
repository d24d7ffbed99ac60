"""Sketches and clusters of texts: exact cases, recall and precision on near-duplicates that are made."""

from __future__ import annotations

import random

import numpy as np
import pytest

from langmill.text import duplicates
from langmill.text.duplicates import SHINGLE_TOKENS, Sketches, connect, normal, shingles, signatures, tokens

ENGLISH = [f"word{number}" for number in range(2000)]
CHINESE = [chr(code) for code in range(0x4E00, 0x4E00 + 1500)]


def exact_jaccard(left: str, right: str) -> float:
    """The true similarity, by sets of Python."""
    sets = [set(shingles(tokens([normal(text)]), SHINGLE_TOKENS)[0].tolist()) for text in (left, right)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def texts(script: str, count: int, *, units: int = 200, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    between, words = (" ", ENGLISH) if script == "en" else ("", CHINESE)
    return [between.join(draw.choices(words, k=units)) for _ in range(count)]


def edited(text: str, edits: int, *, seed: int) -> str:
    draw = random.Random(seed)
    units = text.split(" ") if " " in text else list(text)
    for place in draw.sample(range(len(units)), edits):
        units[place] = "磨" if " " not in text else "mill"
    return (" " if " " in text else "").join(units)


def test_a_token_is_a_word_or_a_chinese_character() -> None:
    found = tokens([normal("The mill, 磨坊!"), "", "it's"])
    assert found.text.tolist() == [0, 0, 0, 0, 2, 2]
    assert found.begin.tolist() == [0, 4, 10, 11, 0, 3]
    again = tokens(["坊 the MILL".lower()])
    assert again.hashes.tolist() == [found.hashes[3], found.hashes[0], found.hashes[1]]


def test_the_order_of_letters_counts() -> None:
    found = tokens(["stop pots " + "a" * 65 + " " + "a" * 66])
    assert len(set(found.hashes.tolist())) == 4


def test_shingles_stay_within_a_text() -> None:
    found = tokens(["a b c d e f", "a b c", "b c d e f"])
    hashes, begins = shingles(found, 5)
    assert begins.tolist() == [0, 1, 6, 9]  # a text of three words has one shingle
    assert hashes[1] == hashes[3]
    assert len(set(hashes.tolist())) == 3


def test_rare_chinese_characters_are_tokens() -> None:
    assert len(tokens(["𠀀𠀁 がな ไทย"]).hashes) == 2 + 2 + 3


def test_numpy_and_machine_code_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    some = [*texts("en", 20), "", "short one", *texts("zh", 20)]
    monkeypatch.setattr(duplicates, "_WORTH_COMPILING", 0)
    compiled = signatures(some)
    monkeypatch.setattr(duplicates, "_compiled", lambda: duplicates.least_numpy)
    assert (signatures(some) == compiled).all()
    assert (compiled[20] == duplicates.EMPTY).all()


@pytest.mark.parametrize("script", ["en", "zh"])
def test_estimates_are_true_within_their_error(script: str) -> None:
    pairs = [
        (text, edited(text, 1 + number % 12, seed=number)) for number, text in enumerate(texts(script, 100))
    ]
    left, right = (signatures([normal(text) for text in side]) for side in zip(*pairs))
    errors = duplicates.similarity(left, right) - [exact_jaccard(*pair) for pair in pairs]
    assert abs(errors.mean()) < 0.01
    assert errors.std() < 0.045
    assert errors.std() > 0.001  # they are estimates


@pytest.mark.parametrize("script", ["en", "zh"])
def test_recall_and_precision(script: str) -> None:
    """Four edits of 200 units leave a similarity of about 0.82, twelve of about 0.57."""
    originals = texts(script, 300)
    near = [edited(text, 2, seed=number) for number, text in enumerate(originals[:100])]
    far = [edited(text, 12, seed=number) for number, text in enumerate(originals[100:200])]
    everything = [*originals, *near, *far]
    sketches = Sketches(near=True, threshold=0.8)
    sketches.add(everything[:350])
    sketches.add(everything[350:])
    exact, first = sketches.first()
    assert (exact == np.arange(500)).all()
    found = first[300:400] == np.arange(100)
    alike = np.array([exact_jaccard(*pair) for pair in zip(originals, near)])
    assert alike.min() > 0.86
    assert found.mean() >= 0.98
    assert (first[400:] == np.arange(400, 500)).all()
    assert (first[:300] == np.arange(300)).all()


def test_clusters_are_chains_and_the_first_stays() -> None:
    [text] = texts("en", 1)
    chain = [text]
    for step in range(6):
        chain.append(edited(chain[-1], 3, seed=step))
    assert exact_jaccard(chain[0], chain[-1]) < 0.7
    sketches = Sketches(near=True, threshold=0.8)
    sketches.add([*texts("en", 3, seed=9), chain[3], *chain])
    exact, near = sketches.first()
    assert exact[3 + 1 + 3] == 3
    assert set(near[3:].tolist()) == {3}


def test_texts_without_a_token_are_not_alike() -> None:
    sketches = Sketches(near=True, threshold=0.8)
    sketches.add(["?!", "***", "?!", "…"])
    assert [found.tolist() for found in sketches.first()] == [[0, 1, 0, 3]] * 2


def test_case_width_and_space_do_not_matter() -> None:
    sketches = Sketches(near=False, threshold=0.8)
    sketches.add(["Ｆull 磨坊", " full\n磨坊 ", "full磨坊"])
    assert sketches.first()[0].tolist() == [0, 0, 2]


def test_connect_joins_in_any_order() -> None:
    pairs = np.array([[5, 4, 3, 2, 7], [4, 3, 2, 1, 8]])
    assert connect(np.arange(9), pairs).tolist() == [0, 1, 1, 1, 1, 1, 6, 7, 7]
    assert connect(np.arange(9), pairs[:, ::-1]).tolist() == [0, 1, 1, 1, 1, 1, 6, 7, 7]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_find_pairs_at_the_threshold(threshold: float) -> None:
    bands, rows = duplicates.bands_for(threshold)
    assert bands * rows <= duplicates.HASHES
    assert 1 - (1 - threshold**rows) ** bands >= duplicates.CANDIDATE_RECALL
    assert (
        rows == 128 or 1 - (1 - threshold ** (rows + 1)) ** (128 // (rows + 1)) < duplicates.CANDIDATE_RECALL
    )
