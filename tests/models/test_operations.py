"""The changes of layout between a family's tensors and ours."""

from __future__ import annotations

import pytest
import torch

from langmill.models.families.table import COPY, SPLIT, TRANSPOSE


@pytest.mark.parametrize("operation", [COPY, TRANSPOSE, SPLIT])
@pytest.mark.parametrize("shape", [(4, 6), (6,)])
def test_operations_are_reversible(operation, shape):
    theirs = torch.randn(shape)
    ours = operation.read(theirs)
    assert torch.equal(operation.write(ours), theirs)
    assert operation.shape([tuple(each.shape) for each in ours]) == shape


def test_split_by_hand():
    """GPT-2's c_attn maps x to x @ W, with the columns of query, key and value side by side."""
    query, key, value = SPLIT.read(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert query.tolist() == [[1, 4]]
    assert key.tolist() == [[2, 5]]
    assert value.tolist() == [[3, 6]]
