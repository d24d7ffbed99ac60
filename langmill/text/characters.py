"""Counting characters by kind, fast: letters, Chinese characters, kana, scripts without spaces, white space. [text]"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LATIN, LETTER, DIGIT, HAN, KANA, HANGUL, UNSPACED, SPACE, SIGN = range(9)
"""Kinds of characters. UNSPACED: letters and vowel signs of scripts that set no space between words (Thai, Lao …)."""

_TABLE_SIZE = 0x20000
_RANGES = (
    (HAN, 0x3400, 0x4DC0),
    (HAN, 0x4E00, 0xA000),
    (HAN, 0xF900, 0xFB00),
    (HAN, 0x3005, 0x3008),  # 々〆〇
    (KANA, 0x3041, 0x3097),
    (KANA, 0x309D, 0x30A0),
    (KANA, 0x30A1, 0x30FB),
    (KANA, 0x30FC, 0x3100),
    (KANA, 0xFF66, 0xFFA0),
    (HANGUL, 0x1100, 0x1200),
    (HANGUL, 0x3131, 0x318F),
    (HANGUL, 0xAC00, 0xD7A4),
    (UNSPACED, 0x0E01, 0x0E3B),  # Thai; its digits and signs stay what they are
    (UNSPACED, 0x0E40, 0x0E4F),
    (UNSPACED, 0x0E81, 0x0ECF),  # Lao
    (UNSPACED, 0x1000, 0x1040),  # Burmese
    (UNSPACED, 0x1780, 0x17D4),  # Khmer
)


class Kinds(NamedTuple):
    """How many characters of each kind a text has; in the order of the kinds' numbers."""

    latin: int
    letter: int
    digit: int
    han: int
    kana: int
    hangul: int
    unspaced: int
    space: int
    sign: int

    @property
    def words(self) -> int:
        """All letters and digits, of whatever script."""
        return self.latin + self.letter + self.digit + self.han + self.kana + self.hangul + self.unspaced

    @property
    def visible(self) -> int:
        """All but white space."""
        return self.words + self.sign


@functools.cache
def _table() -> npt.NDArray[np.uint8]:
    import unicodedata

    import numpy as np

    table = np.full(_TABLE_SIZE, SIGN, np.uint8)
    for code in range(_TABLE_SIZE):
        character = chr(code)
        if character.isspace():
            table[code] = SPACE
        elif character.isdecimal():
            table[code] = DIGIT
        elif character.isalpha():
            table[code] = LATIN if code < 0x250 or 0x1E00 <= code < 0x1F00 else LETTER
        elif code > 0x2FF and unicodedata.category(character)[0] == "M":
            table[code] = LETTER  # vowel signs and accents belong to words
    for kind, begin, end in _RANGES:
        table[begin:end] = kind
    return table


def code_points(text: str) -> npt.NDArray[Any]:
    """Return a text's code points, one for each character; a lone surrogate is one as well."""
    import numpy as np

    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def count_kinds(text: str) -> Kinds:
    """Count a text's characters by kind.

    >>> count_kinds("Hi, 世界 2!")
    Kinds(latin=2, letter=0, digit=1, han=2, kana=0, hangul=0, unspaced=0, space=2, sign=2)
    """
    import numpy as np

    codes = code_points(text)
    beyond = codes[codes >= _TABLE_SIZE]
    if beyond.size:  # rare characters of Chinese, or none that is a letter
        han = int(((beyond >= 0x20000) & (beyond < 0x40000)).sum())
        codes = codes[codes < _TABLE_SIZE]
    counts = np.bincount(_table()[codes], minlength=9).tolist()
    if beyond.size:
        counts[HAN] += han
        counts[SIGN] += beyond.size - han
    return Kinds(*counts)
