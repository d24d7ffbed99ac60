"""A corpus as sentences of words, one a line: what word vectors and simple models are trained on. [text]"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

from pydantic import Field

from langmill.core.config import Settings
from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.text.documents import Document, ReadReport
from langmill.text.paths import expand
from langmill.text.phrases import Measure, Phrases, learn_phrases, load_phrases, ngrams
from langmill.text.readers import OnBadRow, read_documents
from langmill.text.segmentation import Segmenter, dictionary_segmenter
from langmill.text.stop_words import is_stop_word, remove_stop_words, stop_words
from langmill.text.tagged import read_tagged, split_labels, units
from langmill.text.words import sentences, tokenise


class WordSettings(Settings):
    """How texts become words."""

    lowercase: bool = True
    """Ignore case."""
    signs: bool = False
    """Keep punctuation, each sign as a word."""
    dictionary: str = ""
    """Words for the Chinese segmenter, one a line, perhaps with frequency and part of speech."""
    stop_words: str = ""
    """Leave out the stop words of these languages, such as en,zh."""
    phrases: str = ""
    """Join the phrases in this file, which --learn-phrases wrote."""
    learn_phrases: str = ""
    """Learn phrases from the text first, write them to this file, and join them."""
    measure: Measure = "mikolov"
    """What makes a phrase. mikolov: how many times oftener than by chance. npmi: mutual information, -1 to 1."""
    threshold: float | None = None
    """What a phrase's score must exceed.  [default: mikolov 100, npmi 0.5]"""
    min_count: int = Field(5, ge=1)
    """How often a phrase must occur."""
    ngrams: int = Field(1, ge=1)
    """Write every run of so many words as one."""
    tags: bool = False
    """The text has tags (bank_NOUN, 银行/n, or columns as CoNLL has them): write bank|NOUN."""
    tag_column: int = Field(0, ge=0)
    """The column of the tags, from 1.  [default: the last; .conllu: 4]"""
    text_field: str = "text"
    """The field or column of rows that holds the text."""
    encoding: str = "utf-8"
    """Encoding of files without a byte order mark."""
    label_field: str = ""
    """Write the class label in this field before a row's words, as fastText has it (__label__NAME); the row is then one
    line, and so is a line of text that begins with __label__ anyway."""
    on_bad_row: OnBadRow = "fail"
    """What to do with a row that cannot be read; skipped ones are counted."""


class Line(NamedTuple):
    """A line of the output."""

    words: list[str]
    labels: list[str]


@dataclass
class WordReport:
    """What was written."""

    sentences: int = 0
    words: int = 0
    phrases: int = 0
    """Phrases learned."""
    read: str = ""
    """What was read, in one line."""


def write_words(
    paths: Sequence[str], settings: WordSettings, stream: IO[bytes], *, segment: Segmenter | None = None
) -> WordReport:
    """Write the words of texts with spaces between them, a sentence a line; a sentence without a word is left out.

    segment: cuts Chinese; by default a dictionary.

    Raises DataError with file:line, ConfigError for settings that do not go together.
    """
    report, read = WordReport(), ReadReport()
    if settings.phrases and settings.learn_phrases:
        raise ConfigError("--phrases and --learn-phrases: phrases are read or learned; give one of them")
    if settings.tags and (settings.phrases or settings.learn_phrases):
        raise ConfigError("--tags does not go together with phrases, whose words have no tag in common")
    if settings.dictionary:
        segment = dictionary_segmenter(settings.dictionary)
    phrases = load_phrases(settings.phrases) if settings.phrases else None
    if settings.learn_phrases:
        phrases = learn_phrases(
            (line.words for line in word_lines(paths, settings, ReadReport(), segment)),
            measure=settings.measure,
            threshold=settings.threshold,
            min_count=settings.min_count,
        )
        phrases.save(settings.learn_phrases)
        report.phrases = len(phrases.scores)
    languages = [name.strip() for name in settings.stop_words.split(",") if name.strip()]
    if settings.tags:
        found = tagged_lines(paths, settings, languages, read)
    else:
        found = finished(word_lines(paths, settings, read, segment), phrases, languages)
    for words, labels in found:
        words = ngrams(words, settings.ngrams) if settings.ngrams > 1 else words
        if words:
            report.sentences += 1
            report.words += len(words)
            stream.write((" ".join([*labels, *words]) + "\n").encode("utf-8", "backslashreplace"))
    if not report.sentences:
        raise DataError(f"no word to write: {read}")
    report.read = str(read)
    return report


def finished(found: Iterable[Line], phrases: Phrases | None, languages: Sequence[str]) -> Iterator[Line]:
    """Join phrases, then leave out stop words: the other way round, words would meet that do not in the text."""
    for words, labels in found:
        words = phrases.join(words) if phrases else words
        yield Line(remove_stop_words(words, languages=languages) if languages else words, labels)


def word_lines(
    paths: Sequence[str], settings: WordSettings, report: ReadReport, segment: Segmenter | None
) -> Iterator[Line]:
    """Yield the words of each sentence, or of each text that has a label."""
    documents = read_documents(
        paths,
        text_field=settings.text_field,
        encoding=settings.encoding,
        on_bad_row=settings.on_bad_row,
        keep_fields=True,
        report=report,
    )
    for text, labels in labelled(documents, settings.label_field):
        words = tokenise(text, lowercase=settings.lowercase, signs=settings.signs, segment=segment)
        yield Line(words, labels)


def labelled(documents: Iterable[Document], label_field: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each sentence, and each text with a label with its labels; what a long document's parts cut is joined."""
    held = ""
    for document, text, begins, ends in pieces(documents):
        labels, text = split_labels(text) if begins else ([], text)
        if label_field and document.fields is not None:
            if label_field not in document.fields:
                hint = did_you_mean(label_field, document.fields)
                raise DataError(
                    f"{document.source}: no field {label_field!r}{hint}; name one with --label-field"
                )
            labels = ["__label__" + "_".join(str(document.fields[label_field]).split())]
        if labels:
            yield text, labels
            continue
        found = sentences(held + text)
        held = found.pop() if found and not ends else ""
        yield from ((sentence, []) for sentence in found)


def pieces(documents: Iterable[Document]) -> Iterator[tuple[Document, str, bool, bool]]:
    """Yield rows whole and text files line by line; with each text, whether a row or line begins and ends with it."""
    begins = True
    for document in documents:
        if document.fields is not None:
            yield document, document.text, document.part == 0, document.last
            continue
        *lines, rest = document.text.split("\n")
        for line in lines:
            yield document, line, begins, True
            begins = True
        if rest or not begins:
            yield document, rest, begins, document.last
            begins = document.last


def tagged_lines(
    paths: Sequence[str], settings: WordSettings, languages: Sequence[str], report: ReadReport
) -> Iterator[Line]:
    """Yield `word|TAG` units of each sentence, without the stop words of the languages."""
    stops = frozenset[str]().union(*map(stop_words, languages))
    for path in expand(paths, report=report):
        report.files += 1
        for found in read_tagged(path, tag_column=settings.tag_column, encoding=settings.encoding):
            report.documents += 1
            kept = [(word, tag) for word, tag in found if not is_stop_word(word, stops)]
            yield Line(
                units((word.lower(), tag) if settings.lowercase else (word, tag) for word, tag in kept), []
            )
