"""Tags and the spans they mark, and how well spans are found; as seqeval counts them. [metrics]

A tag is `O` (outside), or a prefix with a label behind a hyphen: `B-PER`. A bare prefix is of the label `_`, so
the words of a segmented Chinese text (`B M E S`) are spans too, and word F1 is span F1. The schemes:

- BIO (IOB2): B begins a span, I goes on with it.
- IOB1: I begins a span and goes on with it; B only where it begins right behind another of the same label.
- BIOES (IOBES): E ends a span, S is a span of one. BMES writes M for I; BILOU writes L for E and U for S.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from langmill.core.errors import DataError
from langmill.metrics.classification import Integers, ScoreTable, need_examples, score_table
from langmill.text.labelled_tags import marked_spans

Scheme = Literal["BIO", "IOB1", "BIOES", "BMES", "BILOU"]
UNNAMED = "_"
"""The label of tags without one, as in seqeval."""

_OUTSIDE = ("O", UNNAMED)
_COMMON = {"M": "I", "L": "E", "U": "S"}
"""How prefixes of BMES and BILOU are called in BIOES."""
_PREFIXES: dict[Scheme, str] = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES", "BMES": "BMES", "BILOU": "BILU"}


class Span(NamedTuple):
    """The tokens from `begin` up to, not including, `end`."""

    begin: int
    end: int
    label: str


def tags_to_spans(tags: Sequence[str], *, strict: Scheme | None = None) -> list[Span]:
    """Return the spans of a sentence's tags, in order.

    strict: None reads tags of any scheme and makes a span of every run, however badly begun or ended, as
    seqeval does by default and CoNLL's script did. A scheme's name leaves out what that scheme does not allow,
    as seqeval does with `mode="strict"`. Raises DataError for what is no tag, or none of the scheme.

    >>> tags_to_spans(["B-PER", "I-PER", "O", "I-LOC"])
    [Span(begin=0, end=2, label='PER'), Span(begin=3, end=4, label='LOC')]
    >>> tags_to_spans(["B-PER", "I-PER", "O", "I-LOC"], strict="BIO")
    [Span(begin=0, end=2, label='PER')]
    >>> [(span.begin, span.end) for span in tags_to_spans(["B", "E", "S"])]
    [(0, 2), (2, 3)]
    """
    if strict:
        return _strict_spans([_parse(tag, _PREFIXES[strict]) for tag in tags], strict)
    return [Span(*each) for each in marked_spans(_parse(tag, "BIESMLU") for tag in tags)]


def spans_to_tags(spans: Iterable[tuple[int, int, str]], length: int, scheme: Scheme) -> list[str]:
    """Return the tags of a sentence of `length` tokens.

    Raises DataError for spans that are empty, overlap or reach outside.

    >>> spans_to_tags([(0, 3, "PER"), (3, 4, "LOC")], 5, "BMES")
    ['B-PER', 'M-PER', 'E-PER', 'S-LOC', 'O']
    >>> spans_to_tags([(0, 2, "PER"), (2, 3, "PER")], 4, "IOB1")
    ['I-PER', 'I-PER', 'B-PER', 'O']
    """
    tags, last = ["O"] * length, Span(0, 0, "")
    for span in sorted(Span(*each) for each in spans):
        if not last.end <= span.begin < span.end <= length:
            raise DataError(
                f"{tuple(span)} is no span of {length} tokens that begins at {last.end} or later;"
                " spans must not be empty, overlap or reach outside"
            )
        size = span.end - span.begin
        if scheme in ("BIO", "IOB1"):
            touches = span.begin == last.end and span.label == last.label
            prefixes = ("B" if scheme == "BIO" or touches else "I") + "I" * (size - 1)
        else:
            begin, inside, end, single = tuple(_PREFIXES[scheme])
            prefixes = single if size == 1 else begin + inside * (size - 2) + end
        ending = "" if span.label == UNNAMED else f"-{span.label}"
        tags[span.begin : span.end] = [prefix + ending for prefix in prefixes]
        last = span
    return tags


def find_scheme(sentences: Iterable[Sequence[str]]) -> Scheme:
    """Tell the scheme from the tags of sentences; a set of tags may stand for one sentence.

    Without M, L, U, E and S it is IOB1 where spans begin with I, and with B only behind another of the same
    label; else BIO. Raises DataError for tags that no one scheme has.

    >>> find_scheme([["B-PER", "I-PER", "O"]]), find_scheme([["I-PER", "B-PER", "O"]])
    ('BIO', 'IOB1')
    >>> find_scheme([["B", "M", "E", "S"]])
    'BMES'
    """
    used, needless, begun_inside = set[str](), False, False
    for tags in sentences:
        used.update(tag[:1] for tag in tags)
        parsed = [_parse(tag, "BIESMLU") for tag in tags]
        for one, other in itertools.pairwise([_OUTSIDE, *parsed]):
            goes_on = one[0] != "O" and one[1] == other[1]
            needless |= other[0] == "B" and not goes_on
            begun_inside |= other[0] == "I" and not goes_on
    used.discard("O")
    if used <= set("BI"):
        return "IOB1" if begun_inside and not needless else "BIO"
    for scheme in get_args(Scheme):
        if used <= set(_PREFIXES[scheme]):
            return scheme
    allowed = ", ".join(f"{name} ({' '.join(letters)} O)" for name, letters in _PREFIXES.items())
    raise DataError(
        f"the tags begin with {' '.join(sorted(used))}, which no one scheme has; use one of {allowed}"
    )


def span_scores(
    truth: Sequence[Iterable[tuple[int, int, str]]], predicted: Sequence[Iterable[tuple[int, int, str]]]
) -> ScoreTable[str]:
    """Return precision, recall and F1 of spans by label; right is what has the same begin, end and label.

    truth, predicted: the spans of each sentence, in the same order. The averages are over the labels in either.
    Raises DataError when there are no sentences, or not equally many.

    >>> span_scores([[(0, 2, "PER"), (3, 4, "LOC")]], [[(0, 2, "PER"), (3, 5, "LOC")]]).micro.f1
    0.5
    """
    correct, said, actual = Counter[str](), Counter[str](), Counter[str]()
    for one, other in _paired(truth, predicted):
        for counter, spans in ((correct, one & other), (said, other), (actual, one)):
            counter.update(span[2] for span in spans)
    labels = sorted(said.keys() | actual.keys())
    return score_table(labels, [[correct[label], said[label], actual[label]] for label in labels])


def span_counts(
    truth: Sequence[Iterable[tuple[int, int, str]]], predicted: Sequence[Iterable[tuple[int, int, str]]]
) -> Integers:
    """Return `(sentences, 3)`: how many spans of each are right, predicted and true.

    Their sums over any choice of sentences give its micro average (`classification.score_of_counts`).
    """
    rows = [(len(one & other), len(other), len(one)) for one, other in _paired(truth, predicted)]
    return np.array(rows, dtype=np.int64)


def _parse(tag: str, prefixes: str) -> tuple[str, str]:
    """Return a tag's prefix as BIOES has it, and its label."""
    prefix, hyphen, label = tag[:1], tag[1:2], tag[2:]
    if tag != "O" and (not prefix or prefix not in prefixes or hyphen not in ("", "-")):
        raise DataError(
            f"{tag!r} is no tag: allowed are O and {', '.join(prefixes)}, bare or with a label as in"
            f" {prefixes[0]}-PER"
        )
    return _COMMON.get(prefix, prefix), label or UNNAMED


def _strict_spans(tags: Sequence[tuple[str, str]], scheme: Scheme) -> list[Span]:
    spans, at, count = [], 0, len(tags)
    while at < count:
        end = at + 1
        if _begins(tags[at - 1] if at else _OUTSIDE, tags[at], scheme):
            while (
                end < count
                and tags[end - 1][0] in "BI"
                and tags[end][0] in "IE"
                and tags[end][1] == tags[at][1]
            ):
                end += 1
            if _is_closed(tags[end - 1], tags[end] if end < count else _OUTSIDE, scheme):
                spans.append(Span(at, end, tags[at][1]))
        at = end
    return spans


def _begins(before: tuple[str, str], tag: tuple[str, str], scheme: Scheme) -> bool:
    if scheme != "IOB1":
        return tag[0] in "BS"
    if tag[0] == "I":
        return before[0] != "I" or before[1] != tag[1]
    return tag[0] == "B" and before[0] != "O" and before[1] == tag[1]


def _is_closed(last: tuple[str, str], after: tuple[str, str], scheme: Scheme) -> bool:
    if scheme == "IOB1":  # seqeval takes B behind B of another label for an error of both
        return not (last[0] == after[0] == "B" and last[1] != after[1])
    return scheme == "BIO" or last[0] in "ES"


def _paired(
    truth: Sequence[Iterable[tuple[int, int, str]]], predicted: Sequence[Iterable[tuple[int, int, str]]]
) -> list[tuple[set[tuple[int, int, str]], set[tuple[int, int, str]]]]:
    need_examples(len(truth))
    if len(truth) != len(predicted):
        raise DataError(
            f"{len(truth)} sentences are given and {len(predicted)} predictions; one each is needed"
        )
    return [
        ({Span(*span) for span in one}, {Span(*span) for span in other})
        for one, other in zip(truth, predicted)
    ]
