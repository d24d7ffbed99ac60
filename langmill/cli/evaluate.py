"""`langmill evaluate`. [cli]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from langmill.cli.options import json_option, precision_option, settings_options
from langmill.training.settings import DataSettings


@click.command("evaluate")
@click.argument("checkpoint", metavar="CKPT")
@click.argument("data", metavar="[CKPT2] DATA…", nargs=-1, required=True)
@click.option("--against", default=None, metavar="CKPT2", help="A second checkpoint: is the difference real?")
@click.option(
    "--references/--no-references",
    default=True,
    show_default=True,
    help="Also what simple models reach: xz -9 and n-grams; of labels the commonest one and TF-IDF.",
)
@click.option(
    "--train-data",
    multiple=True,
    metavar="PATH",
    help="What simple models learn from. (repeatable)  [default: what the run of CKPT was trained on]",
)
@click.option(
    "--context",
    type=int,
    help="Language models: tokens to look back over.  [default: all the model can, at most 2048]",
)
@click.option(
    "--stride",
    type=int,
    help="Language models: tokens from one window to the next.  [default: half the context]",
)
@click.option(
    "--shots",
    type=click.IntRange(min=0),
    metavar="N",
    help="A language model, DATA with labels: ask it for them, after N examples in the prompt (0: none).",
)
@click.option(
    "--template",
    default="",
    metavar="TEXT",
    help="The prompt: 'Review: {text}\\nSentiment: {label}', or sentiment, topic, spam, generic.  [default: by labels]",
)
@click.option(
    "--label-words",
    default="",
    metavar="A=B,…",
    help="How the prompt spells labels: negative=bad,positive=good.",
)
@click.option(
    "--calibrate", is_flag=True, help="Take away what the prompt alone favours; both figures are shown."
)
@click.option("--normalise", is_flag=True, help="Compare labels by their mean log-probability a token.")
@click.option("--chat", is_flag=True, help="Put the prompt through the model's chat template.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Which examples are drawn for the prompt.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Vectors of texts: keep the first N numbers of those of CKPT; CKPT2 keeps all of its own.  [default: all]",
)
@settings_options(DataSettings, leave_out=("held_out", "examples"))
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Also write a page: calibration, curves, confusions, the worst mistakes, likely wrong labels (classify).",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@precision_option
@json_option
def evaluate(
    checkpoint: str,
    data: tuple[str, ...],
    against: str | None,
    train_data: tuple[str, ...],
    references: bool,
    context: int | None,
    stride: int | None,
    shots: int | None,
    template: str,
    label_words: str,
    calibrate: bool,
    normalise: bool,
    chat: bool,
    seed: int,
    size: int | None,
    report: Path | None,
    device: str,
    precision: str,
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Score CKPT on DATA (files, folders, globs) that it has not seen; with CKPT2, say which is better.

    A language model: bits per byte, bits per character, perplexity, beside what a compressor and an n-gram
    model reach. Every token is predicted from at least half a context before it in its document, so the
    figures do not depend on how the text is cut.

    A classifier: accuracy, precision, recall, F1, calibration, on rows with labels, beside simple models.

    Several that give labels, joined by +, answer as one, and so do those that `train --seeds` made in one folder.

    A language model with --shots: the same figures, its answers being the likeliest label after a prompt whose
    examples are drawn from --train-data, or from DATA.

    \b
    langmill evaluate runs/book held-out.txt
    langmill evaluate runs/new test/ --against runs/old --json
    langmill evaluate runs/reviews test.csv --label-field sentiment
    langmill evaluate runs/reviews+runs/other runs/reviews test.csv
    langmill evaluate runs/embedder runs/embedder pairs.tsv --size 64
    langmill evaluate smollm2 test.csv --shots 5 --calibrate
    """
    from langmill.checkpoint import gives_answers, is_checkpoint
    from langmill.core.config import resolve
    from langmill.core.device import choose_device, inference_products
    from langmill.core.errors import ConfigError
    from langmill.evaluation.few_shot import FewShotSettings, evaluate_few_shot_files
    from langmill.evaluation.labelled import evaluate_answers
    from langmill.evaluation.prompts import read_label_words
    from langmill.evaluation.report import evaluate_language
    from langmill.evaluation.texts import as_trained

    if against is None and len(data) > 1 and is_checkpoint(data[0]):
        against, data = data[0], data[1:]
    if against is not None and len(data) > 1 and is_checkpoint(data[0]):
        raise ConfigError(
            f"{data[0]} is a third checkpoint; two are compared at a time (A+B is the ensemble of A and B)"
        )
    names = (checkpoint,) if against is None else (checkpoint, against)
    result: Any
    answers, few_shot = gives_answers(checkpoint), shots is not None
    asking = {
        "--template": template,
        "--label-words": label_words,
        "--calibrate": calibrate,
        "--normalise": normalise,
        "--chat": chat,
    }
    if not few_shot and (given := [name for name, value in asking.items() if value]):
        raise click.UsageError(f"{given[0]} says how a language model is asked; add --shots 0, or more")
    if few_shot and (learned := [name for name in names if gives_answers(name)]):
        raise click.UsageError(f"--shots asks a language model, and {learned[0]} is none: leave --shots out")
    if report is not None and not answers:
        raise click.UsageError("--report is of classifiers; leave it out")
    if size is not None and (few_shot or not answers):
        raise click.UsageError("--size shortens vectors of texts; leave it out")
    if (answers or few_shot) and (context is not None or stride is not None):
        raise click.UsageError(
            "--context and --stride are of language models' scores on text; leave them out"
        )
    if answers:
        overrides = as_trained(overrides, checkpoint, data)
    reading = resolve(DataSettings, overrides)
    place = choose_device(device)
    with inference_products(place, precision):
        if few_shot:
            result = evaluate_few_shot_files(
                names,
                data,
                reading=reading,
                train_data=train_data,
                settings=FewShotSettings(
                    shots=shots or 0,
                    template=template,
                    label_words=read_label_words(label_words),
                    calibrate=calibrate,
                    normalise=normalise,
                    chat=chat,
                    seed=seed,
                ),
                device=place,
                references=references,
            )
        elif answers:
            result = evaluate_answers(
                names,
                data,
                reading=reading,
                train_data=train_data,
                references=references,
                device=place,
                report=report,
                size=size or 0,
            )
        else:
            result = evaluate_language(
                names,
                data,
                reading=reading,
                train_data=train_data,
                references=references,
                context=context,
                stride=stride,
                device=place,
            )
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        click.echo(result.table())
