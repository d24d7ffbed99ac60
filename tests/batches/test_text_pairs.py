"""Pairs of texts in batches."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from langmill.batches.labelled import LabelledLoader, LabelledRow
from langmill.batches.text_pairs import PairRow, collate_pairs


def text(number: int, tokens: int) -> LabelledRow:
    return LabelledRow(np.full(tokens, number, np.int32), np.array(number))


def test_candidates_are_what_belongs_and_then_what_does_not():
    rows = [PairRow(text(1, 2), text(2, 3), (text(5, 1),)), PairRow(text(3, 1), text(4, 6))]
    batch = collate_pairs(rows, micro_tokens=100)
    assert batch.texts.ids.tolist() == [[1, 1], [3, 0]]
    assert batch.texts.valid.tolist() == [[True, True], [True, False]]
    assert batch.candidates.targets.tolist() == [2, 4, 5]
    assert batch.candidates.ids.shape == (3, 6)
    assert (batch.scores, batch.tokens) == (None, 2 + 3 + 1 + 1 + 6)
    assert [row.tokens for row in rows] == [6, 7]


def test_scores():
    batch = collate_pairs([PairRow(text(1, 1), text(2, 1), score=0.5)], micro_tokens=100)
    assert batch.scores is not None and batch.scores.tolist() == [0.5]
    assert batch.to(torch.device("cpu")).scores is not None


def test_a_batch_is_never_torn():
    rows = [PairRow(text(n, 4), text(n + 50, 4)) for n in range(10)]
    batch = collate_pairs(rows, micro_tokens=8)
    (whole,) = batch.split(3)
    assert (len(whole.texts.ids), whole.rows) == (10, 3)
    assert len(whole.texts.split(whole.rows)) == 5  # 8 places are 2 texts of 4 tokens


def test_every_pair_once_an_epoch_on_every_process():
    rows = [PairRow(text(n, 1 + n % 5), text(100 + n, 2)) for n in range(12)]
    seen = []
    for rank in range(2):
        loader = LabelledLoader(
            rows, batch=4, collate=partial(collate_pairs, micro_tokens=100), seed=0, rank=rank, size=2
        )
        for _ in range(3):
            batch = loader.take()
            assert (batch.candidates.targets - batch.texts.targets).tolist() == [100, 100]
            seen += batch.texts.targets.tolist()
        assert loader.state.epoch == 1
    assert sorted(seen) == list(range(12))
