"""What reading yields: documents, the parts of long ones, and a report of what was left out. [text]"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PART_CHARACTERS = 1 << 20
"""A document longer than this (give or take one character) arrives in parts of at most this length."""

FAULTS_KEPT = 5
"""Faults of each kind that a report keeps in full."""


@dataclass(frozen=True)
class Document:
    """A document, or one part of a long one; the parts' texts joined are the document's text."""

    text: str
    source: str
    """`path`, or `path:line` where the file holds several (`path:line#2` is the line's second); the same for all parts, unique to a document."""
    part: int = 0
    """A document longer than `PART_CHARACTERS` arrives in parts 0, 1, …, next to one another."""
    last: bool = True
    """No further part follows."""
    fields: Mapping[str, Any] | None = None
    """The row's other fields, where they were asked for; with every part the same."""
    reason: str = ""
    """Why the row cannot be used, under `on_bad_row="keep"`: `text` is then what was found in its place."""


@dataclass
class ReadReport:
    """What was read and what was left out, filled while documents are drawn."""

    files: int = 0
    documents: int = 0
    characters: int = 0
    bytes: int = 0
    """Length of the documents' texts in UTF-8, whatever the files' encoding or compression."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Reason → rows, documents or text files left out by `on_bad_row="skip"` or because they are empty."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Reason → files that `paths` cover but that are not read, such as `hidden` or `.png` in a folder."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason → where it first occurred."""
    faults: dict[str, list[str]] = field(default_factory=dict)
    """Reason → the first few faults in full (labelled rows: `file:line: found, expected`)."""
    repaired: int = 0
    """Rows of which something was put right, such as the place of an answer."""

    def skip(self, reason: str, place: str, fault: str = "") -> None:
        """Count one row, document or text file that is left out."""
        self.skipped[reason] += 1
        self.first.setdefault(reason, place)
        if fault and len(known := self.faults.setdefault(reason, [])) < FAULTS_KEPT:
            known.append(f"{place}: {fault}")

    def ignore(self, reason: str, place: str) -> None:
        """Count one file or folder that is not read."""
        self.ignored[reason] += 1
        self.first.setdefault(reason, place)

    def add(self, document: Document) -> None:
        """Count a document or a part of one."""
        self.documents += document.part == 0
        self.characters += len(document.text)
        self.bytes += len(document.text.encode())

    def __str__(self) -> str:
        """Return all counts in one line.

        >>> report = ReadReport(files=1, documents=2, characters=10, bytes=30)
        >>> report.skip("empty", "诗.jsonl:3")
        >>> print(report)
        1 file, 2 documents, 10 characters (30 bytes); skipped: 1 empty (first: 诗.jsonl:3)
        """
        line = f"{plural(self.files, 'file')}, {plural(self.documents, 'document')}, "
        line += f"{plural(self.characters, 'character')} ({plural(self.bytes, 'byte')})"
        for title, counts in (("skipped", self.skipped), ("files not read", self.ignored)):
            if counts:
                line += f"; {title}: " + ", ".join(
                    f"{count:,} {reason} (first: {self.first[reason]})"
                    for reason, count in sorted(counts.items())
                )
        return line + (f"; {self.repaired:,} repaired" if self.repaired else "")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "file"), plural(2000, "file")
    ('1 file', '2,000 files')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def cut_parts(fragments: Iterable[str], *, drop_line_end: bool = False) -> Iterator[tuple[str, bool]]:
    """Join the fragments of one document and cut it into parts; yields (text, last).

    A part ends behind a line end where its range holds one, else anywhere. A text without a character
    yields nothing.
    drop_line_end: leave out the line end that closes the document.
    """
    buffer = ""
    for fragment in fragments:
        buffer += fragment
        # One character more than a part: what remains is then never only the line end to be dropped.
        while len(buffer) > PART_CHARACTERS + 1:
            cut = buffer.rfind("\n", 0, PART_CHARACTERS) + 1 or PART_CHARACTERS
            yield buffer[:cut], False
            buffer = buffer[cut:]
    if drop_line_end:
        buffer = buffer.removesuffix("\n")
    if buffer:
        yield buffer, True
