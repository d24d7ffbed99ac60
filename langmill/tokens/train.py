"""Trains a tokenizer from a stream of texts, in bounded memory. [tokens]"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Literal, get_args

from tokenizers import Tokenizer as Backend

from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.tokens import kinds
from langmill.tokens.pieces import surrogate_error
from langmill.tokens.tokenizer import SpecialTokens, Tokenizer

Kind = Literal["char", "bpe", "wordpiece", "unigram"]
KINDS: tuple[str, ...] = get_args(Kind)

DEFAULT_VOCABULARY = 8192
"""Ids of a bpe, wordpiece or unigram tokenizer when none are asked for."""

MAXIMUM_BYTES: dict[str, int | None] = {
    "char": None,
    "bpe": 20_000_000,
    "wordpiece": 20_000_000,
    "unigram": 20_000_000,
}
"""How much text training uses when nothing else is asked; None means all of it.

Counting characters takes no memory to speak of. The others hold every distinct word, and Unigram also
an index of all substrings, about 150 bytes for each byte of text.
"""

SPECIALS: dict[str, SpecialTokens] = {
    "char": SpecialTokens(eos="<|endoftext|>", pad="<|pad|>"),
    "bpe": SpecialTokens(eos="<|endoftext|>", pad="<|pad|>"),
    "wordpiece": SpecialTokens(pad="[PAD]", unk="[UNK]", cls="[CLS]", sep="[SEP]", mask="[MASK]"),
    "unigram": SpecialTokens(pad="<pad>", eos="</s>", unk="<unk>"),
}
"""The special tokens of each kind when none are given."""

ORDER = {
    "char": ("eos", "pad", "bos", "unk", "cls", "sep", "mask"),
    "bpe": ("eos", "pad", "bos", "unk", "cls", "sep", "mask"),
    "wordpiece": ("pad", "unk", "cls", "sep", "mask", "bos", "eos"),
    "unigram": ("pad", "eos", "unk", "bos", "cls", "sep", "mask"),
}
"""The order in which special tokens take the first ids."""

PIECE_CHARACTERS = 64_000
"""A longer text is fed in pieces of at most this length, cut at the end of a line where there is one."""


@dataclass
class TrainingReport:
    """What training read and what came of it; filled while it runs."""

    kind: str = ""
    texts: int = 0
    """Texts read."""
    bytes_read: int = 0
    """UTF-8 bytes of the texts read."""
    bytes_used: int = 0
    """UTF-8 bytes that training used."""
    stopped_early: bool = False
    """Reading stopped at the limit, before the end of the texts."""
    vocabulary_asked: int | None = None
    vocabulary: int = 0
    """Ids of the trained tokenizer."""
    characters: int = 0
    """Distinct characters seen (char, wordpiece, unigram)."""
    characters_left_out: int = 0
    """Distinct characters without a token of their own."""
    occurrences_left_out: int = 0
    """How often those occurred."""
    notes: list[str] = field(default_factory=list)
    """One sentence for everything that a user should know."""


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: Kind = "bpe",
    vocabulary: int | None = None,
    min_frequency: int | None = None,
    specials: SpecialTokens | None = None,
    extra_specials: Sequence[str] = (),
    maximum_bytes: int | None = None,
    total_bytes: int | None = None,
    lowercase: bool = True,
    maximum_tokens: int | None = None,
    progress: bool = False,
    report: TrainingReport | None = None,
) -> Tokenizer:
    """Train a tokenizer; the same texts and settings give the same file, byte for byte.

    texts: read once, lazily; may be larger than memory.
    kind: `char` (every character seen is a token, unseen ones fall back to bytes), `bpe` (byte-level),
        `wordpiece` (as BERT), `unigram` (as SentencePiece, with byte fallback).
    vocabulary: ids in all, special tokens and the 256 bytes of char, bpe and unigram included.
        Default 8192; for char, no limit.
    min_frequency: merges that occur less often are not learned (default 2); for char, characters
        (default 1).
    specials, extra_specials: the tokens with a role, and further ones that no text may be cut across
        (`<|im_start|>`, `<extra_id_0>`); they take the first ids.
    maximum_bytes: use at most so much text (default: `MAXIMUM_BYTES`). With `total_bytes`, the size of
        all texts, pieces are taken evenly from the whole; without it, reading stops there. Either is
        said in the report.
    lowercase: WordPiece only: ignore case and accents.
    maximum_tokens: the longest input of the model it is for, kept in its config.

    Raises ConfigError for settings that do not fit, DataError when there is no text.
    """
    report = report if report is not None else TrainingReport()
    if kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS)
        raise ConfigError(f"unknown kind of tokenizer {kind!r}; allowed: {', '.join(KINDS)}{hint}")
    specials = specials or SPECIALS[kind]
    plan = make_plan(kind, specials, extra_specials, vocabulary, min_frequency, lowercase, progress)
    report.kind, report.vocabulary_asked = kind, plan.vocabulary
    limit = MAXIMUM_BYTES[kind] if maximum_bytes is None else maximum_bytes
    if limit is not None and limit < 1:
        raise ConfigError(f"maximum_bytes is {limit}; it must be at least 1")
    pieces = sample(texts, limit, total_bytes, report)
    backend = TRAINERS[kind](pieces, plan, report)
    if report.bytes_used == 0:
        raise DataError("there is no text to train a tokenizer on: every document is empty")
    report.vocabulary = backend.get_vocab_size()
    note(report, limit)
    return Tokenizer(backend, specials, maximum_tokens=maximum_tokens)


def make_plan(
    kind: str,
    specials: SpecialTokens,
    extra_specials: Sequence[str],
    vocabulary: int | None,
    min_frequency: int | None,
    lowercase: bool,
    progress: bool,
) -> kinds.Plan:
    """Check the settings and put them in order."""
    named = specials.named()
    tokens = tuple(dict.fromkeys([*(named[role] for role in ORDER[kind] if role in named), *extra_specials]))
    if bad := [token for token in tokens if not token or any(map(str.isspace, token))]:
        raise ConfigError(
            f"special token {bad[0]!r} is empty or holds white space; write it like <|endoftext|>"
        )
    if single := [token for token in tokens if len(token) == 1]:
        raise ConfigError(
            f"special token {single[0]!r} is a single character, which text needs; give it a longer name"
        )
    if kind in ("wordpiece", "unigram") and specials.unk is None:
        raise ConfigError(
            f"a {kind} tokenizer needs an unk token for what it cannot spell; give specials.unk"
        )
    if vocabulary is None and kind != "char":
        vocabulary = DEFAULT_VOCABULARY
    least = len(tokens) + (0 if kind == "wordpiece" else 256) + (0 if kind == "bpe" else 1)
    if vocabulary is not None and vocabulary < least:
        parts = f"{len(tokens)} special tokens" + ("" if kind == "wordpiece" else " and 256 bytes")
        raise ConfigError(
            f"vocabulary is {vocabulary}; a {kind} tokenizer with {parts} needs at least {least}"
        )
    if min_frequency is None:
        min_frequency = 1 if kind == "char" else 2
    if min_frequency < 1:
        raise ConfigError(f"min_frequency is {min_frequency}; it must be at least 1")
    roles = (specials.cls, specials.sep, specials.unk)
    return kinds.Plan(vocabulary, min_frequency, tokens, roles, specials.eos, lowercase, progress)


def cut(text: str, longest: int = PIECE_CHARACTERS) -> Iterator[str]:
    r"""Yield `text` in pieces of at most `longest` characters, cut behind a line end, else behind a space.

    >>> list(cut("ab\ncd\nefghijk", 6))
    ['ab\ncd\n', 'efghij', 'k']
    """
    start = 0
    while len(text) - start > longest:
        end = text.rfind("\n", start, start + longest) + 1 or text.rfind(" ", start, start + longest) + 1
        end = end or start + longest
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def sample(
    texts: Iterable[str], limit: int | None, total: int | None, report: TrainingReport
) -> Iterator[str]:
    """Yield pieces of `texts` of at most `limit` bytes together, evenly spread when `total` is known.

    A piece is taken whenever no more than its share has been used so far, so the choice depends on
    nothing but the texts. The first piece is always taken.
    """
    share = min(1.0, limit / total) if limit is not None and total else 1.0
    longest = PIECE_CHARACTERS if limit is None else min(PIECE_CHARACTERS, max(1000, limit // 100))
    for text in texts:
        report.texts += 1
        for piece in cut(text, longest):
            size = size_of(piece, report.texts)
            fits = limit is None or report.bytes_used == 0 or report.bytes_used + size <= limit
            if not fits and (share == 1.0 or report.bytes_read >= (total or 0)):
                report.stopped_early = True
                return
            take = fits and (share == 1.0 or report.bytes_used <= report.bytes_read * share)
            report.bytes_read += size
            if take:
                report.bytes_used += size
                yield piece


def size_of(piece: str, number: int) -> int:
    """Return the UTF-8 bytes of a piece of text `number`, or raise a DataError for a lone surrogate."""
    try:
        return len(piece.encode())
    except UnicodeEncodeError as error:
        raise DataError(f"text {number}: {surrogate_error(error)}") from error


def note(report: TrainingReport, limit: int | None) -> None:
    """Put into words what a user should know."""
    asked = report.vocabulary_asked
    more = f"the limit is {limit or 0:,} (raise the maximum of bytes to use more, which takes more memory)"
    if report.bytes_used < report.bytes_read:
        end = " and read no further" if report.stopped_early else ""
        report.notes.append(
            f"training used {report.bytes_used:,} of {report.bytes_read:,} bytes, evenly spread{end}: {more}"
        )
    elif report.stopped_early:
        report.notes.append(
            f"training used the first {report.bytes_used:,} bytes and read no further: {more}"
        )
    if asked is not None and report.vocabulary < asked and report.kind != "char":
        report.notes.append(
            f"the text gave {report.vocabulary} tokens, not {asked}: nothing more in it occurs often enough"
        )
    if report.characters_left_out:
        rest = "read as unknown" if report.kind == "wordpiece" else "are spelt in bytes"
        report.notes.append(
            f"{report.characters_left_out} of {report.characters} distinct characters got no token of their "
            f"own and {rest} ({report.occurrences_left_out} occurrences)"
        )


def left_out(report: TrainingReport, counts: Counter[str], absent: Iterable[str]) -> None:
    """Count the characters that got no token."""
    absent = list(absent)
    report.characters = len(counts)
    report.characters_left_out = len(absent)
    report.occurrences_left_out = sum(counts[character] for character in absent)


def train_bpe(pieces: Iterator[str], plan: kinds.Plan, report: TrainingReport) -> Backend:
    """Train byte-level BPE straight from the stream."""
    return kinds.bpe(pieces, plan)


def train_char(pieces: Iterator[str], plan: kinds.Plan, report: TrainingReport) -> Backend:
    """Count characters; nothing else is kept of the text."""
    counts: Counter[str] = Counter()
    for piece in pieces:
        counts.update(piece)
    backend, absent = kinds.char(counts, plan)
    left_out(report, counts, absent)
    return backend


def train_wordpiece(pieces: Iterator[str], plan: kinds.Plan, report: TrainingReport) -> Backend:
    """Count the characters of the normalised text, then train on what the alphabet can spell."""
    normalizer = kinds.wordpiece_normalizer(lowercase=plan.lowercase)
    with Spool() as spool:
        counts = spool.fill(normalizer.normalize_str(piece) for piece in pieces)
        assert plan.vocabulary is not None
        # Chinese needs thousands of characters and no merges, English the opposite: three quarters suit both.
        room = -(-(plan.vocabulary - len(plan.specials)) * 3 // 4)
        alphabet = kinds.alphabet_of(counts, room, inner_forms=True)
        left_out(report, counts, spool.drop_all_but(alphabet))
        return kinds.wordpiece(spool.read(), alphabet, plan)


def train_unigram(pieces: Iterator[str], plan: kinds.Plan, report: TrainingReport) -> Backend:
    """Count the characters, then train on what the alphabet can spell."""
    with Spool() as spool:
        counts = spool.fill(pieces)
        assert plan.vocabulary is not None
        room = (plan.vocabulary - 256 - len(plan.specials) + 1) // 2
        alphabet = kinds.alphabet_of(counts, room, inner_forms=False)
        left_out(report, counts, spool.drop_all_but(alphabet))
        return kinds.unigram(spool.read(), alphabet, plan)


TRAINERS: dict[str, Callable[[Iterator[str], kinds.Plan, TrainingReport], Backend]] = {
    "bpe": train_bpe,
    "char": train_char,
    "wordpiece": train_wordpiece,
    "unigram": train_unigram,
}


class Spool:
    """Texts set aside in a temporary file, because their alphabet must be known before training.

    Rare characters are then read as spaces: both trainers would otherwise give each an id, however
    few are left.
    """

    def __init__(self) -> None:
        self.stream: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.counts: Counter[str] = Counter()
        self.dropped: dict[int, str] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stream.close()

    def fill(self, pieces: Iterable[str]) -> Counter[str]:
        """Set `pieces` aside and return how often each character occurs."""
        for piece in pieces:
            self.counts.update(piece)
            self.stream.write(json.dumps(piece) + "\n")
        return self.counts

    def drop_all_but(self, alphabet: Sequence[str]) -> list[str]:
        """Read everything but `alphabet` and white space as spaces from now on; return what that drops."""
        kept = set(alphabet)
        absent = [character for character in self.counts if character not in kept and not character.isspace()]
        self.dropped = {ord(character): " " for character in absent}
        return absent

    def read(self) -> Iterator[str]:
        """Yield the pieces in their order, rare characters replaced."""
        self.stream.seek(0)
        for line in self.stream:
            piece: str = json.loads(line)
            yield piece.translate(self.dropped) if self.dropped else piece
