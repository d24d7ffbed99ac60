"""How well a search ranks what was wanted: recall, reciprocal rank, nDCG, average precision. [metrics]

Every function takes the grades of one query's results in the order in which they were found: 0 for what is not
relevant, 1 (or more, where relevance has grades) for what is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from langmill.core.errors import DataError
from langmill.metrics.classification import Floats, need_examples


def recall_at(found: npt.ArrayLike, count: int, *, relevant: int) -> float:
    """Return the share of the `relevant` (1 or more) that are among the first `count` results.

    >>> recall_at([0, 1, 1, 0], 2, relevant=4)
    0.25
    """
    return float(np.count_nonzero(np.asarray(found)[:count])) / relevant


def reciprocal_rank(found: npt.ArrayLike) -> float:
    """Return 1 over the rank of the first relevant result; 0 when none was found.

    >>> reciprocal_rank([0, 0, 0, 1])
    0.25
    """
    ranks = np.flatnonzero(np.asarray(found)) + 1
    return 1 / int(ranks[0]) if len(ranks) else 0.0


def average_precision_at_hits(found: npt.ArrayLike, *, relevant: int) -> float:
    """Return the precision at each relevant result, summed, over the number of the `relevant` (1 or more).

    What was not found counts 0. The mean over queries is the mean average precision (MAP; Manning, Raghavan and
    Schütze 2008, Introduction to Information Retrieval, section 8.4).

    >>> average_precision_at_hits([1, 0, 1], relevant=2) == (1 / 1 + 2 / 3) / 2
    True
    """
    ranks = np.flatnonzero(np.asarray(found)) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).sum()) / relevant


def discounted_gain(found: npt.ArrayLike, count: int, *, wanted: npt.ArrayLike) -> float:
    """Return nDCG at `count`: the grades, each over log2(rank + 1), over what the best order would give.

    Järvelin and Kekäläinen 2002, with the grade itself as the gain. wanted: the grades of all relevant documents
    of the query, found or not; at least one above 0.

    >>> discounted_gain([1, 0], 10, wanted=[1]), round(discounted_gain([0, 1], 10, wanted=[1]), 4)
    (1.0, 0.6309)
    """
    best = -np.sort(-np.asarray(wanted, dtype=np.float64))
    gains = [np.asarray(grades, dtype=np.float64)[:count] for grades in (found, best)]
    gain, most = (float((grades / np.log2(np.arange(2, len(grades) + 2))).sum()) for grades in gains)
    return gain / most


def ranking_scores(
    found: Sequence[npt.ArrayLike],
    *,
    wanted: Sequence[npt.ArrayLike] | None = None,
    cutoffs: Sequence[int] = (1, 5, 10),
) -> dict[str, Floats]:
    """Return each query's scores, `(queries,)` by name: `recall@1` and `ndcg@1` for each cutoff, `mrr`, `map`.

    Their means are the scores of the search; their entries are what to resample for an interval.

    wanted: as of `discounted_gain`, for each query; None: every relevant document is among the results.
    Raises DataError when there are no queries, or nothing is relevant to one: leave such out before, and say so.

    >>> scores = ranking_scores([[0, 1, 0], [1, 0, 0]], cutoffs=[1])
    >>> {name: float(values.mean()) for name, values in scores.items()}
    {'recall@1': 0.5, 'ndcg@1': 0.5, 'mrr': 0.75, 'map': 0.75}
    """
    need_examples(len(found))
    grades = [np.asarray(each) for each in (found if wanted is None else wanted)]
    assert len(grades) == len(found)
    relevant = [int(np.count_nonzero(each)) for each in grades]
    if 0 in relevant:
        raise DataError(
            f"nothing is relevant to query {relevant.index(0)} (from 0); give at least one document that is"
        )
    columns: dict[str, list[float]] = {}
    for k in cutoffs:
        columns[f"recall@{k}"] = [recall_at(f, k, relevant=n) for f, n in zip(found, relevant)]
        columns[f"ndcg@{k}"] = [discounted_gain(f, k, wanted=w) for f, w in zip(found, grades)]
    columns["mrr"] = [reciprocal_rank(each) for each in found]
    columns["map"] = [average_precision_at_hits(f, relevant=n) for f, n in zip(found, relevant)]
    return {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
