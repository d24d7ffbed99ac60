"""Questions and their contexts as rows of tokens, and answers out of the scores of rows. [tasks]

A row is `[CLS] question [SEP] window [SEP]`, or what else the tokenizer puts around two texts. A context that is longer
than a row has room for is read in windows, each of which has its last tokens in common with the next. "No answer" is
said by one place of the row: [CLS], or in rows without one the last token, which alone has read everything in
a decoder.

Shape letters: T tokens of a row, C tokens of its window, N candidates.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langmill.batches.labelled import LabelledRow
from langmill.core.errors import ConfigError
from langmill.text.documents import plural
from langmill.text.labelled_questions import QuestionExample
from langmill.text.segmentation import HAN
from langmill.tokens.tokenizer import Tokenizer

OVERLAP_TOKENS = 128
"""Tokens that a window and the next have in common; at most half of a window. A longer answer may stand in none."""
QUESTION_SHARE = 4
"""A question may take so manieth a part of a row."""
LEAST_ROOM = 16
"""Tokens that a row must have for a question and a window."""
LONGEST_ANSWER = {False: 30, True: 60}
"""Tokens of an answer, and of one to a question with Chinese characters, which take a token each."""
CANDIDATES = 20
"""Best spans of a question that are looked at further (`n_best_size` of SQuAD's scripts)."""
INSIDE = re.compile(r"(?=[^\W\d_\u0e00-\U0010ffff]{2}|\d\d)")
"""Before two letters or two digits, between which no answer begins or ends. From U+0E00 on scripts set no space
between words (Thai, Chinese, Japanese), or write particles onto them (Korean)."""
NOTHING = -1e9
"""The score of the best of no spans: finite, so that every threshold is."""
KEPT_CONTEXTS = 16
"""Contexts whose tokens are remembered: questions about one mostly stand together."""


@dataclass(frozen=True, kw_only=True)
class Window(LabelledRow):
    """A question and a part of its context. Its target is (5,): the answer's first and last token, the place of "no
    answer" (which both are where the window does not hold a whole answer), and the window's first token and its end."""

    places: NDArray[np.int32]
    """(C, 2), the characters of the context that each of the window's tokens covers, [begin, end)."""

    @property
    def holds_answer(self) -> bool:
        """Whether an answer stands whole in the window."""
        return bool(self.target[0] != self.target[2])


@dataclass(frozen=True)
class Windows:
    """Questions as rows."""

    rows: Sequence[Window]
    owners: NDArray[np.int64]
    """(rows,), the number of each row's question."""
    questions_cut: int
    """Questions whose end is not read."""
    lost: int
    """Questions whose answers stand whole in no window."""

    @property
    def notes(self) -> list[str]:
        """What a user should know, in sentences."""
        found = []
        if self.questions_cut:
            found.append(
                f"{plural(self.questions_cut, 'question')} not read to the end: a quarter of a row is theirs"
            )
        if self.lost:
            found.append(
                f"the answers to {plural(self.lost, 'question')} stand whole in no window of the context, of which each"
                f" shares at most {OVERLAP_TOKENS} tokens with the next; they can be neither learned nor found"
            )
        return found


class Cutter:
    """Makes rows of questions."""

    def __init__(self, tokenizer: Tokenizer, *, limit: int, segments: bool) -> None:
        """limit: tokens of a row. segments: the model tells them apart.

        Raises ConfigError where `limit` leaves no room.
        """
        self.tokenizer, self.segments = tokenizer, segments
        self.frame = frame = tokenizer.around_pair
        self.room = limit - len(frame.before) - len(frame.between) - len(frame.behind)
        if self.room < LEAST_ROOM:
            raise ConfigError(
                f"--model.context {limit}: questions and their contexts need rows of at least"
                f" {limit - self.room + LEAST_ROOM} tokens"
            )
        cls = tokenizer.cls_id
        self.none = frame.before.index(cls) if cls is not None and cls in frame.before else -1
        self.tokens_of = functools.lru_cache(KEPT_CONTEXTS)(self._tokens_of)

    def _tokens_of(self, context: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return ids (N,) and the characters that they cover (N, 2)."""
        found = np.array(self.tokenizer.encode_offsets(context), np.int32).reshape(-1, 3)
        return np.ascontiguousarray(found[:, 0]), np.ascontiguousarray(found[:, 1:])

    def question(self, text: str) -> tuple[list[int], bool]:
        """Return the ids of a question, and whether some are left out."""
        ids, most = self.tokenizer.encode(text), self.room // QUESTION_SHARE
        return ids[:most], len(ids) > most

    def rows(self, example: QuestionExample, question: list[int]) -> Iterator[Window]:
        """Yield a row for each window of the context."""
        frame = self.frame
        ids, places = self.tokens_of(example.context)
        spans = answer_tokens(example, places)
        head = np.array([*frame.before, *question, *frame.between], np.int32)
        for begin, end in window_ends(len(ids), self.room - len(question)):
            row = np.concatenate([head, ids[begin:end], np.array(frame.behind, np.int32)])
            none, shift = self.none % len(row), len(head) - begin
            held = ((a + shift, b + shift) for a, b in spans if a >= begin and b < end)
            first, last = next(held, (none, none))
            sizes = [len(frame.before), len(question), len(frame.between), end - begin, len(frame.behind)]
            kinds = np.repeat(np.array(frame.segments, np.int8), sizes) if self.segments else None
            target = np.array([first, last, none, len(head), end + shift])
            yield Window(row, target, kinds, places=places[begin:end])


def cut_windows(
    examples: Sequence[QuestionExample], tokenizer: Tokenizer, *, limit: int, segments: bool
) -> Windows:
    """Return rows of at most `limit` tokens; see `Cutter`."""
    cutter = Cutter(tokenizer, limit=limit, segments=segments)
    rows: list[Window] = []
    owners: list[int] = []
    questions_cut = lost = 0
    for number, example in enumerate(examples):
        question, is_cut = cutter.question(example.question)
        own = list(cutter.rows(example, question))
        rows += own
        owners += [number] * len(own)
        questions_cut += is_cut
        lost += bool(example.answers) and not any(row.holds_answer for row in own)
    return Windows(rows, np.array(owners, np.int64), questions_cut, lost)


def window_ends(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of windows of `size` tokens that together cover `count`, one at least.

    >>> list(window_ends(10, 6)), list(window_ends(5, 6)), list(window_ends(0, 6))
    ([(0, 6), (3, 9), (6, 10)], [(0, 5)], [(0, 0)])
    """
    step = size - min(OVERLAP_TOKENS, size // 2)
    for begin in range(0, max(1, count - size + step), step):
        yield begin, min(begin + size, count)


def answer_tokens(example: QuestionExample, places: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Return the first and last token of each answer; of one that no token covers, nothing."""
    found = []
    for answer in example.answers:
        begin = answer.begin + len(answer.text) - len(answer.text.lstrip())
        end = answer.begin + len(answer.text.rstrip())
        first = int(np.searchsorted(places[:, 1], begin, side="right"))
        last = int(np.searchsorted(places[:, 0], end, side="left")) - 1
        if first <= last:
            found.append((first, last))
    return found


def answer_places(targets: Tensor, tokens: int) -> Tensor:
    """Return where an answer can begin or end, (B, T): in the window, or at the place of "no answer". targets: (B, 5)."""
    at = torch.arange(tokens, device=targets.device)
    none, first, end = targets[:, 2:].T[:, :, None]
    return ((at >= first) & (at < end)) | (at == none)


@dataclass(frozen=True)
class Candidates:
    """What a model holds possible of a question."""

    spans: dict[tuple[int, int], float]
    """The score of each, by begin and end in characters; the best first."""
    none: float
    """The score of there being no answer: the lowest of all windows, each of which may lack it."""

    @property
    def odds(self) -> float:
        """How much likelier no answer is than the best one."""
        return self.none - next(iter(self.spans.values()), NOTHING)


def read_window(
    window: Window, scores: NDArray[np.float32], context: str, *, longest: int
) -> tuple[dict[tuple[int, int], float], float]:
    """Return the best CANDIDATES spans of a window, none above `longest` tokens, and the score of no answer.

    scores: (T, 2). A span counts the score of its begin and of its end (Devlin et al. 2019, section 4.2). It consists of
    whole words; see `tidy`.
    """
    none, first, end = window.target[2:]
    begins, ends = np.where(within_words(window.places, context), -np.inf, scores[first:end]).T
    longest = min(longest, len(begins))
    found: dict[tuple[int, int], float] = {}
    if longest:
        behind = np.concatenate([ends, np.full(longest - 1, -np.inf, np.float32)])
        sums = begins[:, None] + np.lib.stride_tricks.sliding_window_view(behind, longest)  # (C, longest)
        flat = sums.ravel()
        best = np.argpartition(-flat, min(CANDIDATES, len(flat)) - 1)[:CANDIDATES]
        for number in best[np.isfinite(flat[best])]:
            token, more = divmod(int(number), longest)
            piece = tidy(context, int(window.places[token, 0]), int(window.places[token + more, 1]))
            if piece[0] < piece[1]:
                found[piece] = max(float(flat[number]), found.get(piece, -math.inf))
    return found, float(scores[none].sum())


def tidy(context: str, begin: int, end: int) -> tuple[int, int]:
    """Return a piece without white space at its ends, and with the marks on its last letter.

    A tokenizer that leaves accents out covers none that stand apart.

    >>> tidy("at a cafe\u0301 ", 2, 9)
    (3, 10)
    """
    text = context[begin:end]
    begin, end = begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())
    while begin < end < len(context) and unicodedata.category(context[end])[0] == "M":
        end += 1
    return begin, end


def within_words(places: NDArray[np.int32], context: str) -> NDArray[np.bool_]:
    """Return whether tokens begin within a word, and whether they end so, (C, 2).

    >>> within_words(np.array([[0, 2], [2, 4], [4, 6]]), "John 12").tolist()
    [[False, True], [True, False], [False, True]]
    """
    if not len(places):
        return np.zeros((0, 2), bool)
    low, high = int(places[0, 0]), int(places[-1, 1])
    around = max(0, low - 1)
    inside = [match.start() + 1 + around for match in INSIDE.finditer(context[around : high + 1])]
    return np.isin(places, inside)


def gather_candidates(
    parts: Sequence[tuple[dict[tuple[int, int], float], float]],
) -> Candidates:
    """Return the candidates of a question from those of its windows."""
    spans: dict[tuple[int, int], float] = {}
    for found, _ in parts:
        for piece, score in found.items():
            spans[piece] = max(score, spans.get(piece, -math.inf))
    order = sorted(spans, key=lambda piece: (-spans[piece], piece))[:CANDIDATES]
    return Candidates({piece: spans[piece] for piece in order}, min(none for _, none in parts))


def longest_answer(question: str) -> int:
    """Return how many tokens an answer to a question may have."""
    return LONGEST_ANSWER[bool(HAN.search(question))]
