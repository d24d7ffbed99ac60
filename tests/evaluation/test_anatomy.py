"""A model in figures, and `langmill info`."""

from __future__ import annotations

import json

import pytest
from small_runs import CommandLine

from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.evaluation.anatomy import anatomy
from langmill.models.config import (
    bart_encoder_decoder,
    bert_encoder,
    default_decoder,
    default_encoder_decoder,
    gpt2_decoder,
)
from langmill.models.recurrent import Recurrent, RecurrentConfig
from langmill.models.transformer import Transformer

SIZES = {"layers": 2, "width": 32, "heads": 4, "context": 40}


@pytest.mark.parametrize(
    "make", [default_decoder, gpt2_decoder, bert_encoder, default_encoder_decoder, bart_encoder_decoder]
)
def test_parts_add_up(make):
    model = Transformer(make(50, **SIZES))
    found = anatomy(model)
    assert found.total == sum(p.numel() for p in model.parameters())
    assert "other" not in found.parameters
    assert len({line[:9].strip() for line in found.drawing} & {"encoder", "decoder"}) == sum(
        stack is not None for stack in (model.config.encoder, model.config.decoder)
    )


def test_figures_by_hand():
    """Two layers of width 32: 4 · 32² for attention, 3 · 32 · 96 for the gated feed-forward, 50 · 32 for the scores."""
    found = anatomy(Transformer(default_decoder(50, **SIZES)))
    assert found.flops_per_token == 2 * (2 * (4 * 32**2 + 3 * 32 * 96) + 50 * 32)
    assert found.flops_per_context_token == 4 * 2 * 32
    assert found.cache_numbers_per_token == 2 * 2 * 32
    assert found.memory("bfloat16", 10) == (2 * found.total, 2 * 2 * 32 * 10 * 2)


def test_recurrent():
    model = Recurrent(RecurrentConfig(vocabulary=50, layers=2, width=16, hidden=24))
    found = anatomy(model)
    assert found.total == sum(p.numel() for p in model.parameters())
    assert found.cache_numbers_per_token == 0
    assert "2 × lstm, 24 wide inside, 16 wide at the end" in found.drawing[1]


@pytest.mark.parametrize("attention", ["luong", "bahdanau"])
def test_recurrent_pairs(attention):
    """One layer of width 8, an LSTM: forwards and backwards 2 · 4 · 4 · (8 + 4 + 2), the bridge 8 · 8 + 8."""
    config = RecurrentConfig(vocabulary=50, role="pair", attention=attention, layers=1, width=8)
    model = Recurrent(config)
    found = anatomy(model)
    assert found.total == sum(p.numel() for p in model.parameters())
    read = 8 if attention == "luong" else 16
    assert found.parameters["recurrent layers"] == 2 * 4 * 4 * (8 + 4 + 2) + 4 * 8 * (read + 8 + 2)
    assert found.parameters["bridge"] == 8 * 8 + 8
    assert found.parameters["attention"] == (8 * 8 + 16 * 8 if attention == "luong" else 5 * 8 * 8 + 8)
    assert found.flops_per_context_token == 4 * 8
    assert [line[:9].strip() for line in found.drawing] == [
        "encoder",
        "1 ×",
        "bridge",
        "decoder",
        "1 ×",
        "",
        "scores",
    ]
    assert f"{attention} attention to the encoder's states" in found.drawing[5]


def test_recurrent_encoder():
    found = anatomy(Recurrent(RecurrentConfig(vocabulary=50, role="encoder", kind="gru", layers=2, width=16)))
    assert "other" not in found.parameters
    assert "2 × gru, 16 wide inside, 16 wide at the end, half forwards" in found.drawing[1]


def test_command(tmp_path, capsys):
    save_checkpoint(tmp_path, Checkpoint(Transformer(default_encoder_decoder(50, **SIZES))))
    line = CommandLine(capsys)
    said = line("info", tmp_path)
    assert said.status == 0
    assert "cross-attention" in said.out and "relative bias" in said.out
    facts = json.loads(line("info", tmp_path, "--json").out)
    assert facts["family"] == "t5" and facts["parameters"] == sum(facts["parts"].values())
    assert facts["memory_bytes"]["float32"]["40"] == 4 * (facts["parameters"] + 2 * 2 * 32 * 40)
    assert str(tmp_path / "none") in line("info", tmp_path / "none").error
