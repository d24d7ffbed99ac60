"""Encoders and encoder-decoders: the equivalences that every model keeps."""

from __future__ import annotations

import pytest
import torch

from langmill.core.errors import ConfigError
from langmill.models.config import (
    StackConfig,
    TransformerConfig,
    bart_encoder_decoder,
    bert_encoder,
    default_encoder,
    default_encoder_decoder,
)
from langmill.models.positions import RelativeBias, sinusoids
from langmill.models.transformer import Transformer
from langmill.models.view import Kept

SIZES = {"layers": 2, "width": 32, "heads": 4, "context": 40}
ENCODERS = {"eurobert": default_encoder, "bert": bert_encoder}
PAIRS = {"t5": default_encoder_decoder, "bart": bart_encoder_decoder}


def drawn(config: TransformerConfig) -> Transformer:
    model = Transformer(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    return model


@pytest.fixture(params=ENCODERS)
def encoder(request) -> Transformer:
    return drawn(ENCODERS[request.param](31, **SIZES))


@pytest.fixture(params=PAIRS)
def pair(request) -> Transformer:
    return drawn(PAIRS[request.param](31, **SIZES))


def token_ids(rows: int = 3, tokens: int = 10, *, seed: int = 1) -> torch.Tensor:
    return torch.randint(31, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=2e-6)


@torch.no_grad()
def test_packed_is_separate(encoder):
    documents = [token_ids(1, length, seed=length) for length in (4, 1, 6)]
    row = torch.cat(documents, 1)
    starts = torch.tensor([[0] * 4 + [4] + [5] * 6])
    separate = torch.cat([encoder.encode(document) for document in documents], 1)
    assert close(encoder.encode(row, starts=starts), separate)
    assert not close(encoder.encode(row), separate)


@torch.no_grad()
def test_padded_is_unpadded_on_either_side(encoder):
    ids = token_ids(1, 6)
    for places in (slice(0, 6), slice(4, 10)):
        wide, valid = token_ids(1, 10, seed=5), torch.zeros(1, 10, dtype=torch.bool)
        wide[:, places], valid[:, places] = ids, True
        assert close(encoder.encode(wide, valid=valid)[:, places], encoder.encode(ids))


@pytest.mark.parametrize("kind", [*ENCODERS, *PAIRS])
def test_padding_is_left_out_of_the_work(kind, monkeypatch):
    """Layers but attention see the tokens alone; states and gradients are those of the padded batch."""
    model = drawn({**ENCODERS, **PAIRS}[kind](31, **SIZES))
    ids = token_ids(20, 40)
    lengths = torch.tensor([3, 40, 17, 5] * 5)
    valid = torch.arange(40) < lengths[:, None]
    segments = (torch.arange(40)[None] >= lengths[:, None] // 2).long() if kind == "bert" else None
    seen = []
    model.encoder.blocks[0].feed_forward.register_forward_hook(lambda _, x, __: seen.append(x[0].shape[:2]))

    def states_and_slope() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        states = model.encode(ids, valid=valid, segments=segments)[valid]
        (states * torch.arange(1, 33)).sin().sum().backward()
        return states.detach(), model.encoder.embed.weight.grad.clone()

    states, slope = states_and_slope()
    monkeypatch.setattr(Kept, "of", lambda valid: None)
    padded_states, padded_slope = states_and_slope()
    assert seen == [(1, 384), (20, 40)]  # 325 tokens, rounded up to a multiple of 128
    assert close(states, padded_states)
    assert torch.allclose(slope, padded_slope, rtol=1e-4, atol=1e-4)


def test_places_of_the_tokens_that_are_kept():
    valid = torch.zeros(16, 20, dtype=torch.bool)
    valid[3, 5:9] = True
    kept = Kept.of(valid)
    assert kept is not None
    assert kept.places[:4].tolist() == [65, 66, 67, 68]
    assert len(kept.places) == 128 and len(kept.places.unique()) == 128
    rows = torch.randn(16, 20, 3)
    back = kept.put(kept.take(rows))
    assert torch.equal(back[3, 5:9], rows[3, 5:9])
    assert back.abs().sum(-1).count_nonzero() == 128
    assert Kept.of(torch.ones(16, 20, dtype=torch.bool)) is None
    assert Kept.of(torch.ones(2, 20, dtype=torch.bool).tril()) is None  # too few to be worth it


@torch.no_grad()
def test_the_source_padding_does_not_matter(pair):
    source, target = token_ids(1, 5), token_ids(1, 4, seed=2)
    wide = torch.cat([source, token_ids(1, 3, seed=3)], 1)
    valid = torch.arange(8)[None] < 5
    assert close(pair(wide, valid=valid, decoder_ids=target), pair(source, decoder_ids=target))
    assert not close(pair(wide, decoder_ids=target), pair(source, decoder_ids=target))


@torch.no_grad()
def test_cached_is_uncached_and_rows_share_texts(pair):
    source, target = token_ids(2, 7), token_ids(6, 5, seed=2)
    cache = pair.new_cache(6, 5, memory=pair.encode(source))
    pieces = [pair.decode(target[:, a:b], cache=cache) for a, b in ((0, 2), (2, 3), (3, 5))]
    whole = pair(source.repeat_interleave(3, 0), decoder_ids=target)
    assert close(pair.score(torch.cat(pieces, 1)), whole)
    assert len(cache.memory[0][0]) == 2


@torch.no_grad()
def test_a_text_that_is_done_leaves_the_cache(pair):
    source, target = token_ids(3, 7), token_ids(6, 5, seed=2)
    cache = pair.new_cache(6, 5, memory=pair.encode(source))
    pair.decode(target[:, :4], cache=cache)
    rows = torch.tensor([1, 0, 5, 5])  # the second text's two rows go
    cache.reorder(rows)
    last = pair.score(pair.decode(target[rows, 4:], cache=cache))
    whole = pair(source[[0, 0, 2, 2]], decoder_ids=target[rows])
    assert close(last, whole[:, 4:])


@torch.no_grad()
def test_no_graph_break(encoder, pair):
    torch._dynamo.reset()
    ids = token_ids()
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    assert close(compiled(ids), encoder(ids))
    torch._dynamo.reset()
    compiled = torch.compile(pair, backend="eager", fullgraph=True)
    assert close(compiled(ids, decoder_ids=ids), pair(ids, decoder_ids=ids))


def test_gradients_reach_every_weight(pair):
    pair(token_ids(), decoder_ids=token_ids(seed=2)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pair.parameters() if p.numel() > 1)


def test_buckets_by_hand():
    """32 buckets up to 128: 8 exact ones on each side, then wider ones, all beyond 128 in the last."""
    both = RelativeBias(StackConfig(layers=1, width=8, heads=2, hidden=8, causal=False, positions="relative"))
    offsets = torch.tensor([0, -1, -7, -8, -127, -500, 1, 7, 8, 500])
    assert both.bucket(offsets).tolist() == [0, 1, 7, 8, 15, 15, 17, 23, 24, 31]
    past = RelativeBias(StackConfig(layers=1, width=8, heads=2, hidden=8, causal=True, positions="relative"))
    assert past.bucket(torch.tensor([5, 0, -1, -15, -16, -500])).tolist() == [0, 0, 1, 15, 16, 31]


def test_sinusoids_by_hand():
    table = sinusoids(3, 4)
    assert table[0].tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(
        table[2],
        torch.tensor([2.0, 0.02, 2.0, 0.02])
        .sin_()
        .where(torch.tensor([True, True, False, False]), torch.tensor([2.0, 0.02, 2.0, 0.02]).cos()),
    )


def test_refusals():
    stack = StackConfig(layers=1, width=8, heads=2, hidden=8, causal=True)
    cross = StackConfig(layers=1, width=16, heads=2, hidden=8, causal=True, cross=True)
    with pytest.raises(ConfigError, match="cross-attention just where the model has an encoder"):
        TransformerConfig(vocabulary=9, encoder=stack, decoder=stack)
    with pytest.raises(ConfigError, match=r"their widths \(8, 16\) must be equal"):
        TransformerConfig(vocabulary=9, encoder=stack, decoder=cross)
    with pytest.raises(ConfigError, match="pass both"):
        drawn(default_encoder_decoder(31, **SIZES))(token_ids())
