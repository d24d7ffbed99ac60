"""Texts in which spans have labels: entities, words, parts of speech. [text]

Read are columns (CoNLL, one token and its tag a line), lines of words with spaces between them (segmentation),
lines of `word/TAG`, rows with tokens and tags, and rows with a text and a list of spans. Tags may be BIO, IOB1,
BIOES, BMES or BILOU, bare `B M E S` for words alone, or plain names; `labelled_tags` says how they are read, and how
tokens become a text. Offsets are of this text, and `tokens` tells where each token stands in it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langmill.core.errors import DataError
from langmill.text.documents import ReadReport
from langmill.text.formats import shown
from langmill.text.labelled_entities import Span, entities_of, span_of, studio_fields
from langmill.text.labelled_rows import (
    BadRow,
    LabelledSettings,
    RawRow,
    checked_text,
    file_rows,
    made,
    one_of,
    parsed,
)
from langmill.text.labelled_tags import BARE, PREFIXED, Shape, joined, shape_of, tagged_spans
from langmill.text.paths import expand, kind_of, split_ending
from langmill.text.tagged import (
    COLUMN_ENDINGS,
    SAMPLE_LINES,
    columns_of,
    read_columns,
    separator_of,
    tagged_words,
)

TOKENS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "labels", "label", "ner", "pos_tags", "upos")
"""What the tags of tokens are called; the first that is there is taken."""
SPANS = ("entities", "spans", "labels", "label", "annotations")
"""What the list of spans is called; the first that is there is taken."""
TEXTS = ("text", "sentence", "content")


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
        and all(tag in BARE or PREFIXED.fullmatch(tag) for tag in tags)
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
    """Return which column holds tokens; empty: none, and spans are of a text."""
    if isinstance(fields.get(settings.text_field), list):
        return settings.text_field
    if "entities" in fields or "spans" in fields:
        return ""
    return next((name for name in TOKENS if isinstance(fields.get(name), (list, str))), "")


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
    return one_of(fields, [given], given, "--label-field", reason="missing label")


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
