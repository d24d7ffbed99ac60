"""`langmill doctor`. [cli]"""

from __future__ import annotations

import json
import math
import sys

import click

from langmill.cli.options import json_option


@click.command("doctor")
@click.argument("checkpoint", metavar="[CKPT]", required=False)
@click.option(
    "--compile", "try_compile", is_flag=True, help="Also try torch.compile, which may take a minute."
)
@json_option
def doctor(checkpoint: str | None, try_compile: bool, as_json: bool) -> None:
    """Tell what this machine can do; or, with CKPT, whether a checkpoint holds.

    The checkpoint's files, weights and tokenizer are looked at, and what must come out the same is
    computed both ways: batched = single, padded = unpadded, cached = uncached, reordered = read afresh,
    packed = separate, saved and loaded = original, ours = Transformers. The exit status is 1 when
    something fails.
    """
    if checkpoint is None:
        _machine(try_compile, as_json)
    else:
        _checkpoint(checkpoint, as_json)


def _machine(try_compile: bool, as_json: bool) -> None:
    from langmill.core.log import say
    from langmill.evaluation.machine import inspect_machine

    say("measuring …")
    report = inspect_machine(try_compile=try_compile)
    if as_json:
        click.echo(json.dumps(report.to_dict(), ensure_ascii=False, indent=2))
        return
    for name, value in report.lines():
        click.echo(f"{name:<16}{value}")


def _checkpoint(path: str, as_json: bool) -> None:
    from langmill.evaluation.checkup import check_checkpoint

    checks = []
    for check in check_checkpoint(path):
        checks.append(check)
        if not as_json:
            found = limit = ""
            if check.difference is not None and not (math.isnan(check.difference) and not check.tolerance):
                found, limit = f"{check.difference:.2g}", f"≤ {check.tolerance:.2g}"
            click.echo(f"{check.name:<28}{check.status:<9}{found:<9}{limit:<9}{check.note}".rstrip())
    failed = [check.name for check in checks if not check.ok]
    if as_json:
        tree = {"checkpoint": path, "ok": not failed, "checks": [check.to_dict() for check in checks]}
        click.echo(json.dumps(tree, ensure_ascii=False, indent=2, allow_nan=False))
    else:
        click.echo(f"\n{path}: " + (f"FAILED: {', '.join(failed)}" if failed else "nothing wrong was found"))
    if failed:
        sys.exit(1)
