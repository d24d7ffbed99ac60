"""`langmill vectors similar|analogy|odd|distance|evaluate|picture|convert`: asking word vectors. [cli]"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from langmill.cli.options import overwrite_option

if TYPE_CHECKING:
    from langmill.vectors.benchmarks import AnalogiesResult, PairsResult
    from langmill.vectors.query import Scored

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
top_option = click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many words."
)
method_option = click.option(
    "--method",
    type=click.Choice(["add", "multiply"]),
    default="add",
    show_default=True,
    help="add: sums of vectors (3CosAdd). multiply: products of cosines (3CosMul).",
)


@click.command()
@click.argument("file")
@click.argument("words", metavar="WORD…", nargs=-1, required=True)
@click.option("--not", "negative", multiple=True, help="A word to move away from; may be repeated.")
@top_option
@method_option
@as_json_option
def similar(
    file: str, words: Sequence[str], negative: Sequence[str], top: int, method: str, as_json: bool
) -> None:
    """Print the words nearest to WORD in the vectors of FILE; of several, to all of them together."""
    from langmill.vectors.formats import read_vectors
    from langmill.vectors.query import Method, most_similar

    found = most_similar(read_vectors(file), words, negative, top=top, method=cast(Method, method))
    print_scored(found, as_json)


@click.command()
@click.argument("file")
@click.argument("a")
@click.argument("b")
@click.argument("c")
@top_option
@method_option
@as_json_option
def analogy(file: str, a: str, b: str, c: str, top: int, method: str, as_json: bool) -> None:
    """A is to B as C is to …: `langmill vectors analogy FILE man king woman`."""
    from langmill.vectors import query
    from langmill.vectors.formats import read_vectors

    found = query.analogy(read_vectors(file), a, b, c, top=top, method=cast(query.Method, method))
    print_scored(found, as_json)


@click.command()
@click.argument("file")
@click.argument("words", metavar="WORD…", nargs=-1, required=True)
@as_json_option
def odd(file: str, words: Sequence[str], as_json: bool) -> None:
    """Print which WORD does not belong to the others, and how near each is to the mean of all."""
    from langmill.vectors.formats import read_vectors
    from langmill.vectors.query import odd_one_out

    found = odd_one_out(read_vectors(file), words)
    print_scored(found, as_json, note="\tthe odd one")


@click.command()
@click.argument("file")
@click.argument("one")
@click.argument("other")
@as_json_option
def distance(file: str, one: str, other: str, as_json: bool) -> None:
    """Print the cosine of two words and their distance, which is 1 minus it."""
    from langmill.vectors.formats import read_vectors
    from langmill.vectors.query import similarity

    cosine = similarity(read_vectors(file), one, other)
    if as_json:
        click.echo(json.dumps({"cosine": cosine, "distance": 1 - cosine}))
    else:
        click.echo(f"cosine {cosine:.4f}, distance {1 - cosine:.4f}")


@click.command()
@click.argument("file")
@click.argument("tests", metavar="TEST…", nargs=-1, required=True)
@click.option(
    "--restrict",
    type=click.IntRange(min=1),
    help="Seek answers of analogies among so many most frequent words only.  [default: all]",
)
@as_json_option
def evaluate(file: str, tests: Sequence[str], restrict: int | None, as_json: bool) -> None:
    """Score the vectors of FILE on files of pairs (WordSim-353, SimLex-999, …) and of analogies (Google, CA8, …).

    Both are read in their own form and as tab-separated values. What has no vector is left out of the score and
    counted.
    """
    from dataclasses import asdict

    from langmill.vectors import benchmarks
    from langmill.vectors.formats import read_vectors

    read = [benchmarks.read_test(test) for test in tests]  # mistakes show before the vectors are read
    vectors = read_vectors(file)
    results = [benchmarks.score(vectors, test, restrict=restrict) for test in read]
    if as_json:
        print_json({"vectors": file, "results": [without_nan(asdict(result)) for result in results]})
        return
    for result in results:
        if isinstance(result, benchmarks.PairsResult):
            print_pairs(result)
        else:
            print_analogies(result)


def print_pairs(result: PairsResult) -> None:
    """Print the score of a file of pairs."""
    pieces = f" ({result.from_pieces} by their pieces)" if result.from_pieces else ""
    if math.isnan(result.spearman):
        click.echo(
            f"{result.name}: no correlation: it takes two pairs or more with vectors, of unequal scores"
        )
    else:
        interval = f"95 % {result.low:.4f} to {result.high:.4f}"
        click.echo(f"{result.name}: Spearman {result.spearman:.4f} ({interval})")
    click.echo(
        f"  covers {result.scored} of {result.pairs} pairs, {result.scored / result.pairs:.1%}{pieces}"
    )
    click.echo(f"  beside: {result.reference}")


def print_analogies(result: AnalogiesResult) -> None:
    """Print the score of a file of analogies."""
    from rich.table import Table

    from langmill.cli.tokenizer import print_rich

    table = Table(title=f"{result.name}, {result.vocabulary:,} words", title_justify="left")
    table.add_column("section")
    for name in ("questions", "covered", "3CosAdd", "3CosMul"):
        table.add_column(name, justify="right")
    for section in [*result.sections, result.total]:
        shares = [
            f"{hits / section.scored:.1%}" if section.scored else "-"
            for hits in (section.add, section.multiply)
        ]
        table.add_row(section.section, f"{section.questions:,}", f"{section.scored:,}", *shares)
    print_rich(table)
    if not result.total.scored:
        click.echo("  no score: of no question all words are among those of the vectors")
    else:
        for name, (low, high) in (("3CosAdd", result.add_interval), ("3CosMul", result.multiply_interval)):
            click.echo(f"  {name}: 95 % {low:.1%} to {high:.1%}")
    click.echo(f"  beside: {result.reference}")


@click.command()
@click.argument("file")
@click.argument("words", metavar="[WORD…]", nargs=-1)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="A .png, or a .html page."
)
@click.option(
    "--top",
    type=click.IntRange(min=3),
    default=300,
    show_default=True,
    help="Without WORD: so many frequent ones.",
)
@click.option(
    "--method",
    type=click.Choice(["pca", "tsne", "umap"]),
    default="pca",
    show_default=True,
    help="pca: the directions of largest variance. tsne, umap: neighbours stay neighbours.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Decides t-SNE's and UMAP's random choices."
)
@overwrite_option
def picture(
    file: str, words: Sequence[str], output: Path, top: int, method: str, seed: int, overwrite: bool
) -> None:
    """Draw the words of FILE as points of a plane."""
    from langmill.text.paths import check_outputs
    from langmill.vectors.formats import read_vectors
    from langmill.vectors.picture import draw

    check_outputs([output], read=[file], overwrite=overwrite)
    way = cast('Literal["pca", "tsne", "umap"]', method)
    drawn = draw(read_vectors(file), output, words=words, count=top, method=way, seed=seed)
    click.echo(f"{output}: {len(drawn):,} words")


@click.command()
@click.argument("file")
@click.argument("output", type=click.Path(path_type=Path))
@overwrite_option
def convert(file: str, output: Path, overwrite: bool) -> None:
    """Write the vectors of FILE to OUTPUT, in the form that its ending says.

    .vec .txt: text of word2vec and fastText. .bin: binary of word2vec, or of fastText where words have pieces.
    .npz .safetensors: arrays, with all that is known.
    """
    from langmill.text.documents import plural
    from langmill.text.paths import check_outputs
    from langmill.vectors.formats import check_ending, read_vectors, write_vectors

    check_ending(output)
    check_outputs([output], read=[file], overwrite=overwrite)
    vectors = read_vectors(file)
    write_vectors(output, vectors)
    click.echo(f"{output}: {plural(len(vectors.words), 'word')}, {vectors.width} numbers each")


def print_scored(found: Sequence[Scored], as_json: bool, *, note: str = "") -> None:
    """Print words and their scores; note: stands behind the first for people to read."""
    if as_json:
        print_json([{"word": word, "score": score} for word, score in found])
        return
    for place, (word, score) in enumerate(found):
        click.echo(f"{score:.4f}\t{word}{'' if place else note}")


def print_json(tree: Any) -> None:
    """Print one JSON value."""
    click.echo(json.dumps(tree, ensure_ascii=False, indent=2))


def without_nan(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a tree whose numbers JSON can hold: null where there is none."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in tree.items()
    }
