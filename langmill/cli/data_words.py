"""`langmill data words`: texts as words, a sentence a line. [cli]"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from langmill.cli.options import overwrite_option, settings_options
from langmill.text.documents import plural
from langmill.text.word_lines import WordSettings


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("-o", "--output", required=True, help="File to write (.gz and .zst are packed); - is stdout.")
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
@click.option(
    "--segmenter",
    default=None,
    metavar="CKPT",
    help="Find Chinese words by this model, which `train ner` made of words.  [default: a dictionary]",
)
@settings_options(WordSettings)
def words(
    paths: Sequence[str],
    output: str,
    overwrite: bool,
    as_json: bool,
    segmenter: str | None,
    overrides: dict[str, Any],
) -> None:
    """Write the words of PATHS with spaces between them, a sentence a line; Chinese is segmented.

    A line end ends a sentence. Train vectors on the result with `langmill vectors train --words spaces`.

    \b
    langmill data words corpus/ -o words.txt --learn-phrases phrases.json
    langmill data words 小说.txt -o - --stop-words zh
    langmill data words treebank.conllu -o tagged.txt --tags
    langmill data words 小说.txt -o words.txt --segmenter runs/words
    """
    from langmill.core.config import resolve
    from langmill.core.errors import ConfigError
    from langmill.text.paths import check_outputs
    from langmill.text.rows import open_writer
    from langmill.text.word_lines import write_words

    settings = resolve(WordSettings, overrides)
    written = [name for name in (output, settings.learn_phrases) if name not in ("", "-")]
    check_outputs(map(Path, written), read=paths, overwrite=overwrite)
    if output == "-" and as_json:
        raise ConfigError("--json: stdout has the words; write them to a file with -o FILE")
    segment = None
    if segmenter is not None:
        if settings.dictionary or settings.tags:
            raise ConfigError(
                "--segmenter: a --dictionary, or --tags, say already where words end; leave it out"
            )
        from langmill.checkpoint import load_checkpoint
        from langmill.tasks.ner import model_segmenter

        segment = model_segmenter(load_checkpoint(segmenter))
    if output == "-":
        write_words(paths, settings, sys.stdout.buffer, segment=segment)
        return
    with open_writer(Path(output)) as stream:
        report = write_words(paths, settings, stream, segment=segment)
    if as_json:
        click.echo(json.dumps({"output": output, **vars(report)}, ensure_ascii=False, indent=2))
        return
    click.echo(f"read {report.read}", err=True)
    learned = f", {plural(report.phrases, 'phrase')} learned" if settings.learn_phrases else ""
    click.echo(f"{output}: {plural(report.sentences, 'sentence')}, {plural(report.words, 'word')}{learned}")
