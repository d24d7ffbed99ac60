"""Fitting linear classifiers of n-grams. [models]

Shape letters: B texts, F features, L labels, V vocabulary.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from langmill.core.errors import ConfigError, DataError, MissingDependencyError, did_you_mean
from langmill.models.bag import BagClassifier, BagConfig, Weighting
from langmill.models.bag_fasttext import fit_vectors
from langmill.models.bag_features import Alphabet, Keys, Numbers, all_ngrams
from langmill.models.bag_linear import choose, fit_classes, fit_each
from langmill.models.heads import HeadConfig

MOST_FEATURES = 1_000_000
"""Of a set; where there are more, those of the fewest texts go."""


@dataclass(frozen=True)
class Recipe:
    """What a kind of classifier looks at."""

    words: int
    pieces: int
    weighting: Weighting


RECIPES: dict[str, Recipe] = {
    "tfidf": Recipe(2, 0, "tfidf"),
    "nbsvm": Recipe(2, 5, "tfidf"),
    "fasttext": Recipe(2, 5, "mean"),
}
"""| kind     | n-grams                  | weights                                                                        |
|----------|--------------------------|--------------------------------------------------------------------------------|
| tfidf    | of 1 and 2 words         | multinomial logistic regression, of several labels one for each                |
| nbsvm    | and of 2 to 5 characters | for each label the mean of two: with and without naive Bayes' log-count ratios |
| fasttext | the same                 | a linear layer on the mean of learned vectors                                  |

After NB-SVM (Wang and Manning 2012), whose support vectors give way to logistic regression, for its probabilities;
then all logits get the factor and the shifts that make those right on texts set aside. So do fastText's."""


def choose_features(keys: Keys, rows: Numbers, texts: int) -> tuple[Keys, NDArray[np.float64]]:
    """Return the keys of the n-grams to look at, rising, and their inverse document frequencies.

    Those of one text stay: of few short texts, such as Chinese titles, the n-grams that return are too few to go by,
    and as each set is brought to length 1 they would count as much as all words.
    As scikit-learn's with `smooth_idf`: ln((1 + texts) / (1 + texts with it)) + 1.
    """
    distinct, numbers = np.unique(keys, return_inverse=True)
    pairs = np.unique(numbers * texts + rows)
    found = np.bincount(pairs // texts, minlength=len(distinct))
    many = len(distinct) > MOST_FEATURES
    kept = found > (np.partition(found, -MOST_FEATURES)[-MOST_FEATURES] if many else 0)
    return distinct[kept], np.log((1 + texts) / (1 + found[kept])) + 1


def check_targets(texts: int, targets: NDArray[Any], labels: Sequence[str]) -> tuple[NDArray[np.bool_], bool]:
    """Return which labels each text has (B, L), and whether it may have several.

    Raises DataError where there is nothing to learn from.
    """
    several = targets.ndim == 2
    assert len(targets) == texts and (not several or targets.shape[1] == len(labels))
    members = targets.astype(bool) if several else targets[:, None] == np.arange(len(labels))
    if not texts:
        raise DataError("there is no text to fit a classifier to")
    if not several and members[:, members[0].argmax()].all():
        raise DataError(
            f"all rows have the label {labels[members[0].argmax()]!r}; there is nothing to tell apart"
        )
    return members, several


@torch.no_grad()
def fit_bag(
    kind: str,
    rows: Sequence[Numbers],
    targets: NDArray[Any],
    labels: Sequence[str],
    *,
    alphabet: Alphabet,
    seed: int = 0,
) -> BagClassifier:
    """Return a classifier of a kind (see `RECIPES`) that was fitted to texts; the same call gives the same bits.

    rows: each text's token ids. targets: the number of each text's label (B,), or whether it has each (B, L).
    labels: their names. alphabet: what the ids are; see `Alphabet.of`.

    Raises ConfigError for another kind, DataError where all texts have one label or no words, MissingDependencyError
    without scikit-learn.
    """
    if kind not in RECIPES:
        hint = did_you_mean(kind, RECIPES)
        raise ConfigError(f"unknown kind of classifier {kind!r}; allowed: {', '.join(RECIPES)}{hint}")
    if importlib.util.find_spec("sklearn") is None:
        raise MissingDependencyError(
            f"--model {kind} needs scikit-learn; install it with `pip install 'langmill[baselines]'`"
        )
    members, several = check_targets(len(rows), targets, labels)
    recipe = RECIPES[kind]
    sets = all_ngrams(rows, alphabet, recipe.words, recipe.pieces)
    chosen = [choose_features(*each, len(rows)) for each in sets]
    if not sum(len(keys) for keys, _ in chosen):
        raise DataError("no row has a word in it; a classifier of n-grams has nothing to go by")
    config = BagConfig(
        recipe=kind,
        vocabulary=len(alphabet.roles),
        head=HeadConfig(kind="text", labels=tuple(labels), multi_label=several),
        words=recipe.words,
        pieces=recipe.pieces,
        weighting=recipe.weighting,
        features=(len(chosen[0][0]), len(chosen[1][0])),
    )
    model = BagClassifier(config)
    fill(model.folded, alphabet.folded)
    fill(model.roles, alphabet.roles)
    for own, (keys, _) in zip(model.keys, chosen):
        fill(own, keys.view(np.int64))
    fill(model.scale, np.concatenate([scale for _, scale in chosen]))
    weight, bias = fit_weights(model, rows, members, seed)
    fill(model.weight, weight)
    fill(model.bias, bias)
    return model.eval()


def fill(parameter: torch.Tensor, values: NDArray[Any]) -> None:
    """Set a parameter."""
    parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def fit_weights(
    model: BagClassifier, rows: Sequence[Numbers], members: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights (F, L) and biases (L,) for a model that has all else."""
    from scipy.sparse import csr_array

    kind, several = model.config.recipe, model.config.head.multi_label
    bags = model.bags(rows)
    places = bags.features.astype(np.int32), bags.starts.astype(np.int32)  # all that scikit-learn takes
    x = csr_array((bags.values, *places), shape=(len(rows), len(model.scale)))
    if kind == "fasttext":
        return fit_vectors(x, members, several=several, seed=seed)
    ratios = kind == "nbsvm"
    c, factor, shift = choose(x, members, several=several, ratios=ratios, seed=seed)
    if not ratios and not several:
        return fit_classes(x, members.argmax(1), members.shape[1], c)
    weight, bias = fit_each(x, members, c, several=several, ratios=ratios, seed=seed)
    return (weight * factor, bias * factor + shift) if ratios else (weight, bias)
