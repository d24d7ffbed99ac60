"""GloVe: counts and one step by hand, disk = memory, resumed = uninterrupted. [tests]"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from langmill.core.errors import CheckpointError, DataError
from langmill.text.documents import Document
from langmill.vectors import cooccurrence, glove
from langmill.vectors.cooccurrence import PAIR, Cooccurrences, count_cooccurrences
from langmill.vectors.corpus import EncodedCorpus, encode_corpus
from langmill.vectors.glove import train_glove
from langmill.vectors.settings import VectorSettings
from langmill.vectors.table import WordVectors

pytest.importorskip("numba")
SETTINGS = VectorSettings(method="glove", dim=6, epochs=3, threads=1, window=3, min_count=1, x_max=5)


@contextmanager
def corpus(text: str) -> Iterator[EncodedCorpus]:
    with encode_corpus([Document(text, "text")], words="spaces", min_count=1) as encoded:
        yield encoded


def random_text(lines: int = 200, words: int = 60) -> str:
    random = Random(3)
    return "\n".join(
        " ".join(f"词{int(random.paretovariate(1)) % words}" for _ in range(random.randrange(1, 15)))
        for _ in range(lines)
    )


def table_of(encoded: EncodedCorpus, found: Cooccurrences) -> dict[tuple[str, str], float]:
    words = encoded.vocabulary.words
    return {(words[pair["low"]], words[pair["high"]]): float(pair["count"]) for pair in found.pairs}


def test_counts_by_hand(tmp_path: Path) -> None:
    with corpus("a b c a\n猫 猫 b\nd") as encoded:
        assert encoded.vocabulary.words == ["a", "b", "猫", "c", "d"]
        found = count_cooccurrences(encoded, tmp_path, window=2)
        assert table_of(encoded, found) == pytest.approx(
            {
                ("a", "b"): 1 + 1 / 2,  # at distance 1; the other a at 2
                ("a", "c"): 1 / 2 + 1,
                ("b", "c"): 1,
                ("猫", "猫"): 2,  # each stands state the other
                ("b", "猫"): 1 / 2 + 1,
            }
        )
        assert found.cells == 2 * 5 - 1
        third = count_cooccurrences(encoded, tmp_path, window=3)
        assert table_of(encoded, third)["a", "a"] == pytest.approx(2 / 3, rel=1e-6)


def test_counts_of_a_random_text(tmp_path: Path) -> None:
    text = random_text()
    expected: Counter[tuple[str, ...]] = Counter()
    for line in text.split("\n"):
        words = line.split()
        for i, word in enumerate(words):
            for j in range(max(0, i - 4), min(len(words), i + 5)):
                if i != j:
                    expected[word, words[j]] += 1 / abs(i - j)  # type: ignore[assignment]
    with corpus(text) as encoded:
        found = count_cooccurrences(encoded, tmp_path, window=4)
        assert found.cells == len(expected)
        for (low, high), count in table_of(encoded, found).items():
            assert count == pytest.approx(expected[low, high], rel=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_disk_is_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(cooccurrence, "BLOCK_PAIRS", 1000)
    monkeypatch.setattr(cooccurrence, "MERGE_PAIRS", 100)
    random = Random(1)
    text = "\n".join(" ".join(f"w{random.randrange(150)}" for _ in range(9)) for _ in range(600))
    with corpus(text) as encoded:
        inside = count_cooccurrences(encoded, tmp_path, window=5)
        monkeypatch.setattr(cooccurrence, "FIRST_SLOTS", 1 << 9)
        outside = count_cooccurrences(encoded, tmp_path, window=5, memory_bytes=1, threads=threads)
        assert not inside.on_disk and outside.on_disk
        written = sum(path.stat().st_size // 8 for path in tmp_path.glob("runs-*-keys"))
        assert written > 1.5 * len(outside.pairs)  # most pairs stand in several runs
        assert len(inside.ends) > 5
        np.testing.assert_array_equal(inside.ends, outside.ends)
        np.testing.assert_array_equal(inside.pairs, outside.pairs)
        keys = inside.pairs["low"] * np.int64(150) + inside.pairs["high"]
        assert len(np.unique(keys)) == len(keys)


def test_one_step_by_hand() -> None:
    from langmill.vectors.glove_kernels import train_pairs

    words = np.float32([[0.1, 0.2, 0.3, 0], [0.4, -0.5, 0.6, 0]])
    contexts = np.float32([[-0.3, 0.7, 0.05, 0], [0.2, 0.1, -0.4, 0]])
    squares = np.ones((2, 4), np.float32), np.full((2, 4), 4, np.float32)
    w, c, b_w, b_c = words[0, :2].copy(), contexts[1, :2].copy(), 0.3, -0.4
    pairs = np.array([(0, 1, 2.0)], PAIR)
    # The other direction, w of word 1 with c of word 0, moves other rows: each is a step from the start.
    loss = train_pairs(pairs, words, contexts, *squares, 2, np.float32(8), np.float32(0.75), np.float32(0.05))
    weight = (2 / 8) ** 0.75
    difference = w @ c + b_w + b_c - math.log(2)
    other = np.array([0.4, -0.5]) @ np.array([-0.3, 0.7]) + 0.6 + 0.05 - math.log(2)
    assert loss == pytest.approx(weight * (difference**2 + other**2), rel=1e-6)
    slope = weight * difference
    np.testing.assert_allclose(words[0, :3], [*(w - 0.05 * slope * c), b_w - 0.05 * slope], rtol=1e-6)
    np.testing.assert_allclose(
        contexts[1, :3], [*(c - 0.05 * slope * w / 2), b_c - 0.05 * slope / 2], rtol=1e-6
    )
    np.testing.assert_allclose(squares[0][0, :3], [*(1 + (slope * c) ** 2), 1 + slope**2], rtol=1e-6)
    np.testing.assert_allclose(squares[1][1, :3], [*(4 + (slope * w) ** 2), 4 + slope**2], rtol=1e-6)
    assert words[0, 3] == contexts[1, 3] == 0
    frequent = np.array([(1, 1, 9.0)], PAIR)  # above x_max, and one cell only
    before = words[1, :2] @ contexts[1, :2] + words[1, 2] + contexts[1, 2] - math.log(9)
    loss = train_pairs(
        frequent, words, contexts, *squares, 2, np.float32(8), np.float32(0.75), np.float32(0.05)
    )
    assert loss == pytest.approx(before**2, rel=1e-5)


def test_the_loss_is_the_published_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without steps, the loss of an epoch is equation 8 over the cells."""
    monkeypatch.setattr(VectorSettings, "learning_rate", property(lambda self: 0.0))
    with corpus(random_text()) as encoded:
        settings = SETTINGS.model_copy(update={"epochs": 1})
        vectors = train_glove(encoded, settings)
        arrays = glove.start(len(encoded.vocabulary.words), settings)
        found = count_cooccurrences(encoded, tmp_path, window=3)
        total, dim = 0.0, settings.dim
        for low, high, count in found.pairs.tolist():
            for word, context in {(low, high), (high, low)}:
                w, c = arrays["words"][word], arrays["contexts"][context]
                difference = w[:dim] @ c[:dim] + w[dim] + c[dim] - math.log(count)
                total += min(1.0, (count / 5) ** 0.75) * difference**2
    assert float(vectors.facts["loss"]) == pytest.approx(total / found.cells, rel=1e-4)
    np.testing.assert_array_equal(vectors.matrix, (arrays["words"] + arrays["contexts"])[:, :dim])


def test_training_fits_the_logarithms_of_counts() -> None:
    with corpus(random_text(lines=400, words=30)) as encoded:
        vectors = train_glove(encoded, SETTINGS.model_copy(update={"epochs": 60, "dim": 16}))
    losses = [float(loss) for loss in vectors.facts["loss"].split()]
    assert len(losses) == 60 and losses[-1] < 0.1 * losses[0]
    assert vectors.words == encoded.vocabulary.words and vectors.matrix.shape == (len(vectors.words), 16)
    assert (vectors.facts["method"], vectors.facts["alpha"]) == ("glove", "0.05")


def test_words_in_one_company_come_near_one_another() -> None:
    text = "the whale swam in the sea\nthe ship swam in the sea\n国王 坐上 宝座 了\n王后 坐上 宝座 了\n" * 30
    with corpus(text) as encoded:
        settings = SETTINGS.model_copy(update={"epochs": 80, "seed": 4})
        vectors = train_glove(encoded, settings)
    units = vectors.units @ vectors.units.T
    index = vectors.index
    assert units[index["whale"], index["ship"]] > 0.8 > units[index["whale"], index["王后"]]
    assert units[index["国王"], index["王后"]] > 0.8 > units[index["国王"], index["ship"]]


def test_every_epoch_has_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooccurrence, "BLOCK_PAIRS", 25)
    whole, orders = glove.train_block, []

    def noted(pairs: Any, *rest: Any) -> tuple[float, BaseException | None]:
        orders.append([(low, high) for low, high, _ in pairs.tolist()])
        return whole(pairs, *rest)

    monkeypatch.setattr(glove, "train_block", noted)
    with corpus(random_text()) as encoded:
        train_glove(encoded, SETTINGS.model_copy(update={"epochs": 2}))
    blocks = len(orders) // 2
    first, second = orders[:blocks], orders[blocks:]
    assert blocks > 4 and sorted(map(sorted, first)) == sorted(map(sorted, second))
    assert [sorted(block) for block in first] != [sorted(block) for block in second]
    assert not {tuple(block) for block in first} & {tuple(block) for block in second}
    assert all(block != sorted(block) for block in orders)


def same(one: WordVectors, other: WordVectors) -> bool:
    return one.words == other.words and one.matrix.tobytes() == other.matrix.tobytes()


def stop_after(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    """Let Ctrl-C come while a block is trained: it is finished first."""
    whole, done = glove.train_block, [0]

    def interrupted(*arguments: Any) -> tuple[float, BaseException | None]:
        loss, caught = whole(*arguments)
        done[0] += 1
        return loss, KeyboardInterrupt() if done[0] == blocks else caught

    monkeypatch.setattr(glove, "train_block", interrupted)


@pytest.mark.parametrize("blocks", [1, 4, 6])
def test_interrupted_and_resumed_is_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], blocks: int
) -> None:
    monkeypatch.setattr(cooccurrence, "BLOCK_PAIRS", 100)
    state = tmp_path / "a.vec.state"
    with corpus(random_text(lines=60, words=40)) as encoded:
        whole = train_glove(encoded, SETTINGS)
        with monkeypatch.context() as patch:
            stop_after(patch, blocks)
            with pytest.raises(KeyboardInterrupt):
                train_glove(encoded, SETTINGS, state=state)
        assert f"the state is in {state}" in capsys.readouterr().err
        again = train_glove(encoded, SETTINGS, state=state, resume=True)
        assert same(again, whole) and again.facts == whole.facts
        assert "resuming at epoch" in capsys.readouterr().err
        assert same(whole, train_glove(encoded, SETTINGS.model_copy(update={"memory_bytes": 1_000_000})))
        with pytest.raises(CheckpointError, match="other settings: --dim 6; give the same"):
            train_glove(encoded, SETTINGS.model_copy(update={"dim": 5}), state=state, resume=True)
        assert not same(whole, train_glove(encoded, SETTINGS.model_copy(update={"seed": 2})))
    with corpus("a b") as other, pytest.raises(CheckpointError, match="another text"):
        train_glove(other, SETTINGS, state=state, resume=True)


def test_a_signal_waits_for_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = glove.wait, [0]

    def interrupted(parts: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            raise KeyboardInterrupt
        return whole(parts)

    monkeypatch.setattr(glove, "wait", interrupted)
    settings = SETTINGS.model_copy(update={"threads": 2})
    arrays = glove.start(2, settings)
    before = arrays["words"][0].copy()
    loss, caught = glove.train_block(np.array([(0, 1, 2.0)] * 100, PAIR), settings, arrays)
    assert isinstance(caught, KeyboardInterrupt) and calls == [2]
    assert loss > 0 and not np.array_equal(before, arrays["words"][0])


def test_several_threads_train_too() -> None:
    with corpus(random_text()) as encoded:
        one = train_glove(encoded, SETTINGS.model_copy(update={"epochs": 10}))
        two = train_glove(encoded, SETTINGS.model_copy(update={"epochs": 10, "threads": 2}))
        sure = train_glove(
            encoded, SETTINGS.model_copy(update={"epochs": 10, "threads": 2, "deterministic": True})
        )
    losses = [float(vectors.facts["loss"].split()[-1]) for vectors in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert same(one, sure) and (two.facts["threads"], sure.facts["threads"]) == ("2", "1")


def test_a_text_without_pairs() -> None:
    with (
        corpus("a\nb\nc") as encoded,
        pytest.raises(DataError, match="no two words of the text stand in one line"),
    ):
        train_glove(encoded, SETTINGS)
