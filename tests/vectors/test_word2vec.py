"""Word2Vec and FastText: steps beside plain NumPy, learning, repetition. [tests]"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from plain_word2vec import Plain
from vector_samples import buckets_of

from langmill.core.errors import ConfigError
from langmill.text.documents import Document
from langmill.vectors.corpus import EncodedCorpus, encode_corpus
from langmill.vectors.settings import VectorSettings
from langmill.vectors.word2vec import Trainer, fresh, prepare, train_epoch, vectors_of

pytest.importorskip("numba")
WAYS = [
    {"method": "skipgram"},
    {"method": "skipgram", "hs": True},
    {"method": "cbow"},
    {"method": "cbow", "hs": True},
    {"method": "fasttext"},
    {"method": "fasttext", "hs": True},
    {"method": "fasttext", "predict": "word"},
]
NAMES = [" ".join(str(value) for value in way.values()) for way in WAYS]


def distinct_sentences(words: int, sentences: int) -> str:
    """Return sentences whose words are all different: a window never holds one twice."""
    random = Random(5)
    known = [f"w{number}" for number in range(words)]
    odds = [1 / (1 + number) for number in range(words)]
    lines = []
    for _ in range(sentences):
        ranked = sorted(range(words), key=lambda number: random.random() ** (1 / odds[number]), reverse=True)
        lines.append(" ".join(known[number] for number in ranked[: random.randrange(1, 12)]))
    return "\n".join(lines)


TEXT = distinct_sentences(40, 300)


@pytest.fixture
def corpus() -> Iterator[EncodedCorpus]:
    with encode_corpus([Document(TEXT, "text")], words="spaces", min_count=2) as encoded:
        yield encoded


def trained(corpus: EncodedCorpus, settings: VectorSettings) -> tuple[Trainer, list[float]]:
    """Return the trainer after all epochs, and each epoch's loss."""
    trainer, losses = prepare(corpus, settings), []
    for epoch in range(settings.passes):
        progress = fresh(trainer, epoch)
        train_epoch(trainer, progress)
        losses.append(progress.loss())
    return trainer, losses


@pytest.mark.parametrize("dim", [5, 32])
@pytest.mark.parametrize("negative", [2, 8])
@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_steps_are_those_of_plain_numpy(
    corpus: EncodedCorpus, way: dict[str, Any], negative: int, dim: int
) -> None:
    settings = VectorSettings(
        **way,
        dim=dim,
        negative=negative,
        window=4,
        sample=0.05,
        epochs=2,
        alpha=0.1,
        threads=1,
        buckets=100,
        seed=3,
    )
    trainer = prepare(corpus, settings)
    trainer.outputs[:, :dim] = np.random.default_rng(2).normal(0, 0.4, (len(trainer.outputs), dim))
    plain = Plain(trainer)
    before = trainer.inputs.copy()
    for epoch in range(2):
        progress = fresh(trainer, epoch)
        plain.loss, plain.predictions = 0.0, 0
        train_epoch(trainer, progress)
        plain.epoch(progress)
        assert progress.predictions.sum() == plain.predictions > 500
        assert progress.loss() == pytest.approx(plain.loss / plain.predictions, rel=1e-5)
    assert abs(trainer.inputs - before).max() > 0.1
    np.testing.assert_allclose(trainer.inputs, plain.inputs, atol=2e-4)
    np.testing.assert_allclose(trainer.outputs, plain.outputs, atol=2e-4)
    assert not trainer.inputs[:, dim:].any() and not trainer.outputs[:, dim:].any()


def topics(sentences: int) -> str:
    """Return sentences of three topics in two languages."""
    random = Random(2)
    sets = ["whale ship sea sail captain", "king queen crown throne court", "春 夏 秋 冬 季节"]
    return "\n".join(" ".join(random.choices(random.choice(sets).split(), k=8)) for _ in range(sentences))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_words_of_a_topic_come_near(way: dict[str, Any], threads: int) -> None:
    settings = VectorSettings(**way, dim=16, sample=0, epochs=3, alpha=0.02, threads=threads, buckets=1000)
    with encode_corpus([Document(topics(1000), "text")], words="spaces") as corpus:
        vectors = vectors_of(trained(corpus, settings)[0], {})
    unit = vectors.matrix / np.linalg.norm(vectors.matrix, axis=1, keepdims=True)
    index = vectors.index
    for topic, other in [("whale ship sea", "king"), ("king queen crown", "冬"), ("春 夏 秋", "sail")]:
        first, *rest = (unit[index[word]] for word in topic.split())
        assert min(first @ each for each in rest) > first @ unit[index[other]] + 0.2


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_the_loss_falls_from_that_of_chance(way: dict[str, Any]) -> None:
    settings = VectorSettings(**way, dim=16, sample=0, epochs=4, alpha=0.02, threads=1, buckets=1000)
    with encode_corpus([Document(topics(50), "text")], words="spaces") as corpus:
        _, losses = trained(corpus, settings)
    chance = np.log2(15) * np.log(2) if settings.hs else 6 * np.log(2)
    assert chance * 1.1 > losses[0] > losses[1] > losses[3]


def test_one_thread_gives_the_same_bits_and_another_seed_others(corpus: EncodedCorpus) -> None:
    settings = VectorSettings(dim=20, epochs=2, deterministic=True, threads=2)
    assert settings.workers == 1
    (first, _), (second, _) = trained(corpus, settings), trained(corpus, settings)
    assert first.inputs.tobytes() == second.inputs.tobytes()
    assert first.outputs.tobytes() == second.outputs.tobytes()
    third, _ = trained(corpus, settings.model_copy(update={"seed": 2}))
    assert third.inputs.tobytes() != first.inputs.tobytes()


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_a_vocabulary_of_one_word(way: dict[str, Any]) -> None:
    settings = VectorSettings(**way, dim=4, epochs=1, sample=0, threads=2, buckets=10)
    with encode_corpus([Document("word word\n" * 20, "text")], words="spaces") as corpus:
        trainer, losses = trained(corpus, settings)
    assert np.isfinite(losses).all() and np.isfinite(trainer.inputs).all()


def test_a_text_without_neighbours_has_nothing_to_predict() -> None:
    with encode_corpus([Document("word\n" * 20, "text")], words="spaces") as corpus:
        trainer, losses = trained(corpus, VectorSettings(dim=4, epochs=1))
        assert np.isnan(losses).all() and np.isfinite(trainer.inputs).all()


def test_a_fasttext_word_is_the_mean_of_its_pieces(corpus: EncodedCorpus) -> None:
    settings = VectorSettings(method="fasttext", dim=8, epochs=1, threads=1, buckets=500)
    trainer, _ = trained(corpus, settings)
    own = trainer.inputs[:, :8].copy()
    vectors = vectors_of(trainer, {})
    assert vectors.subwords is not None and vectors.subwords.matrix.shape == (500, 8)
    seen: set[int] = set()
    for row, word in enumerate(vectors.words):
        buckets = buckets_of(word, 3, 6, 500)
        seen |= set(buckets)
        mean = np.concatenate([own[row : row + 1], vectors.subwords.matrix[buckets]]).mean(0)
        np.testing.assert_allclose(vectors.matrix[row], mean, atol=1e-6)
    unseen = [bucket for bucket in range(500) if bucket not in seen]
    assert unseen and not vectors.subwords.matrix[unseen].any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dim": 0}, "dim"),
        ({"negative": 0}, "--negative 0 trains nothing"),
        ({"method": "word2vec"}, "method"),
        ({"threads": -1}, "threads"),
        ({"method": "fasttext", "shortest": 5, "longest": 4}, "--longest 4 is less than --shortest 5"),
        ({"alpha": 0.00001}, "--min-alpha 0.0001 is above --alpha 1e-05"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], message: str) -> None:
    from langmill.core.config import resolve

    with pytest.raises(ConfigError, match=message):
        resolve(VectorSettings, given)
