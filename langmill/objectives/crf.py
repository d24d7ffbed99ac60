"""Chains of labels: a linear-chain conditional random field, its loss and its best chain. [objectives]

A chain of labels y has the score Σ emissions[t, y_t] + Σ transitions[y_t, y_t+1], with what leads from the start to the
first label and from the last to the end; its probability is exp(score) over the sum for all chains (Lafferty et al.
2001; Lample et al. 2016, arXiv:1603.01360, section 2.2). Everything is computed in log space.

Shape letters: B chains, T places of the longest, L labels. transitions: (L + 1, L + 1), [i, j] from label i to label j;
the last row is from the start, the last column to the end. lengths: (B,), at least 1; what stands behind a chain's end does
not count.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from langmill.objectives.cross_entropy import IGNORED

IMPOSSIBLE = -1e4
"""A score that no chain makes up for. Not -inf, whose gradient is not a number where nothing leads to a label."""


def restricted(transitions: Tensor, allowed: Tensor) -> Tensor:
    """Return transitions of which only those that are allowed, (L + 1, L + 1), can be."""
    return transitions.masked_fill(~allowed, IMPOSSIBLE)


def forwards(emissions: Tensor, transitions: Tensor) -> Tensor:
    """Return (B, T, L): the log of the sum over all chains' beginnings that reach each label in each place."""
    between, first = transitions[:-1, :-1], transitions[-1, :-1]
    state = first + emissions[:, 0]
    states = [state]
    for place in range(1, emissions.shape[1]):
        state = (state[:, :, None] + between).logsumexp(1) + emissions[:, place]
        states.append(state)
    return torch.stack(states, 1)


def backwards(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, T, L): the log of the sum over all chains' rests behind each label in each place."""
    between, last = transitions[:-1, :-1], transitions[:-1, -1]
    state = last.expand(len(emissions), -1)
    states = [state]
    for place in range(emissions.shape[1] - 1, 0, -1):
        before = (between + (emissions[:, place] + state)[:, None]).logsumexp(2)
        state = torch.where((place < lengths)[:, None], before, last)
        states.append(state)
    return torch.stack(states[::-1], 1)


def log_partition(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Return (B,), the log of the sum of exp(score) over all chains.

    >>> log_partition(torch.zeros(1, 3, 2), torch.zeros(3, 3), torch.tensor([3])).exp().round().tolist()
    [8.0]
    """
    ends = forwards(emissions, transitions)[torch.arange(len(lengths)), lengths - 1]  # (B, L)
    return (ends + transitions[:-1, -1]).logsumexp(1)


def chain_score(emissions: Tensor, transitions: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
    """Return (B,), the score of the chains labels (B, T)."""
    inside = torch.arange(labels.shape[1], device=labels.device) < lengths[:, None]
    labels = labels.masked_fill(~inside, 0)
    start = labels.new_full((len(labels), 1), len(transitions) - 1)
    steps = transitions[torch.cat((start, labels[:, :-1]), 1), labels]  # into each place
    own = emissions.gather(2, labels[:, :, None])[:, :, 0]
    end = transitions[labels.gather(1, lengths[:, None] - 1)[:, 0], -1]
    return torch.where(inside, own + steps, 0).sum(1) + end


def chain_loss(scores: Tensor, targets: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p of the chains of targets, and the number of their places.

    scores: (B, T, L). targets: (B, T), IGNORED where nothing is asked: the chain goes from one asked place to the next.
    """
    asked = targets != IGNORED
    lengths = asked.sum(1)
    rows = lengths > 0
    if not rows.any():
        return scores.sum() * 0, lengths.sum()
    longest = int(lengths.max())
    order = (~asked[rows]).long().argsort(dim=1, stable=True)[:, :longest]  # asked places, in order
    emissions = scores[rows].gather(1, order[:, :, None].expand(-1, -1, scores.shape[2]))
    labels, lengths = targets[rows].gather(1, order), lengths[rows]
    whole = log_partition(emissions, transitions, lengths)
    return (whole - chain_score(emissions, transitions, lengths, labels)).sum(), lengths.sum()


def best_chain(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, T), the labels of the chain of the highest score (Viterbi 1967); 0 behind its end.

    >>> transitions = torch.zeros(3, 3)
    >>> transitions[0, 1] = IMPOSSIBLE
    >>> best_chain(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]), transitions, torch.tensor([2])).tolist()
    [[1, 1]]
    """
    between, state = transitions[:-1, :-1], transitions[-1, :-1] + emissions[:, 0]
    came: list[Tensor] = []
    for place in range(1, emissions.shape[1]):
        best, origin = (state[:, :, None] + between).max(1)
        goes_on = (place < lengths)[:, None]
        state = torch.where(goes_on, best + emissions[:, place], state)
        came.append(origin)
    label = (state + transitions[:-1, -1]).argmax(1)
    labels = [torch.where(lengths == emissions.shape[1], label, 0)]
    for place in range(emissions.shape[1] - 2, -1, -1):
        before = came[place].gather(1, label[:, None])[:, 0]
        label = torch.where(place + 1 < lengths, before, label)
        labels.append(torch.where(place < lengths, label, 0))
    return torch.stack(labels[::-1], 1)


def span_log_probabilities(
    emissions: Tensor, transitions: Tensor, lengths: Tensor, labels: Tensor, spans: Tensor
) -> Tensor:
    """Return (N,), the log of the probability that the places of each span have the labels of its chain.

    labels: (B, T). spans: (N, 3), the number of the chain, the first place, and the one behind the last.
    """
    ahead, behind = forwards(emissions, transitions), backwards(emissions, transitions, lengths)
    whole = (ahead[:, 0] + behind[:, 0]).logsumexp(1)  # (B,)
    own = emissions.gather(2, labels[:, :, None])[:, 1:, 0]
    steps = (transitions[labels[:, :-1], labels[:, 1:]] + own).double()  # summed over long texts
    run = F.pad(steps.cumsum(1), (1, 0))  # (B, T)
    chain, begin, last = spans[:, 0], spans[:, 1], spans[:, 2] - 1
    inside = (run[chain, last] - run[chain, begin]).to(emissions)
    return (
        ahead[chain, begin, labels[chain, begin]] + inside + behind[chain, last, labels[chain, last]]
    ) - whole[chain]
