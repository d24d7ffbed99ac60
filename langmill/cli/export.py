"""`langmill export`. [cli]"""

from __future__ import annotations

import re

import click

FORMATS = {
    "hf": "a Hugging Face folder",
    "merged": "the same, by the name that it has for adapters",
}
"""What a checkpoint is written as."""
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(text: str) -> float:
    """Read a size: a number of bytes, or one with KB, MB, GB, TB, or KiB and so on.

    >>> parse_bytes("5GB"), parse_bytes("1.5 MiB"), parse_bytes("2000")
    (5000000000.0, 1572864.0, 2000.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", text.strip().upper())
    if not match or match[2] not in UNITS or not float(match[1]):
        raise click.BadParameter(f"{text!r} is no size; write it like 5GB or 500MB")
    return float(match[1]) * UNITS[match[2]]


@click.command("export")
@click.argument("checkpoint")
@click.option(
    "--to", "form", type=click.Choice(list(FORMATS)), default="hf", help="What to write.  [default: hf]"
)
@click.option("-o", "--output", required=True, help="The folder to write.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the weights.",
)
@click.option(
    "--max-shard-size",
    default="5GB",
    show_default=True,
    callback=lambda context, parameter, value: parse_bytes(value),
    help="Weights that take more are split into several files.",
)
@click.option("--overwrite", is_flag=True, help="Replace the checkpoint that the folder holds.")
def export(
    checkpoint: str, form: str, output: str, dtype: str, max_shard_size: float, overwrite: bool
) -> None:
    """Write CHECKPOINT (a run, an adapter, a Hugging Face folder or a hub name) as a plain folder for other programs.

    Adapters are merged into their base and weight normalisation is folded; the tokenizer, the chat template and
    what generation_config.json recommends go along. Transformers opens the folder to the same scores.

    \b
    langmill export runs/adapter --to merged -o runs/whole
    langmill export runs/book --to hf -o book-bf16 --dtype bfloat16
    """
    import torch

    from langmill.checkpoint import load_checkpoint
    from langmill.checkpoint.export import check_known_elsewhere, export_checkpoint
    from langmill.core.log import format_count

    loaded = load_checkpoint(checkpoint, dtype=getattr(torch, dtype))
    check_known_elsewhere(loaded)
    export_checkpoint(output, loaded, max_shard_bytes=max_shard_size, overwrite=overwrite)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    note = f", its adapter merged into {loaded.base}" if loaded.adapter else ""
    print(f"{output}: {loaded.family}, {format_count(parameters)} parameters in {dtype}{note}")
