"""A linear classifier of bags of n-grams: TF-IDF with logistic regression, NB-SVM, fastText. [models]

Once fitted they are all the same: a text's n-grams are looked up, counted and weighted, and each label's logit is a
sum over them. (fastText's too: a linear layer on a mean of vectors is a mean of what it makes of each vector.)

Shape letters: B texts, T tokens, F n-grams of a set, N n-grams found, L labels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from langmill.core.errors import CheckpointError, ConfigError
from langmill.models.bag_features import Alphabet, Keys, Numbers, all_ngrams
from langmill.models.heads import HeadConfig
from langmill.models.protocol import Layerless

Weighting = Literal["tfidf", "mean"]


@dataclass(frozen=True, kw_only=True)
class BagConfig(Layerless):
    """What a linear classifier of n-grams is made of."""

    recipe: str
    """How it was fitted; see `bag_fit.RECIPES`."""
    vocabulary: int
    head: HeadConfig
    """Its labels; the rest is as in any head for texts."""
    words: int
    """Words of the longest n-gram of words."""
    pieces: int
    """Characters of the longest n-gram of characters; 0: there are none."""
    weighting: Weighting
    """What an n-gram's count in a text becomes. `tfidf`: (1 + ln count) × scale, and then all n-grams of words
    together get the length 1, all n-grams of characters too. `mean`: count / all counts, in each of the two sets."""
    features: tuple[int, int]
    """How many different n-grams of words and of characters it knows."""

    def __post_init__(self) -> None:
        if self.head.kind != "text":
            raise ConfigError(f"a bag of n-grams scores labels of texts, not {self.head.kind}")
        if self.vocabulary < 1 or self.words < 1 or self.pieces < 0 or min(self.features) < 0:
            raise ConfigError(
                f"vocabulary {self.vocabulary}, words {self.words}, pieces {self.pieces} and features"
                f" {self.features} are sizes; vocabulary and words must be at least 1, the others 0"
            )
        if self.weighting not in get_args(Weighting):
            raise ConfigError(
                f"weighting {self.weighting!r} is not known; it must be one of {', '.join(get_args(Weighting))}"
            )


@dataclass(frozen=True)
class Bags:
    """Which n-grams several texts have."""

    starts: Numbers
    """Where each text's begin in `features`, (B + 1,)."""
    features: Numbers
    """Numbers of known n-grams, each once a text, (N,)."""
    values: NDArray[np.float64]
    """Their weights in the text, (N,)."""


def look_up(keys: Keys, known: Keys) -> Numbers:
    """Return where each key stands in `known`, which rises; -1: nowhere."""
    if not len(known):
        return np.full(len(keys), -1)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[places] == keys, places, -1)


def weigh(
    counts: Numbers, rows: Numbers, texts: int, scale: NDArray[np.float64], weighting: Weighting
) -> NDArray[np.float64]:
    """Return the weights of n-grams (N,) in their texts `rows` (N,), by how often they are in it.

    scale: of each n-gram, (N,). `tfidf` is scikit-learn's TfidfTransformer with `sublinear_tf`.
    """
    if weighting == "mean":
        return counts / np.bincount(rows, counts, texts)[rows]
    raw = (1 + np.log(counts)) * scale
    return raw / np.sqrt(np.bincount(rows, raw * raw, texts))[rows]


def count_pairs(rows: Numbers, features: Numbers, size: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return each (row, feature) once, by rows, and how often it occurs; features below 0 are left out."""
    pairs, counts = np.unique((rows * size + features)[features >= 0], return_counts=True)
    return pairs // max(size, 1), pairs % max(size, 1), counts


class BagClassifier(nn.Module):
    """Keys and weights of n-grams as parameters, fitted by `bag_fit.fit_bag` and changed by no gradient.

    Texts are read and looked up on the CPU, wherever the parameters lie.
    """

    def __init__(self, config: BagConfig) -> None:
        super().__init__()
        self.config = config
        total, labels = sum(config.features), len(config.head.labels)

        def empty(*shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=False)

        self.weight = empty(total, labels)
        self.bias = empty(labels)
        self.scale = empty(total)
        self.keys = nn.ParameterList(empty(size, dtype=torch.int64) for size in config.features)
        self.folded = empty(config.vocabulary, dtype=torch.int64)
        self.roles = empty(config.vocabulary, dtype=torch.int64)

    @property
    def alphabet(self) -> Alphabet:
        """What the ids are."""
        return Alphabet(self.folded.cpu().numpy(), self.roles.cpu().numpy())

    def verify(self, source: str) -> None:
        """Raise CheckpointError, naming `source`, where the parameters are not those of such a model."""
        folded, roles = self.folded.cpu(), self.roles.cpu()
        within = ((folded >= 0) & (folded < self.config.vocabulary) & (roles >= 0) & (roles <= 2)).all()
        known = [keys.cpu().numpy().view(np.uint64) for keys in self.keys]
        rising = all((keys[1:] > keys[:-1]).all() for keys in known)
        if not (within and rising):
            raise CheckpointError(f"{source}: the keys of its n-grams are damaged; copy or save it again")

    def bags(self, texts: Sequence[Numbers]) -> Bags:
        """Return the known n-grams of texts of token ids, weighted."""
        config = self.config
        scale = self.scale.cpu().double().numpy()
        parts, first = [], 0
        for (keys, rows), known in zip(
            all_ngrams(texts, self.alphabet, config.words, config.pieces), self.keys
        ):
            found = look_up(keys, known.cpu().numpy().view(np.uint64))
            where, features, counts = count_pairs(rows, found, len(known))
            features += first
            parts.append(
                (where, features, weigh(counts, where, len(texts), scale[features], config.weighting))
            )
            first += len(known)
        where, features, values = map(np.concatenate, zip(*parts))
        order = np.argsort(where, kind="stable")
        starts = np.searchsorted(where[order], np.arange(len(texts) + 1))
        return Bags(starts, features[order], values[order])

    def forward(self, ids: Tensor, *, valid: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Return logits (B, L) of token ids (B, T); valid: (B, T), False at padding; segments: not used.

        A text without a known n-gram gets the bias: what is likely before anything is read.
        """
        read = ids.cpu().numpy()
        kept = np.ones(read.shape, dtype=bool) if valid is None else valid.cpu().numpy()
        return self.score(self.bags([row[keep] for row, keep in zip(read, kept)]))

    def score(self, bags: Bags) -> Tensor:
        """Return logits (B, L)."""
        device = self.weight.device
        sums = functional.embedding_bag(
            torch.from_numpy(bags.features).to(device),
            self.weight,
            torch.from_numpy(bags.starts).to(device),
            mode="sum",
            per_sample_weights=torch.from_numpy(bags.values).to(self.weight),
            include_last_offset=True,
        )
        return sums + self.bias
