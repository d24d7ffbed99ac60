"""Adapters on layers: what they compute, where they go, what is trained, and that merging is exact."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from langmill.checkpoint import Checkpoint
from langmill.core.errors import ConfigError
from langmill.evaluation.equivalences import largest_difference
from langmill.generation.decoder import TorchDecoder, choose_decoder
from langmill.generation.fast import obstacle
from langmill.models.adapters import (
    AdaptedLinear,
    Form,
    adapt,
    adaptable,
    adapted_layers,
    choose_layers,
    is_part,
    merge,
    merged_copy,
)
from langmill.models.config import bert_encoder, default_decoder, gpt2_decoder
from langmill.models.families import FAMILIES
from langmill.models.initialise import initialise
from langmill.models.recurrent import Recurrent, RecurrentConfig
from langmill.models.transformer import Transformer
from langmill.objectives.next_token import next_token
from langmill.training.optimizers import make_optimizer
from tests.training.toy_jobs import make_model

KINDS = ("lora", "dora")


def small(family: str = "qwen3") -> Transformer:
    """Return a decoder with random weights everywhere, in evaluation mode."""
    make = gpt2_decoder if family == "gpt2" else default_decoder
    model = Transformer(make(61, layers=2, width=32, heads=4, kv_heads=0, hidden=0, context=32, dropout=0.0))
    initialise(model, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
    return model.eval()


def put_on(model: nn.Module, family: str, *targets: str, form: Form, seed: int = 0) -> None:
    layers = choose_layers(FAMILIES[family], model, targets)
    adapt(model, dict.fromkeys(layers.values(), form), torch.Generator().manual_seed(seed))


@torch.no_grad()
def stir(model: nn.Module, *, seed: int = 0, deviation: float = 0.2) -> None:
    """Give every weight of an adapter a random value."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.add_(torch.randn(weight.shape, generator=generator) * deviation)


def ids(rows: int = 2, tokens: int = 9) -> torch.Tensor:
    return torch.randint(61, (rows, tokens), generator=torch.Generator().manual_seed(5))


def test_the_formulas_by_hand() -> None:
    base = nn.Linear(2, 2, bias=True)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        base.bias.copy_(torch.tensor([1.0, -1.0]))
    x = torch.tensor([[1.0, 2.0]])
    for kind, rows in (("lora", [[3.0, 8.0], [0.0, 1.0]]), ("dora", [[6.0, 16.0], [0.0, 5.0]])):
        layer = AdaptedLinear(base, Form(1, 2.0, kind), nn.Parameter(torch.tensor([[0.0, 2.0]])))  # type: ignore[arg-type]
        with torch.no_grad():
            layer.lora_b.copy_(torch.tensor([[2.0], [0.0]]))  # scale · B A = [[0, 8], [0, 0]]
            if layer.magnitude is not None:
                assert layer.magnitude.tolist() == [3.0, 1.0]  # the lengths of the base's rows
                layer.magnitude.copy_(torch.tensor([2 * 73**0.5, 5.0]))
        expected = torch.tensor(rows)
        torch.testing.assert_close(layer.merged(), expected)
        torch.testing.assert_close(layer(x), x @ expected.T + base.bias)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
@torch.no_grad()
def test_it_begins_at_the_base(family: str, kind: str) -> None:
    model = small(family)
    before = model(ids())
    put_on(model, family, form=Form(4, 2.0, kind))  # type: ignore[arg-type]
    assert all(bool(layer.lora_a.any()) for layer in adapted_layers(model).values())
    assert largest_difference(model(ids()), before) <= 1e-6
    assert torch.equal(merged_copy(model)(ids()), before)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_adapter_gets_gradients(kind: str) -> None:
    from langmill.batches.batch import TokenBatch

    model = small("gpt2")
    put_on(model, "gpt2", form=Form(4, 2.0, kind, dropout=0.1))  # type: ignore[arg-type]
    stir(model)
    model.train()
    loss, _ = next_token(model, TokenBatch(ids(), torch.zeros_like(ids())))
    loss.backward()
    parts = {"lora_a", "lora_b"} | ({"magnitude"} if kind == "dora" else set())
    assert {name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad} == parts
    for name, p in model.named_parameters():
        assert (p.grad is not None and bool(p.grad.any())) == p.requires_grad, name


def test_the_gradient_of_dora_takes_lengths_for_constants() -> None:
    """By hand: d/dm = direction, and the direction's gradient is scaled by m / length alone."""
    torch.manual_seed(0)
    layer = AdaptedLinear(nn.Linear(5, 3), Form(2, 1.5, "dora"), nn.Parameter(torch.randn(2, 5)))
    with torch.no_grad():
        layer.lora_b.normal_()
        layer.magnitude.add_(0.3)  # type: ignore[union-attr]
    x, slope = torch.randn(4, 5), torch.randn(4, 3)
    layer(x).backward(slope)
    direction = layer.summed().detach() / layer.lengths()[:, None]
    torch.testing.assert_close(layer.magnitude.grad, (slope * (x @ direction.T)).sum(0))  # type: ignore[union-attr]
    scaled = slope * (layer.magnitude / layer.lengths()).detach()
    torch.testing.assert_close(layer.lora_b.grad, 1.5 * scaled.T @ (x @ layer.lora_a.detach().T))
    torch.testing.assert_close(layer.lora_a.grad, 1.5 * layer.lora_b.detach().T @ scaled.T @ x)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_merged_equals_unmerged(kind: str) -> None:
    model = small()
    before = model(ids())
    put_on(model, "qwen3", "all-linear", form=Form(4, 2.0, kind))  # type: ignore[arg-type]
    stir(model, deviation=0.05)
    unmerged = model(ids())
    whole = merged_copy(model)
    assert (unmerged - before).abs().max() > 0.05
    assert largest_difference(whole(ids()), unmerged) <= 1e-6
    twice = copy.deepcopy(model).double()
    assert largest_difference(merged_copy(twice)(ids()), twice(ids())) <= 1e-13  # exact but for rounding
    assert adapted_layers(model) and not adapted_layers(whole)
    merge(model)
    assert torch.equal(model(ids()), whole(ids()))
    assert {type(each) for each in model.modules() if isinstance(each, nn.Linear)} == {nn.Linear}
    assert all(p.requires_grad for p in model.parameters())
    assert merged_copy(model) is model


def test_a_row_of_zeros_gives_no_nan() -> None:
    base = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        base.weight[0] = 0
    layer = AdaptedLinear(base, Form(1, 1.0, "dora"), nn.Parameter(torch.ones(1, 3)))
    y = layer(torch.ones(1, 3))
    y.sum().backward()
    assert y[0, 0] == 0 and torch.equal(layer.merged(), base.weight)
    assert all(bool(torch.isfinite(p.grad).all()) for p in layer.parameters() if p.grad is not None)


def test_gpt2_adapts_query_key_and_value_as_one(caplog: pytest.LogCaptureFixture) -> None:
    model = small("gpt2")
    layers = choose_layers(FAMILIES["gpt2"], model, ["query", "down"])
    assert list(layers)[:2] == ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]
    assert "keeps key and value in one layer with what --adapter.targets names" in caplog.text
    adapt(model, dict.fromkeys(layers.values(), Form(3, 1.0)))
    attention = model.decoder.blocks[0].attention  # type: ignore[union-attr]
    assert attention.query.lora_a is attention.key.lora_a is attention.value.lora_a
    assert attention.query.lora_b is not attention.key.lora_b
    assert type(attention.output) is nn.Linear
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(names) == 2 * (1 + 3 + 2)


def test_whole_groups_are_taken_silently(caplog: pytest.LogCaptureFixture) -> None:
    for targets in ([], ["c_attn"], ["query,key,value"], ["attention"], ["all-linear"]):
        choose_layers(FAMILIES["gpt2"], small("gpt2"), targets)
    bert = Transformer(bert_encoder(61, layers=1, width=32, heads=4, hidden=0, context=32, dropout=0.0))
    assert "cls.predictions.transform.dense" in choose_layers(FAMILIES["bert"], bert, ["all-linear"])
    assert len(choose_layers(FAMILIES["bert"], bert)) == 6
    assert not caplog.text


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        ([], 14),
        (["all-linear"], 14),
        (["query", "value"], 4),
        (["q_proj,v_proj"], 4),
        (["attention.*"], 8),
        (["self_attn"], 8),
        (["blocks.1.*"], 7),
        (["layers.0"], 7),
        (["*_proj"], 14),
        (["output"], 2),
    ],
)
def test_targets_in_our_words_and_in_theirs(targets: list[str], count: int) -> None:
    assert len(choose_layers(FAMILIES["qwen3"], small(), targets)) == count


@pytest.mark.parametrize("target", ["qeury", "lm_head", "embed", ""])
def test_unknown_targets_are_refused(target: str) -> None:
    with pytest.raises(
        ConfigError, match=r"no such layer; this model has query \(q_proj\), .*all-linear"
    ) as error:
        choose_layers(FAMILIES["qwen3"], small(), ["value", target])
    assert ("did you mean query?" in str(error.value)) == (target == "qeury")


def test_parts_of_names() -> None:
    assert not is_part("norm", "blocks.0.attention_norm")
    assert is_part("blocks.?.attention", "decoder.blocks.0.attention.query")


def test_a_recurrent_network_has_no_place_for_an_adapter() -> None:
    model = Recurrent(RecurrentConfig(vocabulary=11, layers=1, width=8))
    assert adaptable(FAMILIES["langmill_recurrent"], model) == {}
    with pytest.raises(ConfigError, match="has no layer for an adapter .*leave out --adapter.rank"):
        choose_layers(FAMILIES["langmill_recurrent"], model)


def test_decoding_falls_back_until_merged() -> None:
    model = small()
    put_on(model, "qwen3", form=Form(2, 1.0))
    assert obstacle(model, 1) == "the model has a AdaptedLinear in it" or "numba" in obstacle(model, 1)
    assert isinstance(choose_decoder(model, 1), TorchDecoder)
    merge(model)
    assert obstacle(model, 1) in ("", "numba is not installed")


def test_the_optimiser_takes_what_is_trained_and_no_muon() -> None:
    model = make_model()
    put_on(model, Checkpoint(model).family, form=Form(2, 1.0, "dora"))
    optimizer = make_optimizer(
        model,
        kind="muon",
        learning_rate=0.1,
        matrix_learning_rate=0.5,
        weight_decay=0.01,
        betas=(0.9, 0.95),
        momentum=0.9,
    )
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in optimizer.state} == trained
    assert {group["kind"] for group in optimizer.param_groups} == {"adamw"}
    decay = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {2: 0.01, 1: 0.0}
