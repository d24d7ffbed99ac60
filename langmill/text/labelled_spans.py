"""Texts in which spans have labels: entities, words, parts of speech. [text]

Read are columns (CoNLL, one token and its tag a line), lines of words with spaces between them (segmentation),
lines of `word/TAG`, rows with tokens and tags, and rows with a text and a list of spans. Tags may be BIO, IOB1,
BIOES, BMES or BILOU, bare `B M E S` for words alone, or plain names.

How tokens become a text: between two of them there is nothing where the last character of the one or the first of
the other is Chinese or Japanese, full-width forms and signs included, else one space. In a sentence that is given by
character (every token is one, and one of them is Chinese) there is nothing at all, so that `2 0 1 1 年` is `2011年`.
Offsets are of this text, and `tokens` tells where each token stands in it.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from langmill.core.errors import DataError
from langmill.text.documents import ReadReport
from langmill.text.formats import shown
from langmill.text.labelled_rows import (
    BadRow,
    LabelledSettings,
    NoColumn,
    RawRow,
    checked_text,
    file_rows,
    made,
    one_of,
)
from langmill.text.paths import expand, kind_of, split_ending
from langmill.text.segmentation import HAN_CHARACTERS
from langmill.text.tagged import (
    COLUMN_ENDINGS,
    SAMPLE_LINES,
    columns_of,
    read_columns,
    separator_of,
    tagged_words,
)

WORD = "word"
"""The label of a span that is a word and no more."""
TOKENS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "labels", "label", "ner", "pos_tags", "upos")
"""What the tags of tokens are called; the first that is there is taken."""
SPANS = ("entities", "spans", "labels", "label", "annotations")
"""What the list of spans is called; the first that is there is taken."""
TEXTS = ("text", "sentence", "content")
BEGINS, ENDS = ("start", "begin", "start_offset", "start_char"), ("end", "end_offset", "end_char")
NAMES = ("label", "labels", "entity_group", "entity", "type", "tag", "entity_type")

Scheme = Literal["BIO", "BIOES", "BMES", "BILOU"]
SCHEMES: dict[Scheme, str] = {"BIO": "BBII", "BIOES": "SBIE", "BMES": "SBME", "BILOU": "UBIL"}
"""What the only, the first, a middle and the last token of a span are marked with."""
Shape = Literal["prefixed", "bare", "runs", "each"]
"""How tags tell spans: `B-PER`; `B` alone; `PER` in runs, with `O` between; a name for every token."""
_PREFIXED = re.compile(r"([BIMESLU])[-_](.+)")
_BARE = frozenset("BIMESO")
_UNSPACED = re.compile(f"[{HAN_CHARACTERS}\u3000-\u30ff\uff00-\uffef]")


@dataclass(frozen=True, order=True)
class Span:
    """A labelled piece of a text."""

    begin: int
    """Its first character, from 0."""
    end: int
    """Behind its last character."""
    label: str


@dataclass(frozen=True)
class TaggedExample:
    """A text and its spans, of which none overlap."""

    text: str
    spans: tuple[Span, ...] = ()
    """In their order in the text."""
    tokens: tuple[tuple[int, int], ...] = ()
    """Begin and end of the tokens that were given; empty: the text came without."""
    tagged: bool = False
    """Spans (or tags) were given, even if there are none."""
    source: str = ""
    """`file:line`."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """All columns of the row, in order; of columns (CoNLL) `tokens` and `tags`."""


def read_spans(
    paths: Sequence[str | Path], settings: LabelledSettings, report: ReadReport, *, need_labels: bool = True
) -> Iterator[TaggedExample]:
    """Yield the texts of files, folders and globs with their spans.

    need_labels: refuse a text without spans or tags; else a line of a text file is a text as it stands.
    Raises DataError for a text that cannot be used (`file:line: found, expected`) unless the settings leave such out.
    """
    for path in expand(paths, report=report, also=COLUMN_ENDINGS):
        report.files += 1
        find = finder(path, settings, need_labels)

        @functools.cache
        def shape(find: Callable[[], Iterator[RawRow]] = find) -> Shape:
            return shape_of(tag for row in find() if not row.fault for tag in tags_in(row.fields, settings))

        def make(row: RawRow, shape: Callable[[], Shape] = shape) -> TaggedExample:
            if row.kind == "text":
                return line_example(row, shape, need_labels)
            return row_example(row, shape, settings, need_labels)

        yield from made(find(), make, settings, report)


def finder(path: Path, settings: LabelledSettings, need_labels: bool) -> Callable[[], Iterator[RawRow]]:
    """Return what reads the rows of a file; it is told by its ending, and a text file by its first lines."""
    ending = split_ending(path)[0]
    if ending in COLUMN_ENDINGS or (kind_of(path) == "text" and seems_columns(path, settings.encoding)):
        return lambda: column_rows(path, settings, need_labels)
    if kind_of(path) == "text" and need_labels:
        sample = itertools.islice(file_rows(path, settings.encoding), SAMPLE_LINES)
        try:
            separator = separator_of(row.fields["text"] for row in sample if not row.fault)
        except DataError:  # words without tags
            separator = ""
        return lambda: word_rows(path, separator, settings.encoding)
    return lambda: file_rows(path, settings.encoding)


def seems_columns(path: Path, encoding: str) -> bool:
    """Say whether the first lines of a text file are tokens with tags, as CoNLL's data come in `.txt`."""
    lines = [row.fields["text"].split() for row in itertools.islice(file_rows(path, encoding), SAMPLE_LINES)]
    lines = [line for line in lines if line[0] != "-DOCSTART-"]
    tags = {line[-1] for line in lines}
    return (
        bool(lines)
        and len({len(line) for line in lines}) == 1
        and len(lines[0]) > 1
        and all(tag in _BARE or _PREFIXED.fullmatch(tag) for tag in tags)
    )


def column_rows(path: Path, settings: LabelledSettings, need_labels: bool) -> Iterator[RawRow]:
    """Yield the sentences of a file in columns; without need of labels a token may stand alone."""
    word, tag = columns_of(path, settings.tag_column)
    needed = max(word, tag, 1) + 1 if need_labels else 1
    for sentence in read_columns(path, needed=needed, encoding=settings.encoding, keep_faults=True):
        source = f"{path}:{sentence.line}"
        if sentence.fault:
            yield RawRow(source, {}, "broken columns", sentence.fault)
            continue
        fields = {"tokens": [row[word] for row in sentence.rows]}
        if len(sentence.rows[0]) > max(word, tag, 1):
            fields["tags"] = [row[tag] for row in sentence.rows]
        yield RawRow(source, fields)


def word_rows(path: Path, separator: str, encoding: str) -> Iterator[RawRow]:
    """Yield lines of words; each with a tag behind the separator, if there is one."""
    for row in file_rows(path, encoding):
        words = row.fields["text"].split()
        fields = dict(row.fields)
        if separator and not row.fault:
            try:
                found = tagged_words(row.fields["text"], separator=separator)
            except DataError as error:
                yield RawRow(row.source, row.fields, "word without tag", str(error))
                continue
            words = [word for word, _ in found]
            fields["tags"] = [tag for _, tag in found]
        yield RawRow(row.source, {**fields, "words": words}, row.reason, row.fault)


def line_example(row: RawRow, shape: Callable[[], Shape], need_labels: bool) -> TaggedExample:
    """Return a sentence of a text file as an example: in columns, as words, or as it stands."""
    fields = row.fields
    if "tokens" in fields:
        if need_labels and "tags" not in fields:
            raise BadRow("missing label", "found tokens without tags, expected a token and its tag a line")
        return sequence_example(fields["tokens"], fields.get("tags"), shape, row)
    if "words" not in fields:
        return TaggedExample(checked_text(fields["text"], "text"), source=row.source, fields=fields)
    words = fields["words"]
    example = sequence_example(words, fields.get("tags", ["S"] * len(words)), shape, row)
    # Where the text does not show where words end, finding them is the task: they must not be given with it.
    tokens = example.tokens if example.text.split() == words and "tags" in fields else ()
    return TaggedExample(example.text, example.spans, tokens, True, row.source, {"text": fields["text"]})


def row_example(
    row: RawRow, shape: Callable[[], Shape], settings: LabelledSettings, need_labels: bool
) -> TaggedExample:
    """Return a row with columns as an example: tokens with tags, or a text with spans."""
    fields = studio_fields(row.fields)
    if name := tokens_name(fields, settings):
        tokens = listed(fields[name], name)
        tag_name = label_name(fields, settings, TAGS, need_labels)
        tags = named_tags(fields[tag_name], tag_name, settings) if tag_name else None
        for token in tokens:
            checked_text(token, "token")
        return sequence_example(tokens, tags, shape, row)
    text_name = one_of(fields, TEXTS, settings.text_field, "--text-field")
    text = checked_text(fields[text_name], text_name)
    others = {name: value for name, value in fields.items() if name != text_name}
    span_name = label_name(others, settings, SPANS, need_labels)
    given = parsed(others[span_name], span_name) if span_name else None
    if not need_labels and not isinstance(given, (list, dict)):
        return TaggedExample(text, source=row.source, fields=row.fields)
    found = sorted(span_of(entity, text) for entity in entities_of(given, span_name))
    for before, after in itertools.pairwise(found):
        if after.begin < before.end:
            raise BadRow(
                "overlapping spans",
                f"the spans {before.begin}-{before.end} ({before.label}) and {after.begin}-{after.end} ({after.label})"
                " overlap; expected spans that follow one another",
            )
    return TaggedExample(text, tuple(found), (), True, row.source, row.fields)


def tokens_name(fields: Mapping[str, Any], settings: LabelledSettings) -> str:
    """Return which column holds tokens; empty: none."""
    if isinstance(fields.get(settings.text_field), list):
        return settings.text_field
    return next((name for name in TOKENS if name in fields and settings.text_field not in fields), "")


def label_name(
    fields: Mapping[str, Any], settings: LabelledSettings, names: Sequence[str], need_labels: bool
) -> str:
    """Return which column holds the tags or spans; empty: none, and none is needed."""
    given = settings.label_field
    if given != "label" and given in fields:
        return given
    known = next((name for name in names if name in fields), "") if given == "label" else ""
    if known or not need_labels:
        return known
    try:
        return one_of(
            fields,
            names[:1] if given == "label" else [""],
            "" if given == "label" else given,
            "--label-field",
        )
    except NoColumn as error:
        raise NoColumn(error.reason, str(error)) from error


def parsed(value: Any, name: str) -> Any:
    """Return what a cell of CSV holds as JSON; other values as they are."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadRow("not valid JSON", f"{name!r} is {shown(value)}, expected JSON ({error})") from error


def listed(value: Any, name: str) -> list[Any]:
    """Return a list with something in it, or raise BadRow."""
    value = parsed(value, name)
    if value is None:
        raise BadRow("missing label", f"{name!r} is null, expected a list")
    if not isinstance(value, list):
        raise BadRow("not a list", f"{name!r} is {shown(value)}, expected a list")
    if not value:
        raise BadRow("empty text", f"{name!r} is an empty list, expected one entry for each token")
    return value


def named_tags(value: Any, name: str, settings: LabelledSettings) -> list[str]:
    """Return tags by name, numbers looked up in the names that the settings give."""
    names = [part.strip() for part in settings.tag_names.split(",")] if settings.tag_names else []
    out = []
    for tag in listed(value, name):
        if isinstance(tag, int) and not isinstance(tag, bool):
            if not names:
                raise BadRow(
                    "tags as numbers",
                    f"{name!r} holds the number {tag}, expected names; give them with --tag-names O,B-PER,I-PER,…",
                )
            if not 0 <= tag < len(names):
                raise BadRow(
                    "unknown tag number",
                    f"{name!r} holds {tag}, expected 0 to {len(names) - 1} for {len(names)} names",
                )
            tag = names[tag]
        if not isinstance(tag, str) or not tag.strip():
            raise BadRow("bad tag", f"{name!r} holds {shown(tag)}, expected O or such as B-PER")
        out.append(checked_text(tag, name))
    return out


def tags_in(fields: Mapping[str, Any], settings: LabelledSettings) -> list[str]:
    """Return the tags of a row with tokens; none where they cannot be read, which shows when the row is made."""
    if not (tokens_name(fields, settings) or "words" in fields):
        return []
    name = label_name(fields, settings, TAGS, need_labels=False)
    try:
        return named_tags(fields[name], name, settings) if name else []
    except BadRow:
        return []


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


def sequence_example(
    tokens: Sequence[str], tags: Sequence[str] | None, shape: Callable[[], Shape], row: RawRow
) -> TaggedExample:
    """Return tokens and their tags as an example."""
    text, places = joined(tokens)
    if tags is None:
        return TaggedExample(text, (), places, False, row.source, row.fields)
    if len(tags) != len(tokens):
        raise BadRow(
            "tags unlike tokens", f"found {len(tags)} tags for {len(tokens)} tokens, expected as many"
        )
    spans = tuple(
        Span(places[begin][0], places[end - 1][1], label) for begin, end, label in tagged_spans(tags, shape())
    )
    return TaggedExample(text, spans, places, True, row.source, row.fields)


def joined(tokens: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the text that tokens are of, by the rule of this module, and where each stands in it.

    >>> joined(["in", "2011", "."]), joined(["2", "0", "年"])
    (('in 2011 .', ((0, 2), (3, 7), (8, 9))), ('20年', ((0, 1), (1, 2), (2, 3))))
    """
    by_character = all(len(token) == 1 for token in tokens) and any(map(_UNSPACED.match, tokens))
    pieces: list[str] = []
    places = []
    end, before = 0, ""
    for token in tokens:
        if before and not (by_character or _UNSPACED.match(before) or _UNSPACED.match(token)):
            pieces.append(" ")
            end += 1
        places.append((end, end + len(token)))
        pieces.append(token)
        end, before = end + len(token), token[-1]
    return "".join(pieces), tuple(places)


def shape_of(tags: Iterable[str]) -> Shape:
    """Return how the tags of a file tell spans; reading ends at the first that has a prefix.

    >>> shape_of(["O", "B-PER"]), shape_of(["B", "E", "S"]), shape_of(["O", "PER"]), shape_of(["DET", "NOUN"])
    ('prefixed', 'bare', 'runs', 'each')
    """
    seen = set()
    for tag in tags:
        if _PREFIXED.fullmatch(tag):
            return "prefixed"
        seen.add(tag)
    if seen <= _BARE:
        return "bare"
    return "runs" if "O" in seen else "each"


def tagged_spans(tags: Sequence[str], shape: Shape = "prefixed") -> list[tuple[int, int, str]]:
    """Return (first token, behind the last, label) of each span, by the rules of conlleval.

    A span begins at B, S or U, at any tag behind O or behind E, S or L, and where the label changes; so all schemes
    are read alike, and a broken one (I behind O) as it is meant. Raises BadRow for a tag of another shape.

    >>> tagged_spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [(0, 2, 'PER'), (3, 4, 'LOC'), (4, 5, 'LOC')]
    """
    out: list[tuple[int, int, str]] = []
    open_label: str | None = None
    for place, tag in enumerate(tags):
        mark, label = _marked(tag, shape)
        if mark == "O":
            open_label = None
        elif mark in "BSU" or label != open_label:
            out.append((place, place + 1, label))
            open_label = label
        else:
            out[-1] = (out[-1][0], place + 1, label)
        if mark in "ESLU":
            open_label = None
    return out


def _marked(tag: str, shape: Shape) -> tuple[str, str]:
    """Return the mark of a tag (one of B, I, M, E, S, L, U, O) and its label."""
    if tag == "O" and shape != "each":
        return "O", ""
    if shape == "each":
        return "S", tag
    if shape == "runs":
        return "I", tag
    if shape == "bare":
        return tag, WORD
    if found := _PREFIXED.fullmatch(tag):
        return found[1], found[2]
    raise BadRow("bad tag", f"found the tag {tag!r}, expected O or such as B-PER, I-PER, E-PER, S-PER")


def tags_of(spans: Iterable[Span], tokens: Sequence[tuple[int, int]], *, scheme: Scheme = "BIO") -> list[str]:
    """Return the tag of each token; a span labelled WORD gives the bare mark.

    spans, tokens: as in TaggedExample, in order. Raises BadRow where a span begins or ends within a token.

    >>> tags_of([Span(0, 3, "PER")], [(0, 1), (1, 3), (4, 5)], scheme="BIOES")
    ['B-PER', 'E-PER', 'O']
    """
    begins = {begin: place for place, (begin, _) in enumerate(tokens)}
    ends = {end: place for place, (_, end) in enumerate(tokens)}
    only, first, middle, last = SCHEMES[scheme]
    out = ["O"] * len(tokens)
    for span in spans:
        begin, end = begins.get(span.begin), ends.get(span.end)
        if begin is None or end is None:
            raise BadRow(
                "span within a token", f"the span {span.begin}-{span.end} begins or ends within a token"
            )
        marks = only if begin == end else first + middle * (end - begin - 1) + last
        name = "" if span.label == WORD else f"-{span.label}"
        out[begin : end + 1] = [mark + name for mark in marks]
    return out
