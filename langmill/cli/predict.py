"""`langmill predict`. [cli]"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from langmill.cli.options import precision_option, read_input, settings_options
from langmill.text.labelled_rows import LabelledSettings

LONGEST_NAME = 255
"""Bytes that the name of a file may have; to ask for a longer one is an error of the system."""
LEAVE_OUT = ("label_field", "tag_column", "tag_names", "separator")


@click.command("predict")
@click.argument("checkpoint")
@click.argument("texts", nargs=-1)
@click.option(
    "--input",
    "sources",
    multiple=True,
    help="A file with one text a line, or rows (.jsonl, .csv, .tsv, .parquet) of which every column is kept; - reads lines"
    " from standard input. (repeatable)",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write rows to this .jsonl, .csv or .tsv file."
)
@click.option("--pair", default=None, help="A second text, which is read together with each of TEXTS.")
@click.option(
    "--task", default=None, help="What to do with the texts.  [default: what the model was made for]"
)
@settings_options(LabelledSettings, leave_out=LEAVE_OUT)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a text.")
@click.option("--device", default="auto", help="auto, cpu, cuda, mps  [default: auto]")
@precision_option
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Vectors of texts: keep their first N numbers, as --embed.sizes trained.  [default: all]",
)
def predict(
    checkpoint: str,
    texts: tuple[str, ...],
    sources: tuple[str, ...],
    output: Path | None,
    pair: str | None,
    task: str | None,
    as_json: bool,
    device: str,
    precision: str,
    size: int | None,
    overrides: dict[str, Any],
) -> None:
    """Run the model in CHECKPOINT on TEXTS, or on the rows of files, which stay in order.

    An encoder fills in what [MASK] hides; a classifier gives labels, a tagger spans, each with their probabilities; a
    model made for questions answers TEXTS about --pair; one for sentence embeddings gives vectors. Several with the same
    labels, joined by +, answer as one: the mean of their probabilities.

    \b
    langmill predict runs/mlm "The [MASK] sat on the mat."
    langmill predict runs/reviews "A great film." "Two hours lost."
    langmill predict runs/reviews --input reviews.csv -o labelled.csv --text-field review
    langmill predict runs/reviews+runs/other "A great film."
    langmill predict runs/mlm "Where is the cat?" --pair "On the [MASK]."
    langmill predict runs/qa "Where is the cat?" --pair "The cat sat on the mat."
    """
    from langmill.checkpoint import open_checkpoint
    from langmill.core.config import resolve
    from langmill.core.device import choose_device, inference_products
    from langmill.core.errors import CheckpointError, ConfigError, DataError
    from langmill.core.log import warn
    from langmill.evaluation.texts import as_trained
    from langmill.tasks import task_for
    from langmill.text.paths import check_outputs

    for text in texts:
        if not text.strip():
            warn(f"a text is empty ({text!r}); what is answered to it means nothing")
        elif len(text.encode()) <= LONGEST_NAME and Path(text).is_file():
            warn(f"{text!r} is read as text; to answer what stands in that file: --input {text}")
    if output is not None:
        read = [source for source in sources if Path(source).is_file()]
        check_outputs([output], read=read, overwrite=True)
    if not (texts or sources):
        raise DataError(
            'no text given; write it after the checkpoint, langmill predict CKPT "some text", or name what holds it,'
            " --input FILE (- for standard input)"
        )
    place = choose_device(device)
    loaded = open_checkpoint(checkpoint, device=place)
    if loaded.tokenizer is None:
        raise CheckpointError(f"{checkpoint}: has no tokenizer.json, without which text cannot be read")
    doer: Any = task_for(loaded.model, task or "", source=checkpoint)
    settings = resolve(LabelledSettings, overrides)
    lines, files = read_sources(sources, doer.name, settings.encoding)
    if files:
        settings = resolve(LabelledSettings, as_trained(overrides, checkpoint, files))
    if (texts or lines) and files:
        raise ConfigError(f"texts, and rows of {files[0]}: answer them one after the other, in two commands")
    if pair is not None and files:
        raise ConfigError(
            "--pair goes with texts that are typed, and with lines; rows have one each, see --pair-field"
        )
    if (files or output) and not hasattr(doer, "question"):
        raise ConfigError(
            f"{doer.name} answers texts and lines, no rows of files; give text, or --input FILE.txt"
        )
    if size is not None:
        if doer.name != "embed":
            raise ConfigError(
                f"--size shortens vectors of texts; {checkpoint} is made for {doer.name}: leave it out"
            )
        from langmill.tasks.embed import shortened

        loaded = shortened(loaded, size)
    with inference_products(place, precision):
        answer_all(
            loaded,
            doer,
            (*texts, *lines),
            files,
            output,
            pair=pair,
            as_json=as_json,
            settings=settings,
        )


def read_sources(sources: Sequence[str], task: str, encoding: str) -> tuple[list[str], list[str]]:
    """Return the lines of text files and of standard input, and the files that hold rows.

    A tagger reads files of tokens with tags as rows too: the sentences that it learns from.
    """
    from langmill.core.errors import DataError
    from langmill.core.log import warn
    from langmill.text.documents import plural
    from langmill.text.labelled_spans import holds_columns
    from langmill.text.paths import kind_of

    lines: list[str] = []
    files = []
    for source in sources:
        path = Path(source)
        columns = task == "ner" and path.is_file() and holds_columns(path, encoding)
        if source != "-" and (kind_of(path) != "text" or columns):
            files.append(source)
            continue
        found = read_input(source).splitlines()
        full = [line for line in found if line.strip()]
        if not full:
            raise DataError(f"{source}: holds no text; write one a line")
        if empty := len(found) - len(full):
            warn(f"{source}: {plural(empty, 'empty line')} left out; there is no answer to them")
        lines += full
    return lines, files


def answer_all(
    loaded: Any,
    doer: Any,
    texts: Sequence[str],
    files: Sequence[str],
    output: Path | None,
    *,
    pair: str | None,
    as_json: bool,
    settings: LabelledSettings,
) -> None:
    """Answer texts and the rows of files, and print or write the answers."""
    from langmill.core.log import say
    from langmill.tasks.prediction import predict_rows

    results = doer.predict(loaded, texts if pair is None else [(text, pair) for text in texts])
    answers = list(zip(texts, results, strict=True))

    def rows(write: Any) -> None:
        for text, result in answers:
            write({"text": text, **({} if pair is None else {"pair": pair}), **result.columns()})
        if files:
            say(f"read {predict_rows(loaded, doer, files, settings, lambda row, _: write(row))}")

    if output is not None:
        from langmill.text.row_files import row_writer

        with row_writer(output) as write:
            rows(write)
        return
    for text, result in answers:
        if as_json:
            given = text if pair is None else [text, pair]
            print(json.dumps({"input": given, **asdict(result)}, ensure_ascii=False))
        else:
            print(show(result, text, several=len(texts) > 1))
    if files:

        def print_row(row: Mapping[str, Any], result: Any) -> None:
            row = {**row, **asdict(result)} if as_json else row
            print(json.dumps(row, ensure_ascii=False, default=str))

        say(f"read {predict_rows(loaded, doer, files, settings, print_row)}")


def show(result: Any, text: str, *, several: bool) -> str:
    """Return a result for people."""
    if hasattr(result, "summary"):
        return str(result.summary(text))
    lines = [f"=== {text}"] if several else []
    lines.append(getattr(result, "text", str(result)))
    lines += [second] if (second := getattr(result, "pair", "")) else []
    masks = getattr(result, "masks", ())
    for number, candidates in enumerate(masks, 1):
        if len(masks) > 1:
            lines.append(f"[MASK] {number}")
        lines += [
            f"    {each.probability:6.1%}  {each.token.strip() or repr(each.token)}" for each in candidates
        ]
    return "\n".join(lines)
