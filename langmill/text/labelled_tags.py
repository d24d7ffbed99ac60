"""Tokens with tags as a text with spans. [text]

How tokens become a text: between two of them there is nothing where the last character of the one or the first of
the other is Chinese or Japanese, full-width forms and signs included, else one space. In a sentence that is given by
character (every token is one, and one of them is Chinese) there is nothing at all, so that `2 0 1 1 年` is `2011年`.

Tags with a prefix may be of any scheme: BIO, IOB1, BIOES, BMES, BILOU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from langmill.text.labelled_rows import BadRow
from langmill.text.segmentation import HAN_CHARACTERS

WORD = "_"
"""The label of a span that is a word and no more, as seqeval calls it."""
Shape = Literal["prefixed", "bare", "runs", "each"]
"""How tags tell spans: `B-PER`; `B` alone; `PER` in runs, with `O` between; a name for every token."""
PREFIXED = re.compile(r"([BIMESLU])[-_](.+)")
BARE = frozenset("BIMESO")
_UNSPACED = re.compile(f"[{HAN_CHARACTERS}\u3000-\u30ff\uff00-\uffef]")


def joined(tokens: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the text that tokens are of, by the rule of this module, and where each stands in it.

    >>> joined(["in", "2011", "."]), joined(["2", "0", "年"])
    (('in 2011 .', ((0, 2), (3, 7), (8, 9))), ('20年', ((0, 1), (1, 2), (2, 3))))
    """
    by_character = all(len(token) == 1 for token in tokens) and any(map(_UNSPACED.match, tokens))
    pieces: list[str] = []
    places = []
    end, before = 0, ""
    for token in tokens:
        if before and not (by_character or _UNSPACED.match(before) or _UNSPACED.match(token)):
            pieces.append(" ")
            end += 1
        places.append((end, end + len(token)))
        pieces.append(token)
        end, before = end + len(token), token[-1]
    return "".join(pieces), tuple(places)


def shape_of(tags: Iterable[str]) -> Shape:
    """Return how the tags of a file tell spans; reading ends at the first that has a prefix.

    >>> shape_of(["O", "B-PER"]), shape_of(["B", "E", "S"]), shape_of(["O", "PER"]), shape_of(["DET", "NOUN"])
    ('prefixed', 'bare', 'runs', 'each')
    """
    seen = set()
    for tag in tags:
        if PREFIXED.fullmatch(tag):
            return "prefixed"
        seen.add(tag)
    if seen <= BARE:
        return "bare"
    return "runs" if "O" in seen else "each"


def tagged_spans(tags: Sequence[str], shape: Shape = "prefixed") -> list[tuple[int, int, str]]:
    """Return (first token, behind the last, label) of each span; see `marked_spans`.

    Raises BadRow for a tag of another shape.

    >>> tagged_spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'LOC')]
    """
    return marked_spans(_marked(tag, shape) for tag in tags)


def marked_spans(marks: Iterable[tuple[str, str]]) -> list[tuple[int, int, str]]:
    """Return (first token, behind the last, label) of each span of (mark, label) pairs, by the rules of conlleval.

    A span begins at B, S or U, at any tag behind O or behind E, S or L, and where the label changes; so all schemes
    are read alike, and a broken one (I behind O) as it is meant.
    """
    out: list[tuple[int, int, str]] = []
    open_label: str | None = None
    for place, (mark, label) in enumerate(marks):
        if mark == "O":
            open_label = None
        elif mark in "BSU" or label != open_label:
            out.append((place, place + 1, label))
            open_label = label
        else:
            out[-1] = (out[-1][0], place + 1, label)
        if mark in "ESLU":
            open_label = None
    return out


def _marked(tag: str, shape: Shape) -> tuple[str, str]:
    """Return the mark of a tag (one of B, I, M, E, S, L, U, O) and its label."""
    if tag == "O" and shape != "each":
        return "O", ""
    if shape == "each":
        return "S", tag
    if shape == "runs":
        return "I", tag
    if shape == "bare":
        return tag, WORD
    if found := PREFIXED.fullmatch(tag):
        return found[1], found[2]
    raise BadRow("bad tag", f"found the tag {tag!r}, expected O or such as B-PER, I-PER, E-PER, S-PER")
