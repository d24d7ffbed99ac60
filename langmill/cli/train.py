"""`langmill train`. [cli]"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click

from langmill.cli.options import settings_options
from langmill.training.settings import TrainSettings


@click.command("train")
@click.argument("task")
@click.argument("data", nargs=-1)
@click.option("-o", "--output", default=None, help="Run directory. [default: runs/TASK]")
@click.option(
    "--held-out-data", multiple=True, help="Files to evaluate on, instead of a part of DATA. (repeatable)"
)
@click.option(
    "--config", default=None, help="A YAML file of settings, such as a run's run.yaml; options override it."
)
@click.option(
    "--from", "source", default=None, help="Checkpoint (folder or hub name) to go on training from."
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="auto",
    type=click.Choice(["auto", "no"]),
    default="no",
    help="auto: continue the run in the output folder where it stopped, or begin it.",
)
@click.option(
    "--overwrite", is_flag=True, help="Delete the run that the output folder holds, and begin anew."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
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
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Train TASK on DATA (files, folders, globs): pre-train from scratch, or --from a checkpoint.

    TASK: lm (the next token: decoders), mlm (hidden tokens: encoders), denoise (damaged text:
    encoder-decoders), each as a Transformer, LSTM or GRU; lm as an n-gram model too, counted in one pass.

    \b
    langmill train lm book.txt --budget 3m -o runs/book
    langmill train lm corpus/ --tokenizer char --steps 2000 --model.layers 4 --model.width 128
    langmill train lm book.txt --model ngram -o runs/ngram
    langmill train lm new.txt --from runs/book --adapter.rank 8 -o runs/adapter
    """
    from langmill.api import run_training
    from langmill.core.distributed import world

    if source is not None:
        overrides["from_checkpoint"] = source
    result = run_training(
        task,
        data,
        output=output,
        held_out_data=held_out_data,
        config=config,
        overrides=overrides,
        resume=resume == "auto",
        overwrite=overwrite,
    )
    if not world().is_main:
        pass  # one of several processes speaks for all
    elif as_json:
        print(json.dumps(asdict(result), ensure_ascii=False, default=str))
    else:
        print(result.summary())
    if result.interrupted:
        sys.exit(130 if result.interrupted == "SIGINT" else 143)
