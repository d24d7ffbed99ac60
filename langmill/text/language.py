"""In which language a text is written, told offline. [text]"""

from __future__ import annotations

import functools
from typing import Any

from langmill.core.errors import ConfigError, did_you_mean
from langmill.text.characters import Kinds, count_kinds
from langmill.text.normalise import chinese_script, require
from langmill.text.steps import Outcome

UNKNOWN = "und"
"""Code of a text whose language cannot be told, after ISO 639-2: undetermined."""

_SAMPLE_CHARACTERS = 256
_MIN_LETTERS = 4  # shorter ones are a guess

# Every third or fourth word of English prose is one of these; no other language has them together.
_ENGLISH = frozenset("the and of to that with this from which have are for you they not was his it".split())
_MIN_ENGLISH_WORDS, _MIN_ENGLISH_SHARE = 8, 0.2


def identify(text: str) -> str:
    """Return the ISO 639-1 code of the language that most of a text is written in; `und`: too short to tell.

    Chinese, Japanese and Korean are told by their scripts, other languages by py3langid's model. Three pieces of
    a long text are looked at, so one that changes its language may be taken for either.

    >>> identify("How are you today?"), identify("你好吗"), identify("これは本です"), identify("?!")
    ('en', 'zh', 'ja', 'und')
    """
    sample = _sample(text)
    kinds = count_kinds(sample)
    if code := _by_script(kinds):
        return code
    if kinds.words - kinds.digit < _MIN_LETTERS:
        return UNKNOWN
    if _is_plain_english(sample):
        return "en"
    code, _ = identifier().classify(sample)
    return str(code)


def identify_script(text: str) -> str:
    """Return the language as `identify` does, Chinese with its script: `zh-Hans`, `zh-Hant`, or `zh` for either.

    >>> identify_script("这是一个国家"), identify_script("這是一個國家")
    ('zh-Hans', 'zh-Hant')
    """
    code = identify(text)
    if code != "zh":
        return code
    script = chinese_script(_sample(text))
    return f"zh-{script}" if script else code


def _is_plain_english(text: str) -> bool:
    """Return whether function words give English away, a tenth of the model's time."""
    words = text.lower().split()
    found = [word for word in words if word in _ENGLISH]
    return (
        len(words) >= _MIN_ENGLISH_WORDS and len(found) >= _MIN_ENGLISH_SHARE * len(words) and "the" in found
    )


def _sample(text: str) -> str:
    if len(text) <= 3 * _SAMPLE_CHARACTERS:
        return text
    middle = (len(text) - _SAMPLE_CHARACTERS) // 2
    pieces = (text[i : i + _SAMPLE_CHARACTERS] for i in (0, middle, len(text) - _SAMPLE_CHARACTERS))
    return "\n".join(pieces)


def _by_script(kinds: Kinds) -> str:
    """Return the code of a language that its script gives away, or the empty string.

    A Chinese character, kana or syllable of Hangul says as much as three Latin letters. Japanese prose has kana
    between its Chinese characters: one in twenty is more than Chinese texts quote.
    """
    asian = kinds.han + kinds.kana + kinds.hangul
    if 3 * asian <= kinds.latin + kinds.letter + kinds.unspaced or asian == 0:
        return ""
    if kinds.hangul > kinds.han + kinds.kana:
        return "ko"
    return "ja" if 20 * kinds.kana > kinds.han + kinds.kana else "zh"


@functools.cache
def identifier() -> Any:
    """Return py3langid's model, loaded once: half a second and 120 MB. Raises MissingDependencyError without it."""
    langid = require("py3langid.langid", "identifying languages")
    model = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    # The languages that ISO 639-1 has a code for: short texts are taken for small languages too easily.
    model.set_languages(sorted({code for code in model.nb_classes if len(code) == 2}))
    return model


class LanguageFilter:
    """Step: rejects documents in other languages than those asked for, with a reason such as `language: de`."""

    name = "language"

    def __init__(self, languages: str) -> None:
        """languages: codes joined by commas; `zh-Hans` and `zh-Hant` ask for a script, which `zh` leaves open.

        Raises ConfigError for a code that is never told.
        """
        self._wanted = {code.strip() for code in languages.split(",")}
        known = {*identifier().nb_classes, "zh-Hans", "zh-Hant", UNKNOWN}
        for code in sorted(self._wanted - known):
            raise ConfigError(
                f"--languages: {code!r} is no language that can be told{did_you_mean(code, known)}; "
                f"known are {', '.join(sorted(known))}"
            )
        self._scripts = any(code.startswith("zh-") for code in self._wanted)

    def __call__(self, text: str) -> Outcome:
        code = identify_script(text) if self._scripts else identify(text)
        fits = code in self._wanted or code.partition("-")[0] in self._wanted
        if self._scripts and code == "zh":  # both scripts write it so
            fits = True
        return Outcome(text, "" if fits else f"language: {code}")
