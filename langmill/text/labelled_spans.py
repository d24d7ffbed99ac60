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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langmill.core.errors import DataError
from langmill.text.documents import ReadReport
from langmill.text.formats import shown
from langmill.text.labelled_entities import Span, entities_of, span_of, studio_fields
from langmill.text.labelled_rows import (
    DEFAULTS,
    BadRow,
    LabelledSettings,
    RawRow,
    checked_text,
    file_rows,
    labelled_files,
    made,
    one_of,
    parsed,
    text_of,
)
from langmill.text.labelled_tags import BARE, PREFIXED, Shape, joined, shape_of, tagged_spans
from langmill.text.paths import kind_of, split_ending
from langmill.text.tagged import (
    COLUMN_ENDINGS,
    SAMPLE_LINES,
    columns_of,
    read_columns,
    separator_of,
    tagged_words,
)

TOKENS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "labels", "label", "ner", "pos_tags", "upos", "标签", "标注")
"""What the tags of tokens are called; the first that is there is taken."""
SPANS = ("entities", "spans", "labels", "label", "annotations", "实体", "标签", "标注")
"""What the list of spans is called; the first that is there is taken."""
TEXTS = ("text", "sentence", "content", "文本", "句子", "内容")


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
    """All columns of the row, in order; of columns (CoNLL) `tokens` and `tags`, of lines of words
    `text`, `words` and `tags`."""


def read_spans(
    paths: Sequence[str | Path], settings: LabelledSettings, report: ReadReport, *, need_labels: bool = True
) -> Iterator[TaggedExample]:
    """Yield the texts of files, folders and globs with their spans.

    need_labels: refuse a text without spans or tags; else they are taken where they are there and can be read, and a
    line of a text file is a text as it stands.
    Raises DataError for a text that cannot be used (`file:line: found, expected`) unless the settings leave such out.
    """
    for path in labelled_files(paths, settings, report, also=COLUMN_ENDINGS):
        yield from file_examples(path, settings, report, need_labels)


def file_examples(
    path: Path, settings: LabelledSettings, report: ReadReport, need_labels: bool
) -> Iterator[TaggedExample]:
    """Yield the texts of a file."""
    find = finder(path, settings, need_labels)

    @functools.cache
    def shape() -> Shape:
        return shape_of(tag for row in find() if not row.fault for tag in tags_in(row, settings))

    def make(row: RawRow) -> TaggedExample:
        example = untagged(row, settings)
        try:
            spans = spans_in(row, example, settings, shape)
        except BadRow:
            if need_labels:
                raise
            return example
        words = row.fields.get("words") if row.kind == "text" else None
        # Where words end, if the text does not show it, is what is asked: it must not be given with the text.
        hidden = words is not None and (shape() == "bare" or example.text.split() != words)
        return replace(example, spans=spans, tokens=() if hidden else example.tokens, tagged=True)

    yield from made(find(), make, settings, report, lambda each: (each.text,))


def finder(path: Path, settings: LabelledSettings, need_labels: bool) -> Callable[[], Iterator[RawRow]]:
    """Return what reads the rows of a file; it is told by its ending, and a text file by its first lines."""
    if holds_columns(path, settings.encoding):
        return lambda: column_rows(path, settings, need_labels)
    if kind_of(path) == "text" and need_labels:
        sample = itertools.islice(file_rows(path, settings.encoding), SAMPLE_LINES)
        lines = [row.fields["text"] for row in sample if not row.fault]
        try:
            separator = separator_of(lines)
        except DataError as error:  # words without tags
            if all(len(line.split()) == 1 for line in lines):
                raise DataError(
                    f"{path}: found no spaces within lines, expected words with spaces between them, word/TAG, or a token"
                    " and its tag a line"
                ) from error
            separator = ""
        return lambda: word_rows(path, separator, settings.encoding)
    return lambda: file_rows(path, settings.encoding)


def holds_columns(path: Path, encoding: str) -> bool:
    """Say whether a file is one of tokens with tags, by its ending or, of a text file, by its first lines."""
    if split_ending(path)[0] in COLUMN_ENDINGS:
        return True
    return kind_of(path) == "text" and seems_columns(path, encoding)


def seems_columns(path: Path, encoding: str) -> bool:
    """Say whether the first lines of a text file are tokens with tags, as CoNLL's data come in `.txt`."""
    sample = itertools.islice(file_rows(path, encoding), SAMPLE_LINES)
    lines = [row.fields["text"].split() for row in sample if not row.fault]
    lines = [line for line in lines if line[0] != "-DOCSTART-"]
    tags = {line[-1] for line in lines}
    prefixed = {tag for tag in tags if PREFIXED.fullmatch(tag)}
    return (
        len(lines) > 1
        and {len(line) for line in lines} in ({2}, {3}, {4}, {5})
        and tags - prefixed <= BARE
        and (bool(prefixed) or len(tags) > 1)
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
        tags = ["S"] * len(words)
        if separator and not row.fault:
            try:
                found = tagged_words(row.fields["text"], separator=separator)
            except DataError as error:
                yield replace(row, reason="word without tag", fault=str(error))
                continue
            words, tags = [word for word, _ in found], [tag for _, tag in found]
        yield replace(row, fields={**row.fields, "words": words, "tags": tags})


def untagged(row: RawRow, settings: LabelledSettings) -> TaggedExample:
    """Return the text of a row, with its tokens where these are given."""
    fields = studio_fields(row.fields)
    if name := tokens_name(fields, settings):
        text, places = joined([checked_text(token, "token") for token in listed(fields[name], name)])
        return TaggedExample(text, (), places, False, row.source, row.fields)
    name = "text" if row.kind == "text" else one_of(fields, TEXTS, settings.text_field, "--text-field")
    return TaggedExample(text_of(fields, name), source=row.source, fields=row.fields)


def spans_in(
    row: RawRow, example: TaggedExample, settings: LabelledSettings, shape: Callable[[], Shape]
) -> tuple[Span, ...]:
    """Return the spans that a row gives, as tags of its tokens or as a list; or raise BadRow."""
    fields = studio_fields(row.fields)
    places = example.tokens
    if places:
        tags = tags_of(row, settings)
        if len(tags) != len(places):
            raise BadRow(
                "tags unlike tokens", f"found {len(tags)} tags for {len(places)} tokens, expected as many"
            )
        found = tagged_spans(tags, shape())
        return tuple(Span(places[begin][0], places[end - 1][1], label) for begin, end, label in found)
    name = label_name(fields, settings, SPANS)
    spans = sorted(span_of(entity, example.text) for entity in entities_of(parsed(fields[name], name), name))
    for before, after in itertools.pairwise(spans):
        if after.begin < before.end:
            raise BadRow(
                "overlapping spans",
                f"the spans {before.begin}-{before.end} ({before.label}) and {after.begin}-{after.end} ({after.label})"
                " overlap; expected spans that follow one another",
            )
    return tuple(spans)


def tokens_name(fields: Mapping[str, Any], settings: LabelledSettings) -> str:
    """Return which column holds tokens; empty: none, and spans are of a text."""
    if isinstance(fields.get(settings.text_field), list):
        return settings.text_field
    if "entities" in fields or "spans" in fields:
        return ""
    kinds = list if settings.text_field in fields else (list, str)  # in a cell of CSV a list is a string
    return next((name for name in TOKENS if isinstance(fields.get(name), kinds)), "")


def label_name(fields: Mapping[str, Any], settings: LabelledSettings, names: Sequence[str]) -> str:
    """Return which column holds the tags or spans, or raise NoColumn."""
    given = settings.label_field
    if given == DEFAULTS["--label-field"] and (known := [name for name in names if name in fields]):
        return known[0]
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


def tags_of(row: RawRow, settings: LabelledSettings) -> list[str]:
    """Return the tags of a row's tokens by name, numbers looked up in the names that the settings give."""
    if row.kind == "text":
        if "tags" not in row.fields:
            raise BadRow("missing label", "found tokens without tags, expected a token and its tag a line")
        return list(row.fields["tags"])
    name = label_name(row.fields, settings, TAGS)
    names = [part.strip() for part in settings.tag_names.split(",")] if settings.tag_names else []
    return [named_tag(tag, name, names) for tag in listed(row.fields[name], name)]


def named_tag(tag: Any, name: str, names: Sequence[str]) -> str:
    """Return a tag by name."""
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
    return checked_text(tag, name)


def tags_in(row: RawRow, settings: LabelledSettings) -> list[str]:
    """Return the tags of a row; none where there are none to be read, which shows when the row is made."""
    try:
        return tags_of(row, settings) if tokens_name(row.fields, settings) else []
    except BadRow:
        return []
