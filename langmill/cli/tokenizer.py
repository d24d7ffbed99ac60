"""`langmill tokenizer`: train a tokenizer, look at one, compare several. [cli]"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from langmill.cli.options import Group, json_option, reading_options
from langmill.core.errors import DataError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from langmill.tokens.tokenizer import Tokenizer
    from langmill.tokens.train import Kind

MAXIMUM_PIECES = 400
"""How many pieces of a text `inspect` prints when nothing else is asked."""


@click.group(cls=Group)
def tokenizer() -> None:
    """Train a tokenizer, look at what it does to a text, compare several."""


@tokenizer.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write it to.")
@click.option(
    "--kind",
    type=click.Choice(["bpe", "char", "wordpiece", "unigram"]),
    default="bpe",
    show_default=True,
    help="bpe: byte-level, as GPT and Qwen. char: characters, unseen ones as bytes. "
    "wordpiece: as BERT. unigram: as SentencePiece.",
)
@click.option(
    "--vocabulary",
    type=int,
    help="Ids in all, special tokens and bytes included.  [default: 8192; char: as many as there are]",
)
@click.option(
    "--min-frequency",
    type=int,
    help="Leave out merges (char: characters) that occur less often.  [default: 2; char: 1]",
)
@click.option("--special", "extra_specials", multiple=True, help="A further special token; may be repeated.")
@click.option(
    "--lowercase/--cased", default=True, show_default=True, help="wordpiece: ignore case and accents, or not."
)
@reading_options
@click.option(
    "--maximum-bytes",
    type=int,
    help="Train on at most so much text, evenly spread over all of it.  "
    "[default: 20,000,000; char: no limit]",
)
@json_option
def train(
    paths: Sequence[str],
    output: Path,
    kind: str,
    vocabulary: int | None,
    min_frequency: int | None,
    extra_specials: Sequence[str],
    lowercase: bool,
    text_field: str,
    boundary: str,
    on_bad_row: str,
    maximum_bytes: int | None,
    as_json: bool,
) -> None:
    """Train a tokenizer on PATHS: files, folders and globs, in any format that `langmill train` reads."""
    from langmill.core.log import program
    from langmill.text.documents import ReadReport
    from langmill.text.readers import read_documents
    from langmill.tokens.train import TrainingReport, train_tokenizer

    read, report = ReadReport(), TrainingReport()
    documents = read_documents(
        paths,
        boundary=cast('Literal["file", "line", "blank", "auto"]', boundary),
        text_field=text_field,
        on_bad_row=cast('Literal["fail", "skip"]', on_bad_row),
        report=read,
    )
    trained = train_tokenizer(
        told(document.text for document in documents),
        kind=cast("Kind", kind),
        vocabulary=vocabulary,
        min_frequency=min_frequency,
        extra_specials=extra_specials,
        maximum_bytes=maximum_bytes,
        total_bytes=size_of(paths),
        lowercase=lowercase,
        report=report,
    )
    trained.save(output)
    click.echo(f"read {read}", err=True)
    for sentence in report.notes:
        click.echo(f"note: {sentence}", err=True)
    if as_json:
        print_json({"tokenizer": str(output), "fingerprint": trained.fingerprint(), **vars(report)})
    else:
        click.echo(f"{output}: a {kind} tokenizer of {trained.vocabulary_size} tokens")
        click.echo(f'look at it: {program()} tokenizer inspect {output} "some text 一些文字"')


@tokenizer.command()
@click.argument("checkpoint", metavar="CKPT")
@click.argument("texts", metavar="[TEXT…]", nargs=-1)
@click.option("--file", "file", help="Take the text from this file.")
@click.option(
    "--pieces",
    type=click.IntRange(min=0),
    default=MAXIMUM_PIECES,
    show_default=True,
    help="Show at most so many pieces.",
)
@click.option("--ids", is_flag=True, help="Also list the id and the extent of each piece.")
@json_option
def inspect(
    checkpoint: str, texts: Sequence[str], file: str | None, pieces: int, ids: bool, as_json: bool
) -> None:
    """Show how the tokenizer of CKPT (a folder or a tokenizer.json) takes a text apart, and measure it.

    Without a text it says what the tokenizer is.
    """
    from langmill.tokens.inspect import inspect_text, pieces_of
    from langmill.tokens.show import coloured, fertility_table, figures, summary
    from langmill.tokens.tokenizer import Tokenizer

    opened = Tokenizer.load(checkpoint)
    text = given_text(texts, file)
    if as_json:
        print_json(as_tree(opened, text, pieces))
        return
    click.echo(summary(opened))
    if text is None:
        return
    found = inspect_text(opened, text)
    shown = pieces_of(opened, head(text, pieces))[:pieces]
    click.echo()
    print_rich(coloured(shown, separator="" if sys.stdout.isatty() else "|"))
    if len(shown) < found.tokens:
        click.echo(f"… the first {len(shown)} of {found.tokens} pieces; --pieces shows more")
    if ids:
        for piece in shown:
            click.echo(f"{piece.id}\t{piece.start}-{piece.end}\t{piece.token}")
    click.echo()
    click.echo(figures(found))
    print_rich(fertility_table(found))


@tokenizer.command()
@click.argument("checkpoints", metavar="CKPT…", nargs=-1, required=True)
@click.option("--file", "file", help="Compare on the text of this file.")
@click.option("--text", "text", help="Compare on this text.")
@json_option
def compare(checkpoints: Sequence[str], file: str | None, text: str | None, as_json: bool) -> None:
    """Compare the tokenizers of several checkpoints on the same text.

    Tokens per Latin word and per Chinese character; MB/s is one run on this machine, for orientation.
    """
    from langmill.tokens.inspect import compare_tokenizers
    from langmill.tokens.show import comparison_table
    from langmill.tokens.tokenizer import Tokenizer

    given = given_text([text] if text is not None else [], file)
    if given is None:
        raise DataError("there is no text to compare on; give --file FILE or --text TEXT")
    rows = compare_tokenizers({name: Tokenizer.load(name) for name in checkpoints}, given)
    if as_json:
        speeds = [
            {
                "name": row.name,
                "kind": row.kind,
                "vocabulary": row.vocabulary,
                "megabytes_per_second": row.megabytes_per_second,
                **row.inspection.to_dict(),
            }
            for row in rows
        ]
        print_json({"tokenizers": speeds})
    else:
        print_rich(comparison_table(rows))


def as_tree(opened: Tokenizer, text: str | None, pieces: int) -> dict[str, Any]:
    """Return what `inspect --json` prints."""
    from langmill.tokens.inspect import inspect_text, pieces_of

    tree: dict[str, Any] = {
        "kind": opened.kind,
        "vocabulary": opened.vocabulary_size,
        "special_tokens": opened.specials.named(),
        "maximum_tokens": opened.maximum_tokens,
        "fingerprint": opened.fingerprint(),
    }
    if text is not None:
        shown = pieces_of(opened, head(text, pieces))[:pieces]
        tree |= inspect_text(opened, text).to_dict()
        tree["pieces"] = [
            {
                "id": piece.id,
                "token": piece.token,
                "bytes": piece.data.hex(),
                "start": piece.start,
                "end": piece.end,
            }
            for piece in shown
        ]
    return tree


def head(text: str, pieces: int) -> str:
    """Return as much of `text` as holds its first `pieces` pieces, none of which has over 100 characters."""
    return text if len(text) < 100_000 else text[: max(100_000, 100 * pieces)]


def given_text(texts: Sequence[str], file: str | None) -> str | None:
    """Return the text on the command line (joined with spaces) or in a file, or None."""
    if file is not None:
        if texts:
            raise DataError("a text and --file are both given; give one of them")
        from langmill.text.readers import read_documents

        text = "".join(document.text for document in read_documents([file], boundary="file"))
        if not text:
            raise DataError(f"{file}: holds no text")
        return text
    if not texts:
        return None
    text = " ".join(texts)
    if not text:
        raise DataError("the text is empty; give one with at least a character")
    return text


def size_of(paths: Sequence[str]) -> int:
    """Return the bytes on disk of everything that `paths` name, for spreading a limit evenly.

    Packed files hold more than they weigh; training then stops at the limit and says so.
    """
    from langmill.text.paths import expand

    return sum(path.stat().st_size for path in expand(paths))


def told(texts: Iterable[str]) -> Iterator[str]:
    """Pass `texts` on, saying on stderr when they are all read: training itself says nothing for a while."""
    yield from texts
    click.echo("the text is read; learning the vocabulary …", err=True)


def print_json(tree: dict[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(tree, ensure_ascii=False, indent=2))


def print_rich(thing: RenderableType) -> None:
    """Print a table or a coloured text; wide tables are not folded when the output is no terminal."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if not console.is_terminal:
        console.width = 200
    console.print(thing)
