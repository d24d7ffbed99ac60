"""Packed rows: which tokens, in which order, resumed, shared out, kept apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from langmill.batches.batch import TokenBatch
from langmill.batches.packing import LoaderState, PackedLoader
from langmill.batches.shards import Part
from langmill.core.errors import DataError


def part_of(tokens: int, documents: tuple[int, ...] = (0,)) -> Part:
    """Return a part whose token at index i is i."""
    return Part(np.arange(tokens, dtype=np.uint16), np.asarray(documents, np.int64), tokens, tokens)


def loader(
    tokens: int = 103, *, context: int = 10, rows: int = 3, seed: int = 0, **more: object
) -> PackedLoader:
    return PackedLoader(part_of(tokens), context=context, rows=rows, seed=seed, **more)  # type: ignore[arg-type]


def epoch_ids(source: PackedLoader) -> list[int]:
    """Return all that the model reads in the coming epoch of a loader with one row a batch."""
    epoch, ids = source.state.epoch, []
    while True:
        batch = source.take()
        assert batch is not None
        if source.state.epoch != epoch:
            # The row belongs to the next epoch already: step back.
            source.state = LoaderState(source.state.epoch, 0)
            return ids
        ids.extend(batch.ids.flatten().tolist())


@settings(max_examples=40, deadline=None)
@given(
    tokens=some.integers(12, 300),
    context=some.integers(1, 11),
    seed=some.integers(0, 5),
    start=some.integers(0, 3),
)
def test_an_epoch_uses_every_token_once_but_at_the_edges(
    tokens: int, context: int, seed: int, start: int
) -> None:
    source = loader(tokens, context=context, rows=1, seed=seed)
    source.state = LoaderState(start, 0)
    ids = epoch_ids(source)
    assert len(ids) == len(set(ids)), "a token came twice"
    assert sorted(ids) == list(range(min(ids), max(ids) + 1)), "a token inside was left out"
    unused = tokens - len(ids)
    assert unused <= 2 * context, f"{unused} of {tokens} unused with context {context}"


def test_targets_are_the_next_tokens() -> None:
    batch = loader().take()
    assert batch is not None
    assert batch.ids.shape == batch.targets.shape == (3, 10)
    assert batch.ids.dtype == torch.int64
    assert torch.equal(batch.targets, batch.ids + 1)
    assert batch.starts is None
    assert batch.tokens == 30


def test_the_seed_fixes_the_order_and_each_epoch_has_its_own() -> None:
    def first_ids(seed: int, batches: int = 8) -> list[list[int]]:
        source = loader(seed=seed)
        return [batch.ids[:, 0].tolist() for batch in (source.take() for _ in range(batches)) if batch]

    assert first_ids(1) == first_ids(1)
    assert first_ids(1) != first_ids(2)
    source = loader(rows=1)
    one, two = epoch_ids(source), epoch_ids(source)
    assert one != two


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 11])
def test_a_state_goes_on_where_it_was_saved(taken: int) -> None:
    source = loader()
    for _ in range(taken):
        source.take()
    saved = LoaderState(source.state.epoch, source.state.rows)
    rest = [source.take() for _ in range(6)]
    other = loader()
    other.state = saved
    for expected in rest:
        batch = other.take()
        assert batch is not None and expected is not None
        assert torch.equal(batch.ids, expected.ids)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_out_the_rows_of_one(size: int) -> None:
    alone = loader(rows=6)
    parts = [loader(rows=6 // size, rank=rank, size=size) for rank in range(size)]
    for _ in range(5):
        whole = alone.take()
        shares = [source.take() for source in parts]
        assert whole is not None
        together = torch.empty_like(whole.ids)
        for rank, share in enumerate(shares):
            assert share is not None
            together[rank::size] = share.ids
        assert torch.equal(together, whole.ids)
        assert all(source.state == alone.state for source in parts)


def test_a_run_on_two_processes_goes_on_with_one() -> None:
    two = loader(rows=2, rank=1, size=2)
    alone = loader(rows=4)
    two.take(), alone.take()
    alone.state = two.state
    expected = loader(rows=4)
    expected.take()
    batch, right = alone.take(), expected.take()
    assert batch is not None and right is not None and torch.equal(batch.ids, right.ids)


def test_one_epoch_ends_with_none() -> None:
    source = loader(rows=4, repeat=False)  # ten rows
    sizes = []
    while (batch := source.take()) is not None:
        sizes.append(len(batch.ids))
    assert sizes == [4, 4, 2]


def test_documents_within_rows() -> None:
    # documents begin at 0, 3, 8, 9 and 20 of 25 tokens
    source = PackedLoader(part_of(25, (0, 3, 8, 9, 20)), context=6, rows=2, seed=0)
    batch = source.cut([1, 10])
    # row 0 reads tokens 1..6: token 3 opens the second document, two places into the row
    # row 1 reads tokens 10..15, all of the document that began at 9, before the row
    assert batch.starts is not None
    assert batch.starts.tolist() == [[0, 0, 2, 2, 2, 2], [0] * 6]
    batch = source.cut([5, 17])
    # tokens 5..10: documents begin at 8 and 9; tokens 17..22: one begins at 20
    assert batch.starts is not None
    assert batch.starts.tolist() == [[0, 0, 0, 3, 4, 4], [0, 0, 0, 3, 3, 3]]


def test_rows_of_one_document_need_no_starts() -> None:
    source = PackedLoader(part_of(25, (0, 3, 8, 9, 20)), context=6, rows=2, seed=0)
    assert source.cut([10, 11]).starts is None
    assert source.cut([14]).starts is None, "token 20 is only a target here"
    assert source.cut([15]).starts is not None


def test_an_empty_document_changes_nothing() -> None:
    source = PackedLoader(part_of(20, (0, 5, 5, 9)), context=8, rows=1, seed=0)
    starts = source.cut([2]).starts
    assert starts is not None and starts.tolist() == [[0, 0, 0, 3, 3, 3, 3, 7]]


def test_a_corpus_shorter_than_a_row_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"has 10 tokens, fewer than one row of 10 .* --model.context \(at most 9\)"
    ):
        loader(10)
    assert loader(11, rows=1).take() is not None


def test_a_batch_larger_than_the_corpus_goes_round_it() -> None:
    source = loader(21, rows=7)
    batch = source.take()
    assert batch is not None and batch.ids.shape == (7, 10)
    assert source.state.epoch >= 3


def test_parts_of_a_batch() -> None:
    rows = torch.arange(20).view(5, 4)
    batch = TokenBatch(rows, rows + 1, rows * 0)
    parts = batch.split(2)
    assert [len(part.ids) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    assert all(part.starts is not None for part in parts)
    assert batch.split(5) == [batch]
    assert torch.equal(batch.to(torch.device("cpu")).ids, rows)
