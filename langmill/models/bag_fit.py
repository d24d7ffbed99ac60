"""Fitting linear classifiers of n-grams. [models]

Shape letters: B texts, F features, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from langmill.models.bag import BagClassifier, BagConfig, Weighting
from langmill.models.bag_features import Alphabet, Numbers, all_ngrams


@dataclass(frozen=True)
class Recipe:
    """How a kind of classifier is made."""

    words: int
    pieces: int
    weighting: Weighting


RECIPES = {"tfidf": Recipe(2, 0, "tfidf"), "pieces": Recipe(2, 5, "tfidf")}


def fit_bag(
    kind: str,
    rows: Sequence[Numbers],
    targets: NDArray[Any],
    labels: Sequence[str],
    *,
    alphabet: Alphabet,
    min_texts: int = 1,
    seed: int = 0,
) -> BagClassifier:
    recipe = RECIPES[kind]
    blocks = all_ngrams(rows, alphabet, recipe.words, recipe.pieces)
    known, scales = [], []
    for keys, where in blocks:
        distinct, inverse = np.unique(keys, return_inverse=True)
        pairs = np.unique(inverse * len(rows) + where)
        texts = np.bincount(pairs // len(rows), minlength=len(distinct))
        kept = texts >= min_texts
        known.append(distinct[kept])
        scales.append(np.log((1 + len(rows)) / (1 + texts[kept])) + 1)
    config = BagConfig(
        kind=kind,
        vocabulary=len(alphabet.roles),
        labels=tuple(labels),
        words=recipe.words,
        pieces=recipe.pieces,
        weighting=recipe.weighting,
        features=tuple(map(len, known)),
    )
    model = BagClassifier(config)
    model.folded.copy_(torch.from_numpy(alphabet.folded))
    model.roles.copy_(torch.from_numpy(alphabet.roles))
    for p, k in zip(model.keys, known):
        p.copy_(torch.from_numpy(k.view(np.int64)))
    model.scale.copy_(torch.from_numpy(np.concatenate(scales)))
    bags = model.bags(rows)
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    x = csr_matrix((bags.values, bags.features, bags.starts), shape=(len(rows), sum(config.features)))
    lr = LogisticRegression(C=10, max_iter=300).fit(x, targets)
    w, b = lr.coef_, lr.intercept_
    if len(w) == 1:
        w, b = np.concatenate([-w / 2, w / 2]), np.concatenate([-b / 2, b / 2])
    model.weight.copy_(torch.from_numpy(w.T))
    model.bias.copy_(torch.from_numpy(b))
    return model.eval()
