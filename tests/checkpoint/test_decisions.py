"""How answers are read from scores: kept in config.json, where Transformers passes over it."""

from __future__ import annotations

import json

import pytest
import torch

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.checkpoint.heads import put_head
from langmill.models.config import bert_encoder
from langmill.models.heads import HeadConfig
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer


@pytest.fixture
def checkpoint() -> Checkpoint:
    model = Transformer(bert_encoder(20, layers=1, width=16, heads=2, context=16))
    generator = torch.Generator().manual_seed(0)
    initialise(model, generator, scheme="gpt2")
    made = put_head(Checkpoint(model.eval()), HeadConfig(kind="span"), generator)
    made.decisions["null_threshold"] = -1.25
    return made


def test_round_trip_and_change(checkpoint, tmp_path, caplog):
    save_checkpoint(tmp_path, checkpoint)
    assert json.loads((tmp_path / "config.json").read_text())["langmill_null_threshold"] == -1.25
    opened = load_checkpoint(tmp_path)
    assert opened.decisions == {"null_threshold": -1.25}
    assert not caplog.records  # none is called unknown
    opened.decisions.clear()
    save_checkpoint(tmp_path / "without", opened)
    assert "langmill_null_threshold" not in json.loads((tmp_path / "without" / "config.json").read_text())
    assert load_checkpoint(tmp_path / "without").decisions == {}


def test_transformers_passes_over_it(checkpoint, tmp_path):
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path, checkpoint)
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        out = theirs(input_ids=ids)
        assert torch.allclose(
            checkpoint.model(ids), torch.stack([out.start_logits, out.end_logits], -1), atol=1e-6
        )
    theirs.save_pretrained(tmp_path / "again")
    assert load_checkpoint(tmp_path / "again").decisions == {"null_threshold": -1.25}
