"""One way to write the same text: mojibake, invisible characters, Unicode form, white space, Chinese script. [text]"""

from __future__ import annotations

import functools
import importlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

from langmill.core.errors import MissingDependencyError
from langmill.text.characters import count_kinds
from langmill.text.steps import Outcome

# Scripts in which the joiners U+200C and U+200D change how a letter looks: Arabic, the scripts of India, Sinhala,
# Burmese, Khmer, Mongolian.
_JOINING = "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\ua840-\ua87f"
_EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
# Controls but tab and line feed, soft hyphen, zero width, direction marks, byte order marks, annotation,
# non-characters, lone surrogates. What ends a line in some system (\r, \x0b, \x0c, \x85, U+2028, U+2029) is not here.
_UNSEEN = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
)
_TAGS = "\U000e0000-\U000e007f"
_INVISIBLE = re.compile(
    f"[{_UNSEEN}]"
    f"|(?<![{_JOINING}{_EMOJI}])[\u200c\u200d]"
    f"|(?<=[{_EMOJI}])(?:\u200c|\u200d(?![{_EMOJI}]))"
    # Tags spell a flag such as Scotland's after a black flag; elsewhere they are text that nobody sees.
    f"|(?<![\U0001f3f4{_TAGS}])[{_TAGS}]+"
)
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa\u30fc]")
_MAXIMUM_ROUNDS = 5
_MAYBE_INVISIBLE = re.compile(f"[{_UNSEEN}\u200c\u200d{_TAGS}]")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INDENT = re.compile(
    "^[ \t]*[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000][ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]*",
    re.M,
)
_LINE_END_SPACE = re.compile("(?<![ \t])[ \t]+\n")
_RUN = re.compile("(?<=[^ \t\n])[ \t]{2,}(?=[^ \t\n])")

# The first byte of a character in UTF-8, read in a code page with 256 characters, and one more that is not ASCII.
_LEAD = "\u00a1-\u024f\u0370-\u052f\u2310-\u259f\u2200-\u22ff"
_MOJIBAKE = re.compile(f"[{_LEAD}][\u0080-\u052f\u2000-\u22ff\u2310-\u259f\ufb00-\ufb06\ufffd ]")
# 的, 一, 在, 是, 有, 我, the comma, the full stop, 人, 他 … in UTF-8, read as GBK.
_GBK_SIGNS = "鐨涓鍦鏄鏈鎴锛銆浜浠浣杩鍜"
_GBK_MOJIBAKE = re.compile(f"[{_GBK_SIGNS}]")
# Three or more characters of GB 2312's first level, or its punctuation, read as Latin-1.
_LATIN_PAIR = "[\xb0-\xd7\xa1\xa3][\xa1-\xfe]"
_LATIN_MOJIBAKE = re.compile(f"{_LATIN_PAIR}(?:{_LATIN_PAIR}){{2,}}")
# What any of these changes begins with. One look at each text for all of them: most texts have none.
_ODD = re.compile(
    f"[\r\x0b\x0c\x85\u2028\u2029{_UNSEEN}\u200c\u200d{_TAGS}"
    f"\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000{_LEAD}{_GBK_SIGNS}]"
)


def require(module: str, purpose: str) -> Any:
    """Import an optional module, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs {module} ({error}); install it with `pip install 'langmill[data]'`"
        ) from error


def repair_mojibake(text: str) -> tuple[str, int]:
    """Return the text with wrongly decoded lines mended, and how many lines these are.

    UTF-8 read in a western, Cyrillic … code page is mended by ftfy, which changes nothing that is likelier as
    it stands. UTF-8 read as GBK, and GB 2312 read as Latin-1, are mended where all of it comes out as Chinese.

    >>> repair_mojibake("cafÃ©, ä½\\xa0å¥½\\n浣犲ソ涓栫晫")
    ('café, 你好\\n你好世界', 2)
    """
    if text.isascii() or not (
        _MOJIBAKE.search(text) or _GBK_MOJIBAKE.search(text) or _LATIN_MOJIBAKE.search(text)
    ):
        return text, 0
    lines = text.split("\n")
    mended = [line if line.isascii() else _mend_line(line) for line in lines]
    return "\n".join(mended), sum(one != other for one, other in zip(lines, mended))


def _mend_line(line: str) -> str:
    if _GBK_MOJIBAKE.search(line):
        try:
            return line.encode("gb18030").decode("utf-8")
        except UnicodeError:
            pass  # the usual case: a line of good Chinese that has one of these characters
    if _MOJIBAKE.search(line):
        line = require("ftfy", "repairing mojibake").fix_encoding(line)
    # After ftfy, since Cyrillic in UTF-8 looks like this too.
    return _LATIN_MOJIBAKE.sub(_mend_run, line)


def _mend_run(match: re.Match[str]) -> str:
    return match[0].encode("latin-1").decode("gb18030", "replace")


def drop_invisible(text: str) -> tuple[str, int]:
    """Return the text without control, zero-width and direction characters, and their number.

    Joiners stay within emoji and in scripts that need them.

    >>> drop_invisible("a\\u200bb\\ufeff👩\\u200d🔬")
    ('ab👩\u200d🔬', 2)
    """
    return _INVISIBLE.subn("", text) if _MAYBE_INVISIBLE.search(text) else (text, 0)


def tidy_spaces(text: str) -> str:
    """Return the text with plain spaces, one between words, none at line ends, and two empty lines at most.

    Indents of spaces and tabs stay, since they mean something in code and verse; an indent of other spaces goes.

    >>> tidy_spaces("\\u3000\\u3000你好\\u00a0 there \\n\\n\\n\\n\\n  x")
    '你好 there\\n\\n\\n  x'
    """
    if not text.isascii() and _SPACES.search(text):
        text = _SPACES.sub(" ", _INDENT.sub("", text))
    if " \n" in text or "\t\n" in text:
        text = _LINE_END_SPACE.sub("\n", text)
    if "  " in text or "\t" in text:
        text = _RUN.sub(lambda run: "\t" if "\t" in run[0] else " ", text)
    if "\n\n\n\n" in text:
        text = re.sub("\n{4,}", "\n\n\n", text)
    return text.rstrip().lstrip("\n")


@functools.cache
def chinese_scripts() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return patterns of the characters that only simplified and only traditional Chinese uses, after OpenCC."""
    every = [chr(code) for code in range(0x4E00, 0x9FA6)]
    simplified, traditional = (_converter(name)("\n".join(every)).split("\n") for name in ("t2s", "s2t"))
    only_traditional = {one for one, other in zip(every, simplified) if one != other}
    only_simplified = {one for one, other in zip(every, traditional) if one != other} - only_traditional
    return re.compile(f"[{''.join(sorted(only_simplified))}]"), re.compile(
        f"[{''.join(sorted(only_traditional))}]"
    )


def chinese_script(text: str) -> str:
    """Return `Hans` or `Hant`, whichever script a Chinese text has more characters of its own of; empty: equal.

    >>> chinese_script("这个国家"), chinese_script("這個國家"), chinese_script("山水")
    ('Hans', 'Hant', '')
    """
    simplified, traditional = (len(pattern.findall(text)) for pattern in chinese_scripts())
    return "Hans" if simplified > traditional else "Hant" if traditional > simplified else ""


@functools.cache
def _converter(name: str) -> Callable[[str], str]:
    return require("opencc", "converting Chinese").OpenCC(name).convert


def convert_chinese(text: str, script: str) -> str:
    """Return a Chinese text in `simplified` or `traditional` characters; other texts, Japanese above all, as they are.

    OpenCC takes Japanese forms for Chinese ones (国 → 國 and the reverse), so a text is Japanese here where more
    than one character in twenty is kana, and in other texts lines with kana stay. Korean stays where Hangul
    outnumbers Chinese characters. A text in traditional characters is not converted to traditional again: 后 and
    干 would become what they do not mean there.

    >>> convert_chinese("漢字轉換", "simplified"), convert_chinese("漢字を転換する", "simplified")
    ('汉字转换', '漢字を転換する')
    """
    if text.isascii():
        return text
    kinds = count_kinds(text)
    if kinds.kana * 20 > kinds.han + kinds.kana or kinds.hangul >= kinds.han:
        return text
    if script == "traditional" and chinese_script(text) == "Hant":
        return text
    convert = functools.partial(_convert_fully, script)
    if not kinds.kana:
        return convert(text)
    return "\n".join(line if _KANA.search(line) else convert(line) for line in text.split("\n"))


def _convert_fully(script: str, text: str) -> str:
    if script == "traditional":
        return _converter("s2t")(text)
    # A few phrases keep a traditional character the first time (於戲 → 於戏) and not the second (→ 于戏).
    for _ in range(_MAXIMUM_ROUNDS):
        before = text
        text = _converter("t2s")(text)
        if text == before:
            break
    return text


class Normaliser:
    """Step: writes a text in one way; rejects nothing.

    Twice is the same as once. Counted are lines of mended `mojibake`, `invisible characters` taken out, and
    whether the `Unicode form`, the `white space` or the `Chinese script` changed.
    """

    name = "normalise"

    def __init__(
        self,
        form: Literal["nfc", "nfkc", "none"] = "nfc",
        *,
        mojibake: bool = True,
        invisible: bool = True,
        spaces: bool = True,
        chinese: str = "keep",
    ) -> None:
        self._form, self._mojibake, self._invisible = form, mojibake, invisible
        self._spaces, self._chinese = spaces, chinese
        if mojibake:
            require("ftfy", "repairing mojibake")
        if chinese != "keep":
            _converter("t2s" if chinese == "simplified" else "s2t")

    def __call__(self, text: str) -> Outcome:
        counts: Counter[str] = Counter()
        for _ in range(_MAXIMUM_ROUNDS):
            before = text
            text, again = self._once(text, counts)
            # What was mended or put together may be mojibake, or invisible, in its turn; else once is enough.
            if text == before or not (again or self._is_mojibake(text)):
                break
        return Outcome(text, "", +counts)

    def _is_mojibake(self, text: str) -> bool:
        return self._mojibake and repair_mojibake(text)[1] > 0

    def _once(self, text: str, counts: Counter[str]) -> tuple[str, bool]:
        """Return the text changed in every way once, and whether that may bring more to light."""
        again = False
        if _ODD.search(text):
            if self._spaces:
                text = _count(counts, "white space", text, _LINE_ENDS.sub("\n", text))
            if self._invisible:
                text, changes = drop_invisible(text)
                counts["invisible characters"] += changes
            if self._mojibake:
                text, changes = repair_mojibake(text)
                counts["mojibake"] += changes
                again = changes > 0
        if self._form != "none":
            formed = unicodedata.normalize("NFKC" if self._form == "nfkc" else "NFC", text)
            again |= formed != text
            text = _count(counts, "Unicode form", text, formed)
        if self._chinese != "keep":
            text = _count(counts, "Chinese script", text, convert_chinese(text, self._chinese))
        if self._spaces:
            text = _count(counts, "white space", text, tidy_spaces(text))
        return text, again


def _count(counts: Counter[str], name: str, text: str, changed: str) -> str:
    """Note once that a document was changed so, and return it changed."""
    if changed != text:
        counts[name] = 1
    return changed
