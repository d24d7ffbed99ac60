"""Which script a character belongs to, and the units that each script is counted in. [tokens]"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator

SCRIPTS = ("latin", "han", "kana", "hangul", "cyrillic", "other", "digits", "signs", "space")
"""In the order in which a token that touches several is attributed: letters before digits before signs."""

UNITS = {
    "han": "characters",
    "kana": "characters",
    "signs": "characters",
    "digits": "numbers",
    "space": "runs",
}
"""What fertility is counted per; the scripts not named here are counted in words."""

NAMES = {
    "LATIN": "latin",
    "FULLWIDTH LATIN": "latin",
    "CJK": "han",
    "IDEOGRAPHIC": "han",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "HALFWIDTH KATAKANA": "kana",
    "KATAKANA-HIRAGANA": "kana",
    "HANGUL": "hangul",
    "CYRILLIC": "cyrillic",
}
"""How the Unicode names of a script's letters begin."""


@functools.lru_cache(maxsize=65_536)
def script_of(character: str) -> str:
    """Return the script of one character, one of `SCRIPTS`.

    >>> [script_of(c) for c in "aé中のю한5，😀 ש"]
    ['latin', 'latin', 'han', 'kana', 'cyrillic', 'hangul', 'digits', 'signs', 'signs', 'space', 'other']
    """
    category = unicodedata.category(character)
    if character.isspace() or category in ("Cc", "Zs", "Zl", "Zp"):
        return "space"
    if category[0] in "LM":
        name = unicodedata.name(character, "")
        return next((script for start, script in NAMES.items() if name.startswith(start)), "other")
    if character == "〇":
        return "han"
    return "digits" if category[0] == "N" else "signs"


def runs(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield `(script, start, end)` of every run of one script; a mark continues the word it follows.

    >>> list(runs("ab 中文1"))
    [('latin', 0, 2), ('space', 2, 3), ('han', 3, 5), ('digits', 5, 6)]
    """
    start, current = 0, ""
    for place, character in enumerate(text):
        script = script_of(character)
        if script != current and not (current and unicodedata.category(character)[0] == "M"):
            if current:
                yield current, start, place
            start, current = place, script
    if current:
        yield current, start, len(text)


def units(text: str) -> dict[str, int]:
    """Return how many units of each script `text` has: words, numbers, runs of space, or characters.

    >>> units("two words, 中文 2024")
    {'latin': 2, 'space': 3, 'signs': 1, 'han': 2, 'digits': 1}
    """
    found: dict[str, int] = {}
    for script, start, end in runs(text):
        found[script] = found.get(script, 0) + (end - start if UNITS.get(script) == "characters" else 1)
    return found


def script_of_span(span: str) -> str:
    """Return the script that a token covering `span` is attributed to: its first letter, digit or sign.

    >>> script_of_span(" the"), script_of_span("(x"), script_of_span("  ")
    ('latin', 'latin', 'space')
    """
    present = [script_of(character) for character in span]
    letters = [script for script in present if SCRIPTS.index(script) < SCRIPTS.index("digits")]
    if letters:
        return letters[0]
    return min(present, key=SCRIPTS.index, default="space")
