"""Random words, and Huffman's tree. [tests]"""

from __future__ import annotations

import heapq
import itertools
from random import Random

import numpy as np
import pytest

from langmill.vectors.sampling import alias_table, huffman_paths


def odds_of(table: np.ndarray) -> np.ndarray:
    """Return the probability of each word that a table gives."""
    own = (table >> np.uint64(32)).astype(float) / 2**32
    odds = own.copy()
    np.add.at(odds, (table & np.uint64(0xFFFFFFFF)).astype(int), 1 - own)
    return odds / len(table)


@pytest.mark.parametrize("weights", [[5.0], [1.0, 1.0], [1000.0, 1.0, 1.0], list(range(1, 300))])
def test_words_are_drawn_with_the_odds_of_their_weights(weights: list[float]) -> None:
    assert odds_of(alias_table(np.array(weights))) == pytest.approx(
        np.array(weights) / sum(weights), abs=1e-8
    )


def codes(counts: list[int]) -> list[str]:
    """Return each word's path as a text of l and r."""
    paths = huffman_paths(np.array(counts))
    spans = itertools.pairwise(paths.begins)
    return ["".join("l" if label > 0 else "r" for label in paths.labels[a:b]) for a, b in spans]


def test_a_tree_by_hand() -> None:
    # 1 + 2 = 3 is node 0; it and the word of 3 make 6, node 1; 5 + 6 is node 2, the root. Left is the lesser.
    paths = huffman_paths(np.array([5, 3, 2, 1]))
    assert paths.begins.tolist() == [0, 1, 3, 6, 9]
    assert paths.nodes.tolist() == [2, 2, 1, 2, 1, 0, 2, 1, 0]
    assert codes([5, 3, 2, 1]) == ["l", "rr", "rlr", "rll"]


def test_the_tree_is_optimal_and_no_path_begins_another() -> None:
    random = Random(1)
    counts = sorted((random.randrange(1, 500) for _ in range(200)), reverse=True)
    found = codes(counts)
    heap, cost = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        cost += both
        heapq.heappush(heap, both)
    assert sum(count * len(code) for count, code in zip(counts, found, strict=True)) == cost
    ordered = sorted(found)
    assert not any(b.startswith(a) for a, b in itertools.pairwise(ordered))


def test_a_word_alone_has_no_path() -> None:
    assert codes([7]) == [""]
