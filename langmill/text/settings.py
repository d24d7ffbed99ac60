"""Settings of the passes over a corpus, light to import. [text]"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from langmill.core.config import Settings
from langmill.text.readers import Boundary

Level = Literal["none", "exact", "near"]


class ReadingSettings(Settings):
    """How a corpus is read."""

    boundary: Boundary = "auto"
    """What is a document in a text file: the file (auto does so too), a line, or what stands between blank lines."""
    text_field: str = "text"
    """The field or column of rows that holds the text."""
    encoding: str = "utf-8"
    """Encoding of files without a byte order mark."""
    on_bad_row: Literal["reject", "fail"] = "reject"
    """What to do with a row that cannot be read."""
    maximum_characters: int = Field(10_000_000, ge=1)
    """Longer documents are rejected as too long."""


class PipelineSettings(ReadingSettings):
    """What counts as a duplicate, and who does the work."""

    dedup: Level = "near"
    """Which documents go because an earlier one is alike: equal ones, or also near-duplicates. They are compared as
    they are written, with placeholders: texts that differ only in a telephone number are then equal."""
    threshold: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of the five-token shingles from which on texts are near-duplicates."""
    paragraphs: Level = "none"
    """Which paragraphs (lines) go from documents because they stood in the corpus before."""
    paragraph_characters: int = Field(50, ge=1)
    """Shorter paragraphs may repeat."""
    workers: int = Field(0, ge=0)
    """Processes that clean; 0: as many as there are cores."""


class SplitSettings(ReadingSettings):
    """How documents are dealt out to parts."""

    parts: str = "train=0.8,dev=0.1,test=0.1"
    """Names and shares of the parts; shares are of documents."""
    seed: int = 0
    """Another seed, another split."""
    group_field: str = ""
    """Documents with the same value of this field stay together, such as those of one author."""
    time_field: str = ""
    """Deal out by this field instead of by lot: the earliest to the first part, the latest to the last."""
    label_field: str = ""
    """Give each part the same share of every value of this field."""
    near_duplicates: bool = True
    """Keep near-duplicates together, not only equal texts."""
    threshold: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of the five-token shingles from which on texts are near-duplicates."""

    @model_validator(mode="after")
    def _either(self) -> SplitSettings:
        if self.time_field and self.label_field:
            raise ValueError("--time-field and --label-field do not go together: parts cannot follow both")
        return self


class StatisticsSettings(ReadingSettings):
    """What is measured."""

    duplicates: Level = "near"
    """Which duplicates are counted."""
    threshold: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of the five-token shingles from which on texts are near-duplicates."""
    top: int = Field(50, ge=0)
    """How many of the most frequent words are listed."""
    maximum_words: int = Field(5_000_000, ge=1000)
    """Different words held in memory (about 100 bytes each); beyond it those seen once are let go."""


class CheckSettings(ReadingSettings):
    """What counts as leakage."""

    ngram: int = Field(13, ge=2)
    """Tokens in a row (words, or Chinese characters) that tell that a text was copied."""
    covered: float = Field(0.5, gt=0, le=1)
    """A document of which so large a share of tokens lies in shared n-grams is contaminated."""
    threshold: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of the five-token shingles from which on texts are near-duplicates."""
