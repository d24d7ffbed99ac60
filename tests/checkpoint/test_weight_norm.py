"""Weights stored as length and direction are folded into plain ones."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from langmill.checkpoint import load_checkpoint, save_checkpoint
from langmill.core.errors import CheckpointError
from tests.checkpoint.test_parity import greatest_difference, their_logits, token_ids

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def normed(module: nn.Module, *, old: bool, dim: int | None) -> None:
    """Give a module's weight PyTorch's weight normalisation, in its old or its new spelling."""
    function: Any = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    function(module, "weight", dim=dim)
    with torch.no_grad():  # lengths and directions that are no longer those of the start
        for name, part in module.named_parameters():
            if "bias" not in name:
                part.mul_(1.3 if name.endswith(("_g", "original0")) else 0.7).add_(0.01)


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("old", [True, False], ids=["weight_norm", "parametrizations"])
@pytest.mark.parametrize("case", ["llama", "gpt2"])
@torch.no_grad()
def test_folded_as_torch_computes_it(tmp_path, make_reference, caplog, case, old, dim):
    reference = make_reference(case)
    folder = shutil.copytree(reference.folder, tmp_path / "normed")
    model = type(reference.model).from_pretrained(folder).eval()
    layers = model.model.layers if case == "llama" else model.transformer.h
    for module in layers[1].mlp.children():
        if hasattr(module, "weight"):
            normed(module, old=old, dim=dim)
    tensors = {
        k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight" or case == "llama"
    }
    save_file(tensors, folder / "model.safetensors")
    expected = their_logits(model, token_ids())
    assert greatest_difference(expected, their_logits(reference.model, token_ids())) > 1e-3
    checkpoint = load_checkpoint(folder)
    assert greatest_difference(checkpoint.model(token_ids()), expected) <= 1e-5
    assert f"weight normalisation folded into {3 if case == 'llama' else 2} plain weights" in caplog.text
    save_checkpoint(tmp_path / "plain", checkpoint)
    assert (
        load_file(tmp_path / "plain" / "model.safetensors").keys()
        == load_file(reference.folder / "model.safetensors").keys()
    )


def test_half_a_weight_is_refused(tmp_path, make_reference):
    folder = shutil.copytree(make_reference("llama").folder, tmp_path / "half")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight_v"] = tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing: .*up_proj.weight; 1 unknown: .*up_proj.weight_v"):
        load_checkpoint(folder)
