"""Spans as rows list them, in the spellings of annotation tools. [text]

`{"start", "end", "label"}` and `[start, end, label]`, as spaCy, Prodigy and doccano write them; Label Studio's
`annotations`; CLUENER's `{label: {words: [[first, last]]}}`. Offsets are characters, from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langmill.text.formats import shown
from langmill.text.labelled_rows import BadRow, checked_text

BEGINS, ENDS = ("start", "begin", "start_offset", "start_char"), ("end", "end_offset", "end_char")
NAMES = ("label", "labels", "entity_group", "entity", "type", "tag", "entity_type")


@dataclass(frozen=True, order=True)
class Span:
    """A labelled piece of a text."""

    begin: int
    """Its first character, from 0."""
    end: int
    """Behind its last character."""
    label: str


def studio_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row of Label Studio (`data`, `annotations[0].result[].value`) as text and entities; others as they are."""
    data, given = fields.get("data"), fields.get("annotations")
    if not isinstance(data, dict) or not isinstance(given, list):
        return fields
    if len(given) != 1 or not isinstance(given[0], dict) or not isinstance(given[0].get("result"), list):
        raise BadRow("bad annotations", f"found {len(given)} annotations, expected one with a list 'result'")
    results = [
        item
        for item in given[0]["result"]
        if isinstance(item, dict) and item.get("type", "labels") == "labels"
    ]
    return {**data, "entities": [item.get("value") for item in results]}


def entities_of(given: Any, name: str) -> list[Any]:
    """Return a list of spans; `{type: {words: [[first, last]]}}`, as CLUENER has them, is made one."""
    if isinstance(given, dict):
        try:
            return [
                {"start": first, "end": last + 1, "label": label, "text": words}
                for label, each in given.items()
                for words, places in each.items()
                for first, last in places
            ]
        except (AttributeError, TypeError, ValueError):
            pass
    if given is None:
        raise BadRow("missing label", f"{name!r} is null, expected a list of spans")
    if not isinstance(given, list):
        raise BadRow(
            "not a list",
            f"{name!r} is {shown(given)}, expected spans such as {{'start': 0, 'end': 4, 'label': …}}",
        )
    return given


def place_of(entity: Any, text: str) -> tuple[int, int]:
    """Return where a span stands, or raise BadRow where that is not in the text or it says another text.

    >>> place_of({"start": 0, "end": 2, "text": "北京"}, "北京很大"), place_of([0, 2, "LOC"], "北京很大")
    ((0, 2), (0, 2))
    """
    found = entity
    if isinstance(entity, dict):
        found = [next((entity[name] for name in names if name in entity), None) for names in (BEGINS, ENDS)]
    if not isinstance(found, list) or len(found) < 2 or not all(type(number) is int for number in found[:2]):
        raise BadRow(
            "not a span",
            f"found {shown(entity)}, expected {{'start': N, 'end': N, …}} or [start, end, label]",
        )
    begin, end = found[:2]
    if not 0 <= begin <= end <= len(text):
        raise BadRow(
            "offset outside the text",
            f"the span {begin}-{end} is not within the text of {len(text)} characters",
        )
    said = entity.get("text", entity.get("word")) if isinstance(entity, dict) else None
    if said is not None and said != text[begin:end]:
        raise BadRow(
            "offset of another text", f"at {begin}-{end} stands {text[begin:end]!r}, the row says {said!r}"
        )
    return begin, end


def span_of(entity: Any, text: str) -> Span:
    """Return a labelled span as a row has it; see NAMES and the like for how its parts may be called."""
    begin, end = place_of(entity, text)
    if begin == end:
        raise BadRow("empty span", f"the span {begin}-{end} is empty, expected an end behind its start")
    if isinstance(entity, dict):
        label = next((entity[name] for name in NAMES if name in entity), None)
        label = label[0] if isinstance(label, list) and len(label) == 1 else label
    else:
        label = entity[2] if len(entity) > 2 else None
    if not isinstance(label, str) or not label.strip():
        raise BadRow("missing label", f"the span {shown(entity)} has no label, expected a name")
    return Span(begin, end, checked_text(label, "label").strip())
