"""New texts from old ones, with parts that must not change: swap, delete, insert, replace. [text]

Easy data augmentation, after Wei & Zou 2019 (arXiv:1901.11196). Operations see a passage, whose words may change
and whose other parts (protected spans, signs, white space) may not, and say what becomes of its words; rendering
writes that down and tells where a protected span stands now. Negations are never touched: they carry the label.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Protocol

from langmill.core.files import digest
from langmill.text.segmentation import HAN, LETTER, Segmenter
from langmill.text.stop_words import stop_words
from langmill.text.words import pieces

Span = tuple[int, int]
"""Begin and end in characters."""
Changes = dict[int, tuple[int | str, ...]]
"""What stands in the place of a word: words of the passage by number, and new ones; () deletes it."""

NEGATIONS = frozenset(
    "no not never none nobody nothing neither nor nowhere without hardly barely scarcely cannot cant dont wont"
    " 不 没 没有 无 未 非 别 莫 勿 并非 毫无 从未 從未 無 沒 沒有".split()
)
_KEPT = re.compile(r"n['’]t$|^[不没沒毫]|[\d.@:/]", re.IGNORECASE)
_CLITIC = re.compile("['’](?:s|t|d|ll|ve|re|m)", re.IGNORECASE)
"""What stays with the word before it, where a corpus sets it apart: `I 've`."""
_LETTER = re.compile(LETTER)
_WORD_START = re.compile(f"{LETTER}|{HAN.pattern}")
_BEFORE_SENTENCE = re.compile(r"(?:^|[.!?。！？\n][\"'”’)\]]*)\s*[\"'“‘(\[]*$")
_LOOK_BACK_CHARACTERS = 12
BLANKS = (" ", "\t", "\u3000")
PLACE_CHARACTERS = 1000
ATTEMPTS = 3
"""How often a new text is sought in place of one that is not new."""


@dataclass(frozen=True)
class Place:
    """A word and what stands around it."""

    before: str
    word: str
    after: str


Suggest = Callable[[Sequence[Place]], list[list[tuple[str, float]]]]
"""Returns for each place words that may stand there, each with a weight above 0."""


@dataclass(frozen=True)
class Passage:
    """A text and what of it may change."""

    text: str
    words: tuple[Span, ...]
    """In order, apart from each other and from what is protected."""
    protected: tuple[Span, ...] = ()
    """In order, overlapping ones merged."""

    def word(self, number: int) -> str:
        """Return a word."""
        begin, end = self.words[number]
        return self.text[begin:end]

    def place(self, number: int) -> Place:
        """Return a word with what stands around it, as far as anything looks."""
        begin, end = self.words[number]
        first, last = max(0, begin - PLACE_CHARACTERS), end + PLACE_CHARACTERS
        return Place(self.text[first:begin], self.text[begin:end], self.text[end:last])

    def is_protected(self, character: int) -> bool:
        """Say whether a character must not change."""
        return covered(self.protected, character, character + 1)


def covered(spans: Sequence[Span], begin: int, end: int) -> bool:
    """Say whether a span touches one of `spans`, which are in order and apart."""
    index = bisect_right(spans, (begin, begin))
    return any(other < end and begin < stop for other, stop in spans[max(0, index - 1) : index + 1])


def passage(text: str, protected: Sequence[Span] = (), *, segment: Segmenter | None = None) -> Passage:
    """Return a text with its words that may change: those that no protected span touches, negations left out."""
    merged: list[Span] = []
    for begin, end in sorted(protected):
        if merged and begin < merged[-1][1]:
            begin, end = merged[-1][0], max(end, merged.pop()[1])
        merged.append((begin, end))
    parts = pieces(text, segment=segment)
    ends = accumulate(map(len, parts))
    words = tuple(
        (end - len(part), end)
        for part, end in zip(parts, ends)
        if may_change(part, before=text[max(0, end - len(part) - 1) : end - len(part)])
        and not covered(merged, end - len(part), end)
    )
    return Passage(text, words, tuple(merged))


def may_change(word: str, *, before: str = "") -> bool:
    """Say whether a piece of text is a word that an operation may touch.

    No negation, number, address or abbreviation; and given the character before it, nothing that belongs to
    that: `月` of `5月`, `ve` of `I 've`.

    >>> [word for word in ["whale", "never", "isn't", ",", "1851", "不错", "鲸"] if may_change(word)]
    ['whale', '鲸']
    """
    if not _WORD_START.match(word) or word.lower() in NEGATIONS or _KEPT.search(word):
        return False
    return not (before.isdigit() and HAN.match(word)) and not _CLITIC.fullmatch(before + word)


class Operation(Protocol):
    """Says what becomes of the words of passages."""

    @property
    def name(self) -> str: ...

    def __call__(self, passages: Sequence[Passage], draws: Sequence[Random]) -> list[Changes | str]:
        """Return changes for each passage, or the text that takes its place; {}: nothing can be done."""


def number_of(words: int, share: float) -> int:
    """Return how many of so many words are changed: at least one, where there is one."""
    return min(words, max(1, round(share * words)))


@dataclass(frozen=True)
class Swap:
    """Exchange two words, several times."""

    share: float
    name: str = "swap"

    def __call__(self, passages: Sequence[Passage], draws: Sequence[Random]) -> list[Changes | str]:
        """Return what stands in each place afterwards."""
        return [self.one(len(each.words), draw) for each, draw in zip(passages, draws, strict=True)]

    def one(self, words: int, draw: Random) -> Changes:
        """Return the changes of a passage of so many words."""
        order = list(range(words))
        for _ in range(number_of(words, self.share) if words > 1 else 0):
            one, other = draw.sample(range(words), 2)
            order[one], order[other] = order[other], order[one]
        return {place: (number,) for place, number in enumerate(order) if place != number}


@dataclass(frozen=True)
class Delete:
    """Leave each word out with the probability `share`; one always goes and one always stays."""

    share: float
    name: str = "delete"

    def __call__(self, passages: Sequence[Passage], draws: Sequence[Random]) -> list[Changes | str]:
        """Return which words go."""
        return [self.one(len(each.words), draw) for each, draw in zip(passages, draws, strict=True)]

    def one(self, words: int, draw: Random) -> Changes:
        """Return the changes of a passage of so many words."""
        if words < 2:
            return {}
        gone = [number for number in range(words) if draw.random() < self.share]
        gone = gone or [draw.randrange(words)]
        if len(gone) == words:
            gone.remove(draw.choice(gone))
        return dict.fromkeys(gone, ())


@dataclass(frozen=True)
class Replace:
    """Put another word in the place of some that are no stop words."""

    share: float
    suggest: Suggest
    name: str

    def __call__(self, passages: Sequence[Passage], draws: Sequence[Random]) -> list[Changes | str]:
        """Return the new words in their places."""
        out: list[Changes | str] = []
        for drawn in suggested(passages, draws, self.share, self.suggest):
            out.append({number: (word,) for number, word in drawn})
        return out


@dataclass(frozen=True)
class Insert:
    """Put words like some of the text, which are no stop words, behind any of its words."""

    share: float
    suggest: Suggest
    name: str = "insert"

    def __call__(self, passages: Sequence[Passage], draws: Sequence[Random]) -> list[Changes | str]:
        """Return places with the new words behind them."""
        out: list[Changes | str] = []
        found = suggested(passages, draws, self.share, self.suggest)
        for each, draw, drawn in zip(passages, draws, found, strict=True):
            changes: Changes = {}
            for _, word in drawn:
                place = draw.randrange(len(each.words))
                changes[place] = (*changes.get(place, (place,)), word)
            out.append(changes)
        return out


def suggested(
    passages: Sequence[Passage], draws: Sequence[Random], share: float, suggest: Suggest
) -> list[list[tuple[int, str]]]:
    """Choose words of each passage that can be replaced; return their numbers with a word drawn for each.

    A word for which there is no suggestion is left out.
    """
    stops = stop_words("en") | stop_words("zh")
    chosen: list[tuple[int, int]] = []  # passage, word
    for index, (each, draw) in enumerate(zip(passages, draws, strict=True)):
        words = (each.word(number) for number in range(len(each.words)))
        able = [number for number, word in enumerate(words) if word.isalpha() and word.lower() not in stops]
        wanted = number_of(len(able), share * len(each.words) / max(1, len(able)))
        chosen += [(index, number) for number in sorted(draw.sample(able, wanted))]
    found = suggest([passages[index].place(number) for index, number in chosen])
    out: list[list[tuple[int, str]]] = [[] for _ in passages]
    for (index, number), candidates in zip(chosen, found, strict=True):
        own = passages[index].word(number)
        fitting = [(word, weight) for word, weight in candidates if fits(word, own)]
        if fitting:
            weights = [weight for _, weight in fitting]
            out[index].append((number, draws[index].choices(fitting, weights)[0][0]))
    return out


def fits(word: str, own: str) -> bool:
    """Say whether a word may stand for another: a word of the same script and not the same one."""
    if not word.isalpha() or word.lower() == own.lower() or not may_change(word):
        return False
    return bool(HAN.fullmatch(word)) == bool(HAN.fullmatch(own))


def render(each: Passage, changes: Changes) -> tuple[str, Callable[[Span], Span]]:
    """Return the changed text, and where a protected span of the old one stands in it.

    Spacing and capitals stay those of the place: words are set apart where their scripts are, the first word
    of a sentence keeps its capital, and with a deleted word goes a space.
    """
    out: list[str] = []
    length = 0  # of what is in `out`
    moves: list[tuple[int, int]] = []  # end of an edit in the old text, and by how much later places shift
    done = 0  # so much of the old text is written or left out
    raise_next = False

    def write(text: str) -> None:
        nonlocal length
        if text:
            joint = " " if out and _LETTER.match(out[-1][-1]) and _LETTER.match(text) else ""
            out.append(joint + text)
            length += len(out[-1])

    def write_old(end: int) -> None:
        """Write the old text as far as `end`; a joint before it belongs to the last edit."""
        write(each.text[done:end])
        if moves and done < end:
            moves[-1] = (done, length - end)

    for number, (begin, end) in enumerate(each.words):
        if number not in changes and not raise_next:
            continue
        items = changes.get(number, (number,))
        old = each.text[begin:end]
        new = spelled(each, number, items)
        if raise_next and new and not each.text[done:begin].strip():
            new = capital(new)
        raise_next = not items and (raise_next or (starts_sentence(each, number) and old[0].isupper()))
        if new == old:
            continue
        if not items:
            begin, end = with_space(each, begin, end, done)
        write_old(begin)
        write(new)
        moves.append((end, length - end))
        done = end
    write_old(len(each.text))

    def moved(span: Span) -> Span:
        index = bisect_right(moves, span[0], key=lambda move: move[0])
        by = moves[index - 1][1] if index else 0
        begin = min(span[0] + by, length)  # an empty span may have stood in a space that went
        return begin, begin + span[1] - span[0]

    return "".join(out), moved


def with_space(each: Passage, begin: int, end: int, done: int) -> Span:
    """Return a word that is deleted together with a space or sign beside it that nothing needs any more.

    done: where the part that is written already ends.
    """
    text = each.text
    if begin > done and text[begin - 1] in BLANKS and not _WORD_START.match(text, end):
        begin -= not each.is_protected(begin - 1)
    elif text[end : end + 1] in BLANKS and (begin == 0 or text[begin - 1].isspace()):
        return begin, end + (end < len(text) and not each.is_protected(end))
    before, after = text[begin - 1] if begin > done else "", text[end : end + 1]
    if after and before == after and not (before.isspace() or _WORD_START.match(before)):
        end += not each.is_protected(end)  # 书店，街，酒店: one of the commas goes too
    return begin, end


def starts_sentence(each: Passage, number: int) -> bool:
    """Say whether a word is the first of a sentence."""
    begin = each.words[number][0]
    before = each.text[max(0, begin - _LOOK_BACK_CHARACTERS) : begin]
    return bool(_BEFORE_SENTENCE.search(before if begin <= _LOOK_BACK_CHARACTERS else f"x{before}"))


def spelled(each: Passage, number: int, items: tuple[int | str, ...]) -> str:
    """Return what stands in a word's place, in the place's capitals."""
    first = starts_sentence(each, number)
    own = each.word(number)
    out = ""
    for place, item in enumerate(items):
        word = each.word(item) if isinstance(item, int) else item
        if isinstance(item, int) and item != number:
            if starts_sentence(each, item) and word[0].isupper() and word[1:].islower():
                word = word[0].lower() + word[1:]
        elif isinstance(item, str) and place == 0:  # it takes the word's place
            word = word.upper() if own.isupper() and len(own) > 1 else word
            word = capital(word) if own[0].isupper() else word
        if first and place == 0 and own[0].isupper():
            word = capital(word)
        glued = HAN.match(out[-1:]) or HAN.match(word)
        out += word if glued or not out else f" {word}"
    return out


def capital(word: str) -> str:
    """Return a word with a capital at its beginning."""
    upper = word[:1].upper()
    # The micro sign's capital, for one, belongs to another letter.
    return upper + word[1:] if upper.lower() == word[:1] else word


def variants(
    passages: Sequence[Passage],
    operations: Sequence[Operation],
    written: Callable[[int, Changes | str, str], str],
    *,
    per_row: int,
    seed: int,
) -> list[list[tuple[str, Changes | str]]]:
    """Return up to `per_row` results for each passage, as (operation, what it says), all with different texts.

    The operations take turns, the first one drawn; where one gives nothing new, the next is tried. A passage's
    results depend on its text, the seed and the operations alone.
    written: returns the text of a passage (by its place in `passages`), given a result and its operation.
    """
    out: list[list[tuple[str, Changes | str]]] = [[] for _ in passages]
    seen = [{each.text, written(index, {}, "")} for index, each in enumerate(passages)]
    starts = [int(digest(str(seed), each.text), 16) for each in passages]
    waiting = [(index, turn) for index in range(len(passages)) for turn in range(per_row)]
    for attempt in range(max(ATTEMPTS, len(operations))):
        kept: list[tuple[int, int]] = []
        for number, operation in enumerate(operations):
            taken = [
                (index, turn)
                for index, turn in waiting
                if (starts[index] + turn + attempt) % len(operations) == number
            ]
            asked = [passages[index] for index, _ in taken]
            draws = [
                Random(digest(str(seed), operation.name, f"{turn}.{attempt}", each.text))
                for each, (_, turn) in zip(asked, taken)
            ]
            for (index, turn), result in zip(taken, operation(asked, draws), strict=True):
                text = written(index, result, operation.name) if result else ""
                if not text.strip() or text in seen[index]:
                    kept.append((index, turn))
                    continue
                seen[index].add(text)
                out[index].append((operation.name, result))
        waiting = sorted(kept)
    return out
