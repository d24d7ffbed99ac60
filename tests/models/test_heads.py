"""Heads: what of the states they read, how they begin, and networks without an output layer."""

from __future__ import annotations

import pytest
import torch

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.core.errors import CheckpointError, ConfigError
from langmill.models.config import bert_encoder, default_decoder
from langmill.models.families import FAMILIES, head_for, read_config
from langmill.models.heads import HeadConfig, Headed, HeadedConfig, pool
from langmill.models.initialise import (
    allocate,
    initialise,
    initialise_head,
    initialise_recurrent,
    under_head,
)
from langmill.models.recurrent import Recurrent, RecurrentConfig
from langmill.models.transformer import Transformer

LABELS = ("a", "b", "c")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def new_headed(family: str = "bert", kind: str = "text", **settings) -> Headed:
    config = bert_encoder if family == "bert" else default_decoder
    body = Transformer(config(30, layers=2, width=16, heads=2, context=32))
    initialise(body, seeded(), scheme="gpt2")
    head = head_for(FAMILIES[family], kind, () if kind == "span" else LABELS, **settings)
    model = under_head(body, head)
    initialise_head(model, seeded(1))
    return model.eval()


STATES = torch.tensor(
    [[[1.0, 2.0], [3.0, 6.0], [5.0, 1.0]], [[7.0, 0.0], [torch.inf, 9.0], [9.0, torch.nan]]]
)
VALID = torch.tensor([[True, True, True], [True, False, False]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("first", [[1.0, 2.0], [7.0, 0.0]]),
        ("last", [[5.0, 1.0], [7.0, 0.0]]),
        ("mean", [[3.0, 3.0], [7.0, 0.0]]),
    ],
)
def test_pool_by_hand(pooling, expected):
    assert pool(STATES, VALID, pooling).tolist() == expected
    assert pool(STATES[:1], None, pooling).tolist() == expected[:1]


def test_a_row_of_padding_alone_is_no_fault():
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    assert pool(STATES[1:], nothing, "mean").tolist() == [[0.0, 0.0]]
    assert pool(STATES[1:], nothing, "last").tolist() == [[7.0, 0.0]]


@torch.no_grad()
def test_late_and_mean_are_one_without_a_transform_and_two_with():
    states = torch.randn(2, 5, 16, generator=seeded())
    body = RecurrentConfig(vocabulary=5, layers=1, width=16, has_output=False, role="encoder")

    def scores(pooling: str, transform: str) -> torch.Tensor:
        head = HeadConfig(kind="text", labels=LABELS, pooling=pooling, transform=transform)
        model = allocate(HeadedConfig(body=body, head=head))
        initialise_head(model, seeded())
        return model.score(states)

    assert torch.allclose(scores("late", ""), scores("mean", ""), atol=1e-6)
    assert not torch.allclose(scores("late", "tanh"), scores("mean", "tanh"), atol=1e-3)


@pytest.mark.parametrize("family", ["bert", "qwen3"])
@pytest.mark.parametrize("kind", ["tokens", "span"])
@torch.no_grad()
def test_packed_rows_score_as_texts_by_themselves(family, kind):
    model = new_headed(family, kind)
    ids = torch.randint(30, (1, 12), generator=seeded(2))
    starts = torch.tensor([[0] * 5 + [5] * 7])
    packed = model.score(model.encode(ids, starts=starts))
    apart = torch.cat([model(ids[:, :5]), model(ids[:, 5:])], 1)
    assert torch.allclose(packed, apart, atol=1e-6)


def test_dropout_acts_in_training_alone():
    model = new_headed(dropout=0.5)
    ids = torch.randint(30, (2, 6), generator=seeded(2))
    assert torch.equal(model(ids), model(ids))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(ids), model(ids))


def test_how_a_head_begins():
    body = Transformer(bert_encoder(9, layers=1, width=256, heads=2, context=8))
    many = tuple(map(str, range(64)))
    model = under_head(body, head_for(FAMILIES["bert"], "text", many))
    initialise_head(model, seeded())
    assert model.output.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.transform.weight.abs().max().item() == pytest.approx((3 / 256) ** 0.5, rel=0.01)
    assert model.transform.weight.std().item() == pytest.approx(256**-0.5, rel=0.05)
    assert not model.output.bias.any() and not model.transform.bias.any()


def test_the_body_has_no_output_layer():
    model = new_headed()
    assert not any("body.output" in name or "body.transform" in name for name, _ in model.named_parameters())
    with pytest.raises(CheckpointError, match="gives states, not scores"):
        model.body.score(torch.zeros(1, 16))
    with pytest.raises(ConfigError, match="has no output layer of its own"):
        HeadedConfig(body=bert_encoder(9, layers=1, width=8, heads=1), head=HeadConfig(kind="span"))


def test_overfits_ten_rows():
    model = new_headed("qwen3").train()
    ids = torch.randint(30, (10, 8), generator=seeded(3))
    valid = torch.arange(8) < torch.randint(3, 9, (10, 1), generator=seeded(4))
    wanted = torch.arange(10) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(ids, valid=valid), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(model(ids, valid=valid).argmax(-1), wanted)
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_recurrent_network_without_output_layer(tmp_path, role):
    model = Recurrent(RecurrentConfig(vocabulary=9, layers=2, width=8, role=role, has_output=False))
    initialise_recurrent(model, seeded())
    assert "output.weight" not in model.state_dict()
    assert model.embed.weight.std().item() == pytest.approx(0.1, rel=0.3)
    save_checkpoint(tmp_path, Checkpoint(model))
    again = load_checkpoint(tmp_path).model
    assert again.config == model.config
    ids = torch.randint(9, (2, 5), generator=seeded(2))
    read = (lambda each: each.encode(ids)) if role == "encoder" else (lambda each: each.decode(ids))
    assert torch.equal(read(again), read(model))
    with pytest.raises(CheckpointError, match="gives states, not scores"):
        again(ids)


@pytest.mark.parametrize(
    ("family", "name", "known"),
    [
        ("bart", "BartForSequenceClassification", "none"),
        ("t5", "T5ForTokenClassification", "none"),
        ("gpt2", "LlamaForQuestionAnswering", "GPT2ForSequenceClassification, GPT2ForTokenClass"),
    ],
)
def test_heads_that_no_table_has(family, name, known):
    sizes = {"vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 8}
    sizes |= {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 1}
    with pytest.raises(
        CheckpointError, match=f"{name} is not supported; known of the {family} family: {known}"
    ):
        read_config(FAMILIES[family], {**sizes, "architectures": [name]})
