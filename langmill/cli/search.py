"""`langmill search index|query`. [cli]"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal, cast

import click

from langmill.cli.options import Group, encoding_option


@click.group(cls=Group)
def search() -> None:
    """Find passages by what they mean: make an index of files with a text embedder, then ask it."""


@search.command()
@click.argument("checkpoint", metavar="CKPT")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder of the index."
)
@click.option("--tokens", type=click.IntRange(min=1), help="Tokens of the longest passage.  [default: 128]")
@click.option("--size", type=click.IntRange(min=1), help="Numbers of a vector that are kept.  [default: all]")
@click.option(
    "--text-field", default="text", show_default=True, help="The column of rows that holds the text."
)
@click.option("--on-bad-row", type=click.Choice(["fail", "skip"]), default="fail", show_default=True)
@encoding_option
@click.option("--overwrite", is_flag=True, help="Read all files anew, by whatever model the index was made.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
def index(
    checkpoint: str,
    paths: tuple[str, ...],
    output: Path,
    tokens: int | None,
    size: int | None,
    text_field: str,
    on_bad_row: str,
    encoding: str,
    overwrite: bool,
    device: str,
) -> None:
    """Index the paragraphs of files, folders and globs with CKPT; files that have not changed are not read again.

    \b
    langmill search index runs/embed notes/ -o notes.index
    langmill search index minilm docs/**/*.md -o docs.index
    """
    from langmill.core.device import choose_device
    from langmill.tasks.search import build_index

    report = build_index(
        checkpoint,
        paths,
        output,
        tokens=tokens or 0,
        size=size or 0,
        text_field=text_field,
        encoding=encoding,
        on_bad_row=cast(Literal["fail", "skip"], on_bad_row),
        overwrite=overwrite,
        device=choose_device(device),
    )
    click.echo(str(report))


@search.command()
@click.argument("folder", metavar="INDEX", type=click.Path(path_type=Path))
@click.argument("questions", metavar="TEXT…", nargs=-1, required=True)
@click.option(
    "-k", "count", type=click.IntRange(min=1), default=10, show_default=True, help="How many passages."
)
@click.option("--checkpoint", help="Where its model lies now.  [default: where it lay]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a question.")
def query(
    folder: Path, questions: tuple[str, ...], count: int, checkpoint: str | None, device: str, as_json: bool
) -> None:
    """Print the passages of INDEX nearest to each TEXT, with their cosine and where they stand.

    \b
    langmill search query notes.index "How is the mill driven?" -k 3
    """
    from langmill.core.device import choose_device
    from langmill.tasks.search import Index, open_embedder
    from langmill.tasks.search import search as find

    opened = Index.open(folder)
    embedder = open_embedder(checkpoint or opened.facts["checkpoint"], device=choose_device(device))
    for question, hits in zip(questions, find(opened, embedder, questions, count=count)):
        if as_json:
            tree = {"query": question, "hits": [asdict(hit) for hit in hits]}
            click.echo(json.dumps(tree, ensure_ascii=False))
            continue
        if len(questions) > 1:
            click.echo(f"=== {question}")
        for number, hit in enumerate(hits, 1):
            click.echo(f"{number:2}. {hit.score:.4f}  {hit.source}\n    {' '.join(hit.text.split())}")
