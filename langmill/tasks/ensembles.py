"""The answers of an ensemble: what its members say, put together. [tasks]

Shape letters: N texts, L labels, P places of a text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langmill.checkpoint import Ensemble
from langmill.core.log import warn
from langmill.metrics.calibration import logits_of, probabilities_of
from langmill.tasks.qa_windows import CANDIDATES, Candidates
from langmill.tasks.tags import Places
from langmill.text.documents import plural

TINY = 1e-300
"""A probability that is as good as none."""


def mean_classes(
    ensemble: Ensemble,
    texts: Sequence[tuple[str, ...]],
    outputs: Callable[[Any, Any], tuple[list[Any], list[int]]],
) -> tuple[list[Any], list[int]]:
    """Return what gives the mean of the members' probabilities, (L,) a text, and the most tokens not read by one."""
    if not texts:
        return [], []
    several = ensemble.model.config.head.multi_label
    chances, cuts = [], []
    for member, order in zip(ensemble.members, ensemble.orders):
        scores, cut = outputs(member, texts)
        chances.append(probabilities_of(np.stack(scores), multilabel=several)[:, order])
        cuts.append(cut)
    mean = logits_of(np.mean(chances, axis=0), multilabel=several)  # (N, L)
    return list(mean.astype(np.float32)), np.max(cuts, axis=0).tolist()


def mean_tags(
    ensemble: Ensemble,
    texts: Sequence[str],
    outputs: Callable[[Any, Any], tuple[list[NDArray[np.float32]], Sequence[Places]]],
) -> tuple[list[NDArray[np.float32]], Sequence[Places]]:
    """Return the mean of the members' scores of tags, (P, L) a text, and the places of the first member.

    With the mean of their transitions that is the logarithmic opinion pool of chains of tags (Smith, Cohn and Osborne
    2005, "Logarithmic Opinion Pools for Conditional Random Fields"). Where tokenizers make other places of a text, the
    members that agree with the first count, and a warning says so.
    """
    found = [outputs(member, texts) for member in ensemble.members]
    places, pooled, torn = found[0][1], [], 0
    for number, where in enumerate(places):
        alike = [
            scores[number][:, order] if len(where.extents) else scores[number]
            for (scores, own), order in zip(found, ensemble.orders)
            if np.array_equal(own[number].extents, where.extents)
        ]
        torn += len(alike) < len(found)
        pooled.append(np.mean(alike, axis=0))
    if torn:
        warn(
            f"of {plural(torn, 'text')} the members tag other places; those count that agree with the first member"
        )
    return pooled, places


def mean_answers(
    ensemble: Ensemble,
    examples: Sequence[Any],
    outputs: Callable[[Any, Any], list[Candidates]],
    *,
    none: bool,
) -> list[Candidates]:
    """Return the candidates of questions by the mean of the members' probabilities of each piece of the context.

    none: the members can say that there is no answer, and have a probability for it.
    """
    found = [outputs(member, examples) for member in ensemble.members]
    return [mean_candidates(each, none=none) for each in zip(*found)]


def mean_candidates(parts: Sequence[Candidates], *, none: bool) -> Candidates:
    """Return the mean of several members' candidates, scores being logarithms of probabilities.

    >>> one, other = Candidates({(0, 2): 0.0, (3, 5): 0.0}, -9.0), Candidates({(3, 5): 1.0}, -9.0)
    >>> {piece: round(math.exp(score), 2) for piece, score in mean_candidates([one, other], none=False).spans.items()}
    {(3, 5): 0.75, (0, 2): 0.25}
    """
    chances: Counter[tuple[int, int]] = Counter()
    nothing = 0.0
    for part in parts:
        scores = {**part.spans, **({(0, 0): part.none} if none or not part.spans else {})}
        highest = max(scores.values())
        total = sum(math.exp(score - highest) for score in scores.values()) * len(parts)
        nothing += math.exp(scores.pop((0, 0), -math.inf) - highest) / total
        chances.update({piece: math.exp(score - highest) / total for piece, score in scores.items()})
    order = sorted(chances, key=lambda piece: (-chances[piece], piece))[:CANDIDATES]
    return Candidates(
        {piece: math.log(max(chances[piece], TINY)) for piece in order}, math.log(max(nothing, TINY))
    )
