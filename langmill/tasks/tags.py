"""From a text with spans to tokens with tags, and back. [tasks]

A tag stands at a *place*: a word of letters and digits, or a single Chinese or Japanese character or sign; where one
token covers several of these, they are one place. Its first token carries the tag, further ones are not asked. So
what is tagged depends on the text alone and, as far as it can, not on the tokenizer.

Shape letters: P places of a text, L labels.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langmill.batches.labelled import TOKEN_FILL, LabelledRow
from langmill.metrics.spans import Scheme, find_scheme, spans_to_tags
from langmill.models.heads import HeadConfig
from langmill.objectives.crf import best_chain, restricted, span_log_probabilities
from langmill.tasks.labelled import Encoded
from langmill.text.labelled_entities import Span
from langmill.text.labelled_spans import TaggedExample
from langmill.text.labelled_tags import Shape, shape_of, tagged_spans
from langmill.text.segmentation import HAN_CHARACTERS
from langmill.tokens.tokenizer import Tokenizer

ALONE = re.compile(f"([{HAN_CHARACTERS}\u3040-\u30ff])")
"""A letter of a script that sets no words apart; each is tagged by itself."""
MARKS = {"M": "I", "L": "E", "U": "S"}
"""What begins tags of BMES and BILOU, as BIOES has it."""
DECODED_PLACES = 16_384
"""Places of texts whose best chains are sought together, padding included."""


@functools.cache
def kind_of(character: str) -> str:
    """Return what a character is to words: part of one, `alone`, a `mark` on what is before it, or a `space`.

    >>> [kind_of(c) for c in ("a", "7", "爱", "か", "-", " ", "\\u0301")]
    ['word', 'word', 'alone', 'alone', 'alone', 'space', 'mark']
    """
    category = unicodedata.category(character)
    if character.isspace():
        return "space"
    if category[0] == "M" or character == "\u200d":
        return "mark"
    return "word" if category[0] in "LN" and not ALONE.match(character) else "alone"


def pieces(text: str) -> list[tuple[int, int]]:
    """Return begin and end of each word, character and sign.

    >>> text = "O'Brien 在北京"
    >>> [text[a:b] for a, b in pieces(text)]
    ['O', "'", 'Brien', '在', '北', '京']
    """
    found: list[tuple[int, int]] = []
    inside = ""
    for place, character in enumerate(text):
        kind = kind_of(character)
        if kind == "space":
            inside = ""
        elif found and found[-1][1] == place and (kind == "mark" or kind == inside == "word"):
            found[-1] = found[-1][0], place + 1
        else:
            found.append((place, place + 1))
            inside = kind
    return found


@dataclass(frozen=True)
class Places:
    """Where tags stand in a text."""

    extents: NDArray[np.int64]
    """(P, 2), begin and end of each in characters."""
    tokens: NDArray[np.int64]
    """(P,), the number of the token that carries its tag."""
    ids: NDArray[np.int32]
    """All tokens of the text."""


def places_of(text: str, tokenizer: Tokenizer) -> Places:
    """Return the places of a text. What no token covers (a sign that the tokenizer drops) is none."""
    found = pieces(text)
    owner = [-1] * len(text)
    for number, (begin, end) in enumerate(found):
        owner[begin:end] = [number] * (end - begin)
    first = [-1] * len(found)  # the first token of each piece
    joins = [False] * len(found)  # whether a piece is one place with the piece before it
    encoded = tokenizer.encode_offsets(text)
    for token, (_, begin, end) in enumerate(encoded):
        if touched := [number for number in owner[begin:end] if number >= 0]:
            for number in range(touched[0], touched[-1] + 1):
                first[number] = token if first[number] < 0 else first[number]
                joins[number] = joins[number] or number > touched[0]
    extents: list[tuple[int, int]] = []
    tokens: list[int] = []
    for (begin, end), token, goes_on in zip(found, first, joins):
        if goes_on:
            extents[-1] = extents[-1][0], end
        elif token >= 0:
            extents.append((begin, end))
            tokens.append(token)
    ids = np.array([number for number, _, _ in encoded], np.int32)
    return Places(np.array(extents, np.int64).reshape(-1, 2), np.array(tokens, np.int64), ids)


def placed(
    spans: Sequence[Span], extents: NDArray[np.int64]
) -> tuple[list[tuple[int, int, str]], list[Span]]:
    """Return spans of characters as spans of places, and those whose borders are not borders of places.

    The latter take all places that they touch and that the span before leaves them.

    >>> placed([Span(0, 3, "A")], np.array([[0, 2], [2, 5]]))
    ([(0, 2, 'A')], [Span(begin=0, end=3, label='A')])
    """
    found: list[tuple[int, int, str]] = []
    torn, taken = [], 0
    for span in spans:
        first = int(np.searchsorted(extents[:, 1], span.begin, side="right"))
        end = int(np.searchsorted(extents[:, 0], span.end, side="left"))
        begin = max(first, taken)
        if begin >= end or (extents[begin, 0], extents[end - 1, 1]) != (span.begin, span.end):
            torn.append(span)
        if begin < end:
            found.append((begin, end, span.label))
            taken = end
    return found, torn


def leaves_out(example: TaggedExample) -> bool:
    """Say whether something of a text, white space aside, is in no span."""
    text, end = example.text, 0
    for span in (*example.spans, Span(len(text), len(text), "")):
        if text[end : span.begin].strip():
            return True
        end = span.end
    return False


# ------------------------------------------------------------------------------------------------
# Tags


def tags_of(scheme: Scheme, labels: Sequence[str], *, outside: bool) -> tuple[str, ...]:
    """Return the tags that spans with these labels are spelt by. outside: there are places in no span.

    >>> tags_of("BIO", ["PER"], outside=True), tags_of("BMES", ["_"], outside=False)
    (('O', 'B-PER', 'I-PER'), ('B', 'M', 'E', 'S'))
    """
    spelt = dict.fromkeys(
        tag for label in labels for tag in spans_to_tags([(0, 3, label), (3, 4, label)], 4, scheme)
    )
    return (*(["O"] if outside else []), *spelt)


class TagSet:
    """The tags that a model gives, and which may follow which."""

    def __init__(self, tags: Sequence[str], scheme: str = "") -> None:
        """scheme: empty where it is not known; what B and I alone mean is then left open (BIO or IOB1)."""
        self.tags = tuple(tags)
        self.shape: Shape = shape_of(tags)
        self.number = {tag: place for place, tag in enumerate(self.tags)}
        if not scheme and self.shape in ("prefixed", "bare"):
            scheme = find_scheme([self.tags])
            scheme = "" if scheme == "BIO" else scheme
        self.scheme = "" if scheme == "IOB1" else scheme
        self.spelling = cast(Scheme, self.scheme or "BIO")
        """How spans are spelt by these tags."""
        self.words_only = self.shape == "bare"

    @classmethod
    @functools.cache
    def of(cls, head: HeadConfig) -> TagSet:
        """Return the tags that a head scores."""
        return cls(head.labels, head.scheme)

    @functools.cached_property
    def within(self) -> Tensor:
        """(L + 1, L + 1), the same of a piece of a text, which may begin and end inside a span."""
        table = self.allowed.clone()
        table[-1] = table[:, -1] = True
        return table

    @functools.cached_property
    def allowed(self) -> Tensor:
        """(L + 1, L + 1), whether one tag may follow another; the last row is the start, the last column the end."""
        count = len(self.tags)
        table = torch.ones(count + 1, count + 1, dtype=torch.bool)
        if not self.scheme:
            return table
        parts = [(MARKS.get(tag[:1], tag[:1]), tag[2:]) for tag in (*self.tags, "O")]  # a border is like O
        closes = self.scheme != "BIO"
        for i, (mark, label) in enumerate(parts):
            for j, (next_mark, next_label) in enumerate(parts):
                goes_on = next_mark in "IE" and mark in "BI" and label == next_label
                begins = next_mark in "BSO" and not (closes and mark in "BI")
                table[i, j] = goes_on or begins
        return table

    def spans(self, tags: Sequence[str]) -> list[tuple[int, int, str]]:
        """Return the spans of places that tags mark."""
        return tagged_spans(tags, self.shape)


# ------------------------------------------------------------------------------------------------
# Windows


@dataclass(frozen=True)
class Window:
    """A row of tokens, and which tags are taken from it."""

    row: LabelledRow
    begin: int
    """The first of the places whose tags are taken from it."""
    positions: NDArray[np.int64]
    """Where in the row their tokens stand."""


def windows(
    places: Places,
    tags: NDArray[np.int64] | None,
    around: tuple[list[int], list[int]],
    *,
    limit: int,
    segments: bool,
) -> list[Window]:
    """Return rows of at most `limit` tokens that together ask for every place once, where most stands around it.

    Rows overlap by half. tags: (P,), the targets. around: what is put before and behind a text. segments: the model
    tells segments apart.
    """
    before, behind = around
    room = max(limit - len(before) - len(behind), 2)
    total = len(places.ids)
    stride = max(room // 2, 1)
    begins = [0] if total <= room else [*range(0, total - room, stride), total - room]
    # Between two rows the border lies in the middle of what they share.
    borders = [0, *((begin + last + room) // 2 for last, begin in itertools.pairwise(begins)), total]
    found = []
    for number, begin in enumerate(begins):
        ids = np.array([*before, *places.ids[begin : begin + room], *behind], np.int32)
        low, high = np.searchsorted(places.tokens, borders[number : number + 2])
        if low == high:
            continue
        positions = places.tokens[low:high] - begin + len(before)
        target = np.full(len(ids), TOKEN_FILL, np.int64)
        if tags is not None:
            target[positions] = tags[low:high]
        kinds = np.zeros(len(ids), np.int8) if segments else None
        found.append(Window(LabelledRow(ids, target, kinds), int(low), positions))
    return found


@dataclass(frozen=True)
class TaggedRows(Encoded):
    """Texts as rows of tokens, and where their tags stand."""

    windows: Sequence[Window] = ()
    """One a row."""
    places: Sequence[Places] = ()
    """One a text."""


def rows_of(
    places: Sequence[Places],
    targets: Sequence[NDArray[np.int64] | None],
    around: tuple[list[int], list[int]],
    *,
    limit: int,
    segments: bool,
) -> TaggedRows:
    """Return texts as rows of at most `limit` tokens."""
    found: list[Window] = []
    owners: list[int] = []
    for number, (where, target) in enumerate(zip(places, targets)):
        own = windows(where, target, around, limit=limit, segments=segments)
        found += own
        owners += [number] * len(own)
    return TaggedRows(
        [window.row for window in found], np.array(owners, np.int64), windows=found, places=places
    )


def gathered(
    rows: TaggedRows, scores: Sequence[NDArray[np.float32]], texts: int
) -> list[NDArray[np.float32]]:
    """Return the scores (P, L) of each text's places, of scores (T, L) of the rows' tokens."""
    parts: list[list[NDArray[np.float32]]] = [[] for _ in range(texts)]
    for owner, window, score in zip(rows.owners, rows.windows, scores):
        parts[owner].append(score[window.positions])
    return [np.concatenate(each) if each else np.zeros((0, 0), np.float32) for each in parts]


# ------------------------------------------------------------------------------------------------
# Decoding


@dataclass(frozen=True)
class Chain:
    """The best tags of a text, and what they mark."""

    tags: Sequence[str]
    spans: Sequence[tuple[int, int, str]]
    """Of places."""
    chances: Sequence[float]
    """The probability of the tags of each span, given the whole text."""


def decode(emissions: Sequence[NDArray[np.float32]], transitions: Tensor, tags: TagSet) -> list[Chain]:
    """Return the best tags of texts whose scores are (P, L) each; all of them follow one another as they may."""
    transitions = restricted(transitions, tags.allowed)
    found = [Chain([], [], [])] * len(emissions)
    order = sorted((n for n, scores in enumerate(emissions) if len(scores)), key=lambda n: len(emissions[n]))
    while order:
        longest = len(emissions[order[-1]])
        group = order[-max(1, DECODED_PLACES // longest) :]
        del order[-len(group) :]
        table = torch.zeros(len(group), longest, len(tags.tags))
        for row, number in zip(table, group):
            row[: len(emissions[number])] = torch.from_numpy(emissions[number])
        lengths = torch.tensor([len(emissions[number]) for number in group])
        labels = best_chain(table, transitions, lengths)
        chains = [
            [tags.tags[label] for label in row[:length]]
            for row, length in zip(labels.tolist(), lengths.tolist())
        ]
        spans = [tags.spans(chain) for chain in chains]
        where = [(row, begin, end) for row, each in enumerate(spans) for begin, end, _ in each]
        chances: Iterator[float] = iter(())
        if where:
            logs = span_log_probabilities(table, transitions, lengths, labels, torch.tensor(where))
            chances = iter(logs.exp().clamp(max=1).tolist())
        for number, chain, each in zip(group, chains, spans):
            found[number] = Chain(chain, each, list(itertools.islice(chances, len(each))))
    return found
