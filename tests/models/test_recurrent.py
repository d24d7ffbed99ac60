"""Recurrent models: against PyTorch's own layers, and the equivalences that every model keeps."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.core.errors import ConfigError
from langmill.generation.generate import generate
from langmill.generation.rules import TokenRules
from langmill.generation.settings import SamplingSettings
from langmill.models.recurrent import Recurrent, RecurrentConfig, layer_sizes
from tests.models.recurrent_samples import drawn, token_ids


def make(kind: str, **changes) -> Recurrent:
    return drawn(kind, noise=0.2, **{"layers": 3, **changes})


@pytest.fixture(params=["lstm", "gru"])
def model(request) -> Recurrent:
    return make(request.param)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-6)


@torch.no_grad()
def test_same_as_torch(model):
    x = model.embed(token_ids())
    for layer, (inputs, outputs) in zip(model.decoder.layers, layer_sizes(model.config)):
        theirs = (nn.LSTM if layer.kind == "lstm" else nn.GRU)(inputs, outputs, batch_first=True)
        theirs.weight_ih_l0.copy_(layer.weight_input)
        theirs.weight_hh_l0.copy_(layer.weight_hidden)
        theirs.bias_ih_l0.copy_(layer.bias_input)
        theirs.bias_hh_l0.copy_(layer.bias_hidden)
        x, _ = theirs(x)
    assert close(model.decode(token_ids()), x)
    assert close(model(token_ids()), model.output(x))


@torch.no_grad()
def test_cached_is_uncached(model):
    ids, cache = token_ids(), model.new_cache(3, 10)
    parts = [model.decode(ids[:, a:b], cache=cache) for a, b in ((0, 4), (4, 5), (5, 10))]
    assert close(torch.cat(parts, 1), model.decode(ids))
    assert cache.length == 10


@torch.no_grad()
def test_padded_is_unpadded(model):
    ids, valid = token_ids(), torch.ones(3, 10, dtype=torch.bool)
    valid[1, :3], valid[2, :7] = False, False
    cache = model.new_cache(3, 12)
    states = model.decode(ids, valid=valid, cache=cache)
    after = model.decode(ids[:, :2], cache=cache)
    for row, first in enumerate((0, 3, 7)):
        alone = model.decode(torch.cat([ids[row, first:], ids[row, :2]])[None])[0]
        assert close(states[row, first:], alone[:-2])
        assert close(after[row], alone[-2:])


@torch.no_grad()
def test_packed_is_separate(model):
    documents = [token_ids(1, length) for length in (4, 1, 6)]
    row = torch.cat(documents, 1)
    starts = torch.tensor([[0] * 4 + [4] + [5] * 6])
    both = model(row.repeat(2, 1), starts=torch.cat([starts, torch.zeros_like(starts)]))
    assert close(both[0], torch.cat([model(document)[0] for document in documents]))
    assert close(both[1], model(row)[0])
    assert not close(both[0], both[1])


@torch.no_grad()
def test_pieces_of_padding_alone_change_nothing(model):
    ids, cache = token_ids(), model.new_cache(3, 10)
    valid = torch.arange(10) >= torch.tensor([0, 4, 7])[:, None]
    for a, b in ((0, 3), (3, 6), (6, 10)):
        states = model.decode(ids[:, a:b], valid=valid[:, a:b], cache=cache)
    for row, first in enumerate((0, 4, 7)):
        assert close(states[row, -3:], model.decode(ids[row : row + 1, first:])[0, -3:])


@torch.no_grad()
def test_padding_on_the_right(model):
    ids, lengths = token_ids(), (10, 6, 1)
    states = model.decode(ids, valid=torch.arange(10) < torch.tensor(lengths)[:, None])
    for row, length in enumerate(lengths):
        assert close(states[row, :length], model.decode(ids[row : row + 1, :length])[0])
        assert not states[row, length:].any()


@torch.no_grad()
def test_reordered_and_repeated_state(model):
    ids, cache = token_ids(), model.new_cache(3, 10)
    model.decode(ids[:, :9], cache=cache)
    cache.reorder(torch.tensor([2, 0]))
    cache.repeat(2)
    rows = torch.tensor([2, 2, 0, 0])
    assert close(model.decode(ids[rows, 9:], cache=cache), model.decode(ids[rows])[:, 9:])


def test_dropout_is_the_same_at_every_token():
    model = make("lstm", layers=1, dropout=0.5, hidden=16).train()
    states = model.decode(token_ids())
    assert ((states == 0).all(1) | (states != 0).all(1)).all()
    starts = torch.tensor([[0] * 5 + [5] * 5] * 3)
    packed = model.decode(token_ids(), starts=starts)
    assert ((packed[:, :5] == 0).all(1) | (packed[:, :5] != 0).all(1)).all()


def test_dropped_weights_and_words():
    model = make("gru", weight_drop=0.5, embed_dropout=0.3).train()
    torch.manual_seed(0)
    x = model.embedded(torch.arange(31)[None].repeat(2, 1))
    assert torch.equal(x[0], x[1])
    dropped = (x[0] == 0).all(1)
    assert 0 < int(dropped.sum()) < 31
    assert close(x[0][~dropped], model.embed.weight[~dropped] / 0.7)
    assert not close(model.decode(token_ids()), model.decode(token_ids()))


def test_gradients_reach_every_weight(model):
    starts = torch.tensor([[0] * 5 + [5] * 5] * 3)
    model(token_ids(), starts=starts).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_saved_and_loaded(tmp_path, tied):
    model = make("lstm", tie_output=tied, dropout=0.2)
    save_checkpoint(tmp_path, Checkpoint(model))
    again = load_checkpoint(tmp_path)
    assert again.family == "langmill_recurrent"
    assert again.model.config == model.config
    assert torch.equal(again.model(token_ids()), model(token_ids()))


def test_checkpoints_from_before_there_were_roles(tmp_path):
    model = make("gru", weight_drop=0.1)
    save_checkpoint(tmp_path, Checkpoint(model))
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written.pop("role"), written.pop("attention")) == ("decoder", "luong")
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert "layers.2.weight_hidden" in load_file(tmp_path / "model.safetensors")
    assert torch.equal(load_checkpoint(tmp_path).model(token_ids()), model(token_ids()))


class Codec:
    """A tokenizer of nothing."""

    bos_id = eos_id = None

    def encode(self, text, *, special=False):
        return [int(word) for word in text.split()]

    def decode(self, ids, *, skip_special=True):
        return " ".join(map(str, ids))


@pytest.mark.parametrize("beams", [1, 3])
def test_batched_generation_is_single(model, beams):
    prompts = [[1, 2, 3, 4], [5], [6, 7]]
    settings = SamplingSettings(max_tokens=6, temperature=0, beams=beams)
    together = generate(model, Codec(), prompts, settings, rules=TokenRules(ends=(0,)))
    for prompt, result in zip(prompts, together):
        [alone] = generate(model, Codec(), [prompt], settings, rules=TokenRules(ends=(0,)))
        assert alone.tokens == result.tokens


def test_refusals():
    with pytest.raises(ConfigError, match="one of lstm, gru, not 'rnn'"):
        RecurrentConfig(vocabulary=9, kind="rnn", layers=1, width=8)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"model.weight_drop: 1 is not allowed; it must be in \[0, 1\)"):
        RecurrentConfig(vocabulary=9, layers=1, width=8, weight_drop=1)
