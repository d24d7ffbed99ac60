"""`langmill vectors`: train word vectors, and ask them. [cli]"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import click

from langmill.cli import vectors_query
from langmill.cli.options import (
    Group,
    encoding_option,
    json_option,
    overwrite_option,
    reading_options,
    settings_options,
)
from langmill.vectors.settings import VectorSettings


@click.group(cls=Group)
def vectors() -> None:
    """Train word vectors, and ask them."""


for command in ("similar", "analogy", "odd", "distance", "evaluate", "picture", "convert"):
    vectors.add_command(getattr(vectors_query, command))


@vectors.command()
@click.argument("paths", metavar="CORPUS…", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write; its ending says in which format.",
)
@settings_options(VectorSettings)
@click.option(
    "--words",
    type=click.Choice(["auto", "spaces"]),
    default="auto",
    show_default=True,
    help="auto: lowercase words without signs, Chinese cut into words. spaces: what stands between spaces.",
)
@overwrite_option
@click.option("--resume", is_flag=True, help="Go on where an interrupted run stopped.")
@reading_options
@encoding_option
@json_option
def train(
    paths: Sequence[str],
    output: Path,
    overrides: dict[str, Any],
    words: str,
    overwrite: bool,
    resume: bool,
    boundary: str,
    text_field: str,
    encoding: str,
    on_bad_row: str,
    as_json: bool,
) -> None:
    """Train word vectors on CORPUS: files, folders and globs, in any format that `langmill train` reads.

    A line is a sentence, whatever a document is.
    """
    from langmill.core.config import resolve
    from langmill.core.log import program, say
    from langmill.text.documents import ReadReport, plural
    from langmill.text.paths import check_outputs
    from langmill.text.readers import read_documents
    from langmill.vectors.training import train_vectors

    settings, read = resolve(VectorSettings, overrides), ReadReport()
    check_outputs([output], read=paths, overwrite=overwrite or resume)
    documents = read_documents(
        paths,
        boundary=cast('Literal["file", "line", "blank", "auto"]', boundary),
        text_field=text_field,
        encoding=encoding,
        on_bad_row=cast('Literal["fail", "skip"]', on_bad_row),
        report=read,
    )
    way = cast('Literal["auto", "spaces"]', words)
    try:
        trained = train_vectors(documents, settings, words=way, output=output, resume=resume)
    except (KeyboardInterrupt, SystemExit):
        if output.with_name(f"{output.name}.state").is_dir():
            more = [part for part in sys.argv[1:] if part != "--resume"]
            say(f"to go on: {program()} {shlex.join([*more, '--resume'])}")
        raise
    say(f"read {read}")
    if as_json:
        losses = [float(loss) for loss in trained.facts.get("loss", "").split()]
        result = {"vectors": str(output), "words": len(trained.words), "loss": losses, "facts": trained.facts}
        click.echo(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        click.echo(f"{output}: {plural(len(trained.words), 'word')}, {trained.width} numbers each")
