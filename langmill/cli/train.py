"""`langmill train`. [cli]"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click

from langmill.cli.options import (
    config_option,
    from_option,
    held_out_option,
    json_option,
    resume_options,
    settings_options,
)
from langmill.training.settings import TrainSettings, parse_count


@click.command("train")
@click.argument("task")
@click.argument("data", nargs=-1)
@click.option("-o", "--output", default=None, help="Run directory. [default: runs/TASK]")
@held_out_option
@config_option
@from_option
@resume_options("run")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    help="Train so many times, with the seeds from --seed on, which hold out other rows too, each in OUTPUT/seed-N; print mean"
    " and spread.",
)
@click.option(
    "--sizes",
    default="",
    metavar="N,N,…,all",
    help="Train with so many examples each time, in OUTPUT/size-N; print and draw how the score rises with them.",
)
@json_option
@settings_options(TrainSettings, leave_out=("from_checkpoint",))
def train(
    task: str,
    data: tuple[str, ...],
    output: str | None,
    held_out_data: tuple[str, ...],
    config: str | None,
    source: str | None,
    resume: str,
    overwrite: bool,
    seeds: int,
    sizes: str,
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Train TASK on DATA (files, folders, globs): pre-train from scratch, or --from a checkpoint.

    TASK, from plain text: lm (the next token: decoders), mlm (hidden tokens: encoders), denoise (damaged text:
    encoder-decoders), each as a Transformer, LSTM or GRU; lm as an n-gram model too, counted in one pass.

    TASK, from rows with answers: classify (labels of texts or pairs), ner (spans of a text: entities, words, parts of
    speech), qa (where an answer stands), embed (vectors of texts, from pairs).

    \b
    langmill train lm book.txt --budget 3m -o runs/book
    langmill train lm corpus/ --tokenizer char --steps 2000 --model.layers 4 --model.width 128
    langmill train lm book.txt --model ngram -o runs/ngram
    langmill train lm new.txt --from runs/book --adapter.rank 8 -o runs/adapter
    langmill train classify reviews.csv -o runs/reviews
    langmill train ner sentences.conll --seeds 3 -o runs/names
    langmill train classify reviews.csv --sizes 100,300,1000,all --seeds 3 -o runs/curve
    langmill train qa squad.json --from minilm -o runs/qa
    """
    from langmill.api import run_seeds, run_sizes
    from langmill.core.distributed import world
    from langmill.core.log import warn

    if source is not None:
        overrides["from_checkpoint"] = source
    asked: dict[str, Any] = {
        "seeds": seeds,
        "output": output,
        "held_out_data": held_out_data,
        "config": config,
        "overrides": overrides,
        "resume": resume == "auto",
        "overwrite": overwrite,
    }
    if sizes:
        results, curve = run_sizes(task, data, sizes=parse_sizes(sizes), **asked)
    else:
        results, curve = run_seeds(task, data, **asked), None
    if curve is not None:
        print(json.dumps(curve.to_dict(), ensure_ascii=False) if as_json else curve.table())
    for result in results if world().is_main and not curve else ():  # one of several processes speaks for all
        print(json.dumps(asdict(result), ensure_ascii=False, default=str) if as_json else result.summary())
    if results[-1].interrupted and (seeds > 1 or sizes) and world().is_main:
        warn("further runs are left: give the same command again, with --resume auto")
    elif world().is_main and seeds > 1 and not sizes and not as_json:
        print(spread_of([result.metrics for result in results]))
    if results[-1].interrupted:
        sys.exit(130 if results[-1].interrupted == "SIGINT" else 143)


def parse_sizes(text: str) -> list[int]:
    """Read the numbers of examples of --sizes; 0: all.

    >>> parse_sizes("100, 1k,all")
    [100, 1000, 0]
    """
    from langmill.core.errors import ConfigError

    sizes = [0 if part.strip() == "all" else parse_count(part.strip()) for part in text.split(",")]
    whole = [size for size in sizes if isinstance(size, int)]
    if len(whole) < len(sizes):
        raise ConfigError(
            f"--sizes {text}: expected numbers of examples with commas between, such as 100,1k,all"
        )
    return whole


def spread_of(metrics: list[dict[str, float]]) -> str:
    """Return mean and standard deviation of each metric over runs."""
    from statistics import mean, stdev

    parts = []
    for name in metrics[0]:
        values = [each[name] for each in metrics if name in each]
        parts.append(
            f"{name} {mean(values):.4f} ± {stdev(values):.4f}"
            if len(values) > 1
            else f"{name} {values[0]:.4f}"
        )
    return f"{len(metrics)} seeds, mean ± standard deviation: " + ", ".join(parts)
