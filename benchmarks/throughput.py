"""Training step against Transformers: same architecture, batch, precision and optimiser (fused AdamW).

Each contestant is a process of its own that has built its model and warmed up; the parent lets them step
in turn, so that a drift of the machine's speed falls on all. Printed are the median step, tokens a second,
the ratio to the better of Transformers' two (eager and compiled), and peak memory.

On a processor with bfloat16 units langmill multiplies in them by itself, and Transformers when told to by
torch's switch. There they come once in float32 and once with bfloat16 products; the last line compares
both as they come.

    python benchmarks/throughput.py --sizes 10m 124m --steps 8
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

from contest import Contestant, peak_bytes, serve

SIZES = {
    # family: layers, width, heads, vocabulary, rows, tokens a row
    "10m": (6, 320, 5, 8192, 8, 256),
    "124m": (12, 768, 12, 50257, 4, 256),
}
CONTESTANTS = {
    "float32": ("langmill", "transformers", "transformers compiled"),
    # Eager Transformers, the slower in float32, stays out: five of the large models are what memory holds.
    "bfloat16": ("langmill", "transformers compiled"),
}


def build_ours(family: str, size: tuple[int, ...]):
    """Return a function that takes one training step of langmill, with its default settings but AdamW."""
    import torch

    from langmill.batches.batch import TokenBatch
    from langmill.models.config import default_decoder, gpt2_decoder
    from langmill.models.initialise import initialise
    from langmill.models.transformer import Transformer
    from langmill.objectives.next_token import next_token
    from langmill.training.optimizers import make_optimizer

    layers, width, heads, vocabulary, rows, tokens = size
    make = gpt2_decoder if family == "gpt2" else default_decoder
    model = Transformer(make(vocabulary, layers=layers, width=width, heads=heads, context=tokens))
    initialise(model, torch.Generator().manual_seed(0))
    optimizer = make_optimizer(
        model,
        kind="adamw",
        learning_rate=3e-4,
        matrix_learning_rate=3e-4,
        weight_decay=0.1,
        betas=(0.9, 0.95),
        momentum=0.95,
    )
    ids = torch.randint(vocabulary, (rows, tokens + 1), generator=torch.Generator().manual_seed(1))
    batch = TokenBatch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())

    def step() -> float:
        loss, count = next_token(model, batch)
        (loss / count).backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss / count)

    return step


def build_theirs(family: str, size: tuple[int, ...], compiled: bool):
    """Return a function that takes one training step of Transformers' model of the same shape."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

    from langmill.models.config import default_decoder

    layers, width, heads, vocabulary, rows, tokens = size
    torch.manual_seed(0)
    if family == "gpt2":
        config = GPT2Config(
            vocab_size=vocabulary, n_layer=layers, n_embd=width, n_head=heads, n_positions=tokens,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model = GPT2LMHeadModel(config)
    else:
        ours = default_decoder(vocabulary, layers=layers, width=width, heads=heads, context=tokens).decoder
        assert ours is not None
        config = Qwen3Config(
            vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=heads, head_dim=ours.head_width, intermediate_size=ours.hidden,
            max_position_embeddings=tokens, tie_word_embeddings=True, use_cache=False,
        )  # fmt: skip
        model = Qwen3ForCausalLM(config)
    model.train()
    if compiled:
        model = torch.compile(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    ids = torch.randint(vocabulary, (rows, tokens + 1), generator=torch.Generator().manual_seed(1))
    inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step() -> float:
        # shift_labels: already shifted, so that both predict exactly the same tokens.
        loss = model(input_ids=inputs, labels=labels, shift_labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def work(contestant: str, family: str, size: tuple[int, ...], precision: str) -> None:
    """Be a contestant: a step a question, answered with the loss and the memory held so far."""

    def make() -> Callable[[Any], tuple[float, int]]:
        import torch

        torch.set_float32_matmul_precision("medium" if precision == "bfloat16" else "highest")
        step = (
            build_ours(family, size)
            if contestant == "langmill"
            else build_theirs(family, size, compiled=contestant.endswith("compiled"))
        )
        for _ in range(2):
            step()
        return lambda _: (step(), peak_bytes())

    serve(make)


def contest(family: str, name: str, steps: int) -> None:
    """Run one family at one size and print its table."""
    size = SIZES[name]
    everyone = [(c, precision) for precision in precisions() for c in CONTESTANTS[precision]]
    workers = {}
    for contestant, precision in everyone:
        command = [sys.executable, __file__, "--worker", contestant, "--families", family, "--sizes", name]
        workers[contestant, precision] = Contestant(contestant, [*command, "--precision", precision])
    answers: dict[tuple[str, str], list[Any]] = {each: [] for each in everyone}
    for _ in range(steps):
        for each, worker in workers.items():
            answers[each].append(worker.ask())
    for worker in workers.values():
        worker.leave()
    ready = {each: worker.ready_seconds for each, worker in workers.items()}
    rows, tokens = size[4], size[5]
    seconds = {each: median(taken for taken, _ in answers[each]) for each in everyone}
    peaks = {each: max(peak for _, (_, peak) in answers[each]) for each in everyone}
    for precision in precisions():
        best = min(seconds[c, precision] for c in CONTESTANTS[precision][1:])
        leanest = min(peaks[c, precision] for c in CONTESTANTS[precision][1:])
        print(f"\n{family} {name}, {rows} x {tokens} tokens, {precision} products, {steps} interleaved steps")
        print(f"{'':<24}{'ms/step':>9}{'tokens/s':>10}{'speed':>8}{'peak MB':>9}{'memory':>8}{'ready s':>9}")
        for c in CONTESTANTS[precision]:
            each = c, precision
            print(
                f"{c:<24}{seconds[each] * 1e3:>9.0f}{rows * tokens / seconds[each]:>10.0f}"
                f"{best / seconds[each]:>8.2f}{peaks[each] / 1e6:>9.0f}{peaks[each] / leanest:>8.2f}"
                f"{ready[each]:>9.0f}",
                flush=True,
            )
    theirs = min(seconds[c, "float32"] for c in CONTESTANTS["float32"][1:])
    print(
        f"as they come, langmill / the better of Transformers: {theirs / seconds['langmill', precisions()[-1]]:.2f}"
    )


def precisions() -> tuple[str, ...]:
    """Return what this machine can multiply in; the last is langmill's default."""
    import torch

    from langmill.core.device import has_bfloat16

    return tuple(CONTESTANTS) if has_bfloat16(torch.device("cpu")) else ("float32",)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", default=["qwen3", "gpt2"], choices=["gpt2", "qwen3"])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--precision", choices=list(CONTESTANTS), default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=CONTESTANTS["float32"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.families[0], SIZES[options.sizes[0]], options.precision)
        return
    for name in options.sizes:
        for family in options.families:
            contest(family, name, options.steps)


if __name__ == "__main__":
    main()
