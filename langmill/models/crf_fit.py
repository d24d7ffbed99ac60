"""Fitting a tagger of n-grams: the likelihood of whole chains of tags, by AdaGrad, as machine code. [models]

The gradient is how often each feature has each tag, expected less seen (Lafferty et al. 2001, section 3); forwards and
backwards go sums of products, scaled to 1 in each place (Rabiner 1989, section V.A). Weights learn text by text, each at a
rate of its own (Duchi et al. 2011), some features of a text left out at random. Importing this module imports numba.

Shape letters: B texts, T places of a text, P of all texts, K templates, F features, L labels. Transitions are
(L + 1, L + 1) as in `objectives.crf`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from langmill.core.errors import DataError
from langmill.models.bag import look_up
from langmill.models.bag_features import Keys, Numbers
from langmill.models.crf import CrfConfig, CrfTagger
from langmill.models.crf_features import TEMPLATES, Letters, read_template, template_keys, units_of
from langmill.models.heads import HeadConfig

EPOCHS = 10
RATE = 0.1
DROPOUT = 0.2
"""Share of the features of a text that are left out each time."""
DECAY = 1e-4
"""Of a weight, each time that its feature occurs."""
PRIOR = 0.1
"""What the sum of squared gradients begins with, which keeps first steps small."""
MOST_WEIGHTS = 50_000_000
"""Where features times labels are more, the rarest features go."""
machine = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@machine
def chain_gradient(scores, tags, factors, slopes, steps):
    """Return -log p of a chain of tags (T,); write its gradient by the scores (T, L) over them.

    factors: e to the transitions, 0 where there is none. steps: to which the transitions' gradient is added.
    slopes: (T, L), room to work in.
    """
    count, labels = scores.shape
    loss = 0.0
    for t in range(count):
        best = scores[t].max()
        loss += best - scores[t, tags[t]]
        scores[t] = np.exp(scores[t] - best)
    for t in range(count):  # slopes: the share of chains up to here by their last tag
        for y in range(labels):
            total = factors[labels, y] if t == 0 else 0.0
            if t:
                for x in range(labels):
                    total += slopes[t - 1, x] * factors[x, y]
            slopes[t, y] = total * scores[t, y]
        total = slopes[t].sum()
        slopes[t] /= total
        scores[t] /= total
        loss += np.log(total)
    rest = factors[:labels, labels].copy()  # the sum over the chains behind, by the tag before them
    total = (slopes[count - 1] * rest).sum()
    loss += np.log(total)
    rest /= total
    for y in range(labels):
        steps[y, labels] += slopes[count - 1, y] * rest[y]
    for t in range(count - 1, -1, -1):
        ahead = rest * scores[t]
        for y in range(labels):
            scores[t, y] = slopes[t, y] * rest[y]
        if t:
            for x in range(labels):
                total = 0.0
                for y in range(labels):
                    flow = factors[x, y] * ahead[y]
                    steps[x, y] += slopes[t - 1, x] * flow
                    total += flow
                rest[x] = total
    steps[labels, :labels] += scores[0]
    before = labels
    for t in range(count):
        loss -= np.log(factors[before, tags[t]])
        steps[before, tags[t]] -= 1
        scores[t, tags[t]] -= 1
        before = tags[t]
    steps[before, labels] -= 1
    return loss - np.log(factors[before, labels])


@machine
def descend(weight, squares, slope):
    """Change a weight by AdaGrad; return it and the sum of squared gradients."""
    slope += np.float32(DECAY) * weight
    squares += slope * slope
    return weight - np.float32(RATE) * slope / np.sqrt(squares), squares


@machine
def learn_texts(order, starts, features, tags, weight, squares, transitions, moved, allowed, generator):
    """Learn from each text of `order` once; return the sum of their -log p with features left out.

    starts: (B + 1,). features: (P, K), -1: none. tags: (P,). weight, squares: (F, L), changed. transitions, moved: the same
    of the transitions, changed. allowed: which of these can be.
    """
    labels = weight.shape[1]
    loss = 0.0
    for text in order:
        begin, end = starts[text], starts[text + 1]
        if begin == end:
            continue
        kept = features[begin:end].copy()
        scores = np.zeros((end - begin, labels))
        for t in range(end - begin):
            for k in range(kept.shape[1]):
                if kept[t, k] >= 0 and generator.random() < DROPOUT:
                    kept[t, k] = -1
                if kept[t, k] >= 0:
                    for y in range(labels):
                        scores[t, y] += weight[kept[t, k], y]
        steps = np.zeros_like(transitions)
        factors = np.where(allowed, np.exp(transitions), 0.0)
        loss += chain_gradient(scores, tags[begin:end], factors, np.empty_like(scores), steps)
        for x in range(labels + 1):
            for y in range(labels + 1):
                transitions[x, y], moved[x, y] = descend(transitions[x, y], moved[x, y], steps[x, y])
        for t in range(end - begin):
            for k in range(kept.shape[1]):
                if kept[t, k] >= 0:
                    for y in range(labels):
                        weight[kept[t, k], y], squares[kept[t, k], y] = descend(
                            weight[kept[t, k], y], squares[kept[t, k], y], np.float32(scores[t, y])
                        )
    return loss


def fit_chains(
    features: NDArray[np.int32],
    tags: Numbers,
    starts: Numbers,
    allowed: NDArray[np.bool_],
    *,
    size: int,
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weights (size, L) and transitions of a CRF; see `learn_texts`."""
    generator = np.random.default_rng(seed)
    weight = np.zeros((size, len(allowed) - 1), np.float32)
    transitions = np.zeros(allowed.shape, np.float32)
    squares, moved = np.full_like(weight, PRIOR), np.full_like(transitions, PRIOR)
    for _ in range(EPOCHS):
        order = generator.permutation(len(starts) - 1)
        learn_texts(order, starts, features, tags, weight, squares, transitions, moved, allowed, generator)
    return weight * np.float32(1 - DROPOUT), transitions  # as many features as were there in learning


def choose_keys(keys: Keys, labels: int) -> Keys:
    """Return the keys of the features to look at, rising."""
    known, counts = np.unique(keys[keys > 0], return_counts=True)
    room = MOST_WEIGHTS // labels
    if len(known) > room:
        known = known[counts > np.partition(counts, -room)[-room]]
    return known


@torch.no_grad()
def fit_crf(
    rows: Sequence[Numbers],
    targets: Sequence[Numbers],
    head: HeadConfig,
    *,
    letters: Letters,
    allowed: NDArray[np.bool_],
    seed: int = 0,
) -> CrfTagger:
    """Return a tagger that was fitted to texts; the same call gives the same bits.

    rows: each text's token ids. targets: the tag of each token, below 0 where none is asked; those of units' first tokens
    count. allowed: which transitions can be.

    Raises DataError where there is nothing to tag.
    """
    if not any((target >= 0).any() for target in targets):
        raise DataError("no row has a tag; a tagger of n-grams has nothing to go by")
    units = units_of(rows, letters)
    asked = np.concatenate(targets)[units.begins]
    kept = asked >= 0
    keys = template_keys(units, [read_template(template) for template in TEMPLATES])[kept]
    known = choose_keys(keys, len(head.labels))
    features = look_up(keys, known).astype(np.int32)
    starts = np.append(0, np.cumsum(kept))[units.starts]
    weight, transitions = fit_chains(features, asked[kept], starts, allowed, size=len(known), seed=seed)
    config = CrfConfig(vocabulary=len(letters.kinds), head=head, templates=TEMPLATES, features=len(known))
    model = CrfTagger(config)
    for parameter, values in (
        (model.weight, weight),
        (model.transitions, transitions),
        (model.keys, known.view(np.int64)),
        (model.folded, letters.folded),
        (model.kinds, letters.kinds),
    ):
        parameter.copy_(torch.from_numpy(values))
    return model.eval()
