"""Losses of pairs of texts: by hand, against PyTorch's own, and read in parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from langmill.batches.labelled import LabelledBatch, LabelledRow
from langmill.batches.text_pairs import PairBatch, PairRow, collate_pairs
from langmill.objectives.contrastive import contrastive, cosent, info_nce, known_pairs


def no_others(pairs: int, candidates: int) -> Tensor:
    return torch.eye(pairs, candidates, dtype=torch.bool)


def test_info_nce_of_two_pairs_by_hand():
    vectors = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    candidates = torch.tensor([[1.0, 0.0], [3.0, 4.0]])  # cosines: 1, 0.6 and 0, 0.8
    loss, count = info_nce(vectors, candidates, no_others(2, 2), temperature=0.5)
    wanted = math.log(1 + math.exp((0.6 - 1) / 0.5)) + math.log(1 + math.exp((0 - 0.8) / 0.5))
    assert (float(loss), int(count)) == (pytest.approx(wanted, abs=1e-6), 2)
    both, _ = info_nce(vectors, candidates, no_others(2, 2), temperature=0.5, symmetric=True)
    back = math.log(1 + math.exp((0 - 1) / 0.5)) + math.log(1 + math.exp((0.6 - 0.8) / 0.5))
    assert float(both) == pytest.approx((wanted + back) / 2, abs=1e-6)


def test_what_belongs_is_no_negative():
    vectors = torch.eye(3)
    candidates = torch.eye(3)[[0, 1, 0]]
    known = known_pairs(torch.tensor([0, 1, 2]), torch.tensor([10, 11, 10]))
    assert known.int().tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    found, _ = info_nce(vectors, candidates, known, temperature=1.0)
    # First and second row: two candidates each; third: its own (cosine 0) and the second (0).
    wanted = math.log(1 + math.exp(-1)) + math.log(1 + 2 * math.exp(-1)) + math.log(2)
    assert float(found) == pytest.approx(wanted, abs=1e-6)


def test_equal_first_texts_share_what_belongs_to_them():
    known = known_pairs(torch.tensor([5, 5, 6]), torch.tensor([1, 2, 3, 2, 6]))
    assert known.int().tolist() == [[1, 1, 0, 1, 0], [1, 1, 0, 1, 0], [0, 0, 1, 0, 1]]


def test_given_negatives_count():
    vectors, candidates = torch.eye(2)[:1], torch.eye(2)
    loss, _ = info_nce(vectors, candidates, no_others(1, 2), temperature=1.0)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_cosent_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    others = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])  # cosines 1, 0, 0.6
    loss, count = cosent(vectors, others, torch.tensor([5.0, 1.0, 1.0]), temperature=0.5)
    wanted = math.log(1 + math.exp((0 - 1) / 0.5) + math.exp((0.6 - 1) / 0.5))
    assert (float(loss), int(count)) == (pytest.approx(3 * wanted, abs=1e-5), 3)
    same, _ = cosent(vectors, others, torch.ones(3), temperature=0.5)
    assert float(same) == 0


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients_are_those_of_differences(symmetric):
    generator = torch.Generator().manual_seed(0)
    one, other = (
        torch.randn(n, 4, dtype=torch.float64, generator=generator).requires_grad_() for n in (3, 5)
    )
    known = known_pairs(torch.tensor([0, 1, 0]), torch.tensor([2, 3, 4, 3, 5]))
    assert torch.autograd.gradcheck(
        lambda a, b: info_nce(a, b, known, temperature=0.3, symmetric=symmetric)[0], (one, other)
    )
    scores = torch.tensor([1.0, 3.0, 2.0])
    assert torch.autograd.gradcheck(lambda a, b: cosent(a, b[:3], scores, temperature=0.3)[0], (one, other))


class Reader(nn.Module):
    """The mean of embeddings, through dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 6)
        self.dropout = nn.Dropout(0.3)
        self.places: list[int] = []

    def forward(self, batch: LabelledBatch) -> Tensor:
        self.places.append(batch.ids.numel())
        states = self.dropout(self.embed(batch.ids)).masked_fill(~batch.valid[..., None], 0)
        return states.sum(1) / batch.valid.sum(1, keepdim=True)


def pairs(*, scored: bool = False) -> PairBatch:
    draw = np.random.default_rng(0)
    texts = [
        LabelledRow(draw.integers(0, 50, draw.integers(1, 9)).astype(np.int32), np.array(n))
        for n in range(18)
    ]
    return collate_pairs(
        [
            PairRow(
                *texts[3 * n : 3 * n + 2], () if scored else (texts[3 * n + 2],), n % 4 if scored else None
            )
            for n in range(6)
        ],
        micro_tokens=10_000,
    )


@pytest.mark.parametrize("scored", [False, True])
def test_read_in_parts_is_read_at_once(scored):
    """With the same dropout in the second reading as in the first."""
    batch, gradients, losses = pairs(scored=scored), [], []
    for rows in (100, 2):
        reader = Reader().eval() if rows == 100 else Reader()
        reader.dropout.p = 0.0
        (whole,) = batch.split(rows)
        loss, count = contrastive(reader, whole, temperature=0.1, symmetric=True)
        loss.backward()
        assert int(count) == 6
        losses.append(loss.item())
        gradients.append(reader.embed.weight.grad)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(*gradients)
    assert max(reader.places) < 20  # two rows at a time


def test_dropout_of_a_second_reading_is_that_of_the_first():
    reader = Reader()
    (whole,) = pairs().split(2)
    torch.manual_seed(1)
    loss, _ = contrastive(reader, whole, temperature=0.1, symmetric=False)
    loss.backward()
    found = reader.embed.weight.grad.clone()
    reader.zero_grad()
    torch.manual_seed(1)
    parts = [reader(part) for side in (whole.texts, whole.candidates) for part in side.split(2)]
    vectors, candidates = torch.cat(parts).split([6, 12])
    known = known_pairs(whole.texts.targets, whole.candidates.targets)
    plain, _ = info_nce(vectors, candidates, known, temperature=0.1)
    plain.backward()
    assert plain.item() == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(reader.embed.weight.grad, found)


def test_shorter_beginnings_are_trained_too():
    reader, batch = Reader().eval(), pairs()
    vectors, candidates = reader(batch.texts), reader(batch.candidates)
    known = known_pairs(batch.texts.targets, batch.candidates.targets)
    each = [info_nce(vectors[:, :n], candidates[:, :n], known, temperature=0.2)[0].item() for n in (2, 4, 6)]
    loss, _ = contrastive(reader, batch, temperature=0.2, symmetric=False, sizes=(2, 4))
    assert loss.item() == pytest.approx(sum(each) / 3, rel=1e-6)
