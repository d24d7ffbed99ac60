"""Beam search with 4 beams on a Marian of 6 + 6 layers, 512 wide, beside Transformers and CTranslate2.

All translate the same sources with the same random float32 weights to the same number of tokens, each in a
process of its own, in turn; the table shows medians. A peer that is not installed is named and left out.

    .venv/bin/python benchmarks/beam.py --batch 1 --batch 16
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from contest import Contestant, Numbers, installed, options_of, ratios, serve, take_turns
from decode import Round, agreement, prompts

LAYERS, WIDTH, HEADS, HIDDEN, VOCABULARY = 6, 512, 8, 2048, 58101
BEAMS = 4
END, PAD = 0, VOCABULARY - 1
OURS, THEIRS, CTRANSLATE2 = "langmill", "transformers", "ctranslate2"


def sources(batch: int, tokens: int) -> list[list[int]]:
    """Return texts that differ from row to row, each with its end."""
    return [[number % (VOCABULARY - 2) + 1 for number in row] + [END] for row in prompts(batch, tokens)]


# --- contestants: each runs in its own process ---------------------------------------------------


def langmill_round(folder: Path, kernels: bool) -> Round:
    """langmill, by its compiled kernels or by plain torch."""
    from langmill.checkpoint.folder import load_checkpoint
    from langmill.generation import fast
    from langmill.generation.generate import generate
    from langmill.generation.rules import token_rules
    from langmill.generation.settings import SamplingSettings

    if not kernels:
        fast.obstacle = lambda model, rows: "the benchmark wants torch"  # type: ignore[assignment]
    loaded = load_checkpoint(folder, tokenizer=False)
    rules = token_rules(None, loaded.config, loaded.generation)

    def run(batch: int, source_tokens: int, new_tokens: int) -> list[list[int]]:
        settings = SamplingSettings(beams=BEAMS, max_tokens=new_tokens, min_tokens=new_tokens)
        given = sources(batch, source_tokens)
        results = generate(loaded.model, Numbers(), given, settings, rules=rules, batch_rows=batch)
        return [list(result.tokens) for result in results]

    return run


def load_theirs(folder: Path) -> Any:
    """Return Transformers' model."""
    import torch
    from transformers import MarianMTModel

    return MarianMTModel.from_pretrained(folder, dtype=torch.float32).eval()


def transformers_round(folder: Path) -> Round:
    """Transformers' `generate`."""
    import torch

    model = load_theirs(folder)

    def run(batch: int, source_tokens: int, new_tokens: int) -> list[list[int]]:
        ids = torch.tensor(sources(batch, source_tokens))
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                num_beams=BEAMS,
                do_sample=False,
            )
        return out[:, 1:].tolist()

    return run


def ctranslate2_round(folder: Path, threads: int) -> Round:
    """CTranslate2, from Transformers' model by its own converter, for a vocabulary of numbers."""
    import ctranslate2
    from ctranslate2.converters.transformers import BartLoader

    model = load_theirs(folder)
    model.config.normalize_before = model.config.normalize_embedding = False
    spec = BartLoader().get_model_spec(model)
    tokens = [str(number) for number in range(VOCABULARY)]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.unk_token = spec.config.bos_token = spec.config.decoder_start_token = str(PAD)
    spec.config.eos_token = str(END)
    spec.validate()
    spec.optimize()
    with tempfile.TemporaryDirectory() as converted:
        spec.save(converted)
        translator = ctranslate2.Translator(
            converted, device="cpu", compute_type="float32", inter_threads=1, intra_threads=threads
        )

    def run(batch: int, source_tokens: int, new_tokens: int) -> list[list[int]]:
        results = translator.translate_batch(
            [[str(number) for number in row] for row in sources(batch, source_tokens)],
            beam_size=BEAMS,
            max_batch_size=batch,
            max_decoding_length=new_tokens,
            min_decoding_length=new_tokens,
            max_input_length=0,
        )
        return [[int(token) for token in result.hypotheses[0]] for result in results]

    return run


def contest(name: str, folder: Path, threads: int) -> None:
    """Answer each question, [batch, source tokens, new tokens], with the tokens."""

    def make() -> Any:
        if name == CTRANSLATE2:
            run = ctranslate2_round(folder, threads)
        else:
            import torch

            torch.set_num_threads(threads)
            run = (
                transformers_round(folder) if name == THEIRS else langmill_round(folder, "torch" not in name)
            )
        return lambda question: run(*question)

    serve(make)


# --- the referee ---------------------------------------------------------------------------------


def write_model(folder: Path) -> None:
    """Save the model that all load."""
    import torch

    from langmill.checkpoint.folder import Checkpoint, save_checkpoint
    from langmill.models.config import StackConfig, TransformerConfig, pair_of
    from langmill.models.transformer import Transformer

    stack = StackConfig(
        layers=LAYERS, width=WIDTH, heads=HEADS, hidden=HIDDEN, causal=False, norm_first=False,
        final_norm=False, positions="sinusoidal", max_positions=512, activation="silu",
        embed_scale=WIDTH**0.5,
    )  # fmt: skip
    config: TransformerConfig = pair_of(stack, VOCABULARY, output_bias=True)
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05 + (weight.dim() == 1) * 0.5)
    save_checkpoint(folder, Checkpoint(model, family="marian"))
    ids = {
        "decoder_start_token_id": PAD,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "forced_eos_token_id": None,
    }
    for name in ("config.json", "generation_config.json"):
        written = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(written | ids))


def line_up(options: argparse.Namespace, folder: Path) -> list[Contestant]:
    """Start all contestants that are installed; say which are not."""
    names = [OURS, f"{OURS} (torch)"]
    for name in (THEIRS, CTRANSLATE2):
        if version := installed(sys.executable, name):
            print(f"{name} {version}")
            names.append(name)
        else:
            print(f"{name}: not installed; left out (pip install {name})")
    common = ["--folder", str(folder), "--threads", str(options.threads)]
    environment = {"OMP_NUM_THREADS": str(options.threads)}
    return [
        Contestant(name, [sys.executable, __file__, "--contestant", name, *common], environment)
        for name in names
    ]


def table(contestants: list[Contestant], batch: int, options: argparse.Namespace) -> None:
    """Run the rounds of one batch size and print what came of them."""
    seconds, tokens = take_turns(
        contestants,
        [batch, options.source_tokens, options.new_tokens],
        warm_up=[batch, options.source_tokens, 4],
        rounds=options.rounds,
        patience=options.patience,
    )
    print(
        f"\n{batch} texts of {options.source_tokens} tokens, {BEAMS} beams, {options.new_tokens} new tokens"
    )
    print(f"{'':18}{'ms/step':>9}{'best':>9}{'same tokens':>13}{'cores lost to others':>22}")
    for contestant in contestants:
        times = [1e3 * taken / options.new_tokens for taken in seconds[contestant.name]]
        cut = [row[: options.new_tokens - 1] for row in tokens[contestant.name]]
        same = (
            agreement(cut, [row[: options.new_tokens - 1] for row in tokens[THEIRS]])
            if THEIRS in tokens
            else 0
        )
        print(
            f"{contestant.name:18}{median(times):9.1f}{min(times):9.1f}{same:>13.0%}"
            f"{median(contestant.others):22.2f}"
        )
    for name in list(seconds)[1:]:
        print(f"{OURS} / {name:18} {ratios(seconds[OURS], seconds[name])}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, action="append", help="texts translated together [1 and 16]")
    parser.add_argument("--source-tokens", type=int, default=24)
    options_of(parser, new_tokens=32)
    options = parser.parse_args()
    if options.contestant:
        contest(options.contestant, options.folder, options.threads)
        return
    print(f"{platform.machine()}, {options.threads} threads, float32")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write_model(folder)
        contestants = line_up(options, folder)
        for batch in options.batch or [1, 16]:
            table(contestants, batch, options)
        for contestant in contestants:
            contestant.leave()


if __name__ == "__main__":
    main()
