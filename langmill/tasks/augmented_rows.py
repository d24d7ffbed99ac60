"""What augmentation may change of each task's rows, and how they are written again. [tasks]

    lm          the text of a row, or a line of a text file
    classify    the same; the label (a field, or `__label__…` before the text) stays
    translate   the text of the field named: the source side; the other side stays
    ner         columns (CoNLL): what is tagged stays; or rows with a list of spans, which keep their text
    qa          contexts: every answer keeps its text (SQuAD JSON, or rows with `answers` as in SQuAD's data sets)

A changed row has a field `augmented` with the operation's name, which readers of these formats pass over. Plain
text and columns have no room for it (a comment would be read as a token): the names then stand in a file beside.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.core.files import read_json
from langmill.text.augment import Changes, Passage, Span, may_change, passage, render, spelled
from langmill.text.documents import ReadReport
from langmill.text.labelled_entities import BEGINS, ENDS, place_of
from langmill.text.labelled_rows import BadRow
from langmill.text.labelled_tags import shape_of, tagged_spans
from langmill.text.paths import kind_of, split_ending
from langmill.text.readers import OnBadRow, read_documents
from langmill.text.rows import Row, whole_rows
from langmill.text.segmentation import HAN, Segmenter, default_segmenter
from langmill.text.tagged import COLUMN_ENDINGS, LABELS, Sentence, read_columns

MARK = "augmented"
"""The field that names the operation."""
MAXIMUM_CHARACTERS = 10_000_000
Columns = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Example:
    """A row of data."""

    passage: Passage
    original: Any
    """What is written for it."""
    change: Callable[[Changes | str, str], tuple[str, Any]]
    """Returns the changed text and what is written for it, given changes (or a text in its place) and the
    operation's name."""
    source: str


@dataclass(frozen=True)
class Reading:
    """How rows are read."""

    text_field: str = ""
    """Empty: the task's own."""
    label_field: str = "label"
    on_bad_row: OnBadRow = "fail"
    segment: Segmenter | None = None


def read_examples(task: str, path: Path, reading: Reading, report: ReadReport) -> Iterator[Example]:
    """Yield the rows of a file as examples of a task; raises DataError with file:line."""
    kind = kind_of(path)
    if task == "ner" and kind in ("text", "tsv"):
        if split_ending(path)[0] not in {*COLUMN_ENDINGS} - {".conllu"}:
            raise DataError(
                f"{path}: expected .conll, .bio, .bmes or .tsv with a token and its tag a line, or .jsonl"
            )
        report.files += 1
        for sentence in read_columns(path):
            report.documents += 1
            yield column_example(sentence, f"{path}:{sentence.line}", reading.segment or default_segmenter())
        return
    if task == "qa" and kind == "json":
        report.files += 1
        yield from squad_examples(path, reading, report)
        return
    if kind == "text" and task not in ("lm", "classify"):
        raise DataError(f"{path}: {task} takes rows with fields, such as .jsonl, .csv or .tsv")
    fields = {"qa": "context", "translate": "source"}
    documents = read_documents(
        [path],
        boundary="line",
        text_field=reading.text_field or fields.get(task, "text"),
        on_bad_row=reading.on_bad_row,
        keep_fields=True,
        report=report,
    )
    for row in whole_rows(documents, maximum_characters=MAXIMUM_CHARACTERS):
        if row.reason:
            raise DataError(
                f"{row.source}: {row.reason}; rows of up to {MAXIMUM_CHARACTERS:,} characters are read"
            )
        yield row_example(task, row, reading, is_text=kind == "text")


def row_example(task: str, row: Row, reading: Reading, *, is_text: bool) -> Example:
    """Return a row as an example."""
    if is_text:
        labels = LABELS.match(row.text)
        if task == "classify" and not labels:
            raise DataError(
                f"{row.source}: no label; expected __label__NAME before the text, or rows with fields"
            )
        return text_example(row.text, [(0, labels.end())] if labels else [], row.source, reading.segment)
    text_field = reading.text_field or {"qa": "context", "translate": "source"}.get(task, "text")
    whole = {text_field: row.text, **row.fields}
    if task == "classify":
        field_of(whole, reading.label_field, row.source, "--label-field")
    if task == "ner":
        return entity_example(whole, text_field, row.source, reading.segment)
    if task == "qa":
        return answer_example(whole, text_field, row.source, reading.segment)
    each = passage(row.text, segment=reading.segment)

    def change(result: Changes | str, operation: str) -> tuple[str, Any]:
        text = result if isinstance(result, str) else render(each, result)[0]
        return text, {**whole, text_field: text, MARK: operation}

    return Example(each, whole, change, row.source)


def text_example(text: str, protected: list[Span], source: str, segment: Segmenter | None) -> Example:
    """Return a line of text as an example."""
    each = passage(text, protected, segment=segment)
    begin = protected[0][1] if protected else 0

    def change(result: Changes | str, operation: str) -> tuple[str, Any]:
        changed = text[:begin] + result if isinstance(result, str) else render(each, result)[0]
        return changed, changed

    return Example(each, text, change, source)


def field_of(row: Mapping[str, Any], name: str, source: str, option: str = "") -> Any:
    """Return a field, or raise DataError."""
    if name not in row:
        remedy = f"; name the right one with {option}" if option else ""
        raise DataError(
            f"{source}: no field {name!r}{did_you_mean(name, row)} (found {', '.join(row)}){remedy}"
        )
    return row[name]


def entity_example(whole: dict[str, Any], text_field: str, source: str, segment: Segmenter | None) -> Example:
    """Return a row with a list of entities: `{"start", "end", …}` or `[start, end, …]` each."""
    name = next((name for name in ("entities", "spans", "label", "labels") if name in whole), "entities")
    entities = field_of(whole, name, source)
    text = whole[text_field]
    if not isinstance(entities, list):
        raise DataError(
            f"{source}: {name!r} is no list; expected spans such as {{'start': 0, 'end': 4, 'label': …}}"
        )
    spans = [span_of(entity, text, source) for entity in entities]
    each = passage(text, spans, segment=segment)

    def change(result: Changes | str, operation: str) -> tuple[str, Any]:
        assert not isinstance(result, str)
        changed, moved = render(each, result)
        found = [with_span(entity, moved(span)) for entity, span in zip(entities, spans, strict=True)]
        return changed, {**whole, text_field: changed, name: found, MARK: operation}

    return Example(each, whole, change, source)


def span_of(entity: Any, text: str, source: str) -> Span:
    """Return where an entity stands, or raise DataError where that is not in the text or holds another one."""
    try:
        return place_of(entity, text)
    except BadRow as error:
        raise DataError(f"{source}: {error}") from error


def with_span(entity: Any, span: Span) -> Any:
    """Return an entity at another place."""
    if isinstance(entity, dict):
        begin, end = (next(name for name in names if name in entity) for names in (BEGINS, ENDS))
        return {**entity, begin: span[0], end: span[1]}
    return [*span, *entity[2:]]


def answer_example(whole: dict[str, Any], text_field: str, source: str, segment: Segmenter | None) -> Example:
    """Return a row with a context and `answers`: `{"text": […], "answer_start": […]}`."""
    answers, context = field_of(whole, "answers", source), whole[text_field]
    shape = "{'text': […], 'answer_start': […]}"
    if not isinstance(answers, dict) or not {"text", "answer_start"} <= answers.keys():
        raise DataError(f"{source}: found answers {str(answers)[:60]}, expected {shape}")
    texts, starts = answers["text"], answers["answer_start"]
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise DataError(f"{source}: answers have not as many texts as starts; expected {shape}")
    spans = [answer_span({"text": a, "answer_start": b}, context, source) for a, b in zip(texts, starts)]
    each = passage(context, spans, segment=segment)

    def change(result: Changes | str, operation: str) -> tuple[str, Any]:
        assert not isinstance(result, str)
        changed, moved = render(each, result)
        there = {**answers, "answer_start": [moved(span)[0] for span in spans]}
        return changed, {**whole, text_field: changed, "answers": there, MARK: operation}

    return Example(each, whole, change, source)


def answer_span(answer: Any, context: str, source: str) -> Span:
    """Return where an answer stands in its context, or raise DataError where it does not stand there."""
    text, begin = (
        (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
    )
    if not isinstance(text, str) or type(begin) is not int:
        raise DataError(f"{source}: found the answer {answer!r}, expected {{'text': …, 'answer_start': N}}")
    if begin < 0 or context[begin : begin + len(text)] != text:
        raise DataError(
            f"{source}: the answer {text!r} is not in its context at {begin}, where"
            f" {context[max(0, begin) : max(0, begin) + len(text)]!r} stands"
        )
    return begin, begin + len(text)


def squad_examples(path: Path, reading: Reading, report: ReadReport) -> Iterator[Example]:
    """Yield the paragraphs of a SQuAD file; what is written for one is (title, paragraph)."""
    tree = read_json(path)
    expected = "expected SQuAD's {'data': [{'paragraphs': [{'context', 'qas'}]}]}"
    if not isinstance(tree, dict) or not isinstance(tree.get("data"), list):
        raise DataError(f"{path}: not SQuAD; {expected}")
    for number, article in enumerate(tree["data"]):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            raise DataError(f"{path}: data[{number}] has no list of paragraphs; {expected}")
        for inner, paragraph in enumerate(paragraphs):
            source = f"{path}: data[{number}].paragraphs[{inner}]"
            context = paragraph.get("context") if isinstance(paragraph, dict) else None
            if not isinstance(context, str) or not isinstance(paragraph.get("qas"), list):
                raise DataError(f"{source} lacks its context or its qas; {expected}")
            report.documents += 1
            yield paragraph_example(article.get("title", ""), paragraph, source, reading.segment)


def paragraph_example(
    title: str, paragraph: dict[str, Any], source: str, segment: Segmenter | None
) -> Example:
    """Return a paragraph of SQuAD, every answer to whose questions is kept."""
    answers = answers_of(paragraph, source)
    spans = [answer_span(answer, paragraph["context"], source) for answer in answers]
    each = passage(paragraph["context"], spans, segment=segment)

    def change(result: Changes | str, operation: str) -> tuple[str, Any]:
        assert not isinstance(result, str)
        changed, moved = render(each, result)
        new = {**copy.deepcopy(paragraph), "context": changed, MARK: operation}
        for answer, span in zip(answers_of(new, source), spans, strict=True):
            answer["answer_start"] = moved(span)[0]
        return changed, (title, new)

    return Example(each, (title, paragraph), change, source)


def answers_of(paragraph: dict[str, Any], source: str) -> list[Any]:
    """Return all answers of a paragraph, those that only seem plausible included."""
    out: list[Any] = []
    for question in paragraph["qas"]:
        for name in ("answers", "plausible_answers"):
            found = question.get(name, []) if isinstance(question, dict) else None
            if not isinstance(found, list):
                raise DataError(f"{source}: a question's {name} are no list")
            out += found
    return out


def column_example(sentence: Sentence, source: str, segment: Segmenter) -> Example:
    """Return a sentence in columns; words of it that may change are tokens tagged O, Chinese characters joined."""
    rows = sentence.rows
    groups = list(words_of(rows, segment))
    text, words, place = "", [], []  # place: the group of each word that may change
    for begin, end in groups:
        word, before = "".join(row[0] for row in rows[begin:end]), text[-1:]
        text += "" if not text or (HAN.match(text[-1]) and HAN.match(word)) else " "
        if rows[begin][-1] == "O" and may_change(word, before=before):
            words.append((len(text), len(text) + len(word)))
            place.append((begin, end))
        text += word
    each = Passage(text, tuple(words))

    def change(result: Changes | str, operation: str) -> tuple[str, Any]:
        assert not isinstance(result, str)
        out: list[tuple[str, ...]] = []
        done = 0
        for number in sorted(result):
            begin, end = place[number]
            out += rows[done:begin]
            for item in result[number]:
                out += (
                    rows[slice(*place[item])]
                    if isinstance(item, int)
                    else new_rows(each, number, item, rows[begin])
                )
            done = end
        out += rows[done:]
        if entities(tuple(out)) != entities(rows):  # two that a deleted token kept apart
            out = list(rows)
        return "\n".join(row[0] for row in out), tuple(out)

    return Example(each, rows, change, source)


def words_of(rows: Columns, segment: Segmenter) -> Iterator[Span]:
    """Yield the rows of each word: one row, or those of a Chinese word whose characters have a row each."""
    begin = 0
    while begin < len(rows):
        end = begin
        while end < len(rows) and rows[end][-1] == "O" and len(rows[end][0]) == 1 and HAN.match(rows[end][0]):
            end += 1
        if end == begin:
            yield begin, begin + 1
            begin += 1
            continue
        for word in segment("".join(row[0] for row in rows[begin:end])):
            yield begin, begin + len(word)
            begin += len(word)


def new_rows(each: Passage, number: int, word: str, row: tuple[str, ...]) -> Columns:
    """Return the rows of a new word in the place of another: what is not known of it is `_`."""
    word = spelled(each, number, (word,))
    tokens = list(word) if HAN.match(row[0]) and len(row[0]) == 1 else [word]
    return tuple((token, *["_"] * (len(row) - 2), "O") for token in tokens)


def entities(rows: Columns) -> list[tuple[str, ...]]:
    """Return the entities of a sentence, as BIO, IO or BMES tags tell: kind and tokens of each."""
    tags = [row[-1] for row in rows]
    found = tagged_spans(tags, shape_of(tags))
    return [(kind, *(row[0] for row in rows[begin:end])) for begin, end, kind in found]


def check_task(task: str) -> None:
    """Raise ConfigError for a task whose rows are not known here."""
    tasks = ("lm", "classify", "ner", "qa", "translate")
    if task not in tasks:
        raise ConfigError(f"unknown task {task!r}; tasks: {', '.join(tasks)}{did_you_mean(task, tasks)}")
