"""BERT-base on padded batches of real lengths: a training step and inference, against Transformers.

Rows are padded to 128 tokens; how much of them is padding depends on the text, so the lengths are those of
real texts under a WordPiece tokenizer trained on them: paragraphs of the standard library's documentation, or
the lines of --text (the field `text` where they are JSON). langmill works on the tokens, Transformers, eager
and compiled, on the rows. A training step is masked language modelling (15 % hidden) with fused AdamW;
inference gives the states of the last layer. In turn, each in a process of its own; medians.

    python benchmarks/encoder.py --rounds 6
    python benchmarks/encoder.py --text reviews.jsonl
"""

from __future__ import annotations

import argparse
import inspect
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

from contest import Contestant, ratios, serve

VOCABULARY, LAYERS, WIDTH, HEADS = 30522, 12, 768, 12
ROWS, TOKENS = 32, 128
HIDDEN_SHARE = 0.15
OURS, EAGER, COMPILED = "langmill", "transformers", "transformers compiled"


def texts(path: str) -> list[str]:
    """Return the texts whose lengths are used."""
    if path:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["text"] if line.startswith("{") else line for line in lines if line.strip()]
    from pydoc_data.topics import topics

    return [inspect.cleandoc(part) for text in topics.values() for part in text.split("\n\n") if part.strip()]


def lengths(path: str) -> list[int]:
    """Return the tokens of as many texts as are used in all rounds, [CLS] and [SEP] included."""
    from langmill.tokens.train import train_tokenizer

    found = texts(path)
    tokenizer = train_tokenizer(found, kind="wordpiece", vocabulary=8192)
    counted = [min(TOKENS, len(ids) + 2) for ids in tokenizer.encode_batch(found)]
    random.Random(13).shuffle(counted)
    return counted


def batch(counts: list[int], seed: int) -> tuple[Any, Any, Any]:
    """Return ids, attention mask and labels, each (ROWS, TOKENS)."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1000, VOCABULARY, (ROWS, TOKENS), generator=generator)
    valid = torch.arange(TOKENS) < torch.tensor(counts)[:, None]
    asked = (torch.rand(ROWS, TOKENS, generator=generator) < HIDDEN_SHARE) & valid
    return ids.where(valid, 0), valid, ids.where(asked, -100)


def make_ours(training: bool) -> Callable[..., float]:
    """Return one step, or one reading, of langmill."""
    import torch

    from langmill.models.config import bert_encoder
    from langmill.models.initialise import initialise
    from langmill.models.transformer import Transformer
    from langmill.objectives.cross_entropy import linear_cross_entropy
    from langmill.training.optimizers import make_optimizer

    model = Transformer(bert_encoder(VOCABULARY, layers=LAYERS, width=WIDTH, heads=HEADS))
    initialise(model, torch.Generator().manual_seed(0), scheme="gpt2")
    optimizer = make_optimizer(
        model, kind="adamw", learning_rate=1e-4, matrix_learning_rate=1e-4, weight_decay=0.01,
        betas=(0.9, 0.999), momentum=0.95,
    )  # fmt: skip

    def step(ids, valid, labels) -> float:
        places = (labels.flatten() != -100).nonzero()[:, 0]
        states = model.encode(ids, valid=valid).flatten(0, 1)[places]
        targets = labels.flatten()[places]
        ready = model.before_output(states)
        loss = linear_cross_entropy(ready, model.output.weight, targets, bias=model.output.bias) / len(places)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    @torch.inference_mode()
    def read(ids, valid, labels) -> float:
        return float(model.encode(ids, valid=valid)[:, 0].square().sum())

    return step if training else read


def make_theirs(training: bool, compiled: bool) -> Callable[..., float]:
    """Return the same of Transformers."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertModel

    torch.manual_seed(0)
    config = BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertForMaskedLM(config) if training else BertModel(config, add_pooling_layer=False).eval()
    if compiled:
        model = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def step(ids, valid, labels) -> float:
        loss = model(input_ids=ids, attention_mask=valid.long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    @torch.inference_mode()
    def read(ids, valid, labels) -> float:
        states = model(input_ids=ids, attention_mask=valid.long()).last_hidden_state
        return float(states[:, 0].square().sum())

    return step if training else read


def work(contestant: str, mode: str, precision: str) -> None:
    """Be a contestant: a batch a question, [lengths, seed]."""

    def make() -> Callable[[Any], float]:
        import torch

        torch.set_float32_matmul_precision("medium" if precision == "bfloat16" else "highest")
        training = mode == "training"
        run = make_ours(training) if contestant == OURS else make_theirs(training, contestant == COMPILED)
        for seed in range(2):
            run(*batch([TOKENS] * ROWS, seed))
        return lambda question: run(*batch(*question))

    serve(make)


def contest(mode: str, precision: str, counts: list[int], options: argparse.Namespace) -> None:
    """Let all take the same batches and print the table."""
    command = [sys.executable, __file__, "--mode", mode, "--precision", precision, "--worker"]
    workers = [Contestant(name, [*command, name]) for name in (OURS, EAGER, COMPILED)]
    seconds: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for number in range(options.rounds):
        rows = [counts[(number * ROWS + i) % len(counts)] for i in range(ROWS)]
        for worker in workers:
            taken, _ = worker.ask([rows, number], patience=options.patience)
            seconds[worker.name].append(taken)
    for worker in workers:
        worker.leave()
    share = mean(counts[i % len(counts)] for i in range(options.rounds * ROWS)) / TOKENS
    print(f"\n{mode}, {precision} products, {ROWS} x {TOKENS} tokens, {share:.0%} of them no padding")
    for worker in workers:
        taken = seconds[worker.name]
        print(f"{worker.name:<24}{median(taken) * 1e3:>8.0f} ms{median(worker.others):>8.2f} cores lost")
    best = min((EAGER, COMPILED), key=lambda name: median(seconds[name]))
    print(f"langmill / {best}: {ratios(seconds[OURS], seconds[best])}", flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", default="", help="a file whose lines have the lengths")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--mode", action="append", choices=["training", "inference"])
    parser.add_argument("--precision", action="append", choices=["float32", "bfloat16"])
    parser.add_argument("--patience", type=float, default=5, help="seconds to wait for a quiet machine")
    parser.add_argument("--worker", choices=[OURS, EAGER, COMPILED], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.mode[0], options.precision[0])
        return
    counts = lengths(options.text)
    for precision in options.precision or ["float32"]:
        for mode in options.mode or ["training", "inference"]:
            contest(mode, precision, counts, options)


if __name__ == "__main__":
    main()
