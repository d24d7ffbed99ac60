"""fastText's classifier: a mean of n-grams' vectors and a linear layer (Joulin et al. 2016, arXiv:1607.01759). [models]

N-grams have a row each, not a bucket shared with others. Trained by plain gradient descent, the rate falling to zero,
with a share of the n-grams left out at random; the epoch counts that predicts best what was set aside.

Shape letters: B texts, N n-grams of a batch, F features, D width, L labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from langmill.models.bag_linear import Floats, Matrix, best_temperature, fold_texts

WIDTH = 32
EPOCHS = 12
BATCH = 32
RATE = 0.1
GAIN = 4.0
"""On the means: vectors learn faster than the layer, which is shared by all."""
DROPOUT = 0.3
HELD_OUT = 10
"""One text in so many is set aside."""


class Vectors:
    """What is learned."""

    def __init__(self, features: int, labels: int, generator: torch.Generator) -> None:
        self.embed = torch.empty(features, WIDTH).uniform_(-1 / WIDTH, 1 / WIDTH, generator=generator)
        self.output = torch.empty(WIDTH, labels).normal_(0, WIDTH**-0.5, generator=generator)
        self.bias = torch.zeros(labels)

    def collapse(self) -> tuple[Floats, Floats]:
        """Return each feature's logits (F, L), and the bias (L,)."""
        return (self.embed @ self.output * GAIN).double().numpy(), self.bias.double().numpy()

    def step(
        self,
        features: torch.Tensor,
        values: torch.Tensor,
        lengths: torch.Tensor,
        members: torch.Tensor,
        rate: float,
        *,
        several: bool,
    ) -> None:
        """Go down the gradient of the log loss, summed over texts with `lengths` (B,) features and `members` (B, L)."""
        starts = lengths.cumsum(0) - lengths
        means = functional.embedding_bag(features, self.embed, starts, mode="sum", per_sample_weights=values)
        logits = means @ self.output + self.bias
        error = (logits.sigmoid() if several else logits.softmax(1)) - members  # (B, L)
        back = error @ self.output.T  # (B, D)
        self.output -= rate * (means.T @ error)
        self.bias -= rate * error.sum(0)
        change = back.repeat_interleave(lengths, 0) * values[:, None]  # (N, D)
        self.embed.index_add_(0, features, change, alpha=-rate)


def fit_vectors(x: Matrix, members: NDArray[np.bool_], *, several: bool, seed: int) -> tuple[Floats, Floats]:
    """Return the weights (F, L) and biases (L,) that vectors and layer come to, of features' shares x (B, F)."""
    fold = fold_texts(members, several=several, folds=HELD_OUT, seed=seed)
    held, rows = np.flatnonzero(fold == 0), np.flatnonzero(fold != 0)
    generator = torch.Generator().manual_seed(seed)
    vectors = Vectors(x.shape[1], members.shape[1], generator)
    best: tuple[float, Any] = (np.inf, None)
    steps = -(-len(rows) // BATCH)
    for epoch in range(EPOCHS):
        order = rows[torch.randperm(len(rows), generator=generator).numpy()]
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            part = x[batch]
            features = torch.from_numpy(part.indices.astype(np.int64))
            values = torch.from_numpy((part.data * GAIN).astype(np.float32))
            values *= (torch.rand(len(values), generator=generator) >= DROPOUT) / (1 - DROPOUT)
            lengths = torch.from_numpy(np.diff(part.indptr).astype(np.int64))
            rate = RATE * (1 - (epoch * steps + step) / (EPOCHS * steps))
            own = torch.from_numpy(members[batch].astype(np.float32))
            vectors.step(features, values, lengths, own, rate, several=several)
        weight, bias = vectors.collapse()
        loss, factor = 0.0, 1.0  # nothing was set aside: the last epoch counts
        if len(held):
            loss, factor = best_temperature(x[held] @ weight + bias, members[held], several=several)
        if not len(held) or loss < best[0]:
            best = (loss, (weight * factor, bias * factor))
    return best[1]
