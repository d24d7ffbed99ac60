"""Where words begin and end, in any script; Chinese is cut by whichever segmenter is given. [text]

A segmenter cuts Chinese text into words that, joined, are the text again. There are two: by a dictionary
(the default), and by a model that tags characters, such as one trained with the `ner` task on BMES tags.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from langmill.core.errors import DataError, MissingDependencyError
from langmill.core.log import warn
from langmill.text.streams import text_lines

HAN_CHARACTERS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
HAN = re.compile(f"[{HAN_CHARACTERS}]+")
"""A run of Chinese characters, in which words are not set apart."""
LETTER = rf"[^\W_{HAN_CHARACTERS}]"
"""A letter or digit of another script."""
UNIT = re.compile(rf"{HAN.pattern}|{LETTER}+(?:['’]{LETTER}+)*|\s+|.", re.DOTALL)
"""A run of Chinese characters, a word of another script with its apostrophes, white space, or a sign."""


class Segmenter(Protocol):
    """Cuts a run of Chinese characters into words."""

    def __call__(self, text: str, /) -> list[str]:
        """Return the words of a text; joined, they are the text."""


@functools.cache
def chinese_segmenter() -> Segmenter | None:
    """Return the segmenter by rjieba's dictionary, or None where rjieba is not installed."""
    if importlib.util.find_spec("rjieba") is None:
        return None
    import rjieba

    return rjieba.cut


@functools.cache
def default_segmenter() -> Segmenter:
    """Return the segmenter by dictionary; where rjieba is not installed, say so once and cut into characters."""
    found = chinese_segmenter()
    if found is None:
        warn(
            "rjieba is not installed, so every Chinese character is taken for a word;"
            " install it with `pip install 'langmill[zh]'`"
        )
    return found or list


def dictionary_segmenter(path: Path | str) -> Segmenter:
    """Return a segmenter by rjieba's dictionary and the words of a file.

    The file is as jieba has it: a word a line, behind it perhaps how often it occurs and its part of speech
    (`云计算 300 n`). Without a frequency a word gets as much as it needs to be kept whole. Raises DataError with
    file:line, and MissingDependencyError without rjieba.
    """
    if importlib.util.find_spec("rjieba") is None:
        raise MissingDependencyError(
            f"{path}: a dictionary needs rjieba; install it with `pip install 'langmill[zh]'`"
        )
    import rjieba

    path, own, unused = Path(path), rjieba.Jieba(), 0
    for line in text_lines(path, encoding="utf-8"):
        if line.fault:
            raise DataError(f"{path}:{line.number}: {line.fault}")
        word, *rest = line.text.split() or [""]
        if word and HAN.fullmatch(word):
            frequency = int(rest.pop(0)) if rest and rest[0].isdecimal() else None
            if len(rest) > 1:
                raise DataError(
                    f"{path}:{line.number}: found {line.text[:60]!r}, expected a word, perhaps its frequency and its"
                    " part of speech"
                )
            own.add_word(word, frequency, rest[0] if rest else None)
        else:
            unused += bool(word)
    if unused:
        warn(f"{path}: {unused:,} words with other than Chinese characters are not used: only these are cut")
    return own.cut


def segmenter_from_tags(tag: Callable[[list[str]], list[str]]) -> Segmenter:
    """Return a segmenter by a function that gives each character a tag.

    B begins a word, M and I go on with it, E ends it, S is a word and O a character outside; what follows a
    hyphen (`B-NOUN`) names a kind, and another kind begins another word. Any row of tags cuts the text: M, I
    and E where no word is open begin one.

    >>> segmenter_from_tags(lambda characters: ["B", "E", "S", "B", "M", "E"])("我们爱天安门")
    ['我们', '爱', '天安门']
    """

    def segment(text: str) -> list[str]:
        tags = tag(list(text))
        if len(tags) != len(text):
            raise DataError(
                f"the tagger gave {len(tags)} tags for the {len(text)} characters of {text[:20]!r}"
            )
        words: list[str] = []
        open_kind: str | None = None  # the kind of the word that may go on
        for character, full in zip(text, tags):
            head, _, kind = full.partition("-")
            if head not in ("B", "M", "I", "E", "S", "O"):
                raise DataError(
                    f"the tagger gave {full!r}; tags are B, M, E and S, or B, I and O, with or without a kind:"
                    " take a model that was trained to segment"
                )
            if head in "MIE" and open_kind == kind:
                words[-1] += character
            else:
                words.append(character)
            open_kind = kind if head in "BMI" else None
        return words

    return segment


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
