"""Settings of the passes over a corpus, light to import. [text]"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from langmill.core.config import Settings
from langmill.text.readers import Boundary

Level = Literal["none", "exact", "near"]


class PipelineSettings(Settings):
    """How a corpus is read, what counts as a duplicate, and who does the work."""

    dedup: Level = "near"
    """Which documents go because an earlier one is alike: equal ones, or also near-duplicates."""
    threshold: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of the five-token shingles from which on texts are near-duplicates."""
    paragraphs: Level = "none"
    """Which paragraphs (lines) go from documents because they stood in the corpus before."""
    paragraph_characters: int = Field(50, ge=1)
    """Shorter paragraphs may repeat."""
    boundary: Boundary = "auto"
    """What is a document in a text file: the file, a line, or what stands between blank lines."""
    text_field: str = "text"
    """The field or column of rows that holds the text."""
    encoding: str = "utf-8"
    """Encoding of files without a byte order mark."""
    on_bad_row: Literal["reject", "fail"] = "reject"
    """What to do with a row that cannot be read."""
    maximum_characters: int = Field(10_000_000, ge=1)
    """Longer documents are rejected as too long."""
    workers: int = Field(0, ge=0)
    """Processes that clean; 0: as many as there are cores."""
