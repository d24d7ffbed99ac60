"""Training word vectors from documents to a file, interrupted and resumed. [tests]"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from langmill.core.errors import CheckpointError, ConfigError
from langmill.text.documents import Document
from langmill.vectors import resuming, training
from langmill.vectors.formats import read_vectors
from langmill.vectors.settings import VectorSettings
from langmill.vectors.table import WordVectors
from langmill.vectors.training import Teller, train_vectors
from langmill.vectors.word2vec import Progress, Trainer

pytest.importorskip("numba")
SETTINGS = VectorSettings(dim=8, epochs=3, threads=1, min_count=1)


def documents() -> list[Document]:
    """Return a text of several chunks."""
    random = Random(4)
    lines = (" ".join(f"w{int(random.paretovariate(0.8)) % 300}" for _ in range(20)) for _ in range(6000))
    return [Document("\n".join(lines), "text")]


def stop_in(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Let Ctrl-C come soon after an epoch has begun."""

    def watch(trainer: Trainer) -> Callable[[Progress], None]:
        def look(progress: Progress) -> None:
            if progress.epoch == epoch:
                raise KeyboardInterrupt

        return look

    monkeypatch.setattr(training, "Teller", watch)


def same(one: WordVectors, other: WordVectors) -> bool:
    """Tell whether vectors are equal to the bit."""
    subwords = [each.subwords.matrix.tobytes() if each.subwords else b"" for each in (one, other)]
    return (
        one.words == other.words
        and one.matrix.tobytes() == other.matrix.tobytes()
        and len(set(subwords)) == 1
    )


@pytest.mark.parametrize("way", [{}, {"method": "cbow", "hs": True}, {"method": "fasttext", "buckets": 500}])
def test_interrupted_and_resumed_is_uninterrupted(
    way: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SETTINGS.model_copy(update=way)
    whole = train_vectors(documents(), settings, words="spaces")
    out = tmp_path / "new" / "a.vec"
    with monkeypatch.context() as patch:
        stop_in(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train_vectors(documents(), settings, words="spaces", output=out)
    assert not out.exists() and (out.parent / "a.vec.state").is_dir()
    assert f"the state is in {out}.state" in capsys.readouterr().err
    again = train_vectors(documents(), settings, words="spaces", output=out, resume=True)
    assert same(again, whole)
    assert again.facts == whole.facts
    assert "resuming at epoch 2/3" in capsys.readouterr().err
    assert [path.name for path in out.parent.iterdir()] == ["a.vec"]
    np.testing.assert_allclose(read_vectors(out).matrix, whole.matrix, rtol=1e-6)


def test_an_epochs_end_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "SAVE_SECONDS", 0.0)
    saved: list[tuple[int, int]] = []
    save = training.save_state

    def note(folder: Path, trainer: Trainer, progress: Progress, losses: list[float]) -> None:
        saved.append((progress.epoch, progress.chunk))
        save(folder, trainer, progress, losses)

    monkeypatch.setattr(training, "save_state", note)
    train_vectors(documents(), SETTINGS, words="spaces", output=tmp_path / "a.vec")
    assert saved == [(1, 0), (2, 0)]


def test_a_state_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "a.vec"

    def resume(settings: VectorSettings, text: list[Document]) -> None:
        train_vectors(text, settings, words="spaces", output=out, resume=True)

    with pytest.raises(CheckpointError, match="no state of an interrupted run"):
        resume(SETTINGS, documents())
    with monkeypatch.context() as patch:
        stop_in(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            train_vectors(documents(), SETTINGS, words="spaces", output=out)
    with pytest.raises(CheckpointError, match="other settings: --dim 8, --window 5; give the same"):
        resume(SETTINGS.model_copy(update={"dim": 9, "window": 4}), documents())
    with pytest.raises(CheckpointError, match="another text"):
        resume(SETTINGS, [*documents(), Document("w1 w2", "more")])
    resume(SETTINGS.model_copy(update={"threads": 2}), documents())
    with pytest.raises(ConfigError, match="no output"):
        train_vectors(documents(), SETTINGS, resume=True)


def test_facts_say_how_the_vectors_were_made() -> None:
    vectors = train_vectors(documents(), SETTINGS.model_copy(update={"seed": 7}), words="spaces")
    assert vectors.counts is not None and vectors.counts[0] == vectors.counts.max()
    facts = vectors.facts
    assert (facts["method"], facts["seed"], facts["alpha"], facts["dim"]) == ("skipgram", "7", "0.025", "8")
    losses = [float(loss) for loss in facts["loss"].split()]
    assert len(losses) == 3 and losses[0] > losses[2] > 0


def test_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from langmill.vectors.corpus import encode_corpus
    from langmill.vectors.word2vec import fresh, prepare

    times = iter([0.0, 0.0, 5.0, 10.0])
    with encode_corpus(documents(), words="spaces", min_count=1) as corpus:
        trainer = prepare(corpus, SETTINGS)
        tell, progress = Teller(trainer, lambda: next(times)), fresh(trainer)
        tell(progress)
        progress.chunk, progress.losses[0], progress.predictions[0] = 3, 10.0, 4
        tell(progress)
        assert not capsys.readouterr().err
        tell(progress)
    said = capsys.readouterr().err
    assert said == "epoch 1/3, 25 % of it done; 3.0k words/s, loss 2.5000, alpha 0.02293, 1m50s left\n"
