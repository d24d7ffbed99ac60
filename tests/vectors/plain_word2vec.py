"""Word2Vec and FastText in plain NumPy, float64, with the random choices that the machine code makes. [tests]"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from langmill.vectors.word2vec import Progress, Trainer, rates_of

BITS = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def scramble(z: int) -> int:
    """Return SplitMix64's mixture."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & BITS
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & BITS
    return z ^ (z >> 31)


class Draws:
    """The random numbers of a chunk."""

    def __init__(self, seed: int, chunk: int) -> None:
        self.state = scramble((seed + chunk * GOLDEN) & BITS)

    def __call__(self) -> int:
        self.state = (self.state + GOLDEN) & BITS
        return scramble(self.state)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logistic function."""
    return 1 / (1 + np.exp(-x))


class Plain:
    """Both matrices in float64, and one epoch of training on them."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.settings = trainer.settings
        self.inputs = trainer.inputs.astype(np.float64)
        self.outputs = trainer.outputs.astype(np.float64)
        self.loss = 0.0
        self.predictions = 0

    def epoch(self, progress: Progress) -> None:
        """Go through the corpus once."""
        trainer = self.trainer
        seeds = np.random.SeedSequence([self.settings.seed, progress.epoch])
        seed = int(seeds.generate_state(1, np.uint64)[0])
        for chunk, rate in enumerate(rates_of(trainer, progress.epoch)):
            draw = Draws(seed, chunk)
            for sentence in range(trainer.first[chunk], trainer.first[chunk + 1]):
                words = trainer.corpus.ids[
                    trainer.corpus.begins[sentence] : trainer.corpus.begins[sentence + 1]
                ]
                kept = [w for w in words if trainer.keep[w] >= 1 or (draw() >> 40) / 2**24 < trainer.keep[w]]
                for place in range(len(kept)):
                    reach = 1 + ((draw() >> 32) * self.settings.window >> 32)
                    around = [*kept[max(0, place - reach) : place], *kept[place + 1 : place + reach + 1]]
                    if around:
                        self.position(kept[place], around, float(rate), draw)

    def position(self, word: int, around: Sequence[int], rate: float, draw: Draws) -> None:
        """Train on a word and its neighbours."""
        method, by_word = self.settings.method, self.settings.predict == "word"
        if method == "skipgram":
            rows = np.array(around)
            changes = self.predict(self.inputs[rows], self.targets(word, draw), rate)
            np.add.at(self.inputs, rows, changes)
            return
        many = method == "cbow" or by_word
        rows = np.concatenate([self.pieces(each) for each in (around if many else [word])])
        hidden = self.inputs[rows].mean(0, keepdims=True)
        begin = hidden
        for each in [word] if many else around:
            hidden = hidden + self.predict(hidden, self.targets(each, draw), rate)
        np.add.at(self.inputs, rows, hidden - begin)

    def pieces(self, word: int) -> NDArray[np.int32]:
        """Return the rows that a word is made of."""
        pieces = self.trainer.pieces
        if pieces is None:
            return np.array([word], np.int32)
        return pieces.rows[pieces.begins[word] : pieces.begins[word + 1]]

    def targets(self, word: int, draw: Draws) -> dict[int, tuple[float, int]]:
        """Return row → its label, 1 or -1, and how many times it counts."""
        paths = self.trainer.paths
        if paths is not None:
            span = slice(paths.begins[word], paths.begins[word + 1])
            return {n: (float(s), 1) for n, s in zip(paths.nodes[span], paths.labels[span], strict=True)}
        found = {int(word): (1.0, 1)}
        table = self.trainer.alias
        for _ in range(self.settings.negative):
            number = draw()
            place = (number >> 32) * len(table) >> 32
            entry = int(table[place])
            row = place if number & 0xFFFFFFFF < entry >> 32 else entry & 0xFFFFFFFF
            if row != word:
                found[row] = (-1.0, found.get(row, (0, 0))[1] + 1)
        return found

    def predict(
        self, x: NDArray[np.float64], targets: dict[int, tuple[float, int]], rate: float
    ) -> NDArray[np.float64]:
        """Move the targets by the gradient of -sum log sigmoid(label x·y); return how the inputs (C, J) move."""
        self.predictions += len(x)
        if not targets:
            return np.zeros_like(x)
        rows = np.array(list(targets))
        labels, times = np.array(list(targets.values())).T
        y = self.outputs[rows].copy()
        chances = sigmoid(labels * (x @ y.T))  # (C, T)
        self.loss -= float((times * np.log(chances)).sum())
        gradients = rate * times * labels * (1 - chances)
        self.outputs[rows] += gradients.T @ x
        return gradients @ y
