"""`langmill predict`. [cli]"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Protocol, runtime_checkable

import click

from langmill.cli.options import read_input


@runtime_checkable
class Lined(Protocol):
    """A result that says itself how people should see it."""

    def lines(self) -> list[str]:
        """Return what to print."""


@click.command("predict")
@click.argument("checkpoint")
@click.argument("texts", nargs=-1)
@click.option("--input", "source", default=None, help="A file with one text a line; - reads standard input.")
@click.option(
    "--pair", default=None, help="A second text, which an encoder reads together with each of TEXTS."
)
@click.option(
    "--task", default=None, help="What to do with the texts.  [default: what the model was made for]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a text.")
@click.option("--device", default="auto", help="auto, cpu, cuda, mps  [default: auto]")
def predict(
    checkpoint: str,
    texts: tuple[str, ...],
    source: str | None,
    pair: str | None,
    task: str | None,
    as_json: bool,
    device: str,
) -> None:
    """Run the model in CHECKPOINT on TEXTS: an encoder fills in what [MASK] hides.

    \b
    langmill predict runs/mlm "The [MASK] sat on the mat."
    langmill predict runs/mlm --input sentences.txt --json
    langmill predict runs/mlm "Where is the cat?" --pair "On the [MASK]."
    """
    from langmill.checkpoint.folder import load_checkpoint
    from langmill.core.device import choose_device
    from langmill.core.errors import CheckpointError, DataError
    from langmill.tasks import find_task, task_of

    if source is not None:
        texts = (*texts, *(line for line in read_input(source).splitlines() if line.strip()))
    if not texts:
        raise DataError('no text given; write it after the checkpoint: langmill predict CKPT "some text"')
    loaded = load_checkpoint(checkpoint, device=choose_device(device))
    if loaded.tokenizer is None:
        raise CheckpointError(f"{checkpoint}: has no tokenizer.json, without which text cannot be read")
    results = find_task(task or task_of(loaded.model)).predict(
        loaded, texts if pair is None else [(text, pair) for text in texts]
    )
    for text, result in zip(texts, results, strict=True):
        if as_json:
            given = text if pair is None else [text, pair]
            print(json.dumps({"input": given, **asdict(result)}, ensure_ascii=False))
        else:
            print(show(result, title=text if len(texts) > 1 else ""))


def show(result: object, *, title: str) -> str:
    """Return a result for people."""
    lines = [f"=== {title}"] if title else []
    if isinstance(result, Lined):
        return "\n".join([*lines, *result.lines()])
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
