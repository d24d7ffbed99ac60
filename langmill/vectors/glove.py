"""GloVe: word vectors whose products are the logarithms of counts. [vectors]

Pennington, Socher and Manning 2014, "GloVe: Global Vectors for Word Representation". The objective is its
equation 8, over the cells of the matrix of words and contexts that are not zero:

    J = sum of f(X) (w · c + b_w + b_c - log X)²,    f(X) = min(1, (X / x_max) ** power)

AdaGrad (Duchi et al. 2011) divides each number's step by the root of the sum of its squared slopes, which
begins at 1 as in the authors' program (that one has the learning rate within the squares too, to little effect).
A word's vector is w + c (section 4.2).
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import DataError
from langmill.core.files import cache_folder, make_folder, writing_to
from langmill.core.log import format_count, format_seconds, say
from langmill.vectors import resuming
from langmill.vectors.cooccurrence import Cooccurrences, count_cooccurrences
from langmill.vectors.corpus import EncodedCorpus
from langmill.vectors.layout import padded
from langmill.vectors.settings import VectorSettings
from langmill.vectors.table import WordVectors

Arrays = dict[str, NDArray[np.float32]]
"""words, contexts, word_squares and context_squares, each (words, J): column `dim` is the bias, then padding."""


@dataclass
class Progress:
    """How far training has come."""

    epoch: int = 0
    """Whole epochs that are done."""
    block: int = 0
    """Blocks of this epoch that are done."""
    loss: float = 0.0
    """J over these blocks, each cell's part as it was before its step."""
    losses: list[float] = field(default_factory=list)
    """Of each whole epoch, J over the number of cells."""


def train_glove(
    corpus: EncodedCorpus, settings: VectorSettings, *, state: Path | None = None, resume: bool = False
) -> WordVectors:
    """Train by the method glove; with one thread, the same bits every time.

    state: the folder where an interrupted run is kept; resume: go on from it. Raises DataError where no two
    words stand together, CheckpointError where the state is of other settings or another text.
    """
    parent = make_folder(cache_folder() / "corpora")
    say(f"counting pairs of words that come within {settings.window} words of one another")
    with writing_to(parent), tempfile.TemporaryDirectory(prefix=".partial-", dir=parent) as folder:
        table = count_cooccurrences(
            corpus,
            Path(folder),
            window=settings.window,
            memory_bytes=settings.memory_bytes,
            threads=settings.workers,
            seed=settings.seed,
        )
        if not len(table.pairs):
            raise DataError("no two words of the text stand in one line; give lines of several words")
        where = "on disk" if table.on_disk else "in memory"
        say(f"{format_count(len(table.pairs))} different pairs, {where}")
        arrays, progress = start(len(corpus.vocabulary.words), settings), Progress()
        if resume and state is not None:
            progress = Progress(**resuming.load(state, settings, corpus.fingerprint(), arrays=arrays))
            say(f"resuming at {describe(table, settings, progress)}")
        train(corpus, table, settings, arrays, progress, state)
    matrix = arrays["words"][:, : settings.dim] + arrays["contexts"][:, : settings.dim]
    return WordVectors(
        corpus.vocabulary.words,
        matrix,
        corpus.vocabulary.counts,
        facts=resuming.facts_of(settings, progress.losses),
    )


def start(words: int, settings: VectorSettings) -> Arrays:
    """Return random vectors and biases within ±0.5 / dim, and sums of squares of 1."""
    dim = settings.dim
    columns = padded(dim + 1)
    random = np.random.default_rng([settings.seed, 0])
    arrays = {}
    for name in ("word", "context"):
        rows = np.zeros((words, columns), np.float32)
        rows[:, : dim + 1] = (random.random((words, dim + 1), np.float32) - np.float32(0.5)) / dim
        arrays[f"{name}s"], arrays[f"{name}_squares"] = rows, np.ones_like(rows)
    return arrays


def train(
    corpus: EncodedCorpus,
    table: Cooccurrences,
    settings: VectorSettings,
    arrays: Arrays,
    progress: Progress,
    state: Path | None,
) -> None:
    """Go through the epochs that are left, and keep the state after some, and when interrupted."""

    def save() -> None:
        if state is not None:
            resuming.save(state, settings, corpus.fingerprint(), progress=asdict(progress), arrays=arrays)

    saved = time.monotonic()
    try:
        while progress.epoch < settings.passes:
            train_epoch(table, settings, arrays, progress)
            say(f"epoch {progress.epoch}/{settings.passes}: loss {progress.losses[-1]:.4f}")
            if progress.epoch < settings.passes and time.monotonic() - saved > resuming.SAVE_SECONDS:
                save()
                saved = time.monotonic()
    except (KeyboardInterrupt, SystemExit):
        save()
        if state is not None:
            say(f"stopped at {describe(table, settings, progress)}; the state is in {state}")
        raise


def train_epoch(table: Cooccurrences, settings: VectorSettings, arrays: Arrays, progress: Progress) -> None:
    """Go through the blocks that are left of an epoch, in random order, and count them in `progress`."""
    order = np.random.default_rng([settings.seed, 2, progress.epoch]).permutation(len(table.ends))
    said, done = time.monotonic(), 0
    while progress.block < len(order):
        block = int(order[progress.block])
        pairs = table.pairs[table.ends[block - 1] if block else 0 : table.ends[block]]
        pairs = pairs[
            np.random.default_rng([settings.seed, 3, progress.epoch, block]).permutation(len(pairs))
        ]
        loss, interruption = train_block(pairs, settings, arrays)
        progress.loss += loss
        progress.block += 1
        done += len(pairs)
        if interruption is not None:
            raise interruption
        if (seconds := time.monotonic() - said) > resuming.SPEAK_SECONDS:
            speed = done / seconds
            left = len(table.pairs) * (settings.passes - progress.epoch) - int(table.ends[progress.block - 1])
            say(
                f"{describe(table, settings, progress)}; {format_count(speed)} pairs/s,"
                f" {format_seconds(left / speed)} left"
            )
            said, done = time.monotonic(), 0
    progress.losses.append(progress.loss / table.cells)
    progress.epoch, progress.block, progress.loss = progress.epoch + 1, 0, 0.0


def train_block(
    pairs: NDArray[Any], settings: VectorSettings, arrays: Arrays
) -> tuple[float, BaseException | None]:
    """Share pairs out among threads, which write to the same arrays without locks (Recht et al. 2011).

    Returns J over their cells, and what interrupted the process meanwhile: the block is finished first.
    """
    from langmill.vectors.glove_kernels import train_pairs

    x_max, power, rate = map(np.float32, (settings.x_max, settings.power, settings.learning_rate))

    def work(part: NDArray[Any]) -> float:
        loss: float = train_pairs(
            part,
            arrays["words"],
            arrays["contexts"],
            arrays["word_squares"],
            arrays["context_squares"],
            settings.dim,
            x_max,
            power,
            rate,
        )
        return loss

    interruption: BaseException | None = None
    with ThreadPoolExecutor(settings.workers) as pool:
        parts = [pool.submit(work, part) for part in np.array_split(pairs, settings.workers)]
        while True:
            try:
                wait(parts)
                break
            except (KeyboardInterrupt, SystemExit) as caught:
                interruption = caught
    return sum(part.result() for part in parts), interruption


def describe(table: Cooccurrences, settings: VectorSettings, progress: Progress) -> str:
    """Say how far training has come."""
    share = progress.block / len(table.ends)
    return f"epoch {progress.epoch + 1}/{settings.passes}, {100 * share:.0f} % of it done"
