"""Random words by Walker's alias method, and Huffman's tree over words. [vectors]"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POWER = 0.75
"""Random words come as often as their count to this power (Mikolov et al. 2013b, section 2.2)."""


def alias_table(weights: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return a table from which a word is drawn in one step, with odds as its weight (Vose 1991).

    A place's low 32 bits are its other word; its high 32 bits, over 2**32, the odds that the word of the place
    itself is drawn.

    >>> table = alias_table(np.array([3.0, 1.0]))
    >>> [(int(entry) >> 32) / 2**32 for entry in table], [int(entry) & 0xFFFFFFFF for entry in table]
    ([0.9999999997671694, 0.5], [0, 0])
    """
    count = len(weights)
    odds = weights * (count / weights.sum())
    own, other = np.ones(count), np.arange(count)
    short = [int(place) for place in np.flatnonzero(odds < 1)]
    rich = [int(place) for place in np.flatnonzero(odds >= 1)]
    while short and rich:
        less, more = short.pop(), rich[-1]
        own[less], other[less] = odds[less], more
        odds[more] -= 1 - odds[less]
        if odds[more] < 1:
            short.append(rich.pop())
    high = np.minimum(own * 2.0**32, 2.0**32 - 1).astype(np.uint64)
    return (high << np.uint64(32)) | other.astype(np.uint64)


@dataclass(frozen=True)
class Paths:
    """Each word's way from the root of the tree: inner nodes, and at each the label 1 (left) or -1 (right)."""

    begins: NDArray[np.int64]
    """(words + 1,)."""
    nodes: NDArray[np.int32]
    labels: NDArray[np.float32]


def huffman_paths(counts: NDArray[np.int64]) -> Paths:
    """Return the paths of Huffman's tree (Mikolov et al. 2013b, section 2.1): frequent words have short ones.

    counts: falling. A tree over n words has n - 1 inner nodes, the root being the last; a word alone has a
    path of no steps.

    >>> paths = huffman_paths(np.array([4, 2, 1]))
    >>> paths.begins.tolist(), paths.nodes.tolist(), paths.labels.tolist()
    ([0, 1, 3, 5], [1, 1, 0, 1, 0], [-1.0, 1.0, -1.0, 1.0, 1.0])
    """
    words = len(counts)
    parent, right = np.zeros(2 * words - 1, np.int64), np.zeros(2 * words - 1, bool)
    weight = counts.tolist() + [0] * (words - 1)
    leaf, inner = words - 1, words  # two queues that rise: words from the rarest, nodes in the order made
    for node in range(words, 2 * words - 1):
        for side in (False, True):
            if leaf >= 0 and (inner >= node or weight[leaf] < weight[inner]):
                child, leaf = leaf, leaf - 1
            else:
                child, inner = inner, inner + 1
            weight[node] += weight[child]
            parent[child], right[child] = node, side
    return _walk(words, parent, right)


def _walk(words: int, parent: NDArray[np.int64], right: NDArray[np.bool_]) -> Paths:
    """Return the paths, read from the words up to the root and turned round."""
    root = 2 * words - 2
    depth = np.zeros(2 * words - 1, np.int64)
    for node in range(root - 1, -1, -1):
        depth[node] = depth[parent[node]] + 1
    begins = np.concatenate([[0], np.cumsum(depth[:words])])
    nodes, labels = np.empty(begins[-1], np.int32), np.empty(begins[-1], np.float32)
    here, place = np.arange(words), begins[1:] - 1
    while len(here := here[below := here != root]):
        place = place[below]
        nodes[place], labels[place] = parent[here] - words, np.where(right[here], -1.0, 1.0)
        here, place = parent[here], place - 1
    return Paths(begins, nodes, labels)
