"""The figures of a corpus as one HTML page with its pictures inside, to be opened without a network. [text]"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from langmill.core.errors import MissingDependencyError
from langmill.core.files import atomic_write
from langmill.text.statistics import CorpusStatistics

_STYLE = """body{font:16px/1.5 system-ui,"Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;max-width:60rem;
margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;margin:.5rem 2rem .5rem 0}td,th{padding:.1rem .8rem;
text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}img{max-width:100%}
.side{display:flex;flex-wrap:wrap}"""


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
        f"<h1>{escape(title)}</h1>",
        _table(["", ""], _totals(found)),
        "<h2>Lengths of documents</h2>",
        _table(heads, lengths),
        _picture(_draw_lengths, found),
        "<h2>Characters and languages</h2><div class=side>",
        _table(["kind", "share"], [(name, f"{share:.2%}") for name, share in found.scripts.items()]),
        _table(["language", "documents"], found.languages.items()) if found.languages else "",
        "</div><h2>Vocabulary</h2>",
        _picture(_draw_vocabulary, found),
        _table(["word", "occurrences"], found.top),
    ]
    head = f"<!doctype html><html><head><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style></head>"
    return head + "<body>" + "\n".join(body) + "</body></html>\n"


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


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads) if any(heads) else ""
    lines = ("".join(f"<td>{_cell(value)}</td>" for value in row) for row in rows)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else escape(str(value))


def _picture(draw: Any, found: CorpusStatistics) -> str:
    """Return an image element that holds the picture itself."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "pictures need matplotlib; install it with `pip install 'langmill[viz]'`, or leave --html out"
        ) from error
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    draw(figure, found)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


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
