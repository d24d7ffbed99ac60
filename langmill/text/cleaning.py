"""The steps of cleaning, from one settings object; every reason to reject a document has a name. [text]"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from langmill.core.config import Settings
from langmill.text import privacy as personal
from langmill.text import quality
from langmill.text.html import NO_MAIN_TEXT, HtmlRemover
from langmill.text.language import LanguageFilter
from langmill.text.normalise import Normaliser
from langmill.text.privacy import PrivacySettings, Scrubber
from langmill.text.quality import (
    BasicSettings,
    C4Settings,
    FinewebSettings,
    GopherSettings,
    QualityFilter,
    parse_filters,
)
from langmill.text.steps import Step

REASONS: dict[str, str] = {
    NO_MAIN_TEXT: "a web page in which nothing but navigation, scripts and the like was found",
    "language": "written in another language than those asked for; the code stands behind the colon",
    **quality.REASONS,
    **personal.REASONS,
}
"""Reason for which a step rejects a document → what it means."""


def explain(reason: str) -> str:
    """Return what a step's reason means.

    >>> explain("language: de")
    'written in another language than those asked for; the code stands behind the colon'
    """
    return REASONS.get(reason) or REASONS[reason.partition(":")[0]]


class CleanSettings(Settings):
    """How documents are cleaned; the steps come in the order of the settings."""

    html: Literal["auto", "page", "strip", "keep"] = "auto"
    """HTML, auto: the main text of whole pages, tags and entities out of others; page: all are pages; strip: tags only."""
    mojibake: bool = True
    """Mend text that was decoded wrongly (cafÃ©, 浣犲ソ)."""
    unicode: Literal["nfc", "nfkc", "none"] = "nfc"
    """Unicode form; nfkc makes full-width letters, ligatures and circled digits plain too."""
    invisible: bool = True
    """Take out control, zero-width and direction characters."""
    spaces: bool = True
    """Make all white space plain, without runs, at line ends, or of more than two empty lines."""
    chinese: Literal["keep", "simplified", "traditional"] = "keep"
    """Script of Chinese texts."""
    languages: str = ""
    """Languages to keep, by code, as in en,zh or en,zh-Hans; empty: all."""
    filters: str = "basic"
    """Filters, in their order: none, or basic, c4, gopher and fineweb joined by commas."""
    basic: BasicSettings = Field(default_factory=BasicSettings)
    """What `basic` lets through."""
    c4: C4Settings = Field(default_factory=C4Settings)
    """What `c4` lets through."""
    gopher: GopherSettings = Field(default_factory=GopherSettings)
    """What `gopher` lets through."""
    fineweb: FinewebSettings = Field(default_factory=FinewebSettings)
    """What `fineweb` lets through."""
    private: Literal["replace", "reject", "keep"] = "replace"
    """Personal data: put a placeholder there, reject the document, or keep it."""
    privacy: PrivacySettings = Field(default_factory=PrivacySettings)
    """What counts as personal data."""

    @field_validator("filters")
    @classmethod
    def _known_filters(cls, value: str) -> str:
        parse_filters(value)
        return value


def build_steps(settings: CleanSettings) -> list[Step]:
    """Return the steps that `settings` ask for, in their order.

    Raises MissingDependencyError or ConfigError here, not while documents are cleaned.
    """
    steps: list[Step] = []
    if settings.html != "keep":
        steps.append(HtmlRemover(settings.html))
    steps.append(
        Normaliser(
            settings.unicode,
            mojibake=settings.mojibake,
            invisible=settings.invisible,
            spaces=settings.spaces,
            chinese=settings.chinese,
        )
    )
    if settings.languages:
        steps.append(LanguageFilter(settings.languages))
    if names := parse_filters(settings.filters):
        groups = {name: getattr(settings, name) for name in names}
        steps.append(QualityFilter(groups))
    if settings.private != "keep":
        steps.append(Scrubber(settings.privacy, reject=settings.private == "reject"))
    return steps
