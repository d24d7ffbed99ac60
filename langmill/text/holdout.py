"""A deterministic split into training and held-out text. [text]

Two modes, chosen by `plan_split` in one pass over the documents:

- `documents`: whole documents are held out, chosen by a digest of their text and the seed alone, so that
  equal documents never stand on both sides, and neither the files' names nor their order matter. They are
  taken in the order of their digests until `fraction` of all characters is reached.
- `tails`: the last `fraction` of every document is held out, cut at a line end where one is near. For corpora
  that cannot be split by document: with fewer than 20 different ones (one book in one file), or whose text
  lies mostly in documents of more than one part (1 MiB characters), which are never held out whole.

What is held out is at most about `maximum_characters` altogether: for a large corpus the fraction is
lowered beforehand, so that all other text is trained on and none is wasted. A corpus of a few characters
may be too short to hold out anything.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from langmill.core.errors import ConfigError, DataError
from langmill.core.files import digest
from langmill.text.documents import Document, plural

_NUMBERS = 1 << 52  # so many digest numbers, all exact as floats
_MOST_ABOVE_TARGET = 3.0  # a lone long document may be chosen; one that is most of the corpus must not be
TAIL_CHARACTERS = 1_000_000
"""Most that is held out of one document's end."""


def digest_number(text: str, *, seed: int = 0) -> float:
    """Return a number in [0, 1) that depends on nothing but the text and the seed.

    White space at either end is set aside, so that a last line end makes no difference.
    """
    return int(digest(str(seed), text.strip())[:13], 16) / _NUMBERS


def is_held_out(text: str, *, fraction: float, seed: int = 0) -> bool:
    """Say whether a document is held out when `fraction` of them are.

    A text held out under one fraction is so under every larger one.

    >>> is_held_out("床前明月光", fraction=1.0), is_held_out("床前明月光", fraction=0.0)
    (True, False)
    """
    return digest_number(text, seed=seed) < fraction


@dataclass(frozen=True)
class HeldOutSplit:
    """How a corpus is split; made by `plan_split`, carried out by `split_documents`."""

    mode: Literal["documents", "tails", "none"]
    seed: int
    fraction: float
    """`documents`: those with a digest number below it are held out. `tails`: the share of each document."""
    documents: int
    """Documents of the corpus."""
    characters: int
    """Characters of the corpus."""
    held_out_documents: int
    """Documents held out, whole or (under `tails`) their end."""
    held_out_characters: int
    """Characters held out; under `tails` at most, since the cut looks for a line end."""
    long_documents: Mapping[str, int] = field(default_factory=dict)
    """`tails`: source → characters of the documents that arrive in several parts."""

    def __str__(self) -> str:
        """Describe the split in one sentence."""
        total = f"{plural(self.documents, 'document')} ({plural(self.characters, 'character')})"
        if self.mode == "none":
            return f"Nothing is held out of {total}."
        share = f"{plural(self.held_out_characters, 'character')} ({self.held_out_characters / self.characters:.1%})"
        if self.mode == "documents":
            which = f"{self.held_out_documents:,} of {total} held out, {share}"
            return f"{which}, chosen by the digest of their text with seed {self.seed}."
        why = "too few, too alike or too long documents to hold out whole ones"
        return f"the end of each document is held out, about {share} of {total}: {why}."


def plan_split(
    documents: Iterable[Document],
    *,
    fraction: float = 0.05,
    seed: int = 0,
    minimum_documents: int = 20,
    maximum_characters: int = 2_000_000,
) -> HeldOutSplit:
    """Read all documents once and decide what to hold out; see the module for the rule.

    fraction: share of the characters to hold out, 0 <= fraction <= 0.5; with 0 nothing is.
    minimum_documents: with fewer different documents than this, the ends of documents are held out.
    maximum_characters: no more than about this is held out, at most one document beyond it.
    """
    if not 0 <= fraction <= 0.5:
        raise ConfigError(f"held-out fraction: {fraction} is not allowed; expected 0 (none) to 0.5")
    survey = _Survey(seed, minimum_documents, maximum_characters)
    for document in documents:
        survey.add(document)
    if not survey.documents:
        raise DataError("no document to split; expected at least one with text in it")
    if fraction == 0:
        return HeldOutSplit("none", seed, 0.0, survey.documents, survey.characters, 0, 0)
    target = min(fraction * survey.characters, maximum_characters)
    return survey.by_documents(target) or survey.by_tails(target / survey.characters)


class _Survey:
    """What one pass must remember, in bounded memory, to plan either mode."""

    def __init__(self, seed: int, minimum_documents: int, maximum_characters: int) -> None:
        self.documents = self.characters = 0
        self._seed, self._minimum, self._maximum = seed, minimum_documents, maximum_characters
        self._different: set[float] = set()  # digest numbers, up to the minimum
        self._short_characters = 0  # of documents of one part, which alone may be held out whole
        self._lowest: dict[float, list[int]] = {}  # digest number → documents and characters with it
        self._heap: list[float] = []  # the same numbers negated: the highest comes first
        self._lowest_characters = 0
        self._cutoff = 1.0  # numbers from here on are not needed
        self._long: dict[str, int] = {}

    def add(self, document: Document) -> None:
        length = len(document.text)
        self.characters += length
        self.documents += document.part == 0
        if document.part or not document.last:
            self._long[document.source] = self._long.get(document.source, 0) + length
            return
        self._short_characters += length
        number = digest_number(document.text, seed=self._seed)
        if len(self._different) < self._minimum:
            self._different.add(number)
        if number >= self._cutoff:
            return
        if number not in self._lowest:
            self._lowest[number] = [0, 0]
            heapq.heappush(self._heap, -number)
        self._lowest[number][0] += 1
        self._lowest[number][1] += length
        self._lowest_characters += length
        # Only the lowest numbers that together reach the largest possible target are needed.
        while self._lowest_characters - self._lowest[-self._heap[0]][1] >= self._maximum:
            self._cutoff = -heapq.heappop(self._heap)
            self._lowest_characters -= self._lowest.pop(self._cutoff)[1]

    def by_documents(self, target: float) -> HeldOutSplit | None:
        """Hold out the documents with the lowest digest numbers, if that gives a fair share."""
        if len(self._different) < self._minimum or self._short_characters < self.characters / 2:
            return None
        below, held_documents, held_characters = 0.0, 0, 0
        for number, (count, length) in sorted(self._lowest.items()):
            if held_characters >= target:
                break
            below = number + 1 / _NUMBERS
            held_documents += count
            held_characters += length
        if held_characters > _MOST_ABOVE_TARGET * target:
            return None
        counts = (self.documents, self.characters, held_documents, held_characters)
        return HeldOutSplit("documents", self._seed, below, *counts)

    def by_tails(self, fraction: float) -> HeldOutSplit:
        held = int((self.characters - sum(self._long.values())) * fraction)
        held += sum(_tail_characters(length, fraction) for length in self._long.values())
        counts = (self.documents, self.characters, self.documents, held)
        return HeldOutSplit("tails", self._seed, fraction, *counts, dict(self._long))


def split_documents(documents: Iterable[Document], split: HeldOutSplit) -> Iterator[tuple[Document, bool]]:
    """Yield every document with whether it is held out, in one pass, the parts of a document in one piece.

    documents: the same as `plan_split` saw. Under `tails` a document becomes two of the same source: its
    beginning (for training) and its end (held out), each with parts of its own.
    """
    if split.mode == "tails":
        yield from _split_tails(documents, split)
        return
    for document in documents:  # one that is longer than a part is never held out
        whole = split.mode == "documents" and document.part == 0 and document.last
        yield document, whole and is_held_out(document.text, fraction=split.fraction, seed=split.seed)


def _split_tails(documents: Iterable[Document], split: HeldOutSplit) -> Iterator[tuple[Document, bool]]:
    position = tail_parts = 0
    in_tail = False
    for document in documents:
        if document.part == 0:
            position, in_tail = 0, False
        if not in_tail:
            length = split.long_documents.get(document.source, len(document.text))
            cut = _tail_begin(document, position, length=length, fraction=split.fraction)
            position += len(document.text)
            if cut is None:
                yield document, False
                continue
            yield replace(document, text=document.text[:cut], last=True), False
            in_tail, tail_parts = True, 0
            document = replace(document, text=document.text[cut:])
        if document.text:
            yield replace(document, part=tail_parts), True
            tail_parts += 1


def _tail_begin(document: Document, position: int, *, length: int, fraction: float) -> int | None:
    """Return where in this part the held-out end begins, or None if it does not begin here.

    position: characters of the document before this part. length: characters of the whole document.
    The cut lies behind the first line end within the first half of the tail, else at the very character.
    """
    text = document.text
    tail = _tail_characters(length, fraction)
    begin = max(length - tail - position, 1)  # never 0: what went before would not know that it was the last
    if not tail or begin >= len(text):
        return None
    line_end = text.find("\n", begin - 1, begin + tail // 2)
    cut = line_end + 1 if line_end >= 0 else begin
    return None if document.last and not text[cut:].strip() else cut


def _tail_characters(length: int, fraction: float) -> int:
    return min(int(length * fraction), TAIL_CHARACTERS)
