"""Texts with parts taken out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from langmill.batches.batch import TokenBatch
from langmill.batches.corruption import IGNORED, Infilling, SpanCorruption, pad_pairs, random_parts

SENTINELS = tuple(range(900, 1000))
SPANS = SpanCorruption(SENTINELS, end=1, start=0, pad=0)
FILL = Infilling(mask=4, end=2, start=2, pad=3, stops=frozenset({9}))


def restored(source: list[int], target: list[int]) -> list[int]:
    """Put the spans back where their sentinels stand."""
    spans: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token in SENTINELS:
            last = spans.setdefault(token, [])
        else:
            last.append(token)
    out: list[int] = []
    for token in source[:-1]:
        out += spans.get(token, [token])
    return out


@pytest.mark.parametrize("length", [2, 3, 10, 64, 257])
@pytest.mark.parametrize("seed", range(5))
def test_spans_can_be_put_back(length: int, seed: int) -> None:
    ids = np.arange(10, 10 + length)
    source, target = (x.tolist() for x in SPANS.corrupt(ids, np.random.default_rng(seed)))
    assert restored(source, target) == ids.tolist()
    noise = sum(token not in SENTINELS for token in target) - 1
    assert noise == min(max(round(length * 0.15), 1), length - 1)
    used = [token for token in source if token in SENTINELS]
    assert used == list(SENTINELS[: len(used)]) == [token for token in target if token in SENTINELS]


def test_all_rows_have_the_same_lengths() -> None:
    ids = torch.arange(10, 74).repeat(6, 1)
    pair = SPANS(TokenBatch(ids, ids), np.random.default_rng(0))
    assert pair.source_valid is None
    assert not (pair.targets == IGNORED).any()
    assert torch.equal(pair.ids[:, 1:], pair.targets[:, :-1]) and (pair.ids[:, 0] == 0).all()
    assert len({tuple(row) for row in pair.source.tolist()}) == 6
    assert pair.tokens == pair.source.numel() + pair.ids.numel()


def test_random_parts_are_even() -> None:
    generator = np.random.default_rng(0)
    found = [tuple(random_parts(4, 2, generator)) for _ in range(3000)]
    for parts in ((1, 3), (2, 2), (3, 1)):
        assert found.count(parts) == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_infilling_keeps_the_rest_in_order(seed: int) -> None:
    ids = np.arange(10, 110)
    plain = Infilling(mask=4, end=2, start=2, pad=3, stops=frozenset(), shuffle=False)
    source = plain.corrupt(ids, np.random.default_rng(seed)).tolist()
    kept = [token for token in source if token != 4]
    assert kept == sorted(kept) and set(kept) <= set(ids.tolist())
    assert len(kept) == 70, "three tenths are hidden"
    assert 4 in source


def test_sentences_change_places() -> None:
    ids = np.array([10, 11, 9, 12, 13, 9, 14, 15, 9, 16])
    whole = Infilling(mask=4, end=2, start=2, pad=3, stops=frozenset({9}), share=0.0)
    orders = {tuple(whole.corrupt(ids, np.random.default_rng(seed)).tolist()) for seed in range(40)}
    assert len(orders) > 10
    for order in orders:
        assert sorted(order) == sorted(ids.tolist())
        assert order.index(11) == order.index(10) + 1, "a sentence stays whole"


def test_infilling_as_a_batch() -> None:
    ids = torch.arange(10, 42).repeat(4, 1)
    pair = FILL(TokenBatch(ids, ids), np.random.default_rng(0))
    assert torch.equal(pair.targets, torch.cat([ids, torch.full((4, 1), 2)], 1))
    assert (pair.ids[:, 0] == 2).all()
    parts = pair.split(3)
    assert [len(part.ids) for part in parts] == [3, 1]
    assert torch.equal(torch.cat([part.source for part in parts]), pair.source)


def test_padding() -> None:
    pair = pad_pairs([np.array([5, 6, 1]), np.array([7])], [np.array([8]), np.array([9, 1])], start=0, pad=3)
    assert pair.source.tolist() == [[5, 6, 1], [7, 3, 3]]
    assert pair.source_valid is not None and pair.source_valid.tolist() == [[True] * 3, [True, False, False]]
    assert pair.ids.tolist() == [[0, 8], [0, 9]]
    assert pair.targets.tolist() == [[8, IGNORED], [9, 1]]
