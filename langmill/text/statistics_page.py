"""The figures of a corpus as one HTML page with its pictures inside, to be opened without a network. [text]"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from langmill.core.files import atomic_write
from langmill.core.page import page as html_page
from langmill.core.page import picture, table
from langmill.text.statistics import CorpusStatistics


def write_page(statistics: CorpusStatistics, path: Path, *, title: str) -> None:
    """Write the page; raises MissingDependencyError without matplotlib."""
    atomic_write(path, page(statistics, title=title))


def page(found: CorpusStatistics, *, title: str) -> str:
    """Return the page. Words of the corpus stand in tables alone: a browser has fonts for every script."""
    lengths = [
        (name, round(of.mean, 1), *of.quantiles.values())
        for name, of in {
            **found.lengths,
            **({"tokens": found.tokens.documents} if found.tokens else {}),
        }.items()
    ]
    first = next(iter(found.lengths.values()))
    heads = ["", "mean", *(f"{float(q):.0%}" for q in first.quantiles)]
    body = [
        table(["", ""], _totals(found)),
        "<h2>Lengths of documents</h2>",
        table(heads, lengths),
        picture(partial(_draw_lengths, found=found)),
        "<h2>Characters and languages</h2><div class=side>",
        table(["kind", "share"], [(name, f"{share:.2%}") for name, share in found.scripts.items()]),
        table(["language", "documents"], found.languages.items()) if found.languages else "",
        "</div><h2>Vocabulary</h2>",
        picture(partial(_draw_vocabulary, found=found)),
        table(["word", "occurrences"], found.top),
    ]
    return html_page(title, body)


def _totals(found: CorpusStatistics) -> list[tuple[Any, ...]]:
    lower = "at least " if found.vocabulary_is_partial else ""
    rows: list[tuple[Any, ...]] = [
        ("documents", found.documents),
        ("characters", found.characters),
        ("bytes as UTF-8", found.bytes),
        ("lines", found.lines),
        ("words", found.words),
        ("different words", f"{lower}{found.vocabulary:,}"),
        ("words that occur once", found.once),
        ("Heaps' law", f"V = {found.heaps[0]:.3g} n^{found.heaps[1]:.3f}"),
        ("Zipf's law", f"f = {found.zipf[0]:.3g} r^-{found.zipf[1]:.3f}"),
        ("exact duplicates", found.exact_duplicates),
        ("near-duplicates", found.near_duplicates),
        *((f"not read: {reason}", count) for reason, count in found.rejected.items()),
    ]
    if found.tokens:
        rows += [("tokens", found.tokens.total), ("tokens a word", f"{found.tokens.per_word:.3f}"),
                 ("tokens a character", f"{found.tokens.per_character:.3f}")]  # fmt: skip
    return rows


def _draw_lengths(figure: Any, found: CorpusStatistics) -> None:
    for axes, (name, lengths) in zip(figure.subplots(1, len(found.lengths)), found.lengths.items()):
        edges, counts = zip(*lengths.histogram)
        axes.stairs(counts, [*edges, max(lengths.quantiles["1.0"] + 1, edges[-1] * 1.01)], fill=True)
        axes.set(xscale="log", xlabel=f"{name} in a document", ylabel="documents")


def _draw_vocabulary(figure: Any, found: CorpusStatistics) -> None:
    left, right = figure.subplots(1, 2)
    for axes, points, (factor, exponent), labels in (
        (left, found.growth, found.heaps, ("words read", "different words", "Heaps")),
        (right, found.frequencies, (found.zipf[0], -found.zipf[1]), ("rank", "occurrences", "Zipf")),
    ):
        if not points:
            continue
        x, y = zip(*points)
        axes.plot(x, y, ".", markersize=3)
        law = f"{labels[2]}: {factor:.3g} x^{exponent:.3f}"
        axes.plot(x, [factor * value**exponent for value in x], linewidth=1, label=law)
        axes.set(xscale="log", yscale="log", xlabel=labels[0], ylabel=labels[1])
        axes.legend()
