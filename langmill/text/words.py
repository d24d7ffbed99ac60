"""Texts as lists of words and of sentences, in any script. [text]

A word is what stands between spaces and signs, with the signs that belong to it: contractions (`don't`),
compounds (`state-of-the-art`, `snake_case`), numbers with separators (`1,000.50`, `10:30`, `2024-05-01`),
abbreviations (`U.S.A.`, `e.g.`, `Mr.`), addresses of pages and mail. Chinese is cut by a segmenter.
"""

from __future__ import annotations

import functools
import re
from typing import Literal

from langmill.text.segmentation import HAN, LETTER, Segmenter, default_segmenter

_TITLES = "Capt Col Corp Dr Gov Hon Inc Jr Lt Ltd Mr Mrs Ms Prof Rev Sen Sgt Sr St etc vs".split()
"""Written with a full stop that belongs to them; none is a word without it."""
_ABBREVIATION = (
    rf"(?:{'|'.join(sorted({*_TITLES, *map(str.lower, _TITLES)}))})\.(?!{LETTER})"
    r"|(?:[A-Za-z]\.){2,}|[Pp]h\.[Dd]\."
)
# An accent that stands alone (NFD) belongs to the letter before it.
_JOINED = rf"(?:(?:['’_‐‑-]|(?<=\d)[.,:/](?=\d)){LETTER}+|[\u0300-\u036f]+{LETTER}*)*"
# Both first lines are for speed alone: few words are followed by a full stop, and most have no sign beside them.
_WORD = (
    rf"(?=[A-Za-z]{{1,4}}\.)(?:{_ABBREVIATION})"
    r"|[A-Za-z]+(?![^\s,.;])"
    rf"|{LETTER}+{_JOINED}|{HAN.pattern}"
)
_ADDRESS = (
    r"(?:https?|ftp)://[!-~]*[A-Za-z0-9/#&=+~%_-]|www\.[!-~]*[A-Za-z0-9/#&=+~%_-]"
    # Lengths are bounded as mail has them, so that no long text is gone through again and again.
    r"|[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+"
)
_REST = {"words": "", "signs": r"|\S", "all": r"|\s+|."}

_SENTENCE_END = re.compile(
    r"""
    [。！？…]+[”’」』）]*                                   # Chinese: the sign is enough
    | (?<!\b[A-Z])(?<![.!?])[.!?]+(?![.!?])["'”’)\]]*(?=\s+["'“‘(\[]*[^\W_a-z])  # else a space and no small letter must follow
    | \n
    """,
    re.VERBOSE,
)
_SHORTENED_AT_END = re.compile(rf"\b(?:{_ABBREVIATION})$")


@functools.cache
def _pattern(kind: Literal["words", "signs", "all"], *, addresses: bool) -> re.Pattern[str]:
    return re.compile((f"{_ADDRESS}|" if addresses else "") + _WORD + _REST[kind], re.DOTALL)


def tokenise(
    text: str, *, lowercase: bool = True, signs: bool = False, segment: Segmenter | None = None
) -> list[str]:
    """Return the words of a text in order.

    lowercase: ignore case. signs: keep punctuation, each sign as a word of its own.
    segment: cuts Chinese; by default the dictionary of rjieba.

    >>> tokenise("Don't go to www.nantucket.com by 10:30, Mr. Ahab!")
    ["don't", 'go', 'to', 'www.nantucket.com', 'by', '10:30', 'mr.', 'ahab']
    """
    return _cut(text.lower() if lowercase else text, "signs" if signs else "words", segment)


def pieces(text: str, *, segment: Segmenter | None = None) -> list[str]:
    """Return the words, signs and runs of white space of a text; joined, they are the text.

    >>> pieces("Mr. Ahab's  ship!")
    ['Mr.', ' ', "Ahab's", '  ', 'ship', '!']
    """
    return _cut(text, "all", segment)


def _cut(text: str, kind: Literal["words", "signs", "all"], segment: Segmenter | None) -> list[str]:
    addresses = "@" in text or "://" in text or "www." in text
    found: list[str] = _pattern(kind, addresses=addresses).findall(text)
    if text.isascii() or not HAN.search(text):
        return found
    segment = segment or default_segmenter()
    out: list[str] = []
    for piece in found:
        if HAN.match(piece):
            out += segment(piece)
        else:
            out.append(piece)
    return out


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, white space at their ends included; joined, they are the text.

    A line end ends a sentence too.

    >>> sentences("Call me Ishmael. Mr. Starbuck did. 你好！再见。")
    ['Call me Ishmael. ', 'Mr. Starbuck did. ', '你好！', '再见。']
    """
    out, begin = [], 0
    for match in _SENTENCE_END.finditer(text):
        if match[0] == "." and _SHORTENED_AT_END.search(text, max(begin, match.end() - 12), match.end()):
            continue
        end = match.end()
        while end < len(text) and text[end].isspace():
            end += 1
        if end > begin:
            out.append(text[begin:end])
            begin = end
    return [*out, text[begin:]] if begin < len(text) else out
