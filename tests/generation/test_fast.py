"""The compiled kernels against the model itself."""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from langmill.generation.decoder import TorchDecoder, choose_decoder
from langmill.generation.fast import FastDecoder, obstacle
from langmill.generation.generate import generate, prefill
from langmill.generation.settings import SamplingSettings
from langmill.models.config import RotaryScaling

pytest.importorskip("numba")


def random_layout(seed: int) -> dict:
    """Return a layout drawn from everything that a StackConfig can say."""
    pick = random.Random(seed).choice
    heads = pick([2, 4, 6])
    scaling = [None, RotaryScaling(kind="linear", factor=2.0)]
    scaling += [RotaryScaling(kind="llama3", factor=8.0, trained_positions=32)]
    layout = {
        "layers": pick([1, 3]),
        "heads": heads,
        "kv_heads": pick([k for k in (1, 2, 3, 6) if heads % k == 0]),
        "head_width": pick([0, 10, 16]),  # of 16 numbers the kernels make vectors, of others they do not
        "width": heads * pick([6, 8, 16]),
        "hidden": pick([17, 64, 1600]),  # 1600: more than one block of columns
        "norm": pick(["layer", "rms"]),
        "norm_first": pick([True, True, False]),
        "positions": pick(["learned", "rotary", "sinusoidal", "relative"]),
        "position_offset": pick([0, 2]),
        "embed_scale": pick([1.0, 0.5]),
        "attention_scale": pick([0.0, 0.2]),
        "output_scale": pick([1.0, 0.7]),
        "rotary_scaling": pick(scaling),
        "activation": ["relu", "gelu", "gelu_tanh", "silu"][seed % 4],
        "vocabulary": pick([61, 203]),
        "window": [0, 0, 4, 7][seed % 4 if seed % 3 else 0],
    }
    flags = ("final_norm", "input_norm", "qkv_bias", "output_bias", "qk_norm", "gated", "hidden_bias")
    layout |= {flag: pick([True, False]) for flag in (*flags, "tie_output")}
    return layout | {
        "output_bias": pick([True, False]),
        "cross": not layout["qk_norm"] and pick([True, False]),
    }


def assert_same(model, rows: int, *, padded: bool, steps: int = 6) -> None:
    """Check that both decoders agree in everything, step by step, where two rows each look at a text if there is one."""
    generator = torch.Generator().manual_seed(rows)
    lengths = [3 + (row % 4 if padded else 2) for row in range(rows)]
    prompts = [torch.randint(0, 61, (length,), generator=generator).tolist() for length in lengths]
    memory: dict[str, torch.Tensor] = {}
    if model.encoder is not None:
        texts = max(1, rows // 2) if rows % 2 == 0 else rows
        source = torch.randint(0, 61, (texts, 9), generator=generator)
        valid = torch.arange(9) < torch.arange(4, 4 + texts)[:, None]
        memory = {"memory": model.encode(source, valid=valid)}
        if padded:
            memory["memory_valid"] = valid
    caches = [model.new_cache(rows, 6 + steps, **memory) for _ in range(2)]
    for cache in caches:
        best = prefill(model, prompts, cache).best.tolist()
    fast, plain = FastDecoder(model, rows), TorchDecoder(model)
    for _ in range(steps):
        ours, theirs = fast.step(best, caches[0]), plain.step(best, caches[1])
        scale = max(1.0, float(theirs.logits.abs().max()))
        torch.testing.assert_close(ours.logits / scale, theirs.logits / scale, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.log_total, theirs.log_total, atol=1e-4, rtol=1e-5)
        assert ours.best.tolist() == theirs.best.tolist()
        best = theirs.best.tolist()
    fast.close()


@pytest.mark.parametrize("seed", range(16))
def test_random_layouts(make_model, seed: int) -> None:
    with torch.inference_mode():
        assert_same(make_model(seed, **random_layout(seed)), 1 + seed % 8, padded=seed % 3 > 0)


@pytest.mark.parametrize("layout", ["bart", "marian", "t5"])
def test_encoder_decoders(make_model, layout: str) -> None:
    layouts: dict[str, dict] = {
        "bart": {"norm_first": False, "input_norm": True, "final_norm": False, "position_offset": 2},
        "marian": {"norm_first": False, "final_norm": False, "positions": "sinusoidal", "embed_scale": 2.0},
        "t5": {"norm": "rms", "positions": "relative", "attention_scale": 1.0, "qkv_bias": False},
    }
    whole = {"output_scale": 0.5} if layout == "t5" else {"score_bias": True}
    model = make_model(cross=True, **layouts[layout], **whole)
    assert obstacle(model, 12) == ""
    with torch.inference_mode():
        for rows in (1, 12):
            assert_same(model, rows, padded=True)


def test_rows_and_texts_that_leave_and_swap(make_model) -> None:
    """What beam search does to a cache between steps."""
    model = make_model(cross=True)
    source = torch.randint(0, 61, (3, 7), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        caches = [model.new_cache(3, 8, memory=model.encode(source)) for _ in range(2)]
        decoders = FastDecoder(model, 6), TorchDecoder(model)
        for cache, decoder in zip(caches, decoders):
            decoder.step([1, 2, 3], cache)
            cache.repeat(2)
        for rows in ([1, 0, 3, 3, 4, 5], [0, 1, 5, 4], [3, 2]):
            found = []
            for cache, decoder in zip(caches, decoders):
                cache.reorder(torch.tensor(rows))
                found.append(decoder.step(list(range(len(rows))), cache).logits.clone())
            torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
        decoders[0].close()


PROCESSORS = {
    "haswell": "+avx,+avx2,+fma",
    **dict.fromkeys(
        ("skylake-avx512", "rocketlake", "znver4"), "+avx,+avx2,+fma,+avx512f,+avx512vl,+avx512dq"
    ),
}
"""LLVM makes other code for each, and has made wrong code for some."""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are processors of x86's")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_code_for_other_processors(processor: str, tmp_path: Path) -> None:
    features = PROCESSORS[processor]
    if "avx512f" in features and "avx512dq" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine has no AVX-512")
    # The vectors are chosen when the kernels are compiled, so another choice needs another process. A second
    # one takes the code from disk, where it is not what the first one had in memory.
    names = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        __file__,
        "-k",
        "random_layouts",
    ]
    for _ in range(2):
        result = subprocess.run(
            command, env=os.environ | names, capture_output=True, text=True, check=False, timeout=240
        )
        assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("rows", range(1, 9))
def test_every_number_of_rows(model, rows: int) -> None:
    with torch.inference_mode():
        assert_same(model, rows, padded=True)


def test_several_threads(make_model, qwen) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with torch.inference_mode():
            assert_same(make_model(width=128, hidden=512, head_width=32, **qwen), 5, padded=True, steps=20)
    finally:
        torch.set_num_threads(threads)


def test_large_scores_do_not_overflow(make_model) -> None:
    model = make_model()
    with torch.inference_mode():
        model.output.weight.mul_(200)
        assert_same(model, 2, padded=False)


def test_a_changed_weight_is_seen(make_model) -> None:
    # The kernels read the model's own memory: nothing is copied that could grow stale.
    model = make_model()
    with torch.inference_mode():
        caches = [model.new_cache(1, 4) for _ in range(2)]
        decoder = FastDecoder(model, 1)
        before = decoder.step([1], caches[0]).logits.clone()
        model.decoder.blocks[1].feed_forward.down.weight.mul_(-1)
        assert not torch.allclose(decoder.step([1], caches[1]).logits, before, atol=1e-3)
        decoder.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.double(), "float64"),
        (
            lambda m: setattr(m.decoder.blocks[0].attention, "output", nn.Sequential(nn.Identity())),
            "Sequential",
        ),
        (lambda m: m.output.register_forward_hook(lambda *_: None), "listens to a Linear"),
    ],
)
def test_what_the_kernels_cannot_do_is_left_to_torch(make_model, change, reason: str) -> None:
    model = make_model()
    assert obstacle(model, 64) == ""
    assert "65 rows" in obstacle(model, 65)
    change(model)
    assert reason in obstacle(model, 1)
    assert isinstance(choose_decoder(model, 1), TorchDecoder)


def test_without_numba_torch_decodes(make_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(choose_decoder(make_model(), 1), TorchDecoder)


def test_torch_has_its_threads_again(make_model, codec, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, settings = torch.get_num_threads(), SamplingSettings(max_tokens=4)
    torch.set_num_threads(3)
    try:
        generate(make_model(), codec, ["a"], settings)
        assert torch.get_num_threads() == 3
        decoder = FastDecoder(make_model(), 1)
        assert torch.get_num_threads() == 1
        decoder.close()
        assert torch.get_num_threads() == 3

        def stumble(self, ids, cache):
            raise RuntimeError

        monkeypatch.setattr(FastDecoder, "step", stumble)
        for beams in (1, 2):
            with pytest.raises(RuntimeError):
                generate(make_model(), codec, ["a"], settings.model_copy(update={"beams": beams}))
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
