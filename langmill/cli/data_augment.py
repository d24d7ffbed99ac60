"""`langmill data augment`: more rows of a task's data. [cli]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from langmill.cli.options import json_option, overwrite_option, settings_options
from langmill.text.augment_settings import AugmentSettings


@click.command()
@click.argument("task")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write, in FILE's format."
)
@overwrite_option
@json_option
@settings_options(AugmentSettings)
def augment(
    task: str, file: Path, output: Path, overwrite: bool, as_json: bool, overrides: dict[str, Any]
) -> None:
    """Write the rows of FILE, each with changed copies behind it, which keep their labels and spans.

    TASK says what a row is: lm, classify, ner, qa, translate. New rows have a field `augmented` that names the
    operation; for text and columns a file beside the output does.

    \b
    langmill data augment classify reviews.jsonl -o more.jsonl --per-row 4
    langmill data augment ner train.conll -o more.conll --vectors news.vec --operations synonym,swap
    """
    from langmill.core.config import resolve
    from langmill.tasks import augmentation
    from langmill.tasks.augmented_files import beside, is_marked
    from langmill.text.paths import check_outputs

    written = [output, beside(output)] if is_marked(task, output) else [output]
    check_outputs(written, read=[file], overwrite=overwrite)
    report = augmentation.augment(task, file, output, resolve(AugmentSettings, overrides))
    if as_json:
        click.echo(json.dumps(vars(report), ensure_ascii=False, indent=2))
        return
    click.echo(f"read     {report.read:>10,}")
    for name, count in report.augmented.items():
        click.echo(f"new      {count:>10,}  {name}")
    if report.short:
        click.echo(f"not made {report.short:>10,}  no operation gave a new text")
    for reason, count in report.skipped.items():
        click.echo(f"skipped  {count:>10,}  {reason}")
    click.echo(f"written  {report.written:>10,}  {output}")
    if report.marks:
        click.echo(f"operations of the new rows: {report.marks}")
