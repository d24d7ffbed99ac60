"""Every weight begins as the docstring's table says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import nn

from langmill.models.config import (
    StackConfig,
    TransformerConfig,
    default_decoder,
    default_encoder_decoder,
)
from langmill.models.initialise import allocate, initialise, initialise_recurrent, rate_shares
from langmill.models.recurrent import RecurrentConfig
from langmill.models.recurrent_layers import RecurrentLayer
from langmill.models.transformer import Transformer
from langmill.models.view import View

WIDTH = 64
LLAMA = default_decoder(97, layers=3, width=WIDTH, heads=4)
GPT2 = TransformerConfig(
    vocabulary=97,
    decoder=StackConfig(layers=3, width=WIDTH, heads=4, hidden=4 * WIDTH, causal=True, max_positions=90),
)
CONFIGS = {"llama": LLAMA, "untied": dataclasses.replace(LLAMA, tie_output=False), "gpt2": GPT2}


@pytest.fixture(params=list(CONFIGS))
def model(request) -> Transformer:
    model = allocate(CONFIGS[request.param])
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(float("nan"))  # whatever is not set shows
    initialise(model, torch.Generator().manual_seed(7))
    return model


def test_every_weight_is_set(model):
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_every_block_begins_as_the_identity(model):
    for block in model.decoder.blocks:
        assert not block.attention.output.weight.any()
        assert not block.feed_forward.down.weight.any()
    x = torch.randn(2, 5, WIDTH)
    rotary = (
        None if model.config.decoder.positions == "learned" else (torch.ones(1, 5, 16), torch.zeros(1, 5, 16))
    )
    with torch.no_grad():
        for block in model.decoder.blocks:
            stream, pending = block(x, None, View(None, True, rotary))
            assert torch.equal(stream + pending, x)


def test_deviations(model):
    for block in model.decoder.blocks:
        layers = [block.attention.query, block.attention.key, block.attention.value, block.feed_forward.up]
        for layer in [*layers, *([block.feed_forward.gate] if block.feed_forward.gate else [])]:
            assert layer.weight.std().item() == pytest.approx(WIDTH**-0.5, rel=0.05)
            assert layer.weight.abs().max().item() <= (3 / WIDTH) ** 0.5
    tied = model.config.tie_output
    assert model.decoder.embed.weight.std().item() == pytest.approx(0.02 if tied else 1.0, rel=0.05)
    if model.config.decoder.positions == "learned":
        assert model.decoder.positions.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("layout", list(CONFIGS))
def test_gpt2_scheme(layout):
    model = allocate(CONFIGS[layout])
    initialise(model, torch.Generator().manual_seed(7), scheme="gpt2")
    for block in model.decoder.blocks:
        for layer in (block.attention.query, block.attention.value, block.feed_forward.up):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        for layer in (block.attention.output, block.feed_forward.down):
            assert layer.weight.std().item() == pytest.approx(0.02 / 6**0.5, rel=0.05)
    assert model.decoder.embed.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.output.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_norms_and_biases(model):
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            assert (module.weight == 1).all()
        if getattr(module, "bias", None) is not None:
            assert not module.bias.any()


def test_an_untied_output_begins_uniform():
    model = Transformer(CONFIGS["untied"]).eval()
    initialise(model, torch.Generator().manual_seed(0))
    assert not model(torch.arange(10)[None]).any()


def test_the_seed_decides():
    models = [allocate(LLAMA) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        initialise(model, torch.Generator().manual_seed(seed))
    first, same, other = (torch.cat([each.flatten() for each in model.parameters()]) for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    initialise(allocate(LLAMA), torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("attention", ["luong", "bahdanau"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_pairs(kind, attention):
    config = RecurrentConfig(
        vocabulary=97, kind=kind, role="pair", attention=attention, layers=2, width=WIDTH
    )
    model = allocate(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(float("nan"))
    initialise_recurrent(model, torch.Generator().manual_seed(7))
    assert all(weight.isfinite().all() for weight in model.parameters())
    for layer in model.modules():
        if isinstance(layer, RecurrentLayer):
            size = layer.outputs
            gate = layer.weight_hidden[:size]
            torch.testing.assert_close(gate @ gate.T, torch.eye(size), atol=1e-5, rtol=0)
            assert layer.bias_input.sum() == (size if kind == "lstm" else 0)
            assert (layer.bias_input[size : 2 * size] == (kind == "lstm")).all()
    for linear in (model.bridge, model.attention.key, model.attention.combine):
        assert linear.weight.std().item() == pytest.approx(linear.in_features**-0.5, rel=0.05)
    assert not model.bridge.bias.any()
    if attention == "bahdanau":
        assert not model.attention.energy.any()
    assert model.embed.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_t5_takes_smaller_steps_where_it_does_not_scale():
    model = Transformer(default_encoder_decoder(9, layers=1, width=32, heads=2))
    shares = rate_shares(model)
    assert set(shares) == {
        f"{part}.query.weight"
        for part in ("encoder.blocks.0.attention", "decoder.blocks.0.attention", "decoder.blocks.0.cross")
    }
    assert set(shares.values()) == {0.25}
    initialise(model, torch.Generator().manual_seed(0))
    query, key = (getattr(model.encoder.blocks[0].attention, name).weight for name in ("query", "key"))
    assert float((query.std() / key.std()).detach()) == pytest.approx(0.25, rel=0.1)
    assert rate_shares(Transformer(default_decoder(9, layers=1, width=32, heads=2))) == {}


def test_allocating_loads_no_compiler():
    """Nor does matching names. It would take seconds at every start."""
    code = (
        "import sys; from langmill.models.config import StackConfig, TransformerConfig; "
        "from langmill.models.families import FAMILIES, pair_weights; "
        "from langmill.models.initialise import allocate; "
        "stack = StackConfig(layers=1, width=8, heads=2, hidden=8, causal=True); "
        "pair_weights(FAMILIES['gpt2'], allocate(TransformerConfig(vocabulary=9, decoder=stack))); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
