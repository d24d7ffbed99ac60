"""Where words begin and end, in any script. [text]"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Iterator

HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
"""A run of Chinese characters, in which words are not set apart."""
UNIT = re.compile(rf"{HAN.pattern}|[^\W_]+(?:['’][^\W_]+)*|\s+|.", re.DOTALL)
"""A run of Chinese characters, a word of another script with its apostrophes, white space, or a sign."""


@functools.cache
def chinese_segmenter() -> Callable[[str], list[str]] | None:
    """Return a function that cuts a run of Chinese characters into words, or None where rjieba is not installed."""
    if importlib.util.find_spec("rjieba") is None:
        return None
    import rjieba

    return rjieba.cut


def words(text: str) -> Iterator[tuple[int, int]]:
    """Yield begin and end of every word, sign and run of white space; together they are the text.

    Chinese is cut by rjieba's dictionary where it is installed, else every character is a word.

    >>> [text[a:b] for text in ["Don't go, 你好"] for a, b in words(text) if text[a:b].strip()][:3]
    ["Don't", 'go', ',']
    """
    for match in UNIT.finditer(text):
        begin, end = match.span()
        if not HAN.match(match[0]):
            yield begin, end
            continue
        segment = chinese_segmenter()
        for word in segment(match[0]) if segment else match[0]:
            yield begin, begin + len(word)
            begin += len(word)
