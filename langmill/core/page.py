"""HTML pages with their pictures inside, to be opened without a network. [core]"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from typing import Any

from langmill.core.errors import MissingDependencyError
from langmill.core.log import warn

STYLE = """body{font:16px/1.5 system-ui,"Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;max-width:60rem;
margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;margin:.5rem 2rem .5rem 0}td,th{padding:.1rem .8rem;
text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}img{max-width:100%}
.side{display:flex;flex-wrap:wrap}.text td:last-child,.text th:last-child{text-align:left}pre{overflow:auto}"""


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page. body: its elements, as HTML."""
    head = f"<!doctype html><html><head><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style></head>"
    return head + "<body>" + "\n".join([f"<h1>{escape(title)}</h1>", *body]) + "</body></html>\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], *, kind: str = "") -> str:
    """Return a table, numbers to the right. kind: "text" where the last column is text, which stands to the left."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads) if any(heads) else ""
    lines = ("".join(f"<td>{cell(value)}</td>" for value in row) for row in rows)
    return (
        f'<table class="{kind}"><tr>{head}</tr>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
    )


def cell(value: Any) -> str:
    """Return what stands in a table for a value.

    >>> cell(12345), cell("<b>")
    ('12,345', '&lt;b&gt;')
    """
    return f"{value:,}" if isinstance(value, (int, float)) else escape(str(value))


CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti TC",
    "Arial Unicode MS",
)
"""Fonts with Chinese characters, as Linux, Windows and macOS name them."""


@contextlib.contextmanager
def all_scripts(name: Any) -> Iterator[None]:
    """While this lasts matplotlib draws Chinese by a font that has it, where one is installed.

    Characters that no font has are told once, at the end. name: of the picture.
    """
    import matplotlib
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = ["DejaVu Sans", *(each for each in CJK_FONTS if each in installed)]
    missing: dict[str, None] = {}
    with warnings.catch_warnings(record=True) as caught, matplotlib.rc_context({"font.family": fonts}):
        warnings.simplefilter("always")
        yield
    for each in caught:
        if found := re.match(r"Glyph (\d+) .*missing from font", str(each.message)):
            missing[chr(int(found[1]))] = None
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if missing:
        warn(
            f"{name}: {len(missing)} characters missing from the fonts that are installed show as boxes:"
            f" {''.join(missing)[:40]}; install a font that has them (for Chinese, fonts-noto-cjk)"
        )


def picture(draw: Callable[[Any], None], *, height: float = 3.6, option: str = "--html") -> str:
    """Return an image element that holds the picture that `draw` makes on a figure of matplotlib.

    option: what asked for the page. Raises MissingDependencyError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"pictures need matplotlib; install it with `pip install 'langmill[viz]'`, or leave {option} out"
        ) from error
    data = io.BytesIO()
    with all_scripts("picture"):
        figure = Figure(figsize=(10, height), layout="constrained")
        draw(figure)
        figure.savefig(data, format="png", dpi=110)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'
