"""The next-token objective: counts, and packed rows = separate texts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from langmill.batches.batch import TokenBatch
from langmill.models.config import TransformerConfig, default_decoder, gpt2_decoder
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer
from langmill.objectives.cross_entropy import IGNORED
from langmill.objectives.logprobs import token_logprobs
from langmill.objectives.next_token import next_token

VOCABULARY = 29


def small(kind: str = "qwen3") -> Transformer:
    """Return a model of random weights, biases and norms too."""
    make = gpt2_decoder if kind == "gpt2" else default_decoder
    config: TransformerConfig = make(
        VOCABULARY, layers=2, width=32, heads=2, kv_heads=0, hidden=48, context=16, dropout=0.0
    )
    model = Transformer(config)
    initialise(model, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return model


def gradients_of(model: Transformer) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_packed_equals_separate(kind: str) -> None:
    model = small(kind)
    texts = [
        torch.randint(0, VOCABULARY, (length,), generator=torch.Generator().manual_seed(length))
        for length in (5, 3, 8)
    ]
    separate, counts = torch.zeros(()), 0
    for text in texts:
        loss, count = next_token(model, TokenBatch(text[None, :-1], text[None, 1:]))
        loss.backward()
        separate, counts = separate + loss.detach(), counts + int(count)
    apart = gradients_of(model)
    ids = torch.cat([text[:-1] for text in texts])[None]
    targets = torch.cat([text[1:] for text in texts])[None]
    starts = torch.tensor([[0] * 4 + [4] * 2 + [6] * 7])
    loss, count = next_token(model, TokenBatch(ids, targets, starts))
    loss.backward()
    together = gradients_of(model)
    assert int(count) == counts == 13
    torch.testing.assert_close(loss.detach(), separate, rtol=1e-5, atol=1e-5)
    for one, other in zip(apart, together):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    # The check sees something: without `starts` texts look at each other.
    mixed, _ = next_token(model, TokenBatch(ids, targets))
    assert abs(float(mixed.detach()) - float(separate)) > 1e-2


def test_loss_and_count_by_the_full_scores() -> None:
    model = small()
    ids = torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(5))
    targets = ids[:, 1:].clone()
    targets[0, :3] = IGNORED
    loss, count = next_token(model, TokenBatch(ids[:, :-1], targets))
    logits = model(ids[:, :-1])
    right = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(loss, right)
    assert int(count) == 13


def test_logprobs_are_the_loss_token_by_token() -> None:
    model = small()
    ids = torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        states = model.decode(ids[:, :-1])
        found = token_logprobs(states, model.output.weight, ids[:, 1:])
        loss, _ = next_token(model, TokenBatch(ids[:, :-1], ids[:, 1:]))
        right = model.score(states).log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(found, right)
    torch.testing.assert_close(-found.sum(), loss)
