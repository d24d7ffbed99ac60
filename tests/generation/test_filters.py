"""Logit filters against Transformers' processors, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.generation import logits_process as theirs

from langmill.generation.filters import keep_min_p, keep_top_k, keep_top_p, penalise_repetition, warm
from langmill.generation.sampling import filtered
from langmill.generation.settings import SamplingSettings


def random_logits(rows: int = 5, vocabulary: int = 300, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(3)) * scale


@pytest.mark.parametrize("k", [1, 7, 299, 300, 1000])
def test_top_k(k: int) -> None:
    logits = random_logits()
    assert torch.equal(keep_top_k(logits, k), theirs.TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("vocabulary", [50, 5000])
@pytest.mark.parametrize("scale", [0.1, 3.0])  # flat enough to need more than CANDIDATES tokens, and peaked
def test_top_p(p: float, vocabulary: int, scale: float) -> None:
    logits = random_logits(4, vocabulary, scale).double()  # so that no sum falls on the other side of p
    assert torch.equal(keep_top_p(logits, p), theirs.TopPLogitsWarper(p)(None, logits) if p < 1 else logits)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_min_p(share: float) -> None:
    logits = random_logits().double()
    assert torch.equal(keep_min_p(logits, share), theirs.MinPLogitsWarper(share)(None, logits))


def test_repetition_penalty() -> None:
    logits, ids = random_logits(), torch.randint(0, 300, (5, 40), generator=torch.Generator().manual_seed(1))
    seen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, ids, True)
    for penalty in (0.7, 1.3):
        expected = theirs.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
        assert torch.equal(penalise_repetition(logits, seen, penalty), expected)


def test_all_together_in_the_order_of_transformers() -> None:
    logits, ids = random_logits().double(), torch.tensor([[1, 2, 3]] * 5)
    seen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, ids, True)
    settings = SamplingSettings(temperature=1.4, top_k=40, top_p=0.8, min_p=0.03, repetition_penalty=1.5)
    expected = theirs.RepetitionPenaltyLogitsProcessor(1.5)(ids, logits.clone())
    chain = (theirs.TemperatureLogitsWarper(1.4), theirs.TopKLogitsWarper(40), theirs.TopPLogitsWarper(0.8),
             theirs.MinPLogitsWarper(0.03))  # fmt: skip
    for process in chain:
        expected = process(ids, expected)
    ours = filtered(logits, seen, settings)
    assert torch.equal(ours, expected)
    assert 5 < int((ours[0] > -math.inf).sum()) < 40  # every filter had something to do


def test_filters_leave_their_input_alone() -> None:
    logits = random_logits()
    before = logits.clone()
    for out in (warm(logits, 2.0), keep_top_k(logits, 3), keep_top_p(logits, 0.2), keep_min_p(logits, 0.4)):
        assert not torch.equal(out, before)
    assert torch.equal(logits, before)


def test_the_likeliest_token_always_stays() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0]])
    for out in (keep_top_k(logits, 1), keep_top_p(logits, 1e-6), keep_min_p(logits, 1.0)):
        assert out.tolist() == [[-math.inf, 5.0, -math.inf]]
