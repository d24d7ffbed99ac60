"""Logits and files equal to those of Transformers, in both directions."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.models.config import default_decoder
from langmill.models.families import FAMILIES, Row
from langmill.models.families.decoders import DECODERS
from langmill.models.initialise import initialise
from langmill.models.transformer import Transformer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

VOCABULARY = 61
TOLERANCE = 1e-5


def token_ids(rows: int = 3, tokens: int = 11, *, vocabulary: int = VOCABULARY) -> torch.Tensor:
    return torch.randint(vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(1))


def left_padding() -> torch.Tensor:
    valid = torch.ones(3, 11, dtype=torch.bool)
    valid[1, :4] = False
    valid[2, :7] = False
    return valid


@torch.no_grad()
def their_logits(model, ids: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    if valid is None:
        return model(input_ids=ids).logits
    positions = (valid.long().cumsum(1) - 1).clamp(min=0)
    return model(input_ids=ids, attention_mask=valid.long(), position_ids=positions).logits


def opened_by_transformers(folder: Path):
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def greatest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


# ------------------------------------------------------------------------------------------------
# Theirs to ours


@torch.no_grad()
def test_plain_logits(reference):
    ids = token_ids()
    ours = load_checkpoint(reference.folder).model(ids)
    assert greatest_difference(ours, their_logits(reference.model, ids)) <= TOLERANCE


@torch.no_grad()
def test_left_padded_logits(reference):
    ids, valid = token_ids(), left_padding()
    ours = load_checkpoint(reference.folder).model(ids, valid=valid)
    assert greatest_difference(ours[valid], their_logits(reference.model, ids, valid)[valid]) <= TOLERANCE


@torch.no_grad()
def test_cached_logits_in_pieces(reference):
    ids = token_ids()
    model = load_checkpoint(reference.folder).model
    cache = model.new_cache(3, 11)
    pieces = [
        model.decode(ids[:, begin:end], cache=cache) for begin, end in ((0, 5), (5, 8), (8, 9), (9, 11))
    ]
    ours = model.score(torch.cat(pieces, 1))
    assert greatest_difference(ours, their_logits(reference.model, ids)) <= TOLERANCE


@torch.no_grad()
def test_left_padded_cached_logits(reference):
    ids, valid = token_ids(), left_padding()
    model = load_checkpoint(reference.folder).model
    cache = model.new_cache(3, 16)
    pieces = [model.decode(ids[:, :8], valid=valid[:, :8], cache=cache)]
    pieces += [model.decode(ids[:, begin : begin + 1], cache=cache) for begin in (8, 9, 10)]
    ours = model.score(torch.cat(pieces, 1))
    assert greatest_difference(ours[valid], their_logits(reference.model, ids, valid)[valid]) <= TOLERANCE


@pytest.mark.parametrize("length", [33, 64])
@torch.no_grad()
def test_llama3_scaling_far_out(make_reference, length):
    """Past the trained positions every band of the scaling shows."""
    reference = make_reference("llama-llama3")
    ids = token_ids(2, length)
    ours = load_checkpoint(reference.folder).model(ids)
    assert greatest_difference(ours, their_logits(reference.model, ids)) <= TOLERANCE


# ------------------------------------------------------------------------------------------------
# A deliberate mistake in a table must show


def swap(family, a: str, b: str):
    """Exchange two of a table's targets, given the ends of their names."""

    def exchanged(name: str) -> str:
        for one, other in ((a, b), (b, a)):
            if name.endswith(one):
                return name.removesuffix(one) + other
        return name

    rows = tuple(
        dataclasses.replace(row, ours=tuple(exchanged(name) for name in row.ours)) for row in family.rows
    )
    assert rows != family.rows
    return dataclasses.replace(family, rows=rows)


NORMS = ("attention_norm.*", "feed_forward_norm.*")
GATE = ("feed_forward.gate.*", "feed_forward.up.*")
PAIR = ("attention.key.*", "attention.value.*")
SWAPS = [
    ("gpt2", "attention.query.*", "attention.key.*"),
    ("gpt2", *PAIR),
    ("gpt2", *NORMS),
    *((case, *pair) for case in ("llama", "mistral", "qwen2", "qwen3") for pair in (PAIR, GATE, NORMS)),
    ("llama", "attention.query.*", "attention.output.*"),
    ("llama", "decoder.embed.weight", "output.weight"),
    ("qwen3", "query_norm.*", "key_norm.*"),
]


@pytest.mark.parametrize(("case", "a", "b"), SWAPS)
@torch.no_grad()
def test_parity_fails_on_swapped_rows(monkeypatch, make_reference, case, a, b):
    reference = make_reference(case)
    ids = token_ids()
    monkeypatch.setitem(FAMILIES, case, swap(FAMILIES[case], a, b))
    ours = load_checkpoint(reference.folder).model(ids)
    assert greatest_difference(ours, their_logits(reference.model, ids)) > 1e-3


@torch.no_grad()
def test_parity_fails_on_a_dropped_transpose(monkeypatch, make_reference):
    reference = make_reference("gpt2")
    rows = tuple(
        Row(row.theirs, row.ours) if row.theirs.endswith("attn.c_proj.*") else row
        for row in FAMILIES["gpt2"].rows
    )
    monkeypatch.setitem(FAMILIES, "gpt2", dataclasses.replace(FAMILIES["gpt2"], rows=rows))
    ids = token_ids()
    ours = load_checkpoint(reference.folder).model(ids)
    assert greatest_difference(ours, their_logits(reference.model, ids)) > 1e-3


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("gpt2", {"activation_function": "relu"}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("llama-tied", {"rms_norm_eps": 1e-6}),
        ("llama-llama3", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("llama-linear", {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}}),
        ("qwen3", {"hidden_act": "gelu"}),
    ],
)
@torch.no_grad()
def test_every_setting_counts(tmp_path, make_reference, case, changes):
    """A config.json that says something else must compute something else."""
    reference = make_reference(case)
    folder = shutil.copytree(reference.folder, tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    ids = token_ids()
    ours = load_checkpoint(folder).model(ids)
    assert greatest_difference(ours, their_logits(reference.model, ids)) > 1e-4


# ------------------------------------------------------------------------------------------------
# Round trips


def test_round_trip_of_theirs(tmp_path, reference):
    save_checkpoint(tmp_path, load_checkpoint(reference.folder))
    before, after = (
        load_file(reference.folder / "model.safetensors"),
        load_file(tmp_path / "model.safetensors"),
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((reference.folder / name).read_text())
    ids = token_ids()
    opened = opened_by_transformers(tmp_path)
    assert greatest_difference(their_logits(opened, ids), their_logits(reference.model, ids)) == 0


def test_foreign_keys_survive(tmp_path, make_reference, caplog):
    folder = shutil.copytree(make_reference("llama").folder, tmp_path / "theirs")
    config = json.loads((folder / "config.json").read_text())
    config |= {"made_by": {"who": "某人"}, "torch_dtype": config.pop("dtype")}
    (folder / "config.json").write_text(json.dumps(config))
    save_checkpoint(tmp_path / "ours", load_checkpoint(folder))
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    config["dtype"] = config.pop("torch_dtype")
    assert written == config
    assert "made_by" in caplog.text


@torch.no_grad()
def test_old_spelling_of_rotary_settings(tmp_path, make_reference):
    reference = make_reference("llama-llama3")
    folder = shutil.copytree(reference.folder, tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (folder / "config.json").write_text(json.dumps(config))
    ids = token_ids(2, 64)
    checkpoint = load_checkpoint(folder)
    assert greatest_difference(checkpoint.model(ids), their_logits(reference.model, ids)) <= TOLERANCE
    save_checkpoint(tmp_path / "again", checkpoint)
    opened = opened_by_transformers(tmp_path / "again")
    assert greatest_difference(their_logits(opened, ids), their_logits(reference.model, ids)) == 0


@torch.no_grad()
def test_files_of_the_bare_model(tmp_path, make_reference):
    """GPT-2's own file on the hub has neither prefix nor output layer, and stores its masks."""
    from safetensors.torch import save_file

    reference = make_reference("gpt2")
    folder = shutil.copytree(reference.folder, tmp_path / "bare")
    tensors = {
        name.removeprefix("transformer."): each
        for name, each in load_file(folder / "model.safetensors").items()
    }
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
    save_file(tensors, folder / "model.safetensors")
    ids = token_ids()
    assert (
        greatest_difference(load_checkpoint(folder).model(ids), their_logits(reference.model, ids))
        <= TOLERANCE
    )


def from_scratch(family: str) -> Checkpoint:
    """Return a new model of ours with random weights everywhere."""
    config = default_decoder(VOCABULARY, layers=2, width=32, heads=4, kv_heads=2, context=64)
    changes = {
        "gpt2": {
            "norm": "layer",
            "positions": "learned",
            "gated": False,
            "activation": "gelu_tanh",
            "qk_norm": False,
        }
        | {"kv_heads": 4, "qkv_bias": True, "output_bias": True, "hidden_bias": True},
        "llama": {"qk_norm": False},
        "mistral": {"qk_norm": False},
        "qwen2": {"qk_norm": False, "qkv_bias": True},
        "qwen3": {},
    }[family]
    config = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, **changes))
    model = Transformer(config).eval()
    generator = torch.Generator().manual_seed(3)
    initialise(model, generator)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.15)
    return Checkpoint(model, family=family)


@pytest.mark.parametrize("family", sorted(family.name for family in DECODERS))
@torch.no_grad()
def test_ours_opens_in_transformers(tmp_path, family):
    checkpoint = from_scratch(family)
    save_checkpoint(tmp_path, checkpoint)
    opened = opened_by_transformers(tmp_path)
    assert type(opened).__name__ == FAMILIES[family].architecture
    ids, valid = token_ids(), left_padding()
    assert greatest_difference(checkpoint.model(ids), their_logits(opened, ids)) <= TOLERANCE
    ours = checkpoint.model(ids, valid=valid)
    assert greatest_difference(ours[valid], their_logits(opened, ids, valid)[valid]) <= TOLERANCE
    again = load_checkpoint(tmp_path)
    assert again.model.config == checkpoint.model.config
    assert torch.equal(again.model(ids), checkpoint.model(ids))


@torch.no_grad()
def test_a_changed_model_updates_its_foreign_config(tmp_path, make_reference):
    """A vocabulary that grew is written, and what we do not model stays."""
    checkpoint = load_checkpoint(make_reference("llama-linear").folder)
    bigger = Transformer(dataclasses.replace(checkpoint.model.config, vocabulary=70)).eval()
    save_checkpoint(tmp_path, dataclasses.replace(checkpoint, model=bigger))
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == {**checkpoint.config, "vocab_size": 70}
    ids = token_ids(vocabulary=70)
    assert greatest_difference(their_logits(opened_by_transformers(tmp_path), ids), bigger(ids)) <= TOLERANCE


# ------------------------------------------------------------------------------------------------
# Shards and types


def test_their_shards(tmp_path, make_reference):
    reference = make_reference("llama")
    reference.model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    whole = load_checkpoint(reference.folder).model.state_dict()
    assert all(
        torch.equal(whole[name], each) for name, each in load_checkpoint(tmp_path).model.state_dict().items()
    )


@torch.no_grad()
def test_our_shards(tmp_path, make_reference):
    reference = make_reference("qwen3")
    checkpoint = load_checkpoint(reference.folder)
    save_checkpoint(tmp_path, checkpoint, max_shard_bytes=20_000)
    shards = sorted(each.name for each in tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    ids = token_ids()
    assert (
        greatest_difference(their_logits(opened_by_transformers(tmp_path), ids), checkpoint.model(ids))
        <= TOLERANCE
    )
    assert torch.equal(load_checkpoint(tmp_path).model(ids), checkpoint.model(ids))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files(tmp_path, make_reference, dtype):
    reference = make_reference("qwen3")
    model = type(reference.model)(reference.model.config)
    model.load_state_dict(reference.model.state_dict())
    model.to(dtype).save_pretrained(tmp_path / "theirs")
    wide = load_checkpoint(tmp_path / "theirs").model
    narrow = load_checkpoint(tmp_path / "theirs", dtype=dtype)
    assert {each.dtype for each in wide.parameters()} == {torch.float32}
    assert {each.dtype for each in narrow.model.parameters()} == {dtype}
    assert narrow.model.decoder.rates.dtype == torch.float32
    ids = token_ids()
    difference = greatest_difference(
        wide(ids), their_logits(opened_by_transformers(tmp_path / "theirs").float(), ids)
    )
    assert difference <= TOLERANCE
    save_checkpoint(tmp_path / "ours", narrow)
    before, after = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["dtype"] == str(dtype).removeprefix(
        "torch."
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", ["gpt2", "llama-llama3", "qwen3"])
@torch.no_grad()
def test_cuda(make_reference, case):
    reference = make_reference(case)
    ids, valid = token_ids(), left_padding()
    theirs, padded = their_logits(reference.model, ids), their_logits(reference.model, ids, valid)
    model = load_checkpoint(reference.folder, device="cuda").model
    assert greatest_difference(model(ids.cuda()).cpu(), theirs) <= 1e-4
    ours = model(ids.cuda(), valid=valid.cuda()).cpu()
    assert greatest_difference(ours[valid], padded[valid]) <= 1e-4
    half = load_checkpoint(reference.folder, device="cuda", dtype=torch.bfloat16).model
    assert greatest_difference(half(ids.cuda()).float().cpu(), theirs) <= 0.05 * theirs.abs().max().item()
