"""Words so common that they tell little of what a text is about. [text]"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from langmill.core.errors import ConfigError, did_you_mean
from langmill.text.normalise import require


@functools.cache
def stop_words(language: str) -> frozenset[str]:
    """Return the stop words of a language (`en`, `zh`, and every other that stopwordsiso keeps), in small letters.

    >>> {"the", "of"} <= stop_words("en"), {"的", "了"} <= stop_words("zh")
    (True, True)
    """
    known = stop_word_languages()
    if language not in known:
        raise ConfigError(
            f"no stop words of {language!r}; known languages: {', '.join(known)}{did_you_mean(language, known)}"
        )
    return frozenset(word.lower() for word in _package().stopwords(language))


def stop_word_languages() -> list[str]:
    """Return the codes of the languages that have a list."""
    return sorted(_package().langs())


def _package() -> Any:
    return require("stopwordsiso", "a list of stop words")


def is_stop_word(word: str, stops: frozenset[str]) -> bool:
    """Say whether a word is among stop words, whatever its case and apostrophe."""
    return word.lower().replace("’", "'") in stops


def remove_stop_words(words: Iterable[str], *, languages: Iterable[str] = ("en", "zh")) -> list[str]:
    """Return the words that are no stop words of the languages.

    >>> remove_stop_words(["The", "whale", "doesn’t", "swim", "的", "鲸"])
    ['whale', 'swim', '鲸']
    """
    stops = frozenset[str]().union(*map(stop_words, languages))
    return [word for word in words if not is_stop_word(word, stops)]
