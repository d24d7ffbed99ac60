"""Tokens a second in generation on the CPU, beside Transformers, CTranslate2 and llama.cpp.

All contestants generate greedily from the same GPT-2 of 124M random float32 weights, each in a process of
its own, one at a time, in interleaved rounds; the table shows medians. Where a peer is not installed, a
note says so. Peers may live in another environment: --peers-python /path/to/bin/python.

A token needs every weight once, so at batch 1 the memory sets the pace. The row "reading alone" shows that
pace: it does nothing but read as many bytes for every step, with torch's matrix-vector product.

    .venv/bin/python benchmarks/decode.py --batch 1 --batch 8
    .venv/bin/python benchmarks/decode.py --isa avx2        # without AVX-512
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from contest import Contestant, Numbers, installed, options_of, ratios, serve, take_turns

LAYERS, HEADS, WIDTH, VOCABULARY, POSITIONS = 12, 12, 768, 50257, 1024
END = VOCABULARY - 1
"""A token that no contestant may stop at; its row of the embedding is made unlikely."""
READING = "reading alone"
PEERS = {"transformers": "transformers", "ctranslate2": "ctranslate2", "llama.cpp": "llama_cpp"}
"""Contestant → the module it needs."""
AVX2 = {
    **{"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma", "ATEN_CPU_CAPABILITY": "avx2"},
    **{"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "CT2_FORCE_CPU_ISA": "AVX2"},
}

Round = Callable[[int, int, int], list[list[int]]]
"""(batch, prompt tokens, new tokens) → the new tokens of each row."""


def prompts(batch: int, tokens: int) -> list[list[int]]:
    """Return prompts that differ from row to row."""
    return [
        [(7919 * (row + 1) + 104729 * i) % (VOCABULARY - 1) for i in range(tokens)] for row in range(batch)
    ]


# --- contestants: each runs in its own process ---------------------------------------------------


def langmill_round(folder: Path, kernels: bool) -> Round:
    """langmill, by its compiled kernels or by plain torch."""
    from langmill.checkpoint.folder import load_checkpoint
    from langmill.generation import fast
    from langmill.generation.generate import generate
    from langmill.generation.settings import SamplingSettings

    if not kernels:
        fast.obstacle = lambda model, rows: "the benchmark wants torch"  # type: ignore[assignment]
    model: Any = load_checkpoint(folder, tokenizer=False).model

    def run(batch: int, prompt_tokens: int, new_tokens: int) -> list[list[int]]:
        settings = SamplingSettings(temperature=0, max_tokens=new_tokens)
        results = generate(model, Numbers(), prompts(batch, prompt_tokens), settings, batch_rows=batch)
        return [list(result.tokens) for result in results]

    return run


def transformers_round(folder: Path) -> Round:
    """Transformers' `generate`."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def run(batch: int, prompt_tokens: int, new_tokens: int) -> list[list[int]]:
        ids = torch.tensor(prompts(batch, prompt_tokens))
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=END,
            )
        return out[:, prompt_tokens:].tolist()

    return run


def ctranslate2_round(folder: Path, threads: int) -> Round:
    """CTranslate2, from the same weights."""
    import ctranslate2
    from ctranslate2.specs import common_spec, transformer_spec
    from safetensors.numpy import load_file

    weights = {
        name.removeprefix("transformer."): w for name, w in load_file(folder / "model.safetensors").items()
    }
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        LAYERS, HEADS, pre_norm=True, activation=common_spec.Activation.GELUTanh
    )
    decoder = spec.decoder

    def norm(target: Any, name: str) -> None:
        target.gamma, target.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def linear(target: Any, name: str) -> None:
        target.weight, target.bias = weights[f"{name}.weight"].T.copy(), weights[f"{name}.bias"]

    decoder.scale_embeddings = False
    decoder.embeddings.weight = decoder.projection.weight = weights["wte.weight"]
    decoder.position_encodings.encodings = weights["wpe.weight"]
    norm(decoder.layer_norm, "ln_f")
    for i, layer in enumerate(decoder.layer):
        norm(layer.self_attention.layer_norm, f"h.{i}.ln_1")
        linear(layer.self_attention.linear[0], f"h.{i}.attn.c_attn")
        linear(layer.self_attention.linear[1], f"h.{i}.attn.c_proj")
        norm(layer.ffn.layer_norm, f"h.{i}.ln_2")
        linear(layer.ffn.linear_0, f"h.{i}.mlp.c_fc")
        linear(layer.ffn.linear_1, f"h.{i}.mlp.c_proj")
    spec.register_vocabulary([str(i) for i in range(VOCABULARY)])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = str(END)
    spec.validate()
    spec.optimize()
    with tempfile.TemporaryDirectory() as converted:
        spec.save(converted)
        generator = ctranslate2.Generator(
            converted, device="cpu", compute_type="float32", intra_threads=threads
        )

    def run(batch: int, prompt_tokens: int, new_tokens: int) -> list[list[int]]:
        results = generator.generate_batch(
            [[str(i) for i in prompt] for prompt in prompts(batch, prompt_tokens)],
            max_batch_size=batch,
            max_length=new_tokens,
            min_length=new_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return [result.sequences_ids[0] for result in results]

    return run


def reading_round(folder: Path) -> Round:
    """Reads all weights for every step, and nothing else."""
    import torch

    table = torch.ones((folder / "model.safetensors").stat().st_size // (4 * WIDTH), WIDTH)
    vector = torch.ones(WIDTH)

    def run(batch: int, prompt_tokens: int, new_tokens: int) -> list[list[int]]:
        for _ in range(new_tokens):
            torch.mv(table, vector)
        return [[END] * new_tokens] * batch

    return run


def make_round(name: str, folder: Path, threads: int) -> Round:
    """Return the contestant called `name`."""
    if name == READING:
        return reading_round(folder)
    if name.startswith("langmill"):
        return langmill_round(folder, kernels="torch" not in name)
    if name == "transformers":
        return transformers_round(folder)
    return ctranslate2_round(folder, threads)


def contest(name: str, folder: Path, threads: int) -> None:
    """Answer each question, [batch, prompt tokens, new tokens], with the tokens."""

    def make() -> Callable[[Any], list[list[int]]]:
        if name != "ctranslate2":
            import torch

            torch.set_num_threads(threads)
        run = make_round(name, folder, threads)

        def work(question: Any) -> list[list[int]]:
            tokens = run(*question)
            assert all(len(row) == question[2] for row in tokens), [len(row) for row in tokens]
            return tokens

        return work

    serve(make)


# --- the referee ---------------------------------------------------------------------------------


def write_model(folder: Path) -> int:
    """Save the model that all load; return how many bytes of weights a token needs."""
    import torch

    from langmill.checkpoint.folder import Checkpoint, save_checkpoint
    from langmill.models.config import StackConfig, TransformerConfig
    from langmill.models.transformer import Transformer

    stack = StackConfig(
        layers=LAYERS, width=WIDTH, heads=HEADS, hidden=4 * WIDTH, causal=True, activation="gelu_tanh",
        max_positions=POSITIONS,
    )  # fmt: skip
    model = Transformer(TransformerConfig(vocabulary=VOCABULARY, decoder=stack))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05 + (weight.dim() == 1) * 0.5)
        assert model.decoder is not None
        model.decoder.embed.weight[END] = -model.decoder.final_norm.bias  # type: ignore[operator]
    save_checkpoint(folder, Checkpoint(model))
    names = [name for name, _ in model.named_parameters() if "positions" not in name]
    return 4 * sum(model.get_parameter(name).numel() for name in names)


def agreement(tokens: list[list[int]], reference: list[list[int]]) -> float:
    """Return the share of tokens that are equal up to the first difference of each row."""
    equal = 0
    for ours, theirs in zip(tokens, reference, strict=True):
        same = [a == b for a, b in zip(ours, theirs)]
        equal += same.index(False) if False in same else len(same)
    return equal / sum(map(len, reference))


def line_up(options: argparse.Namespace, folder: Path) -> list[Contestant]:
    """Start all contestants that are installed; say which are not."""
    started = [(name, sys.executable) for name in ("langmill", "langmill (torch)", READING)]
    for name, module in PEERS.items():
        python = next((p for p in (sys.executable, options.peers_python) if p and installed(p, module)), None)
        if name == "llama.cpp":
            note = "is installed, but this script cannot drive it yet" if python else "is not installed"
            print(f"{name}: {note}; left out")
        elif python is None:
            print(f"{name}: not installed; left out (pip install {module})")
        else:
            print(f"{name} {installed(python, module)}")
            started.append((name, python))
    environment = {"OMP_NUM_THREADS": str(options.threads), **(AVX2 if options.isa == "avx2" else {})}
    common = ["--folder", str(folder), "--threads", str(options.threads)]
    return [
        Contestant(name, [python, __file__, "--contestant", name, *common], environment)
        for name, python in started
    ]


def referee(options: argparse.Namespace) -> None:
    """Run the rounds and print the tables."""
    import torch

    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, {options.threads} threads, {options.isa} instructions")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        weight_bytes = write_model(folder)
        contestants = line_up(options, folder)
        for batch in options.batch:
            table(contestants, batch, weight_bytes, options)
        for contestant in contestants:
            contestant.leave()


def table(contestants: list[Contestant], batch: int, weight_bytes: int, options: argparse.Namespace) -> None:
    """Run the rounds of one batch size and print what came of them."""
    seconds, tokens = take_turns(
        contestants,
        [batch, options.prompt_tokens, options.new_tokens],
        warm_up=[batch, options.prompt_tokens, 8],
        rounds=options.rounds,
        patience=options.patience,
    )
    others = {contestant.name: contestant.others for contestant in contestants}
    print(f"\nbatch {batch}: {options.prompt_tokens} + {options.new_tokens} tokens, {options.rounds} rounds")
    print(f"{'':18}{'tokens/s':>10}{'best':>8}{'GB/s':>7}{'same tokens':>13}{'cores lost to others':>22}")
    for name, times in seconds.items():
        speed, best = (batch * options.new_tokens / value for value in (median(times), min(times)))
        same = "" if name == READING else f"{agreement(tokens[name], tokens['langmill (torch)']):.0%}"
        moved = speed / batch * weight_bytes / 1e9
        print(f"{name:18}{speed:10.1f}{best:8.1f}{moved:7.1f}{same:>13}{median(others[name]):22.2f}")
    for name in list(seconds)[1:]:
        print(f"langmill / {name:18} {ratios(seconds['langmill'], seconds[name])}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, action="append", help="rows generated together [1 and 8]")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--isa", choices=["native", "avx2"], default="native")
    parser.add_argument("--peers-python", default="", help="a Python that has peers which this one has not")
    options_of(parser, new_tokens=128)
    options = parser.parse_args()
    options.batch = options.batch or [1, 8]
    if options.contestant:
        contest(options.contestant, options.folder, options.threads)
    else:
        referee(options)


if __name__ == "__main__":
    main()
