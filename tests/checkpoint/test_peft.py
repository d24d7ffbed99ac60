"""Adapters of PEFT open here and ours open in PEFT, with equal scores; what cannot be computed is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from langmill.checkpoint import load_checkpoint, save_checkpoint
from langmill.checkpoint.adapters import CONFIG, WEIGHTS, save_adapter
from langmill.core.errors import CheckpointError
from langmill.evaluation.equivalences import largest_difference
from langmill.models.adapters import Form, adapt, adapted_layers, choose_layers, merged_copy
from langmill.models.families import FAMILIES
from tests.checkpoint.conftest import perturb
from tests.checkpoint.test_parity import greatest_difference, token_ids
from tests.checkpoint.test_parity_encoders import tolerance

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)

TOLERANCE = 1e-5
FAMILY_CASES = ("gpt2", "llama", "qwen3", "bert", "eurobert", "t5-even", "bart", "marian")
PAIRS = ("t5", "bart", "marian")


def scores_of(model: Any, *, ours: bool, pair: bool) -> torch.Tensor:
    """Return the scores of fixed ids by a model of either library."""
    ids = token_ids().clamp(min=5)
    with torch.no_grad():
        if ours:
            return model(ids, decoder_ids=ids[:, :7]) if pair else model(ids)
        return model(input_ids=ids, **({"decoder_input_ids": ids[:, :7]} if pair else {})).logits


def peft_model(reference: Any, **options: Any) -> Any:
    """Return a PEFT model on a fresh copy of the reference, all of its adapter's weights random."""
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = type(reference.model).from_pretrained(reference.folder)
        model = peft.get_peft_model(base, peft.LoraConfig(**{"r": 4, "lora_alpha": 6, **options})).eval()
    perturb(model, seed=7, deviation=0.05)
    model.peft_config["default"].base_model_name_or_path = str(reference.folder)
    return model


def pair_of(case: str) -> bool:
    return case.split("-")[0] in PAIRS


def check_reading(reference: Any, folder: Path, case: str, **options: Any) -> Any:
    """Save an adapter by PEFT, open it here merged and unmerged, and compare; return the unmerged checkpoint."""
    theirs = peft_model(reference, **options)
    theirs.save_pretrained(folder)
    expected = scores_of(theirs, ours=False, pair=pair_of(case))
    base = scores_of(reference.model, ours=False, pair=pair_of(case))
    assert greatest_difference(expected, base) > 1e-3
    unmerged = load_checkpoint(folder, merge=False)
    assert adapted_layers(unmerged.model)
    for checkpoint in (unmerged, load_checkpoint(folder)):
        found = scores_of(checkpoint.model, ours=True, pair=pair_of(case))
        assert greatest_difference(found, expected) <= tolerance(case)
    return unmerged


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("case", FAMILY_CASES)
def test_theirs_opens_here(tmp_path, make_reference, case, dora):
    check_reading(make_reference(case), tmp_path, case, target_modules="all-linear", use_dora=dora)


@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("llama", {"target_modules": ["q_proj", "v_proj"]}),
        ("llama", {"target_modules": r".*\.layers\.[02]\..*(up|o)_proj"}),
        ("llama", {"target_modules": ["q_proj", "down_proj"], "use_rslora": True, "lora_dropout": 0.3}),
        (
            "llama",
            {
                "target_modules": ["q_proj", "k_proj", "up_proj"],
                "rank_pattern": {"k_proj": 2, "layers.1.mlp.up_proj": 3},
                "alpha_pattern": {"q_proj": 9, "^model.layers.0.self_attn.k_proj": 1},
            },
        ),
        ("llama", {"target_modules": "all-linear", "exclude_modules": ["o_proj", "gate_proj"]}),
        ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [0, 2]}),
        ("llama", {"target_modules": ["q_proj"], "layers_to_transform": 1, "layers_pattern": "layers"}),
        ("llama", {"target_modules": ["q_proj"], "init_lora_weights": "gaussian"}),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True}),
        ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
        ("t5-gated", {"target_modules": ["q", "wi_0", "wo"]}),
        ("bert", {"target_modules": ["query", "dense"]}),
    ],
)
def test_options_of_theirs(tmp_path, make_reference, case, options):
    check_reading(make_reference(case), tmp_path, case, **options)


def test_an_adapter_of_the_bare_model(tmp_path, make_reference):
    """Made on BertModel, its names lack `bert.`."""
    reference = make_reference("bert-bare")
    theirs = peft_model(reference, target_modules=["query", "value"])
    theirs.save_pretrained(tmp_path)
    ids = token_ids().clamp(min=5)
    with torch.no_grad():
        expected = theirs(input_ids=ids).last_hidden_state
        assert greatest_difference(load_checkpoint(tmp_path).model.encode(ids), expected) <= TOLERANCE
    renamed = {
        name.replace("model.encoder", "model.bert.encoder"): each
        for name, each in load_file(tmp_path / WEIGHTS).items()
    }
    save_file(renamed, tmp_path / WEIGHTS)
    with torch.no_grad():
        assert greatest_difference(load_checkpoint(tmp_path).model.encode(ids), expected) <= TOLERANCE


def write_ours(reference: Any, folder: Path, *targets: str, form: Form) -> Any:
    """Adapt a checkpoint, give the adapter random weights, write it; return the checkpoint."""
    checkpoint = load_checkpoint(reference.folder, tokenizer=False)
    layers = choose_layers(FAMILIES[checkpoint.family], checkpoint.model, targets)
    adapt(checkpoint.model, dict.fromkeys(layers.values(), form), torch.Generator().manual_seed(0))
    perturb(checkpoint.model, seed=3, deviation=0.05)
    save_adapter(folder, checkpoint, base=str(reference.folder))
    return checkpoint


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("case", FAMILY_CASES)
def test_ours_opens_in_peft(tmp_path, make_reference, case, kind):
    peft = pytest.importorskip("peft")
    reference = make_reference(case)
    checkpoint = write_ours(reference, tmp_path, form=Form(3, 2.5, kind, 0.1))
    expected = scores_of(checkpoint.model, ours=True, pair=pair_of(case))
    base = type(reference.model).from_pretrained(reference.folder)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        theirs = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    assert not [each for each in said if "adapter" in str(each.message) or "fan_in" in str(each.message)]
    count = sum(p.numel() for name, p in theirs.named_parameters() if "lora_" in name)
    assert count == sum(p.numel() for p in checkpoint.model.parameters() if p.requires_grad)
    assert greatest_difference(scores_of(theirs, ours=False, pair=pair_of(case)), expected) <= TOLERANCE
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["use_dora"]) == (3, 7.5, kind == "dora")
    assert config["fan_in_fan_out"] == (case == "gpt2")
    again = load_checkpoint(tmp_path, merge=False)
    assert torch.equal(scores_of(again.model, ours=True, pair=pair_of(case)), expected)
    assert {each.form for each in adapted_layers(again.model).values()} == {Form(3, 2.5, kind, 0.1)}


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("case", FAMILY_CASES)
@torch.no_grad()
def test_merged_equals_unmerged(tmp_path, make_reference, case, kind):
    model = write_ours(make_reference(case), tmp_path, "all-linear", form=Form(3, 2.5, kind)).model
    expected = scores_of(model, ours=True, pair=pair_of(case))
    merged = load_checkpoint(tmp_path).model
    assert not adapted_layers(merged)
    # Layer for layer; a whole model makes the rounding of one the next one's input.
    for name, layer in adapted_layers(model).items():
        x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0))
        assert largest_difference(merged.get_submodule(name)(x), layer(x)) <= 1e-6
    assert largest_difference(scores_of(merged, ours=True, pair=pair_of(case)), expected) <= 3e-6
    model.double()
    exact = scores_of(model, ours=True, pair=pair_of(case))
    assert largest_difference(scores_of(merged_copy(model), ours=True, pair=pair_of(case)), exact) <= 1e-12


def test_short_targets_where_they_are_exact(tmp_path, make_reference):
    def targets(case: str, *wanted: str) -> list[str]:
        write_ours(make_reference(case), tmp_path, *wanted, form=Form(1, 1.0))
        return json.loads((tmp_path / CONFIG).read_text())["target_modules"]

    assert targets("llama", "query", "value") == ["q_proj", "v_proj"]
    assert targets("gpt2", "attention") == ["transformer.h.0.attn.c_attn"] + [
        f"transformer.h.{layer}.attn.{name}" for layer, name in ((0, "c_proj"), (1, "c_attn"), (1, "c_proj"))
    ] + ["transformer.h.2.attn.c_attn", "transformer.h.2.attn.c_proj"]
    assert targets("llama", "blocks.1.attention.query") == ["model.layers.1.self_attn.q_proj"]
    assert targets("bert", "attention.output")[0] == "bert.encoder.layer.0.attention.output.dense"
    assert targets("t5", "all-linear") == ["k", "o", "q", "v", "wi", "wo"]


def test_mixed_ranks_are_written_and_read(tmp_path, make_reference):
    reference = make_reference("llama")
    unmerged = check_reading(
        reference,
        tmp_path / "theirs",
        "llama",
        target_modules=["q_proj", "up_proj"],
        rank_pattern={"layers.1.mlp.up_proj": 2},
        alpha_pattern={"layers.2.self_attn.q_proj": 5},
    )
    save_adapter(tmp_path / "ours", unmerged, base=str(reference.folder))
    again = load_checkpoint(tmp_path / "ours", merge=False)
    assert torch.equal(again.model(token_ids()), unmerged.model(token_ids()))
    peft = pytest.importorskip("peft")
    base = type(reference.model).from_pretrained(reference.folder)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    found = scores_of(theirs, ours=False, pair=False)
    assert greatest_difference(found, scores_of(unmerged.model, ours=True, pair=False)) <= TOLERANCE


def test_a_deliberate_swap_is_seen(tmp_path, make_reference):
    reference = make_reference("gpt2")
    checkpoint = write_ours(reference, tmp_path, "query", form=Form(3, 2.0))
    name = "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"
    tensors = load_file(tmp_path / WEIGHTS)
    query, key, value = tensors[name].chunk(3)
    save_file({**tensors, name: torch.cat([key, query, value])}, tmp_path / WEIGHTS)
    assert (
        greatest_difference(load_checkpoint(tmp_path).model(token_ids()), checkpoint.model(token_ids()))
        > 1e-3
    )


def test_saving_an_adapted_model_merges_a_copy(tmp_path, make_reference):
    checkpoint = write_ours(make_reference("qwen3"), tmp_path / "adapter", form=Form(3, 2.0, "dora"))
    save_checkpoint(tmp_path / "whole", checkpoint)
    assert adapted_layers(checkpoint.model)
    whole = load_checkpoint(tmp_path / "whole")
    assert torch.equal(whole.model(token_ids()), merged_copy(checkpoint.model)(token_ids()))
    assert not whole.adapter and load_checkpoint(tmp_path / "adapter").adapter["r"] == 3


# ------------------------------------------------------------------------------------------------
# What is refused


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is not supported"),
        (
            {"bias": "all", "init_lora_weights": "pissa", "use_qalora": True},
            "bias 'all' is not supported; it must be 'none'; init_lora_weights 'pissa' .*; use_qalora is not",
        ),
        ({"peft_type": "IA3"}, "peft_type 'IA3' is not supported; it must be 'LORA'"),
        ({"lora_bias": True}, "lora_bias is not supported"),
        ({"target_modules": None}, "target_modules is missing"),
        ({"target_modules": ["nothing"]}, "target_modules names no layer"),
        ({"target_modules": "(q_proj"}, "is no regular expression"),
        ({"r": 0}, "r 0 is not allowed; it must be a number above 0"),
        ({"rank_pattern": {"q_proj": "a"}}, r"rank_pattern\[q_proj\] 'a' is not allowed"),
        ({"alpha_pattern": [1]}, "alpha_pattern must be an object"),
        ({"r": 5}, r"of another shape: .*q_proj.lora_A.weight is \(3, 32\), not \(5, 32\)"),
        (
            {"target_modules": ["q_proj", "k_proj"]},
            "3 missing|6 missing: model.layers.0.self_attn.k_proj lora_a",
        ),
        ({"target_modules": ["k_proj"]}, "6 missing: .*; 6 unknown: .*output layer and other modules"),
        ({"use_dora": True}, "3 missing: model.layers.0.self_attn.q_proj magnitude"),
        ({"base_model_name_or_path": None}, "does not name its model; write its folder"),
        ({"base_model_name_or_path": "."}, "names itself as its model"),
        (
            {"base_model_name_or_path": "/gone"},
            r"not here \(/gone: no such folder.*base_model_name_or_path in ",
        ),
    ],
)
def test_refusals(tmp_path, make_reference, changes, says):
    write_ours(make_reference("llama"), tmp_path, "query", form=Form(3, 2.0))
    load_checkpoint(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(tmp_path)


def test_an_adapter_of_the_output_layer_is_refused(tmp_path, make_reference):
    peft_model(make_reference("llama"), target_modules=["q_proj", "lm_head"]).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="unknown: .*lm_head.lora_A.weight, .*no adapters here"):
        load_checkpoint(tmp_path)


def test_files_that_are_missing_or_pickled(tmp_path, make_reference):
    write_ours(make_reference("llama"), tmp_path, "query", form=Form(3, 2.0))
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="but no adapter_model.safetensors; copy"):
        load_checkpoint(tmp_path)
    (tmp_path / "adapter_model.bin").touch()
    with pytest.raises(CheckpointError, match="pickled weights are never read"):
        load_checkpoint(tmp_path)


def test_the_base_is_found_from_the_adapter_folder(tmp_path, make_reference, monkeypatch):
    import shutil

    checkpoint = write_ours(make_reference("llama"), tmp_path / "runs" / "a", "query", form=Form(3, 2.0))
    shutil.copytree(make_reference("llama").folder, tmp_path / "runs" / "base")
    rewrite(tmp_path / "runs" / "a", base_model_name_or_path="../base")
    monkeypatch.chdir("/")
    found = load_checkpoint(tmp_path / "runs" / "a").model(token_ids())
    assert largest_difference(found, checkpoint.model(token_ids())) <= 1e-6


def test_a_model_beside_an_adapter_wins_and_says_so(tmp_path, make_reference, caplog):
    reference = make_reference("llama")
    write_ours(reference, tmp_path, "query", form=Form(3, 2.0))
    save_checkpoint(tmp_path, load_checkpoint(reference.folder))
    assert torch.equal(
        load_checkpoint(tmp_path).model(token_ids()), load_checkpoint(reference.folder).model(token_ids())
    )
    assert "the adapter is not used" in caplog.text
