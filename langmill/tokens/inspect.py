"""Measures a tokenizer on a text: pieces, compression, fertility, coverage, round trip. [tokens]"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from langmill.core.errors import DataError
from langmill.tokens.pieces import surrogate_error
from langmill.tokens.scripts import SCRIPTS, UNITS, script_of, script_of_span, units
from langmill.tokens.tokenizer import Tokenizer
from langmill.tokens.train import cut

CONTEXT_CHARACTERS = 20
"""How much text is shown on either side of a round-trip difference."""


@dataclass(frozen=True)
class Piece:
    """One token of a text."""

    id: int
    token: str
    """As the vocabulary spells it."""
    data: bytes
    """The bytes it stands for."""
    start: int
    end: int
    """Covers the characters from `start` up to `end` of the text."""


@dataclass(frozen=True)
class Fertility:
    """How many tokens a script takes."""

    units: int
    """Words; for Han, kana and signs characters; for digits numbers; for space runs."""
    unit: str
    """What is counted: words, characters, numbers or runs."""
    tokens: int
    """Tokens attributed to the script (a token goes to its first letter; ` the` is Latin)."""

    @property
    def tokens_per_unit(self) -> float | None:
        """Fertility; None where the script has no unit of its own."""
        return self.tokens / self.units if self.units else None


@dataclass(frozen=True)
class Difference:
    """Where the decoded text first differs from the original."""

    character: int
    """Its place in the text."""
    expected: str
    found: str
    """Up to `CONTEXT_CHARACTERS` characters from that place, of the text and of what was decoded."""


@dataclass(frozen=True)
class Inspection:
    """What a tokenizer makes of a text."""

    characters: int
    bytes: int
    """UTF-8 bytes of the text."""
    tokens: int
    fertility: dict[str, Fertility]
    """By script, in the order of `SCRIPTS`."""
    covered: int
    """Characters that lie whole in one known token: not unknown, not spelt in bytes, not lost."""
    unknown_tokens: int
    byte_tokens: int
    """Tokens that are a part of a character."""
    difference: Difference | None
    """None when decoding gives exactly the text."""

    @property
    def bytes_per_token(self) -> float | None:
        """Compression; None for an empty text."""
        return self.bytes / self.tokens if self.tokens else None

    @property
    def characters_per_token(self) -> float | None:
        """Compression in characters; None for an empty text."""
        return self.characters / self.tokens if self.tokens else None

    @property
    def coverage(self) -> float | None:
        """Share of the characters that are covered, 0 to 1; None for an empty text."""
        return self.covered / self.characters if self.characters else None

    def to_dict(self) -> dict[str, object]:
        """Return everything as JSON can hold it."""
        return {
            "characters": self.characters,
            "bytes": self.bytes,
            "tokens": self.tokens,
            "bytes_per_token": self.bytes_per_token,
            "characters_per_token": self.characters_per_token,
            "coverage": self.coverage,
            "unknown_tokens": self.unknown_tokens,
            "byte_tokens": self.byte_tokens,
            "round_trip": self.difference is None,
            "difference": None if self.difference is None else vars(self.difference),
            "fertility": {
                script: {
                    "unit": f.unit,
                    "units": f.units,
                    "tokens": f.tokens,
                    "tokens_per_unit": f.tokens_per_unit,
                }
                for script, f in self.fertility.items()
            },
        }


def pieces_of(tokenizer: Tokenizer, text: str) -> list[Piece]:
    """Return the tokens of `text` with what each stands for."""
    return list(iterate_pieces(tokenizer, text))


def iterate_pieces(tokenizer: Tokenizer, text: str) -> Iterator[Piece]:
    """Yield the tokens of `text`."""
    for number, start, end in tokenizer.encode_offsets(text):
        yield Piece(number, tokenizer.token(number), tokenizer.piece(number), start, end)


def inspect_text(tokenizer: Tokenizer, text: str) -> Inspection:
    """Measure `tokenizer` on `text`.

    A long text is taken in pieces cut at line ends, as training takes it, so that memory stays bounded.
    """
    tokens: Counter[str] = Counter()
    unit_counts: Counter[str] = Counter()
    tally: Counter[str] = Counter()
    difference, place = None, 0
    for part in cut(text):
        encoded = tokenizer.encode_offsets(part)
        tally["tokens"] += len(encoded)
        tally["bytes"] += len(utf8(part))
        tokens.update(script_of_span(part[start:end]) for _, start, end in encoded)
        unit_counts.update(units(part))
        tally.update(coverage_of(tokenizer, part, encoded))
        if difference is None:
            decoded = tokenizer.decode([number for number, _, _ in encoded], skip_special=False)
            difference = first_difference(part, decoded, place)
        place += len(part)
    present = [script for script in SCRIPTS if tokens[script] or unit_counts[script]]
    return Inspection(
        characters=len(text),
        bytes=tally["bytes"],
        tokens=tally["tokens"],
        fertility={
            script: Fertility(unit_counts[script], UNITS.get(script, "words"), tokens[script])
            for script in present
        },
        covered=tally["covered"],
        unknown_tokens=tally["unknown"],
        byte_tokens=tally["fragments"],
        difference=difference,
    )


def utf8(text: str) -> bytes:
    """Return `text` as UTF-8, or raise a DataError for a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise surrogate_error(error) from error


def coverage_of(tokenizer: Tokenizer, text: str, encoded: list[tuple[int, int, int]]) -> dict[str, int]:
    """Count covered characters, unknown tokens and tokens that are fragments of a character.

    White space that a WordPiece drops counts as covered; another character that no token covers is lost.
    """
    unknown_id = tokenizer.unk_id
    touched = [0] * len(text)
    spoilt: set[int] = set()
    unknown = 0
    for number, start, end in encoded:
        for place in range(start, end):
            touched[place] += 1
        if number == unknown_id or tokenizer.is_byte(number):
            unknown += number == unknown_id
            spoilt.update(range(start, end))
    fragments = sum(
        tokenizer.is_byte(number) or any(touched[place] > 1 for place in range(start, end))
        for number, start, end in encoded
    )
    covered = sum(
        place not in spoilt and (count == 1 or (count == 0 and script_of(text[place]) == "space"))
        for place, count in enumerate(touched)
    )
    return {"covered": covered, "unknown": unknown, "fragments": fragments}


def first_difference(expected: str, found: str, offset: int = 0) -> Difference | None:
    """Return where `found` first differs from `expected`, or None. `offset` is added to the place.

    >>> first_difference("a cat", "a  cat")
    Difference(character=2, expected='cat', found=' cat')
    """
    if expected == found:
        return None
    place = next(
        (i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found))
    )
    window = slice(place, place + CONTEXT_CHARACTERS)
    return Difference(offset + place, expected[window], found[window])


@dataclass(frozen=True)
class Comparison:
    """One tokenizer's row in a comparison."""

    name: str
    kind: str
    vocabulary: int
    inspection: Inspection
    megabytes_per_second: float
    """Speed of `encode` on this text on this machine, one run: information, no benchmark."""

    def fertility(self, script: str) -> float | None:
        """Return the tokens per unit of a script, or None when the text has none of it."""
        found = self.inspection.fertility.get(script)
        return None if found is None else found.tokens_per_unit


def compare_tokenizers(tokenizers: Mapping[str, Tokenizer], text: str) -> list[Comparison]:
    """Measure several tokenizers on the same text."""
    if not text:
        raise DataError("there is no text to compare tokenizers on; give one that is not empty")
    rows = []
    for name, tokenizer in tokenizers.items():
        inspection = inspect_text(tokenizer, text)
        parts = list(cut(text))
        tokenizer.encode(parts[0][:100])  # tables are built at the first call
        begun = time.perf_counter()
        for part in parts:
            tokenizer.encode(part)
        seconds = time.perf_counter() - begun
        speed = inspection.bytes / 1e6 / max(seconds, 1e-9)
        rows.append(Comparison(name, tokenizer.kind, tokenizer.vocabulary_size, inspection, speed))
    return rows
