"""Shows tokens to people: visible white space, bytes of cut characters in hex, colours. [tokens]"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from langmill.tokens.inspect import Comparison, Inspection, Piece
    from langmill.tokens.tokenizer import Tokenizer

SIGNS = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u3000": "□", "\u00a0": "⍽"}
"""What stands for white space."""

STYLES = (
    "black on bright_cyan",
    "black on bright_yellow",
    "black on bright_green",
    "black on bright_magenta",
)
"""Neighbouring tokens take turns."""


def visible(data: bytes) -> str:
    r"""Return bytes as text that shows everything: white space as signs, broken characters in hex.

    >>> visible(" the\n".encode()), visible("中".encode()[:2]), visible(b"a\x00")
    ('·the⏎', 'E4 B8', 'a\\x00')
    """
    shown: list[str] = []
    for character in data.decode("utf-8", "surrogateescape"):
        if 0xDC80 <= ord(character) <= 0xDCFF:
            joined = shown and shown[-1].endswith("\u200b")
            shown.append((" " if joined else "") + f"{ord(character) - 0xDC00:02X}\u200b")
        elif character in SIGNS:
            shown.append(SIGNS[character])
        elif character.isprintable():
            shown.append(character)
        else:
            shown.append(ascii(character)[1:-1])
    return "".join(shown).replace("\u200b", "")


def coloured(pieces: Iterable[Piece], *, separator: str = "") -> Text:
    """Return the pieces one after another, neighbours in different colours, lines broken as in the text.

    separator: stands between pieces, for output without colours.
    """
    from rich.text import Text

    out = Text(overflow="fold")
    for number, piece in enumerate(pieces):
        if number and separator and not out.plain.endswith("\n"):
            out.append(separator)
        out.append(visible(piece.data), style=STYLES[number % len(STYLES)])
        if piece.data.endswith(b"\n"):
            out.append("\n")
    return out


def number(value: float | None, *, digits: int = 2) -> str:
    """Return a figure with fixed decimals, or a dash.

    >>> number(1.234), number(None)
    ('1.23', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """Return a share as a percentage that never rounds up to 100.

    >>> percent(1.0), percent(0.99999), percent(None)
    ('100 %', '99.99 %', '–')
    """
    if value is None:
        return "–"
    return "100 %" if value >= 1 else f"{min(value * 100, 99.99):.2f} %"


def plain_table(*titles: str) -> Table:
    """Return a table without frames: the first column of words, the others of figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if place == 0 else "right", overflow="fold")
    return table


def summary(tokenizer: Tokenizer) -> str:
    """Return what a tokenizer is, in lines."""
    specials = ", ".join(
        f"{role} {token} = {tokenizer.backend.token_to_id(token)}"
        for role, token in tokenizer.specials.named().items()
    )
    lines = [f"kind              {tokenizer.kind}", f"vocabulary        {tokenizer.vocabulary_size} tokens"]
    lines.append(f"special tokens    {specials or 'none'}")
    if tokenizer.maximum_tokens is not None:
        lines.append(f"longest input     {tokenizer.maximum_tokens} tokens")
    lines.append(f"chat template     {'yes' if tokenizer.chat_template else 'no'}")
    lines.append(f"fingerprint       {tokenizer.fingerprint()}")
    return "\n".join(lines)


def figures(found: Inspection) -> str:
    """Return the measurements of a text, in lines."""
    lines = [
        f"text              {found.characters} characters, {found.bytes} bytes",
        f"tokens            {found.tokens}",
        f"bytes per token   {number(found.bytes_per_token)}",
        f"characters/token  {number(found.characters_per_token)}",
        f"coverage          {percent(found.coverage)} of characters whole in one token"
        f" ({found.unknown_tokens} unknown tokens, {found.byte_tokens} parts of characters)",
    ]
    if found.difference is None:
        lines.append("round trip        exact")
    else:
        difference = found.difference
        lines.append(
            f"round trip        differs from character {difference.character}: "
            f"{difference.expected!r} came back as {difference.found!r}"
        )
    return "\n".join(lines)


def fertility_table(found: Inspection) -> Table:
    """Return the tokens that each script takes."""
    table = plain_table("script", "counted", "units", "tokens", "tokens per unit")
    for script, share in found.fertility.items():
        table.add_row(script, share.unit, str(share.units), str(share.tokens), number(share.tokens_per_unit))
    return table


def comparison_table(rows: Sequence[Comparison]) -> Table:
    """Return several tokenizers' measurements on one text, a row each."""
    table = plain_table(
        "tokenizer",
        "kind",
        "vocabulary",
        "tokens",
        "bytes/token",
        "coverage",
        "per Latin word",
        "per Han",
        "exact",
        "MB/s",
    )
    for row in rows:
        found = row.inspection
        table.add_row(
            row.name,
            row.kind,
            str(row.vocabulary),
            str(found.tokens),
            number(found.bytes_per_token),
            percent(found.coverage),
            number(row.fertility("latin")),
            number(row.fertility("han")),
            "yes" if found.difference is None else "no",
            number(row.megabytes_per_second, digits=1),
        )
    return table
