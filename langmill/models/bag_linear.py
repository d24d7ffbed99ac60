"""Logistic regression on bags of n-grams, with how strongly it is held back chosen by cross-validation. [models]

scikit-learn does the fitting. Shape letters: B texts, F features, L labels.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Matrix = Any
"""A sparse matrix of SciPy's, (B, F), by rows."""
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""What C may be: how much the texts count against small weights."""
USUAL = 10.0
"""C where there are too few texts to choose by."""
FOLDS = 3
CHOOSING_TEXTS = 4000
"""More are not needed to choose."""
SMOOTHING = 0.1
"""What is added to each n-gram's weight in the texts with a label, and in those without."""
TEMPERATURES = np.geomspace(0.2, 4, 61)
"""Factors on all logits, none so large that a few texts guessed right make a model certain of everything."""


def regress(x: Matrix, targets: NDArray[Any], c: float, **options: Any) -> tuple[Floats, Floats]:
    """Return the weights (F, outputs) and biases of scikit-learn's logistic regression."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of weights predict nothing
        model = LogisticRegression(C=c, **options).fit(x, targets)
    return model.coef_.T, model.intercept_


def fit_classes(x: Matrix, targets: NDArray[np.int64], labels: int, c: float) -> tuple[Floats, Floats]:
    """Return the weights (F, L) and biases (L,) of multinomial logistic regression.

    A label that no text has is a hundred times less likely than the least likely other.
    """
    known = np.unique(targets)
    weight, bias = mirror(*regress(x, targets, c, max_iter=1000), two=len(known) == 2)
    weights, biases = np.zeros((x.shape[1], labels)), np.full(labels, bias.min() - np.log(100))
    weights[:, known], biases[known] = weight, bias
    return weights, biases


def mirror(weight: Floats, bias: Floats, *, two: bool) -> tuple[Floats, Floats]:
    """Return what is for one of two labels, (F, 1) and (1,), for both; more labels' weights as they are."""
    return (weight * [[-0.5, 0.5]], bias * [-0.5, 0.5]) if two else (weight, bias)


def log_count_ratios(x: Matrix, member: NDArray[np.bool_]) -> Floats:
    """Return how much likelier each n-gram is in the texts with a label than in the others, as a logarithm (F,).

    Wang and Manning 2012, "Baselines and Bigrams", section 2.1, of weighted counts.
    """
    inside, outside = (np.asarray(x[rows].sum(0)).ravel() + SMOOTHING for rows in (member, ~member))
    return np.log(inside / inside.sum()) - np.log(outside / outside.sum())


def fit_each(
    x: Matrix, members: NDArray[np.bool_], c: float, *, several: bool, ratios: bool, seed: int
) -> tuple[Floats, Floats]:
    """Return the weights (F, L) and biases (L,) of a logistic regression for each label against all others.

    members: (B, L), which labels a text has. ratios: each weight is the mean of two, of which the second was fitted
    to values times their log-count ratios: naive Bayes as far as the texts do not say otherwise.
    """
    from scipy.sparse import diags_array

    two = members.shape[1] == 2 and not several
    if two:
        members = members[:, 1:]
    texts, labels = members.shape
    weights, biases = np.zeros((x.shape[1], labels)), np.zeros(labels)
    options = {"solver": "liblinear", "dual": True, "tol": 1e-2, "max_iter": 1000, "random_state": seed}
    for label, member in enumerate(members.T):
        if member.all() or not member.any():
            biases[label] = np.log(member.sum() + 0.5) - np.log(texts - member.sum() + 0.5)
            continue
        weight, bias = regress(x, member, c, **options)
        if ratios:
            ratio = log_count_ratios(x, member)
            second, second_bias = regress(x @ diags_array(ratio), member, c, **options)
            weight, bias = (weight[:, 0] + second[:, 0] * ratio) / 2, (bias + second_bias) / 2
        weights[:, label], biases[label] = weight.ravel(), bias[0]
    return mirror(weights, biases, two=two)


def fold_texts(members: NDArray[np.bool_], *, several: bool, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each text (B,), those of a label spread evenly; -1: its label is too rare to be set aside.

    >>> fold_texts(np.eye(2, dtype=bool)[[0, 0, 0, 1]], several=False, folds=3, seed=0).tolist()[3]
    -1
    """
    stratum = np.zeros(len(members), dtype=np.int64) if several else members.argmax(1)
    shuffled = np.random.default_rng(seed).permutation(len(members))
    order = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    sizes = np.bincount(stratum)
    starts = np.cumsum(sizes) - sizes
    fold = np.empty(len(members), dtype=np.int64)
    fold[order] = (np.arange(len(members)) - starts[stratum[order]]) % folds
    fold[sizes[stratum] < folds] = -1
    return fold


def log_loss(logits: Floats, members: NDArray[np.bool_], *, several: bool) -> float:
    """Return the mean negative log-probability of texts' labels, of several the sum over all."""
    if several:
        return float(np.logaddexp(0, np.where(members, -logits, logits)).sum(1).mean())
    top = logits.max(1)
    chosen = logits[members]
    return float((np.log(np.exp(logits - top[:, None]).sum(1)) + top - chosen).mean())


def best_temperature(logits: Floats, members: NDArray[np.bool_], *, several: bool) -> tuple[float, float]:
    """Return the least log loss that a factor on all logits gives, and the factor (Guo et al. 2017)."""
    return min((log_loss(logits * each, members, several=several), float(each)) for each in TEMPERATURES)


def choose(
    x: Matrix, members: NDArray[np.bool_], *, several: bool, ratios: bool, seed: int
) -> tuple[float, float]:
    """Return the C, and the factor on its logits, that predict texts best that were not fitted to."""
    rows = np.random.default_rng(seed).permutation(len(members))[:CHOOSING_TEXTS]
    x, members = x[rows], members[rows]
    fold = fold_texts(members, several=several, folds=FOLDS, seed=seed)
    if (fold < 0).all():
        return USUAL, 1.0
    found = []
    for c in STRENGTHS:
        logits = np.zeros(members.shape)
        for number in range(FOLDS):
            rest = fold != number
            weight, bias = fit_each(x[rest], members[rest], c, several=several, ratios=ratios, seed=seed)
            logits[~rest] = x[~rest] @ weight + bias
        loss, factor = best_temperature(logits[fold >= 0], members[fold >= 0], several=several)
        found.append((loss, c, factor))
    _, c, factor = min(found)
    return c, factor
