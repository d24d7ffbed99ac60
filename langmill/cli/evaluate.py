"""`langmill evaluate`. [cli]"""

from __future__ import annotations

import json
from typing import Any, Literal, cast

import click

from langmill.cli.options import encoding_option, reading_options


@click.command("evaluate")
@click.argument("checkpoint", metavar="CKPT")
@click.argument("data", metavar="DATA…", nargs=-1, required=True)
@click.option("--against", default=None, metavar="CKPT2", help="A second checkpoint: is the difference real?")
@click.option(
    "--references/--no-references",
    default=True,
    show_default=True,
    help="Also what xz -9 and an n-gram model of the training text reach.",
)
@click.option(
    "--train-data",
    multiple=True,
    metavar="PATH",
    help="Training text for the n-gram model. (repeatable)  [default: what the run of CKPT was trained on]",
)
@click.option(
    "--context", type=int, help="Tokens to look back over.  [default: all the model can, at most 2048]"
)
@click.option("--stride", type=int, help="Tokens from one window to the next.  [default: half the context]")
@reading_options
@encoding_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def evaluate(
    checkpoint: str,
    data: tuple[str, ...],
    against: str | None,
    references: bool,
    train_data: tuple[str, ...],
    context: int | None,
    stride: int | None,
    boundary: str,
    text_field: str,
    encoding: str,
    on_bad_row: str,
    device: str,
    as_json: bool,
) -> None:
    """Score CKPT on held-out text (files, folders, globs): bits per byte, bits per character, perplexity.

    Every token is predicted from at least half a context before it in its document, so the figures do
    not depend on how the text is cut. Beside them stands what a compressor and an n-gram model reach.

    \b
    langmill evaluate runs/book held-out.txt
    langmill evaluate runs/new test/ --against runs/old --json
    """
    from langmill.core.log import say
    from langmill.evaluation.report import Evaluation, add_comparison, add_references, overlap_note
    from langmill.evaluation.texts import ReadingSettings, named_data, read_texts, run_data
    from langmill.text.documents import ReadReport

    reading = ReadingSettings(
        cast(Literal["auto", "file", "line", "blank"], boundary),
        text_field,
        encoding,
        cast(Literal["fail", "skip"], on_bad_row),
    )
    report = ReadReport()
    texts = read_texts(data, reading=reading, report=report)
    say(f"read {report}")
    own = run_data(checkpoint)
    training = named_data(train_data, reading=reading) if train_data else own
    score = _score(checkpoint, texts, context=context, stride=stride, device=device)
    result = Evaluation(checkpoint, score, notes=overlap_note(own, data, checkpoint))
    if against is not None:
        result = add_comparison(
            result, against, _score(against, texts, context=context, stride=stride, device=device)
        )
    if references:
        result = add_references(result, texts, training)
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        click.echo(result.table())


def _score(path: str, texts: Any, *, context: int | None, stride: int | None, device: str) -> Any:
    """Load a checkpoint, score it and let it go, so that two never lie in memory together."""
    from langmill.checkpoint import load_checkpoint
    from langmill.core.device import choose_device
    from langmill.evaluation.report import score_checkpoint

    opened = load_checkpoint(path, device=choose_device(device))
    return score_checkpoint(opened, path, texts, context=context, stride=stride)
