"""Word2Vec and FastText: what the machine code is given, epochs, and the vectors that come out. [vectors]

Skip-gram and CBOW after Mikolov et al. 2013a and b, FastText after Bojanowski et al. 2017. Matrices are float32
with rows padded to whole cache lines; the padding stays zero.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langmill.core.machine_code import machine_code
from langmill.vectors import layout
from langmill.vectors.corpus import SENTENCE_WORDS, EncodedCorpus
from langmill.vectors.layout import LINE_NUMBERS, padded
from langmill.vectors.sampling import POWER, Paths, alias_table, huffman_paths
from langmill.vectors.settings import VectorSettings
from langmill.vectors.subwords import Pieces, number_pieces
from langmill.vectors.table import Subwords, WordVectors

CHUNK_TOKENS = 10_000
"""About so many words share a learning rate, and are what a thread claims at a time."""
LOOK_SECONDS = 0.2
"""How often progress is looked at."""


@dataclass
class Trainer:
    """A corpus cut into chunks, matrices in training, and what else the machine code reads."""

    corpus: EncodedCorpus
    settings: VectorSettings
    inputs: NDArray[np.float32]
    """(rows, J): words, then pieces; the first `dim` columns are the vectors."""
    outputs: NDArray[np.float32]
    """(words, J), or the inner nodes of the tree."""
    pieces: Pieces | None
    paths: Paths | None
    alias: NDArray[np.uint64]
    keep: NDArray[np.float32]
    first: NDArray[np.int64]
    """(chunks + 1,): each chunk's first sentence."""

    @property
    def chunks(self) -> int:
        """How many chunks the corpus has."""
        return len(self.first) - 1

    def tokens_before(self, chunk: int) -> int:
        """Words of the corpus before a chunk."""
        return int(self.corpus.begins[self.first[chunk]])


@dataclass
class Progress:
    """How far training has come, and what the predictions of the epoch at hand cost."""

    epoch: int
    """Whole epochs that are done."""
    losses: NDArray[np.float64]
    """(chunks,): summed over the predictions of each chunk of this epoch that is done; nats."""
    predictions: NDArray[np.int64]
    chunk: int = 0
    """Chunks of this epoch that are done, or claimed while threads work."""

    def loss(self) -> float:
        """Return the mean loss of a prediction in this epoch, so far; NaN before the first."""
        count = self.predictions.sum()
        return float(self.losses.sum() / count) if count else float("nan")


def zeros(rows: int, columns: int, kind: Any = np.float32, *, large_pages: bool = False) -> NDArray[Any]:
    """Return zeros in pages of their own, which take no memory before they are written to.

    large_pages: memory in pieces of megabytes, which random access is faster in.
    """
    size = max(np.dtype(kind).itemsize * rows * columns, 1)
    room = (
        mmap.mmap(-1, size) if os.name == "nt" else mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    )
    if large_pages and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            room.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(room, kind, rows * columns).reshape(rows, columns)


def prepare(corpus: EncodedCorpus, settings: VectorSettings) -> Trainer:
    """Return a trainer with fresh matrices: outputs zero, inputs uniform between -1/dim and 1/dim.

    So fastText's program and gensim begin; word2vec's program takes half of that, from which CBOW learns a
    small text less well (docs/log.md).
    """
    vocabulary, dim = corpus.vocabulary, settings.dim
    words = len(vocabulary.words)
    pieces = None
    if settings.method == "fasttext":
        pieces = number_pieces(vocabulary.words, settings.shortest, settings.longest, settings.buckets)
    rows = words + (len(pieces.buckets) if pieces else 0)
    inputs = zeros(rows, padded(dim), large_pages=True)
    random = np.random.default_rng(settings.seed)
    for begin in range(0, rows, 1000):
        block = inputs[begin : begin + 1000, :dim]
        block[:] = (random.random(block.shape, np.float32) - np.float32(0.5)) * np.float32(2 / dim)
    paths = huffman_paths(vocabulary.counts) if settings.hs else None
    return Trainer(
        corpus=corpus,
        settings=settings,
        inputs=inputs,
        outputs=zeros(words, padded(dim), large_pages=True),
        pieces=pieces,
        paths=paths,
        alias=alias_table(vocabulary.counts.astype(np.float64) ** POWER),
        keep=vocabulary.keep(settings.sample).astype(np.float32),
        first=cut(corpus.begins, CHUNK_TOKENS),
    )


def cut(begins: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
    """Return the first sentence of each chunk, and the number of sentences; chunks have at least `tokens` words.

    >>> cut(np.array([0, 4, 5, 9, 10]), 5).tolist()
    [0, 2, 4]
    """
    wanted = np.arange(0, begins[-1], tokens)
    first = np.unique(np.searchsorted(begins, wanted))
    return np.unique(np.append(first[first < len(begins) - 1], len(begins) - 1))


def fresh(trainer: Trainer, epoch: int = 0) -> Progress:
    """Return the progress of an epoch that has not begun."""
    return Progress(epoch, np.zeros(trainer.chunks), np.zeros(trainer.chunks, np.int64))


def train_epoch(
    trainer: Trainer, progress: Progress, watch: Callable[[Progress], None] = lambda progress: None
) -> None:
    """Go through the chunks that are left of the epoch, which `progress` counts.

    watch: called at the start and several times a second. What interrupts the process (KeyboardInterrupt, SystemExit) is passed
    on when the chunks in hand are done, `progress` being true: training can be taken up from there.
    """
    run = machinery()
    plan, kept = plan_of(trainer, progress)
    counter, stop = kept[:2]
    lanes = [lane_of(trainer) for _ in range(trainer.settings.workers)]
    threads = [
        threading.Thread(target=run, args=(plan.ctypes.data, lane[0].ctypes.data), daemon=True)
        for lane in lanes
    ]
    for thread in threads:
        thread.start()
    try:
        watch(progress)
        for thread in threads:
            while thread.is_alive():
                thread.join(LOOK_SECONDS)
                progress.chunk = min(int(counter[0]), trainer.chunks)
                trainer.corpus.forget()
                watch(progress)
    finally:
        stop[0] = 1
        for thread in threads:
            thread.join()
        progress.chunk = min(int(counter[0]), trainer.chunks)


def machinery() -> Callable[[int, int], None]:
    """Return the machine code, compiled the first time, which takes seconds."""
    return machine_code(
        "langmill.vectors.kernels", "train_chunks", "langmill.vectors.tiles", "langmill.vectors.layout"
    )


def rates_of(trainer: Trainer, epoch: int) -> NDArray[np.float32]:
    """Return each chunk's learning rate: it falls with the words read, linearly from alpha to min_alpha."""
    read = trainer.corpus.begins[trainer.first[:-1]] / trainer.corpus.begins[-1]
    settings = trainer.settings
    return np.array([settings.rate_at(done) for done in (epoch + read) / settings.passes], np.float32)


def plan_of(trainer: Trainer, progress: Progress) -> tuple[NDArray[np.int64], list[Any]]:
    """Return the table that `kernels.train_chunks` reads, and the buffers it points to.

    The first two buffers are the next chunk and whether to stop.
    """
    settings = trainer.settings
    counter, stop = np.array([progress.chunk], np.int64), np.zeros(1, np.int64)
    rates = rates_of(trainer, progress.epoch)
    seed = np.random.SeedSequence([settings.seed, progress.epoch]).generate_state(1, np.uint64).view(np.int64)
    joined = settings.method == "cbow" or (settings.method == "fasttext" and settings.predict == "word")
    plan = np.zeros(layout.PLAN_ENTRIES, np.int64)
    for entry, value in {
        layout.WORDS: len(trainer.outputs),
        layout.COLUMNS: trainer.inputs.shape[1],
        layout.WINDOW: settings.window,
        layout.NEGATIVE: settings.negative,
        layout.JOINED: joined,
        layout.CHUNKS: trainer.chunks,
        layout.SEED: seed[0],
    }.items():
        plan[entry] = value
    addressed: dict[int, NDArray[Any]] = {
        layout.NEXT: counter,
        layout.STOP: stop,
        layout.FIRST: trainer.first,
        layout.RATES: rates,
        layout.LOSSES: progress.losses,
        layout.PREDICTIONS: progress.predictions,
        layout.BEGINS: trainer.corpus.begins,
        layout.IDS: trainer.corpus.ids,
        layout.KEEP: trainer.keep,
        layout.INPUT: trainer.inputs,
        layout.OUTPUT: trainer.outputs,
        layout.ALIAS: trainer.alias,
    }
    if trainer.paths:
        addressed[layout.PATHS] = trainer.paths.begins
        addressed[layout.NODES], addressed[layout.LABELS] = trainer.paths.nodes, trainer.paths.labels
    if trainer.pieces:
        addressed[layout.PIECES], addressed[layout.PIECE_ROWS] = trainer.pieces.begins, trainer.pieces.rows
    for entry, buffer in addressed.items():
        plan[entry] = buffer.ctypes.data
    return plan, list(addressed.values())


def lane_of(trainer: Trainer) -> list[NDArray[Any]]:
    """Return a thread's table, and the buffers it points to."""
    settings, columns = trainer.settings, trainer.inputs.shape[1]
    inputs = 2 * settings.window
    if trainer.pieces:
        inputs *= int(np.diff(trainer.pieces.begins).max())
    targets = 1 + settings.negative
    if trainer.paths:
        targets = int(np.diff(trainer.paths.begins).max())
    # In pages of their own: threads that write to one cache line slow each other.
    lane = zeros(1, layout.LANE_ENTRIES, np.int64)[0]
    deltas = zeros(2 if trainer.pieces else 2 * settings.window, columns)
    changes = zeros(1, len(deltas), np.int64)[0]
    changes[:] = deltas.ctypes.data + 4 * columns * np.arange(len(deltas))
    buffers: dict[int, NDArray[Any]] = {
        layout.OWN: lane,
        layout.KEPT: zeros(1, SENTENCE_WORDS, np.int32),
        layout.INPUTS: zeros(1, inputs, np.int64),
        layout.CHANGES: changes,
        layout.TARGETS: zeros(1, targets, np.int64),
        layout.WEIGHTS: zeros(1, targets + LINE_NUMBERS),
        layout.SCORES: zeros(2 * settings.window, LINE_NUMBERS),
        layout.CHANCES: zeros(1, LINE_NUMBERS),
        layout.HIDDEN: zeros(1, columns),
        layout.DELTA: deltas,
    }
    for entry, buffer in buffers.items():
        lane[entry] = buffer.ctypes.data
    return [lane, *buffers.values()]


def vectors_of(trainer: Trainer, facts: dict[str, str]) -> WordVectors:
    """Return the words' vectors, and those of pieces: buckets that no word of the vocabulary has are zero.

    This ends the training: the other matrix makes room.
    """
    trainer.outputs = trainer.outputs[:0].copy()
    settings, vocabulary, pieces = trainer.settings, trainer.corpus.vocabulary, trainer.pieces
    dim, words = settings.dim, len(vocabulary.words)
    matrix = zeros(words, dim)
    if pieces is None:
        matrix[:] = trainer.inputs[:, :dim]
        return WordVectors(vocabulary.words, matrix, vocabulary.counts, facts=facts)
    for begin in range(0, words, 1000):
        span = pieces.begins[begin : begin + 1001]
        rows = trainer.inputs[pieces.rows[span[0] : span[-1]], :dim]
        matrix[begin : begin + 1000] = np.add.reduceat(rows, span[:-1] - span[0]) / np.diff(span)[:, None]
    subwords = None
    if settings.longest:
        table = zeros(settings.buckets, dim)
        table[pieces.buckets] = trainer.inputs[words:, :dim]
        subwords = Subwords(table, settings.shortest, settings.longest)
    return WordVectors(vocabulary.words, matrix, vocabulary.counts, subwords, facts)
