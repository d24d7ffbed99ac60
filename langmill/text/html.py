"""Web pages and fragments of HTML as plain text; what only looks like tags, such as code, stays. [text]

A tag is a known element's name in angle brackets. `a < b`, `List<String>` and `template <typename T>` have none; and
since `<b>` and `<i>` may be type parameters, a tag without attributes counts only where its end tag stands in
the text too, or where the element has none.
"""

from __future__ import annotations

import functools
import html
import re

from langmill.text.normalise import require
from langmill.text.steps import Outcome

NO_MAIN_TEXT = "no main text"

_BLOCKS = (
    "address article aside blockquote body br caption center dd details dialog div dl dt fieldset figcaption figure footer"
    " form frameset h1 h2 h3 h4 h5 h6 head header hr html legend li main menu nav ol optgroup option p pre section select"
    " summary table tbody tfoot thead tr ul"
).split()
_INLINE = (
    "a abbr acronym area audio b base basefont bdi bdo big button canvas cite code col colgroup data datalist del dfn em"
    " embed font frame i iframe img input ins kbd label link map mark meta meter nobr noframes noscript object output param"
    " picture progress q rp rt ruby s samp slot small source span strike strong style sub sup svg td template textarea th"
    " time title track tt u var video wbr"
).split()
_VOID = frozenset(
    "area base basefont br col embed frame hr img input link meta param source track wbr".split()
)
_TAG = re.compile(
    rf"<(?=[/a-z])(/?)({'|'.join(sorted([*_BLOCKS, *_INLINE], key=len, reverse=True))})"
    r"(\s[^<>]*|\s*/)?>",
    re.IGNORECASE,
)
_SURE_VOID = frozenset("br hr img wbr".split())
_END_OPTIONAL = frozenset("p li td th tr dt dd option".split())
_BREAK_AT_BEGIN = frozenset("li tr dt dd option".split())
_CELLS = frozenset(("td", "th"))
_BREAK_AT_BOTH = frozenset(_BLOCKS) - _BREAK_AT_BEGIN
_SCRIPT = re.compile(r"<(script|style|noscript|template|svg)(?:\s[^<>]*)?>", re.IGNORECASE)
_BOILERPLATE = re.compile(r"<(head|nav|header|footer|aside|script|style|a)(?:\s[^<>]*)?>", re.IGNORECASE)
_COMMENT = re.compile("<!--()")
_PROLOGUE = re.compile(r"<!doctype[^<>]*>|<\?xml[^<>]*>|<!\[CDATA\[|\]\]>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_PAGE = re.compile(r"\s*(?:<\?xml[^<>]*>\s*)?<(?:!doctype\s+html|html|head|body)[\s>]", re.IGNORECASE)
_PAGE_PARTS = re.compile(r"<(?:div|nav|header|footer|section|article|script)[\s>]", re.IGNORECASE)
_MIN_PAGE_PARTS = 5
_SHORT_PAGE_CHARACTERS = 500
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def is_page(text: str) -> bool:
    """Return whether a text is a whole web page, or the body of one without its frame.

    It begins with a tag: text that shows HTML somewhere, such as a tutorial, is none.

    >>> is_page("<!DOCTYPE html><p>Hello"), is_page("Write <html> first.")
    (True, False)
    """
    if _PAGE.match(text):
        return True
    begin = _TAG.match(text.lstrip()[:1000])
    return bool(begin) and len(_PAGE_PARTS.findall(text)) >= _MIN_PAGE_PARTS


def strip_tags(text: str) -> tuple[str, int]:
    """Return the text without tags, comments, scripts and styles, and how many were taken out.

    Elements that stand apart in a browser leave a line end, cells of a table a tab.

    >>> strip_tags("<p>Hello <b>you</b>,<br>if a < b: List<String>, vector<b></p>")[0].strip()
    'Hello you,\\nif a < b: List<String>, vector'
    >>> strip_tags("if a < b: List<String>, vector<b>, <br> is a tag, <b> too")
    ('if a < b: List<String>, vector<b>, \\n is a tag, <b> too', 1)
    """
    if "<" not in text:
        return text, 0
    text, comments = _drop_elements(text, _COMMENT)
    tags = [(match[1], match[2].lower(), match[3] or "") for match in _TAG.finditer(text)]
    ended = {name for slash, name, _ in tags if slash}
    sure = comments > 0 or bool(ended) or any("=" in rest for _, _, rest in tags)
    if not sure and not any(name in _SURE_VOID for _, name, _ in tags):
        return text, 0
    text, scripts = _drop_elements(text, _SCRIPT)
    text, prologues = _PROLOGUE.subn("", text)
    removed = comments + scripts + prologues

    def replace(match: re.Match[str]) -> str:
        nonlocal removed
        slash, name, rest = match[1], match[2].lower(), match[3] or ""
        certain = slash or "=" in rest or name in _SURE_VOID or name in ended
        if not certain and not (sure and name in _END_OPTIONAL):
            return match[0]
        removed += 1
        if name in _CELLS:
            return "\t" if slash else ""
        breaks = name in _BREAK_AT_BOTH or (name in _BREAK_AT_BEGIN and not slash)
        return "\n" if breaks else ""

    return _TAG.sub(replace, text), removed


def _drop_elements(text: str, opening: re.Pattern[str]) -> tuple[str, int]:
    """Return the text without comments or the elements that `opening` finds, and their number.

    opening: its first group is the element's name, or nothing for a comment. What never ends stays.
    """
    pieces: list[str] = []
    end = 0
    # An end is looked for in vain only once, so a million beginnings take no longer than other text.
    endless: set[str] = set()
    for begin in opening.finditer(text):
        name = (begin[1] or "").lower()
        if begin.start() < end or name in endless:
            continue
        close = _end_of(name).search(text, begin.end())
        if not close:
            endless.add(name)
            continue
        pieces.append(text[end : begin.start()])
        end = close.end()
    return "".join((*pieces, text[end:])), len(pieces)


@functools.cache
def _end_of(name: str) -> re.Pattern[str]:
    return re.compile(f"</{name}\\s*>" if name else "-->", re.IGNORECASE)


def decode_entities(text: str) -> tuple[str, int]:
    """Return the text with entities such as `&amp;` and `&#20320;` decoded, and how many changed.

    Names without a semicolon stay, since `&copy` may be part of an address.

    >>> decode_entities("AT&amp;T &#20320;&#x597d; ?a=1&copy=2")
    ('AT&T 你好 ?a=1&copy=2', 3)
    """
    if "&" not in text or ";" not in text:
        return text, 0
    changes = 0

    def decode(match: re.Match[str]) -> str:
        nonlocal changes
        decoded = html.unescape(match[0])
        changes += decoded != match[0]
        return decoded

    return _ENTITY.sub(decode, text), changes


def main_text(page: str) -> str:
    """Return the main text of a web page, without navigation and other boilerplate; empty: it has none.

    Raises MissingDependencyError without trafilatura.
    """
    trafilatura = require("trafilatura", "taking the main text out of web pages")
    page = _NOT_IN_XML.sub("", page)
    text = trafilatura.extract(page, fast=True, include_comments=False) or ""
    if len(text) < _SHORT_PAGE_CHARACTERS:
        # Of a page that is all navigation trafilatura returns that. Text that is no link must be somewhere.
        rest, _ = _drop_elements(page, _BOILERPLATE)
        if not re.search(r"\w", strip_tags(rest)[0]):
            return ""
    return str(text)


class HtmlRemover:
    """Step: HTML to plain text; rejects pages without main text, and counts tags and entities of others."""

    name = "html"

    def __init__(self, mode: str = "auto") -> None:
        """mode: `auto` takes the main text out of whole pages and strips the rest, `page` and `strip` do one to all."""
        self._mode = mode
        if mode != "strip":
            require("trafilatura", "taking the main text out of web pages")

    def __call__(self, text: str) -> Outcome:
        if "<" not in text and "&" not in text:
            return Outcome(text)
        if self._mode == "page" or (self._mode == "auto" and is_page(text)):
            main = main_text(text)
            return Outcome(main, "", {"web page": 1}) if main else Outcome(text, NO_MAIN_TEXT)
        plain, tags = strip_tags(text)
        plain, entities = decode_entities(plain)
        if entities and not tags:  # markup that was escaped as a whole, as in news feeds
            plain, tags = strip_tags(plain)
        counts = {"HTML tags": tags, "HTML entities": entities}
        return Outcome(plain, "", {name: count for name, count in counts.items() if count})
