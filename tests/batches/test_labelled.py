"""Batches of labelled rows: padded, cut, shuffled, resumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from langmill.batches.labelled import TOKEN_FILL, LabelledLoader, LabelledRow, by_length, collate
from langmill.batches.packing import LoaderState


def row(length: int, target: int | list[int] = 0, *, segments: bool = False) -> LabelledRow:
    ids = np.arange(1, length + 1, dtype=np.int32)
    kinds = np.full(length, 1, np.int8) if segments else None
    return LabelledRow(ids, np.array(target, np.int64), kinds)


def test_collate_pads_on_the_right() -> None:
    batch = collate([row(1, 5), row(3, 6)], micro_tokens=99)
    assert batch.ids.tolist() == [[1, 0, 0], [1, 2, 3]]
    assert batch.valid.tolist() == [[True, False, False], [True, True, True]]
    assert batch.targets.tolist() == [5, 6]
    assert batch.segments is None and batch.tokens == 4


def test_targets_of_tokens_are_padded_with_what_asks_nothing() -> None:
    batch = collate([row(1, [7]), row(2, [8, 9])], micro_tokens=99, by_token=True)
    assert batch.targets.tolist() == [[7, TOKEN_FILL], [8, 9]]


def test_segments_are_padded_too() -> None:
    batch = collate([row(1, segments=True), row(2, segments=True)], micro_tokens=99)
    assert batch.segments is not None and batch.segments.tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("rows", [1, 2, 99])
@pytest.mark.parametrize("micro_tokens", [1, 4, 6, 99])
def test_split_gives_every_row_once_within_both_limits(rows: int, micro_tokens: int) -> None:
    whole = collate([row(n, [n] * n) for n in (1, 2, 2, 3)], micro_tokens=micro_tokens, by_token=True)
    parts = whole.split(rows)
    assert torch.cat([part.valid.sum(1) for part in parts]).tolist() == [1, 2, 2, 3]
    assert [t for part in parts for t in part.targets[part.valid].tolist()] == [1, 2, 2, 2, 2, 3, 3, 3]
    for part in parts:
        assert len(part.ids) <= rows and (len(part.ids) == 1 or part.ids.numel() <= micro_tokens)
        assert part.ids.shape[1] == int(part.valid.sum(1).max())


def test_by_length_covers_all_rows_in_small_groups() -> None:
    rows = [row(n) for n in (9, 1, 4, 4, 2, 30)]
    groups = by_length(rows, micro_tokens=8)
    assert sorted(n for group in groups for n in group) == list(range(6))
    assert groups == [[1, 4], [2, 3], [0], [5]]


def epochs(loader: LabelledLoader, count: int) -> list[list[int]]:
    """Return the rows (told by their target) of each of `count` epochs, in order."""
    found: list[list[int]] = [[] for _ in range(count)]
    while loader.state.epoch < count:
        epoch = loader.state.epoch
        found[epoch] += loader.take().targets.tolist()
    return found


def test_an_epoch_gives_every_row_once_in_another_order_each_time() -> None:
    rows = [row(1 + n % 7, n) for n in range(23)]
    first, second = epochs(LabelledLoader(rows, batch=4, micro_tokens=99, seed=1), 2)
    assert sorted(first) == sorted(second) == list(range(23)) and first != second
    other, _ = epochs(LabelledLoader(rows, batch=4, micro_tokens=99, seed=2), 2)
    assert other != first


def test_batches_are_of_similar_length() -> None:
    draw = np.random.default_rng(0)
    rows = [row(int(n), 0) for n in draw.integers(1, 100, 640)]
    loader = LabelledLoader(rows, batch=16, micro_tokens=9999, seed=0)
    batches = [loader.take() for _ in range(40)]
    assert sum(batch.ids.numel() for batch in batches) < 1.1 * sum(batch.tokens for batch in batches)


def test_resumed_goes_on_as_if_nothing_had_been() -> None:
    rows = [row(1 + n % 5, n) for n in range(19)]
    through = LabelledLoader(rows, batch=4, micro_tokens=99, seed=3)
    expected = [through.take().targets.tolist() for _ in range(14)]
    for stop in (1, 4, 5, 9):
        begun = LabelledLoader(rows, batch=4, micro_tokens=99, seed=3)
        for _ in range(stop):
            begun.take()
        again = LabelledLoader(rows, batch=4, micro_tokens=99, seed=3)
        again.state = LoaderState(begun.state.epoch, begun.state.rows)
        assert [again.take().targets.tolist() for _ in range(14 - stop)] == expected[stop:]


def test_processes_share_an_epoch() -> None:
    rows = [row(1 + n % 5, n) for n in range(21)]
    loaders = [LabelledLoader(rows, batch=4, micro_tokens=99, seed=3, rank=rank, size=2) for rank in (0, 1)]
    one, other = (epochs(loader, 1)[0] for loader in loaders)
    assert not set(one) & set(other) and len(one) == len(other) == 10  # a lone last row is of no use to both
