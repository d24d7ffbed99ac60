"""Filters after C4, Gopher and FineWeb, and a basic one, for English and Chinese alike. [text]

A filter returns the reason to reject a text, or the empty string; C4's takes lines out as well. Its thresholds are
the papers'. For Chinese they are converted (see `measured`), and what has no counterpart there is left out:

| rule                                     | English                | Chinese and other scripts without spaces        |
|------------------------------------------|------------------------|-------------------------------------------------|
| length in words                          | between white space    | characters / 1.5                                |
| mean word length                         | 3 to 10                | no rule                                         |
| words with a letter, at least            | 0.8 of words           | letters, 0.6 of the characters: prose has 0.81  |
|                                          |                        | (a novel, quotation marks) to 0.89 (sentences)  |
| two stop words of                        | the be to of and that… | 的 了 是 在 不…, classical 之 也 其 曰…          |
| n-grams                                  | n words                | 1.5 n characters                                |
| short line                               | 30 characters          | 10 characters                                   |
| a line ends well with                    | . ! ? and quotes       | 。！？ …… and closing quotes too                 |
| words in a line, at least                | 3                      | 5 characters                                    |

Other languages are asked for two stop words of their own, where py3langid knows them and stopwordsiso has a list.

Papers: C4, Raffel et al. 2020, section 2.2; Gopher, Rae et al. 2021, appendix A.1.1 and table A1; FineWeb, Penedo et
al. 2024, section 3.6.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from langmill.core.config import Settings
from langmill.core.errors import did_you_mean
from langmill.text.language import UNKNOWN, identifier, identify
from langmill.text.measured import (
    CHARACTERS_PER_WORD,
    ENGLISH_CHARACTERS_PER_CHARACTER,
    Measured,
    duplicate_shares,
)
from langmill.text.steps import Outcome
from langmill.text.stop_words import stop_word_languages, stop_words

REASONS: dict[str, str] = {
    "basic: no letters": "no letter and no digit",
    "basic: too short": "fewer letters and digits than asked for",
    "basic: symbols": "too few letters and digits among its signs",
    "basic: repetition": "the same over and over: compression makes almost nothing of it",
    "c4: lorem ipsum": "holds the words lorem ipsum, so it is a page without content",
    "c4: curly bracket": "holds a curly bracket, so it is code",
    "c4: too few sentences": "too few sentences are left after bad lines were taken out",
    "gopher: too few words": "shorter than 50 words",
    "gopher: too many words": "longer than 100,000 words",
    "gopher: mean word length": "words shorter than 3 or longer than 10 letters on average",
    "gopher: hash signs": "more than one # in ten words",
    "gopher: ellipses": "more than one ellipsis in ten words",
    "gopher: bullet lines": "nine lines of ten begin with a bullet",
    "gopher: ellipsis lines": "three lines of ten end with an ellipsis",
    "gopher: alphabetic words": "too few words that have a letter",
    "gopher: stop words": "fewer than two of the commonest words, so it is no prose",
    "gopher: repeated paragraphs": "too many paragraphs stand there more than once",
    "gopher: characters of repeated paragraphs": "repeated paragraphs make too much of the text",
    "gopher: repeated lines": "too many lines stand there more than once",
    "gopher: characters of repeated lines": "repeated lines make too much of the text",
    **{f"gopher: top {n}-gram": f"one run of {n} words makes too much of the text" for n in (2, 3, 4)},
    **{f"gopher: repeated {n}-grams": f"runs of {n} words come again too often" for n in range(5, 11)},
    "fineweb: empty": "no line with anything in it",
    "fineweb: lines without punctuation": "too few lines end as a sentence ends",
    "fineweb: short lines": "two thirds of the lines are short, as in a menu",
    "fineweb: characters of repeated lines": "repeated lines make too much of the text",
    "fineweb: line breaks": "too many line ends for its words, as in a list",
}


class BasicSettings(Settings):
    """Limits that a user's own text passes, and what is no text does not."""

    min_letters: int = Field(2, ge=0)
    """Letters and digits that a document must have."""
    min_letter_share: float = Field(0.25, ge=0, le=1)
    """Share of letters and digits among its characters but white space."""
    min_compressed: float = Field(0.08, ge=0, le=1)
    """Size that compression must leave (zlib, level 1), as a share; prose has 0.35 to 0.65; 0: no limit."""


class C4Settings(Settings):
    """Limits after C4 (Raffel et al. 2020, section 2.2)."""

    min_sentences: int = Field(5, ge=0)
    """Sentences that must be left."""
    min_line_words: int = Field(3, ge=0)
    """Words of a line that is left; in Chinese 1.5 characters are a word."""
    max_word_characters: int = Field(1000, ge=1)
    """Length of a word above which its line is left out."""


class GopherSettings(Settings):
    """Limits after Gopher (Rae et al. 2021, appendix A.1.1, table A1); in Chinese 1.5 characters are a word."""

    min_words: float = Field(50, ge=0)
    """Shortest document, in words."""
    max_words: float = Field(100_000, ge=0)
    """Longest document, in words."""
    min_mean_word: float = Field(3, ge=0)
    """Least mean length of a word, in characters."""
    max_mean_word: float = Field(10, ge=0)
    """Greatest mean length of a word, in characters."""
    max_symbols: float = Field(0.1, ge=0)
    """Hash signs, or ellipses, to a word."""
    max_bullet_lines: float = Field(0.9, ge=0, le=1)
    """Share of lines that begin with a bullet."""
    max_ellipsis_lines: float = Field(0.3, ge=0, le=1)
    """Share of lines that end with an ellipsis."""
    min_alphabetic: float = Field(0.8, ge=0, le=1)
    """Share of words with a letter."""
    min_alphabetic_characters: float = Field(0.6, ge=0, le=1)
    """In scripts without spaces: share of letters among the characters."""
    min_stop_words: int = Field(2, ge=0)
    """Different stop words that English and Chinese documents must have; 0: none."""
    max_repeated: float = Field(0.3, ge=0, le=1)
    """Share of paragraphs, or lines, that stood before."""
    max_repeated_characters: float = Field(0.2, ge=0, le=1)
    """The same in characters."""


class FinewebSettings(Settings):
    """Limits after FineWeb (Penedo et al. 2024, section 3.6)."""

    min_punctuated_lines: float = Field(0.12, ge=0, le=1)
    """Share of lines that end as a sentence ends."""
    max_short_lines: float = Field(0.67, ge=0, le=1)
    """Share of short lines."""
    short_line: int = Field(30, ge=0)
    """Characters of a short line at most; a third in Chinese."""
    max_repeated_characters: float = Field(0.1, ge=0, le=1)
    """Share of characters in lines that stood before."""
    max_line_breaks: float = Field(0.3, ge=0)
    """Line ends to a word."""


# ---------------------------------------------------------------------------------------------------- basic

_SAMPLE_CHARACTERS = 1 << 16
_MIN_COMPRESSED_CHARACTERS = 200  # below, what zlib adds of its own blurs the share


def basic(measured: Measured, limits: BasicSettings) -> str:
    """Return why a text is none: too short, signs only, or one thing over and over."""
    kinds, text = measured.kinds, measured.text
    if not kinds.words:
        return "basic: no letters"
    if kinds.words < limits.min_letters:
        return "basic: too short"
    if kinds.words < limits.min_letter_share * kinds.visible:
        return "basic: symbols"
    if limits.min_compressed and len(text) >= _MIN_COMPRESSED_CHARACTERS:
        middle = max(0, len(text) - _SAMPLE_CHARACTERS) // 2
        sample = text[middle : middle + _SAMPLE_CHARACTERS].encode("utf-8", "surrogatepass")
        if len(zlib.compress(sample, 1)) < limits.min_compressed * len(sample):
            return "basic: repetition"
    return ""


# ------------------------------------------------------------------------------------------------------- c4

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed|来源请求|編輯|编辑)\]")
_C4_ENDS = (".", "?", "!", '"', "'", "”", "’", "。", "？", "！", "……", "」", "』")
_POLICIES = (
    *("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"),
    *(
        "隐私政策",
        "隱私政策",
        "使用条款",
        "使用條款",
        "服务条款",
        "服務條款",
        "用户协议",
        "使用cookie",
        "使用 cookie",
    ),
)
_POLICY = re.compile("|".join(_POLICIES))
# A full stop after a title, an initial or an abbreviation ends no sentence.
_SENTENCE_END = re.compile(
    r"(?:(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bvs)(?<!\bMrs)(?<!\b[A-Z])(?<!\b[a-z])\.|[!?]|\.\.)"
    r"[.!?]*[\"'”’)\]]*(?=\s+[\"'“‘(\[]?[^\sa-z]|\s*$)|[。！？…]+[”’」』）]*"
)


def c4(measured: Measured, limits: C4Settings) -> tuple[str, str, Counter[str]]:
    """Return why a text is rejected, what is left of it, and how many lines were taken out, by cause."""
    kept: list[str] = []
    dropped: Counter[str] = Counter()
    sentences = unended = 0
    for line in measured.lines:
        line = line.strip()
        if "[" in line:
            line = _CITATION.sub("", line)
        if not line:
            continue
        if not line.endswith(_C4_ENDS) or line.endswith("..."):
            unended += 1
            continue
        cause = _bad_line(line, limits, unspaced=measured.unspaced)
        if cause.startswith("c4"):
            return cause, measured.text, dropped
        if cause:
            dropped[f"c4: {cause}"] += 1
            continue
        if sentences < limits.min_sentences:
            sentences += max(1, len(_SENTENCE_END.findall(line)))
        kept.append(line)
    dropped["c4: line without terminal punctuation"] += unended
    if sentences < limits.min_sentences:
        return "c4: too few sentences", measured.text, dropped
    return "", "\n".join(kept).strip(), +dropped


def _bad_line(line: str, limits: C4Settings, *, unspaced: bool) -> str:
    """Return why a line is taken out; beginning with `c4`: why the whole document is."""
    words = line.split()
    if len(line) > limits.max_word_characters and any(
        len(word) > limits.max_word_characters and (word.isascii() or not unspaced) for word in words
    ):
        return "line with a gigantic word"
    if unspaced:
        if not re.match(rf"(?:\W*\w){{{int(limits.min_line_words * CHARACTERS_PER_WORD + 0.5)}}}", line):
            return "short line"
    elif len(words) < limits.min_line_words:
        return "short line"
    low = line.lower()
    if "lorem ipsum" in low:
        return "c4: lorem ipsum"
    if "javascript" in low:
        return "line on javascript"
    if "{" in line:
        return "c4: curly bracket"
    return "line on terms or cookies" if _POLICY.search(low) else ""


# --------------------------------------------------------------------------------------------------- gopher

_STOP_WORDS = frozenset("the be to of and that have with".split())
_STOP_CHARACTERS = "的了是在不有和这這就也之其而以于於曰"
_PUNCTUATION = "".join(map(chr, [*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127)])) + (
    "—–…·«»‹›“”„‘’，。！？：；、（）【】《》〈〉「」『』～．►∶´％"
)
_ALPHABETIC = re.compile(r"[^\W\d_]")
_BULLETS = ("•", "-", "●", "■", "◆", "▪", "‣")
_ELLIPSES = ("...", "…")
_TOP_GRAMS = ((2, 0.20), (3, 0.18), (4, 0.16))
_REPEATED_GRAMS = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))


def gopher(measured: Measured, limits: GopherSettings) -> str:
    """Return why a text is no prose by Gopher's rules of quality and repetition."""
    return (
        _gopher_words(measured, limits)
        or _gopher_lines(measured, limits)
        or _gopher_meaning(measured, limits)
        or gopher_repetition(measured, limits)
    )


def _gopher_words(measured: Measured, limits: GopherSettings) -> str:
    length = measured.length_words
    if not measured.unspaced:
        signs, characters = measured.count_unalphabetic(lambda word: not word.strip(_PUNCTUATION))
        length -= signs
    if length < limits.min_words:
        return "gopher: too few words"
    if length > limits.max_words:
        return "gopher: too many words"
    if not measured.unspaced and length:
        mean = (sum(map(len, measured.words)) - characters) / length
        if not limits.min_mean_word <= mean <= limits.max_mean_word:
            return "gopher: mean word length"
    return ""


def _gopher_lines(measured: Measured, limits: GopherSettings) -> str:
    text, lines, words = measured.text, measured.lines, max(measured.length_words, 1)
    if text.count("#") > limits.max_symbols * words:
        return "gopher: hash signs"
    ellipses = text.count("...") + text.count("…") / (2 if measured.unspaced else 1)  # …… is one in Chinese
    if ellipses > limits.max_symbols * words:
        return "gopher: ellipses"
    if sum(line.lstrip().startswith(_BULLETS) for line in lines) > limits.max_bullet_lines * len(lines):
        return "gopher: bullet lines"
    if ellipses and (
        sum(line.rstrip().endswith(_ELLIPSES) for line in lines) > limits.max_ellipsis_lines * len(lines)
    ):
        return "gopher: ellipsis lines"
    return ""


def _gopher_meaning(measured: Measured, limits: GopherSettings) -> str:
    if measured.unspaced:
        kinds = measured.kinds
        if kinds.words - kinds.digit < limits.min_alphabetic_characters * kinds.visible:
            return "gopher: alphabetic words"
    else:
        others, _ = measured.count_unalphabetic(lambda word: not _ALPHABETIC.search(word))
        if len(measured.words) - others < limits.min_alphabetic * len(measured.words):
            return "gopher: alphabetic words"
    return "" if _has_stop_words(measured, limits.min_stop_words) else "gopher: stop words"


def _has_stop_words(measured: Measured, needed: int) -> bool:
    if measured.unspaced:
        return not measured.chinese or sum(sign in measured.text for sign in _STOP_CHARACTERS) >= needed
    if len(_STOP_WORDS.intersection(measured.words)) >= needed:
        return True
    code = identify(measured.text)
    if code in ("en", UNKNOWN):
        return False
    known = stop_words(code) if code in stop_word_languages() else frozenset[str]()
    return not known or len(known.intersection(measured.text.lower().split())) >= needed


def gopher_repetition(measured: Measured, limits: GopherSettings) -> str:
    """Return which of Gopher's limits of repetition (table A1) a text exceeds."""
    characters = len(measured.text)
    lines = [line for line in measured.lines if line]
    for what, parts in (("paragraphs", measured.paragraphs), ("lines", lines)):
        share, share_characters = duplicate_shares(parts, characters)
        if share > limits.max_repeated:
            return f"gopher: repeated {what}"
        if share_characters > limits.max_repeated_characters:
            return f"gopher: characters of repeated {what}"
    for n, limit in _TOP_GRAMS:
        if measured.top_gram_share(measured.n(n)) > limit:
            return f"gopher: top {n}-gram"
    if measured.most_repeated_share(measured.n(_REPEATED_GRAMS[0][0])) <= _REPEATED_GRAMS[-1][1]:
        return ""
    for n, limit in _REPEATED_GRAMS:
        if measured.repeated_gram_share(measured.n(n)) > limit:
            return f"gopher: repeated {n}-grams"
    return ""


# -------------------------------------------------------------------------------------------------- fineweb

_FINEWEB_ENDS = tuple(".?!。？！．｡؟۔।॥።։")
_FINEWEB_UNSPACED_ENDS = (*_FINEWEB_ENDS, "…")
_CLOSING = "”’」』）)\"'】》"


def fineweb(measured: Measured, limits: FinewebSettings) -> str:
    """Return why a text is a menu or a list by FineWeb's rules."""
    lines = measured.full_lines
    if not lines:
        return "fineweb: empty"
    endings, marks = lines, _FINEWEB_ENDS
    if measured.unspaced:
        endings, marks = [line.rstrip().rstrip(_CLOSING) for line in lines], _FINEWEB_UNSPACED_ENDS
    if len([1 for line in endings if line.endswith(marks)]) < limits.min_punctuated_lines * len(lines):
        return "fineweb: lines without punctuation"
    short = limits.short_line // (ENGLISH_CHARACTERS_PER_CHARACTER if measured.unspaced else 1)
    if len([1 for line in lines if len(line) <= short]) > limits.max_short_lines * len(lines):
        return "fineweb: short lines"
    breaks = measured.text.count("\n")
    if duplicate_shares(lines, len(measured.text) - breaks)[1] > limits.max_repeated_characters:
        return "fineweb: characters of repeated lines"
    if breaks > limits.max_line_breaks * measured.length_words:
        return "fineweb: line breaks"
    return ""


# ----------------------------------------------------------------------------------------------------- step

_FILTERS: dict[str, Callable[[Measured, Any], str]] = {"basic": basic, "gopher": gopher, "fineweb": fineweb}
NAMES = ("basic", "c4", "gopher", "fineweb")


def parse_filters(names: str) -> list[str]:
    """Return the filters' names in `basic,gopher`; none for `none`. Raises ValueError for an unknown one.

    >>> parse_filters("basic, gopher"), parse_filters("none")
    (['basic', 'gopher'], [])
    """
    if names.strip() == "none":
        return []
    found = [name.strip() for name in names.split(",")]
    for name in found:
        if name not in NAMES:
            raise ValueError(
                f"unknown filter {name!r}{did_you_mean(name, NAMES)}; expected none, or {', '.join(NAMES)} joined by commas"
            )
    return list(dict.fromkeys(found))


class QualityFilter:
    """Step: puts a text through filters in turn, until one rejects it."""

    name = "filters"

    def __init__(self, limits: Mapping[str, Settings]) -> None:
        """limits: filter's name → its settings, in the order of filtering."""
        self._limits = dict(limits)
        if "gopher" in limits:
            (
                identifier(),
                stop_word_languages(),
            )  # what is missing is told here, not while documents are cleaned

    def __call__(self, text: str) -> Outcome:
        measured = Measured(text)
        counts: Counter[str] = Counter()
        for name, limits in self._limits.items():
            if name == "c4":
                assert isinstance(limits, C4Settings)
                reason, left, dropped = c4(measured, limits)
                counts += dropped
                if left != measured.text:
                    measured = Measured(left)
            else:
                reason = _FILTERS[name](measured, limits)
            if reason:
                return Outcome(measured.text, reason)
        return Outcome(measured.text, "", counts)
