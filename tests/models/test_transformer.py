"""The equivalences of the Transformer: what must not change what it computes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from langmill.core.errors import ConfigError
from langmill.models.cache import Cache
from langmill.models.config import RotaryScaling, StackConfig, TransformerConfig, default_decoder
from langmill.models.fused import operations
from langmill.models.fused.operations import rotate
from langmill.models.initialise import initialise
from langmill.models.positions import rotary_rates, rotary_table
from langmill.models.protocol import LanguageModel, PastState
from langmill.models.transformer import Transformer

VOCABULARY = 31
TOLERANCE = 1e-5

LLAMA = default_decoder(VOCABULARY, layers=2, width=32, heads=4, kv_heads=2, context=32)
LAYOUTS = {
    "default": LLAMA,
    "untied": dataclasses.replace(LLAMA, tie_output=False),
    "scaled": dataclasses.replace(
        LLAMA,
        decoder=dataclasses.replace(
            LLAMA.decoder,
            head_width=12,
            qk_norm=False,
            qkv_bias=True,
            rotary_scaling=RotaryScaling(kind="llama3", factor=4.0, trained_positions=16),
        ),
    ),
    "gpt2": TransformerConfig(
        vocabulary=VOCABULARY,
        decoder=StackConfig(
            layers=2, width=32, heads=4, hidden=64, causal=True, max_positions=32, activation="gelu_tanh"
        ),
    ),
    "2017": TransformerConfig(
        vocabulary=VOCABULARY,
        decoder=StackConfig(
            layers=2,
            width=32,
            heads=4,
            hidden=64,
            causal=True,
            max_positions=32,
            activation="relu",
            norm_first=False,
            final_norm=False,
        ),
    ),
}


@pytest.fixture(params=list(LAYOUTS))
def model(request) -> Transformer:
    return build(request.param)


@torch.no_grad()
def build(layout: str) -> Transformer:
    """Return a model with random weights everywhere, biases and norms included."""
    torch.manual_seed(0)
    model = Transformer(LAYOUTS[layout]).eval()
    for name, weight in model.named_parameters():
        nn.init.normal_(weight, mean=float("norm.weight" in name), std=0.15)
    return model


def token_ids(rows: int = 3, tokens: int = 10) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(1))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a - b).abs().max().item() <= TOLERANCE


# ------------------------------------------------------------------------------------------------
# Equivalences


@torch.no_grad()
def test_batched_is_single(model):
    ids = token_ids()
    assert close(model(ids), torch.cat([model(row[None]) for row in ids]))


@torch.no_grad()
def test_padded_is_unpadded(model):
    ids = token_ids(1, 7)
    alone = model(ids)
    for left in (0, 3):
        row = torch.zeros(1, 10, dtype=torch.long)
        valid = torch.zeros(1, 10, dtype=torch.bool)
        row[:, left : left + 7], valid[:, left : left + 7] = ids, True
        assert close(model(row, valid=valid)[:, left : left + 7], alone)


@torch.no_grad()
def test_what_stands_at_padding_does_not_matter(model):
    ids, valid = token_ids(), torch.ones(3, 10, dtype=torch.bool)
    valid[1, :4] = False
    other = torch.where(valid, ids, (ids + 1) % VOCABULARY)
    assert torch.equal(model(ids, valid=valid)[valid], model(other, valid=valid)[valid])


@torch.no_grad()
def test_padding_gives_no_nan(model):
    valid = torch.zeros(3, 10, dtype=torch.bool)
    assert model(token_ids(), valid=valid).isfinite().all()


@torch.no_grad()
def test_the_future_does_not_matter(model):
    ids = token_ids()
    other = ids.clone()
    other[:, 6:] = (ids[:, 6:] + 1) % VOCABULARY
    assert close(model(ids)[:, :6], model(other)[:, :6])
    assert not close(model(ids)[:, 6:], model(other)[:, 6:])


@pytest.mark.parametrize("cuts", [(10,), (1, 2, 3, 10), (6, 7, 8, 9, 10), (4, 9, 10)])
@torch.no_grad()
def test_cached_is_uncached(model, cuts):
    ids = token_ids()
    cache = model.new_cache(3, 12)
    states, begin = [], 0
    for end in cuts:
        states.append(model.decode(ids[:, begin:end], cache=cache))
        begin = end
    assert cache.length == 10
    assert close(model.score(torch.cat(states, 1)), model(ids))


@torch.no_grad()
def test_cached_and_left_padded(model):
    ids, valid = token_ids(), torch.ones(3, 10, dtype=torch.bool)
    valid[1, :3], valid[2, :5] = False, False
    cache = model.new_cache(3, 10)
    states = [model.decode(ids[:, :6], valid=valid[:, :6], cache=cache)]
    states += [model.decode(ids[:, begin : begin + 2], cache=cache) for begin in (6, 8)]
    assert close(model.score(torch.cat(states, 1))[valid], model(ids, valid=valid)[valid])


@torch.no_grad()
def test_reordered_cache(model):
    ids, rows = token_ids(), torch.tensor([2, 0, 0])
    cache = model.new_cache(3, 10)
    model.decode(ids[:, :9], cache=cache)
    cache.reorder(rows)
    last = model.score(model.decode(ids[rows, 9:], cache=cache))
    assert close(last, model(ids[rows])[:, 9:])


@torch.no_grad()
def test_packed_is_separate(model):
    documents = [token_ids(1, length) for length in (4, 1, 6)]
    row = torch.cat(documents, 1)
    starts = torch.tensor([[0] * 4 + [4] + [5] * 6])
    separate = torch.cat([model(document) for document in documents], 1)
    assert close(model(row, starts=starts), separate)
    assert not close(model(row), separate)


def test_packed_gradients_are_separate(model):
    """Nothing leaks backwards either: a document's loss moves no other document's embedding."""
    ids = torch.arange(8)[None]
    starts = torch.tensor([[0, 0, 0, 4, 4, 4, 4, 4]]).clamp(max=3)
    states = model.decode(ids, starts=starts)
    states[:, 3:].square().sum().backward()
    moved = model.decoder.embed.weight.grad.abs().sum(1) > 0
    assert moved[:8].tolist() == [False] * 3 + [True] * 5


@pytest.mark.parametrize("layout", list(LAYOUTS))
@torch.no_grad()
def test_compiled_is_eager(layout, monkeypatch):
    """One graph without breaks; the backend that only traces keeps this quick."""
    torch._dynamo.reset()
    fused = build(layout)(token_ids())
    # A compiled model is plain PyTorch throughout, so its eager twin must do without the fused kernels.
    monkeypatch.setattr(operations, "library", lambda: None)
    model = build(layout)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    ids, valid = token_ids(), torch.ones(3, 10, dtype=torch.bool)
    valid[1, :4] = False
    starts = torch.tensor([[0] * 4 + [4] * 6] * 3)
    assert torch.equal(compiled(ids), model(ids))
    assert torch.equal(compiled(ids, valid=valid), model(ids, valid=valid))
    assert torch.equal(compiled(ids, starts=starts), model(ids, starts=starts))
    torch.testing.assert_close(fused, model(ids), rtol=0, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_compiled_by_inductor_is_eager():
    torch._dynamo.reset()
    model, ids = build("default"), token_ids()
    assert close(torch.compile(model, fullgraph=True)(ids), model(ids))


@torch.no_grad()
def test_dropout_only_in_training():
    config = dataclasses.replace(LLAMA, decoder=dataclasses.replace(LLAMA.decoder, dropout=0.5))
    torch.manual_seed(0)
    model, ids = Transformer(config), token_ids()
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_casting_leaves_the_rotary_rates_alone():
    model = build("scaled")
    before = model.decoder.rates.clone()
    model.to(torch.bfloat16)
    assert model.decoder.embed.weight.dtype == torch.bfloat16
    assert model.decoder.rates.dtype == torch.float32
    assert torch.equal(model.decoder.rates, before)
    assert model(token_ids()).dtype == torch.bfloat16


# ------------------------------------------------------------------------------------------------
# Parts, by hand


def test_rotation_by_hand():
    """At position p the pair (x1, x2) turns by p radians times its rate."""
    config = StackConfig(
        layers=1, width=4, heads=1, hidden=4, causal=True, positions="rotary", rotary_base=100.0
    )
    rates = rotary_rates(config)
    assert torch.allclose(rates, torch.tensor([1.0, 0.1]))
    cos, sin = rotary_table(torch.tensor([2]), rates, torch.float32)
    turned = rotate(torch.tensor([[1.0, 0.0, 0.0, 1.0]]), cos, sin)
    angles = torch.tensor([2.0, 0.2])
    expected = torch.tensor([angles[0].cos(), -angles[1].sin(), angles[0].sin(), angles[1].cos()])
    assert torch.allclose(turned[0], expected)


def test_scaled_rates_by_hand():
    config = StackConfig(
        layers=1, width=4, heads=1, hidden=4, causal=True, positions="rotary", rotary_base=1e6
    )
    linear = dataclasses.replace(config, rotary_scaling=RotaryScaling(kind="linear", factor=4.0))
    assert torch.allclose(rotary_rates(linear), torch.tensor([0.25, 0.00025]))
    # 1 radian a position turns 16 times in 100 positions, more than 4: kept; 0.001 turns less than once.
    scaling = RotaryScaling(kind="llama3", factor=8.0, trained_positions=100)
    assert torch.allclose(
        rotary_rates(dataclasses.replace(config, rotary_scaling=scaling)), torch.tensor([1.0, 0.000125])
    )


def test_masks_by_hand():
    model = build("gpt2").decoder
    ids = torch.zeros(1, 3, dtype=torch.long)
    assert model.mask(ids, valid=None, starts=None, past=0, dtype=torch.float32) == (None, True)
    assert model.mask(ids[:, :1], valid=None, starts=None, past=2, dtype=torch.float32) == (None, False)
    mask, causal = model.mask(ids[:, :2], valid=None, starts=None, past=1, dtype=torch.float32)
    assert (mask[0, 0].int().tolist(), causal) == ([[1, 1, 0], [1, 1, 1]], False)
    mask, _ = model.mask(
        ids, valid=torch.tensor([[False, True, True]]), starts=None, past=0, dtype=torch.float32
    )
    assert mask[0, 0].int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    mask, _ = model.mask(ids, valid=None, starts=torch.tensor([[0, 1, 1]]), past=0, dtype=torch.float32)
    assert mask[0, 0].int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_positions_by_hand():
    stack = build("gpt2").decoder
    ids = torch.zeros(2, 4, dtype=torch.long)
    assert stack.token_positions(ids, valid=None, starts=None, past=3).tolist() == [[3, 4, 5, 6]]
    valid = torch.tensor([[True] * 4, [False, False, True, True]])
    assert stack.token_positions(ids, valid=valid, starts=None, past=0).tolist() == [
        [0, 1, 2, 3],
        [0, 0, 0, 1],
    ]
    assert stack.token_positions(ids[:, 2:], valid=valid, starts=None, past=2).tolist() == [[2, 3], [0, 1]]
    starts = torch.tensor([[0, 1, 1, 3]])
    assert stack.token_positions(ids[:1], valid=None, starts=starts, past=0).tolist() == [[0, 0, 1, 0]]


def test_a_full_cache_is_refused():
    model = build("default")
    cache = model.new_cache(1, 4)
    model.decode(token_ids(1, 3), cache=cache)
    with pytest.raises(ValueError, match="the cache has 4 slots; 5 are needed"):
        model.decode(token_ids(1, 2), cache=cache)


def test_cache_size():
    cache = Cache(LLAMA.decoder, 3, 7)
    assert cache.keys.shape == (2, 3, 2, 7, 8)
    assert (cache.slots, cache.length) == (7, 0)


def test_number_of_weights_of_gpt2():
    """124M: the published count of the smallest GPT-2."""
    stack = StackConfig(layers=12, width=768, heads=12, hidden=3072, causal=True, max_positions=1024)
    with torch.device("meta"):
        model = Transformer(TransformerConfig(vocabulary=50257, decoder=stack))
    assert sum(each.numel() for each in model.parameters()) == 124_439_808


def test_the_protocols():
    model = build("default")
    assert isinstance(model, LanguageModel)
    assert isinstance(model.new_cache(1, 1), PastState)
    assert not isinstance(nn.Linear(1, 1), LanguageModel)


@torch.no_grad()
def test_windows():
    """A token sees its window and nothing before it, whole, packed, padded and cached."""
    config = default_decoder(31, layers=2, width=16, heads=2, context=32)
    config = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, window=3))
    model = Transformer(config)
    initialise(model, torch.Generator().manual_seed(0), scheme="gpt2")
    stack = model.decoder
    ids = torch.randint(31, (2, 9), generator=torch.Generator().manual_seed(1))
    options = {"valid": None, "starts": None, "past": 0, "dtype": torch.float32}
    assert stack.mask(ids[:, :3], **options) == (None, True), "a row within the window keeps the fast kernel"
    assert stack.mask(ids[:, :1], **{**options, "past": 2}) == (None, False)
    mask, causal = stack.mask(ids, **options)
    distance = torch.arange(9)[:, None] - torch.arange(9)
    assert not causal and torch.equal(mask[0, 0], (distance >= 0) & (distance < 3))
    whole = model.decode(ids)
    # Two layers reach back over 2 · 2 tokens.
    changed = ids.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 31
    far = (model.decode(changed) - whole).abs().amax((0, 2))
    assert (far[:5] > 1e-6).all() and (far[5:] < 1e-7).all()
    cache = model.new_cache(2, 9)
    pieces = [model.decode(ids[:, a:b], cache=cache) for a, b in ((0, 4), (4, 5), (5, 8), (8, 9))]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-6, rtol=0)
    padded = torch.cat([ids.new_zeros(2, 2), ids], 1)
    valid = torch.arange(11).expand(2, 11) >= 2
    torch.testing.assert_close(model.decode(padded, valid=valid)[:, 2:], whole, atol=1e-6, rtol=0)
    packed = model.decode(ids.view(1, 18), starts=torch.arange(18)[None] // 9 * 9)
    torch.testing.assert_close(packed.view(2, 9, -1), whole, atol=1e-6, rtol=0)
    with pytest.raises(ConfigError, match="a window of -1 tokens is not allowed"):
        dataclasses.replace(config.decoder, window=-1)
    with pytest.raises(ConfigError, match="window"):
        dataclasses.replace(config.decoder, window=3, causal=False)
