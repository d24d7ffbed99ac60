"""`langmill data`: clean a corpus, take duplicates away, split it, check it, describe it. [cli]"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from langmill.cli.options import settings_options
from langmill.text.settings import PipelineSettings

if TYPE_CHECKING:
    from langmill.text.pipeline import CleaningReport


@click.group()
def data() -> None:
    """Make a corpus that you can trust: clean, split, check and describe it."""


output_option = click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: .jsonl or .txt, .gz or .zst.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


@data.command()
@click.argument("paths", nargs=-1, required=True)
@output_option
@json_option
@settings_options(PipelineSettings)
def dedup(paths: Sequence[str], output: Path, as_json: bool, overrides: dict[str, Any]) -> None:
    """Write the documents of PATHS without duplicates, and those that go to OUTPUT.rejects.jsonl."""
    from langmill.core.config import nest, resolve
    from langmill.text.pipeline import clean

    show(clean(paths, output, settings=resolve(PipelineSettings, nest(overrides))), as_json)


def show(report: CleaningReport, as_json: bool) -> None:
    """Print what became of a corpus."""
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report), ensure_ascii=False, indent=2))
        return
    click.echo(f"read      {report.read:>12,}  documents, {report.characters_in:,} characters")
    click.echo(
        f"kept      {report.kept:>12,}  documents, {report.characters_out:,} characters → {report.output}"
    )
    for reason, count in report.rejected.items():
        example = report.examples[reason]
        text = " ".join(example.text.split())
        like = f", like {example.duplicate_of}" if example.duplicate_of else ""
        click.echo(f"rejected  {count:>12,}  {reason} (first: {example.source}{like}: {text[:60]})")
    for name, count in report.changes.items():
        click.echo(f"changed   {count:>12,}  {name}")
    for name, count in report.ignored.items():
        click.echo(f"not read  {count:>12,}  files: {name}")
    click.echo(f"rejects → {report.rejects}; {report.seconds:.1f} s", err=True)
