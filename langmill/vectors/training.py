"""Word vectors from text: read, train, save, and take up again where a run was interrupted. [vectors]"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from langmill.core.errors import ConfigError
from langmill.core.files import check_writable
from langmill.core.log import format_count, format_seconds, say, warn
from langmill.text.documents import Document
from langmill.vectors import resuming
from langmill.vectors.corpus import EncodedCorpus, Words, encode_corpus
from langmill.vectors.formats import check_ending, keeps_pieces, warn_of_lost_pieces, write_vectors
from langmill.vectors.settings import VectorSettings
from langmill.vectors.table import WordVectors
from langmill.vectors.word2vec import Progress, Trainer, fresh, prepare, train_epoch, vectors_of


def train_vectors(
    documents: Iterable[Document],
    settings: VectorSettings | None = None,
    *,
    words: Words = "auto",
    output: Path | str | None = None,
    resume: bool = False,
) -> WordVectors:
    """Train word vectors on documents, as `text.readers.read_documents` yields them.

    words: how a text is taken apart; see `corpus.Words`. output: a file to write, its ending says in which
    format; what is needed to take up an interrupted run lies beside it in `FILE.state` until that is done.
    resume: go on from there; with one thread the result is that of a run without interruption, to the bit.
    Raises DataError where no word is left, CheckpointError where the state is of other settings or another text,
    ConfigError for settings that the method does not follow.
    """
    settings = settings or VectorSettings()
    settings.refuse_idle()
    state: Path | None = None
    if output is not None:
        output = Path(output)
        check_ending(output)
        check_writable(output)
        state = output.with_name(output.name + ".state")
        if state.is_dir() and not resume:
            warn(f"{state}: an interrupted run could be taken up with --resume; this run begins anew")
        if settings.has_pieces and not keeps_pieces(output):
            warn_of_lost_pieces(output)
    elif resume:
        raise ConfigError("resume: there is no output whose state could be resumed; name one")
    with encode_corpus(documents, words=words, min_count=settings.min_count) as corpus:
        vocabulary = corpus.vocabulary
        say(
            f"{format_count(corpus.read_tokens)} words, {corpus.read_words:,} different;"
            f" {len(vocabulary.words):,} occur {settings.min_count} times or more, {len(corpus.ids):,} in all"
        )
        if settings.has_pieces and output is not None and keeps_pieces(output):
            numbers = (len(vocabulary.words) + settings.buckets) * settings.dim
            say(
                f"{output} will take about {format_count(4 * numbers)}B, whatever the text, for {settings.buckets:,}"
                " vectors of pieces; fewer --buckets make it smaller"
            )
        if settings.method == "glove":
            from langmill.vectors.glove import train_glove

            vectors = train_glove(corpus, settings, state=state, resume=resume)
        else:
            vectors = train_word2vec(corpus, settings, state=state, resume=resume)
    if output is not None:
        written = vectors if keeps_pieces(output) else replace(vectors, subwords=None)  # which was told
        write_vectors(output, written)
    if state is not None:
        shutil.rmtree(state, ignore_errors=True)
    return vectors


def train_word2vec(
    corpus: EncodedCorpus, settings: VectorSettings, *, state: Path | None = None, resume: bool = False
) -> WordVectors:
    """Train by the methods skipgram, cbow and fasttext; see `train_vectors`."""
    trainer = prepare(corpus, settings)
    losses: list[float] = []
    progress = fresh(trainer)
    if resume and state is not None:
        progress, losses = load_state(state, trainer)
        say(f"resuming at {describe(trainer, progress)}")
    saved = time.monotonic()
    teller = Teller(trainer)
    try:
        while progress.epoch < settings.passes:
            train_epoch(trainer, progress, teller)
            losses.append(progress.loss())
            say(f"epoch {progress.epoch + 1}/{settings.passes}: loss {losses[-1]:.4f}")
            progress = fresh(trainer, progress.epoch + 1)
            left = progress.epoch < settings.passes
            if state is not None and left and time.monotonic() - saved > resuming.SAVE_SECONDS:
                save_state(state, trainer, progress, losses)
                saved = time.monotonic()
    except (KeyboardInterrupt, SystemExit):
        if state is not None:
            save_state(state, trainer, progress, losses)
            say(f"stopped at {describe(trainer, progress)}; the state is in {state}")
        raise
    return vectors_of(trainer, resuming.facts_of(settings, losses))


def describe(trainer: Trainer, progress: Progress) -> str:
    """Say how far training has come."""
    share = trainer.tokens_before(progress.chunk) / trainer.corpus.begins[-1]
    return f"epoch {progress.epoch + 1}/{trainer.settings.passes}, {100 * share:.0f} % of it done"


class Teller:
    """Says on stderr how training goes, every `resuming.SPEAK_SECONDS`."""

    def __init__(self, trainer: Trainer, clock: Callable[[], float] = time.monotonic) -> None:
        self._trainer, self._clock = trainer, clock
        self._said = clock()
        self._read = -1
        """Words read when it last spoke, earlier epochs included."""

    def __call__(self, progress: Progress) -> None:
        trainer, now = self._trainer, self._clock()
        total = int(trainer.corpus.begins[-1])
        read = progress.epoch * total + trainer.tokens_before(progress.chunk)
        if self._read < 0:
            self._said, self._read = now, read
        if now - self._said < resuming.SPEAK_SECONDS:
            return
        speed = (read - self._read) / (now - self._said)
        self._said, self._read = now, read
        left = trainer.settings.passes * total - read
        alpha = trainer.settings.rate_at(read / (trainer.settings.passes * total))
        say(
            f"{describe(trainer, progress)}; {format_count(speed)} words/s, loss {progress.loss():.4f},"
            f" alpha {alpha:.5f}, {format_seconds(left / max(speed, 1))} left"
        )


def save_state(folder: Path, trainer: Trainer, progress: Progress, losses: list[float]) -> None:
    """Write what is needed to go on."""
    resuming.save(
        folder,
        trainer.settings,
        trainer.corpus.fingerprint(),
        progress={"epoch": progress.epoch, "chunk": progress.chunk, "losses": losses},
        arrays=arrays_of(trainer, progress),
    )


def load_state(folder: Path, trainer: Trainer) -> tuple[Progress, list[float]]:
    """Read into the trainer's matrices what `save_state` wrote; return how far it had come, and epochs' losses."""
    progress = fresh(trainer)
    record = resuming.load(
        folder, trainer.settings, trainer.corpus.fingerprint(), arrays=arrays_of(trainer, progress)
    )
    progress.epoch, progress.chunk = record["epoch"], record["chunk"]
    return progress, record["losses"]


def arrays_of(trainer: Trainer, progress: Progress) -> dict[str, NDArray[Any]]:
    """Return all arrays that training changes."""
    return {
        "inputs": trainer.inputs,
        "outputs": trainer.outputs,
        "losses": progress.losses,
        "predictions": progress.predictions,
    }
