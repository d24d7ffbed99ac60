"""Log-probabilities of given tokens."""

from __future__ import annotations

import pytest
import torch

from langmill.core.errors import DataError
from langmill.generation import scoring
from langmill.generation.scoring import score_tokens


def reference(model, row: list[int]) -> torch.Tensor:
    """Log-probabilities of row[1:], from one pass over everything."""
    with torch.no_grad():
        table = model(torch.tensor([row[:-1]]))[0].log_softmax(-1)
    return table.gather(1, torch.tensor(row[1:])[:, None])[:, 0]


def test_every_token_given_those_before_it(model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK_TOKENS", 7)
    ids = list("To be, 还是 not".encode())
    scores = score_tokens(model, ids, start_id=256)
    assert scores.shape == (len(ids),)
    torch.testing.assert_close(scores, reference(model, [256, *ids]), atol=1e-5, rtol=0)


def test_without_a_start_the_first_token_has_no_figure(model) -> None:
    scores = score_tokens(model, torch.tensor([5, 6, 7]), start_id=None)
    assert scores[0].isnan()
    torch.testing.assert_close(scores[1:], reference(model, [5, 6, 7]), atol=1e-5, rtol=0)
    assert score_tokens(model, [5], start_id=None).isnan().tolist() == [True]
    assert score_tokens(model, [], start_id=256).tolist() == []


def test_long_texts_are_read_in_windows(make_model) -> None:
    model = make_model(max_positions=16)
    ids = torch.randint(0, 256, (50,), generator=torch.Generator().manual_seed(0)).tolist()
    scores = score_tokens(model, ids, start_id=256)
    row = [256, *ids]
    assert scores.shape == (50,)
    torch.testing.assert_close(scores[:16], reference(model, row[:17]), atol=1e-5, rtol=0)
    # The next window begins half a window earlier: each of its tokens sees at least 8 before it.
    torch.testing.assert_close(scores[16:24], reference(model, row[8:25])[8:], atol=1e-5, rtol=0)
    assert scores.isfinite().all()


def test_the_full_context_is_used_before_windows_are(make_model) -> None:
    model = make_model(max_positions=16)
    ids = list(range(16))
    torch.testing.assert_close(
        score_tokens(model, ids, start_id=256), reference(model, [256, *ids]), atol=1e-5, rtol=0
    )


def test_training_mode_is_put_back(model) -> None:
    model.train()
    score_tokens(model, [1, 2], start_id=None)
    assert model.training


def test_unknown_ids_are_named(model) -> None:
    with pytest.raises(DataError, match="token id 999 .* 0 to 256"):
        score_tokens(model, [1, 999], start_id=None)
