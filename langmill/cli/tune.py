"""`langmill tune`. [cli]"""

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
from langmill.training.settings import TrainSettings


@click.command("tune")
@click.argument("task")
@click.argument("data", nargs=-1)
@click.option("-o", "--output", default=None, help="Folder of the search. [default: runs/tune-TASK]")
@click.option(
    "--search",
    multiple=True,
    metavar="NAME=VALUES",
    help="A setting to search, as LOW:HIGH, LOW:HIGH:log or A,B,C. (repeatable) [default: what matters most to TASK]",
)
@click.option(
    "--trials",
    type=click.IntRange(min=2),
    default=None,
    help="Runs in all. [default: 20, or what --budget lets]",
)
@click.option(
    "--budget", default="0", help="Time for the whole search, such as 10m; trials of no set length share it."
)
@click.option(
    "--metric", default="", help="The held-out figure to improve, as train prints it. [default: the first]"
)
@held_out_option
@config_option
@from_option
@resume_options("search", more="; --trials and --budget may be new")
@json_option
@settings_options(TrainSettings, leave_out=("from_checkpoint", "budget"))
def tune(
    task: str,
    data: tuple[str, ...],
    output: str | None,
    search: tuple[str, ...],
    trials: int | None,
    budget: str,
    metric: str,
    held_out_data: tuple[str, ...],
    config: str | None,
    source: str | None,
    resume: str,
    overwrite: bool,
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Search for the settings that TASK learns DATA best with: train many times, and keep the best model.

    The first trial has the defaults, or what the options say, as `langmill train` would; each further one takes the
    settings that are searched from where the trials before it did well, and ends early where others were better by then.
    The best trial's run lies in OUTPUT/best, with its settings in run.yaml; OUTPUT/report.html shows all of them.

    Options are those of train, and hold for all trials: the length of one by --epochs, --steps or --tokens. What is
    searched is named like them: a range of numbers LOW:HIGH, one in which ratios count alike LOW:HIGH:log, or values
    A,B,C.

    \b
    langmill tune classify reviews.csv --from minilm --trials 20 -o runs/tuned
    langmill tune classify reviews.csv --search model=nbsvm,tfidf,fasttext
    langmill tune lm book.txt --budget 20m --search optimizer.learning-rate=1e-3:3e-2:log
    langmill tune lm book.txt --steps 500 --search model.layers=2:6 --search model.width=64,128,256
    langmill tune lm book.txt --model ngram --search model.order=2:8
    langmill tune classify -o runs/tuned --resume auto --trials 40
    langmill train classify reviews.csv --config runs/tuned/best/run.yaml -o runs/final
    """
    from langmill.tuning import run_tuning

    if source is not None:
        overrides["from_checkpoint"] = source
    result = run_tuning(
        task,
        data,
        search=search,
        trials=trials or 0,
        budget=budget,
        metric=metric,
        output=output,
        held_out_data=held_out_data,
        config=config,
        overrides=overrides,
        resume=resume == "auto",
        overwrite=overwrite,
    )
    print(json.dumps(asdict(result), ensure_ascii=False) if as_json else result.summary())
    if result.interrupted:
        sys.exit(130 if result.interrupted == "SIGINT" else 143)
