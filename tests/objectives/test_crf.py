"""Chains of labels: every sum and maximum against counting all chains."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from langmill.objectives.crf import (
    IMPOSSIBLE,
    backwards,
    best_chain,
    chain_loss,
    chain_score,
    forwards,
    log_partition,
    restricted,
    span_log_probabilities,
)

LABELS = 3
LENGTHS = torch.tensor([4, 1, 3])


@pytest.fixture
def emissions() -> Tensor:
    return torch.randn(3, 4, LABELS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def transitions() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(LABELS + 1, LABELS + 1, generator=generator, dtype=torch.float64)


def by_hand(emissions: Tensor, transitions: Tensor, chain: tuple[int, ...]) -> float:
    total = float(transitions[LABELS, chain[0]] + transitions[chain[-1], LABELS])
    total += sum(float(emissions[place, label]) for place, label in enumerate(chain))
    return total + sum(float(transitions[a, b]) for a, b in itertools.pairwise(chain))


def all_chains(emissions: Tensor, transitions: Tensor, length: int) -> dict[tuple[int, ...], float]:
    chains = itertools.product(range(LABELS), repeat=length)
    return {chain: by_hand(emissions, transitions, chain) for chain in chains}


def log_sum(scores: list[float]) -> float:
    return math.log(math.fsum(map(math.exp, scores)))


def test_partition_is_the_sum_over_all_chains(emissions: Tensor, transitions: Tensor) -> None:
    wanted = [
        log_sum(list(all_chains(emissions[row], transitions, length).values()))
        for row, length in enumerate(LENGTHS.tolist())
    ]
    assert log_partition(emissions, transitions, LENGTHS).tolist() == pytest.approx(wanted, abs=1e-12)


def test_score_of_a_chain(emissions: Tensor, transitions: Tensor) -> None:
    labels = torch.tensor([[0, 1, 2, 2], [1, -100, -100, -100], [2, 0, 0, -100]])
    wanted = [
        by_hand(emissions[0], transitions, (0, 1, 2, 2)),
        by_hand(emissions[1], transitions, (1,)),
        by_hand(emissions[2], transitions, (2, 0, 0)),
    ]
    assert chain_score(emissions, transitions, LENGTHS, labels).tolist() == pytest.approx(wanted, abs=1e-12)


def test_best_chain_is_the_best_of_all(emissions: Tensor, transitions: Tensor) -> None:
    found = best_chain(emissions, transitions, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        chains = all_chains(emissions[row], transitions, length)
        assert tuple(found[row, :length].tolist()) == max(chains, key=chains.__getitem__)
        assert not found[row, length:].any()


def test_beginnings_and_rests_meet_in_every_place(emissions: Tensor, transitions: Tensor) -> None:
    ahead, behind = forwards(emissions, transitions), backwards(emissions, transitions, LENGTHS)
    whole = log_partition(emissions, transitions, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        for place in range(length):
            met = (ahead[row, place] + behind[row, place]).logsumexp(0)
            assert float(met) == pytest.approx(float(whole[row]), abs=1e-12)


def test_loss_skips_places_that_are_not_asked(emissions: Tensor, transitions: Tensor) -> None:
    targets = torch.tensor([[0, -100, 2, 1], [-100] * 4, [-100, 1, -100, -100]])
    loss, count = chain_loss(emissions, targets, transitions)
    wanted = 0.0
    for row, places, chain in ((0, [0, 2, 3], (0, 2, 1)), (2, [1], (1,))):
        chains = all_chains(emissions[row, places], transitions, len(places))
        wanted += log_sum(list(chains.values())) - chains[chain]
    assert float(loss) == pytest.approx(wanted, abs=1e-12) and int(count) == 4


def test_a_batch_in_which_nothing_is_asked(emissions: Tensor, transitions: Tensor) -> None:
    loss, count = chain_loss(emissions.requires_grad_(), torch.full((3, 4), -100), transitions)
    loss.backward()
    assert loss.item() == 0 and int(count) == 0


def test_gradients(emissions: Tensor, transitions: Tensor) -> None:
    targets = torch.tensor([[0, -100, 2, 1], [1, -100, -100, -100], [2, 0, 0, -100]])
    emissions.requires_grad_()
    transitions.requires_grad_()
    assert torch.autograd.gradcheck(lambda e, t: chain_loss(e, targets, t)[0], (emissions, transitions))


def test_what_cannot_follow_never_does_and_its_gradient_is_a_number(
    emissions: Tensor, transitions: Tensor
) -> None:
    allowed = torch.ones(LABELS + 1, LABELS + 1, dtype=torch.bool)
    allowed[:, 2] = False  # nothing leads to the last label at all
    allowed[0, 1] = False
    transitions.requires_grad_()
    limited = restricted(transitions, allowed)
    found = best_chain(emissions, limited, LENGTHS)
    for row, length in zip(found.tolist(), LENGTHS.tolist()):
        assert all(allowed[a, b] for a, b in itertools.pairwise([LABELS, *row[:length]]))
    loss, _ = chain_loss(
        emissions, torch.tensor([[1, 1, 0, 0], [1, -100, -100, -100], [0, 0, 0, -100]]), limited
    )
    loss.backward()
    assert transitions.grad is not None and transitions.grad.isfinite().all()
    assert not transitions.grad[~allowed].any()
    assert limited.min().item() == IMPOSSIBLE


def test_probability_of_a_span(emissions: Tensor, transitions: Tensor) -> None:
    labels = torch.tensor([[0, 1, 1, 2], [1, 0, 0, 0], [2, 0, 1, 0]])
    spans = [(0, 0, 1), (0, 1, 3), (0, 0, 4), (0, 3, 4), (1, 0, 1), (2, 1, 3)]
    wanted = []
    for row, begin, end in spans:
        chains = all_chains(emissions[row], transitions, int(LENGTHS[row]))
        inside = tuple(labels[row, begin:end].tolist())
        those = [score for chain, score in chains.items() if chain[begin:end] == inside]
        wanted.append(log_sum(those) - log_sum(list(chains.values())))
    found = span_log_probabilities(emissions, transitions, LENGTHS, labels, torch.tensor(spans))
    assert found.tolist() == pytest.approx(wanted, abs=1e-12)
