"""`langmill combine`. [cli]"""

from __future__ import annotations

import json

import click

from langmill.cli.options import json_option, overwrite_option, settings_options
from langmill.text.labelled_rows import LabelledSettings


@click.command("combine")
@click.argument("checkpoints", nargs=-1, required=True, metavar="CKPT CKPT…")
@click.option("-o", "--output", required=True, help="The folder to write.")
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="Held-out text or rows: only checkpoints that do not lower the score are taken, the best first. (repeatable)",
)
@settings_options(LabelledSettings)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@overwrite_option
@json_option
def combine(
    checkpoints: tuple[str, ...],
    output: str,
    data: tuple[str, ...],
    device: str,
    overwrite: bool,
    as_json: bool,
    overrides: dict[str, object],
) -> None:
    """Write the mean of the weights of CHECKPOINTS, which have one layout, as one checkpoint: a model soup.

    It costs no more than one of them. It is of use for fine-tunings of one checkpoint, with other seeds or settings;
    others' answers are averaged instead: langmill predict A+B.

    \b
    langmill combine runs/a runs/b runs/c -o runs/soup
    langmill combine runs/a runs/b runs/c -o runs/soup --data dev.csv --label-field sentiment
    """
    from langmill.core.device import choose_device
    from langmill.evaluation.soup import combine as write_soup

    soup = write_soup(
        checkpoints, output, data=data, reading=overrides, device=choose_device(device), overwrite=overwrite
    )
    print(json.dumps(soup.to_dict(), ensure_ascii=False) if as_json else soup.table())
