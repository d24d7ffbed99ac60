"""Questions about texts, and the answers that stand in them. [text]

Read are SQuAD's files, 1.1 and 2.0 (`{"data": [{"paragraphs": [{"context", "qas"}]}]}`), and rows with a question, a
context and `answers`: `{"text": […], "answer_start": […]}`, a list of `{"text", "answer_start"}`, or texts alone, which
are looked for. A place at which an answer does not stand is put right where the answer stands once within
NEARBY characters of it, and counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    labelled_files,
    made,
    one_of,
    parsed,
    text_of,
)
from langmill.text.paths import kind_of
from langmill.text.streams import text_blocks

CONTEXTS = (
    "context",
    "passage",
    "paragraph",
    "document",
    "text",
    "上下文",
    "文章",
    "段落",
    "正文",
    "文本",
    "材料",
)
"""What the column of the context is called."""
QUESTIONS = ("question", "query", "问题")
"""What the column of the question is called."""
ANSWERS = ("answers", "answer", "label", "答案", "回答")
"""What the column of the answers is called."""
NEARBY = 50
"""Characters before and behind the place given at which an answer is looked for."""
SHAPE = "{'text': […], 'answer_start': […]}, or a text"


@dataclass(frozen=True)
class Answer:
    """A piece of a context: `context[begin : begin + len(text)] == text`."""

    text: str
    begin: int


@dataclass(frozen=True)
class QuestionExample:
    """A question about a context."""

    id: str
    """As given, else the source."""
    question: str
    context: str
    answers: tuple[Answer, ...] = ()
    """All that are right; empty: there is none in the context, or none was given."""
    impossible: bool = False
    """The context is known to hold no answer."""
    source: str = ""
    """`file:line`, in SQuAD's files `file: data[0].paragraphs[0].qas[0]`."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """All columns of the row, in order; in SQuAD's files what stands with the question, and `context`."""


def read_questions(
    paths: Sequence[str | Path], settings: LabelledSettings, report: ReadReport, *, need_labels: bool = True
) -> Iterator[QuestionExample]:
    """Yield the questions of files, folders and globs.

    need_labels: refuse a question of which neither an answer is given nor that there is none; else answers are taken
    where they are there and can be used.
    Raises DataError for a row that cannot be used (`file:line: found, expected`) unless the settings leave such out.
    """

    def make(row: RawRow) -> QuestionExample:
        return question_example(row, settings, report, need_labels)

    for path in labelled_files(paths, settings, report, also=(".json",)):
        if kind_of(path) == "text":
            raise DataError(f"{path}: expected SQuAD's .json, or rows with columns, such as .jsonl or .csv")
        found = question_rows(path, settings.encoding)
        yield from made(found, make, settings, report, lambda each: (each.question, each.context))


def question_rows(path: Path, encoding: str) -> Iterator[RawRow]:
    """Yield the questions of a file, one row each; one that is broken above them comes as one row with a fault."""
    tree = None
    if kind_of(path) == "json":
        try:
            tree = json.loads("".join(text_blocks(path, encoding=encoding)))
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
    if not isinstance(tree, dict) or "data" not in tree:  # rows; what is broken is told with its line
        yield from file_rows(path, encoding)
        return
    for number, article in enumerate(_list(tree, "data", str(path))):
        source = f"{path}: data[{number}]"
        if isinstance(article, dict) and "paragraphs" not in article and "question" in article:
            yield RawRow(source, article, kind="json")
            continue
        try:
            paragraphs = _list(article, "paragraphs", source)
        except DataError as error:
            yield _broken(source, error)
            continue
        for inner, paragraph in enumerate(paragraphs):
            yield from _paragraph_rows(paragraph, article, f"{source}.paragraphs[{inner}]")


def _paragraph_rows(paragraph: Any, article: Mapping[str, Any], source: str) -> Iterator[RawRow]:
    try:
        questions = _list(paragraph, "qas", source)
    except DataError as error:
        yield _broken(source, error)
        return
    shared = {name: article[name] for name in ("title",) if name in article}
    shared |= {name: value for name, value in paragraph.items() if name != "qas"}
    for number, question in enumerate(questions):
        place = f"{source}.qas[{number}]"
        if isinstance(question, dict):
            yield RawRow(place, {**shared, **question}, kind="json")
        else:
            yield RawRow(place, {}, "not SQuAD", f"found {shown(question)}, expected a question")


def _broken(source: str, error: DataError) -> RawRow:
    return RawRow(source, {}, "not SQuAD", str(error).removeprefix(f"{source}: "))


def _list(tree: Any, name: str, source: str) -> list[Any]:
    found = tree.get(name) if isinstance(tree, dict) else None
    if not isinstance(found, list):
        raise DataError(
            f"{source}: found no list {name!r}, expected SQuAD's"
            " {'data': [{'paragraphs': [{'context', 'qas'}]}]}, or an array of rows"
        )
    return found


def question_example(
    row: RawRow, settings: LabelledSettings, report: ReadReport, need_labels: bool
) -> QuestionExample:
    """Return a row as an example."""
    fields = row.fields
    question = text_of(fields, one_of(fields, QUESTIONS, settings.pair_field, "--pair-field"))
    context = text_of(fields, one_of(fields, CONTEXTS, settings.text_field, "--text-field"))
    answers: tuple[Answer, ...] = ()
    impossible = False
    try:
        answers, impossible, repaired = known_answers(fields, context, settings)
        report.repaired += repaired
    except BadRow:
        if need_labels:
            raise
    identity = fields.get("id")
    named = str(identity) if isinstance(identity, (str, int)) and identity != "" else row.source
    return QuestionExample(named, question, context, answers, impossible, row.source, fields)


def known_answers(
    fields: Mapping[str, Any], context: str, settings: LabelledSettings
) -> tuple[tuple[Answer, ...], bool, bool]:
    """Return the answers of a row, whether there is none, and whether a place was put right; or raise BadRow."""
    impossible = _is_impossible(fields.get("is_impossible"))
    try:
        name = one_of(fields, ANSWERS, settings.label_field, "--label-field", reason="missing answer")
    except NoColumn:
        if impossible:
            return (), True, False
        raise
    given = parsed(fields[name], name)
    if given is None or given == "":
        if impossible:
            return (), True, False
        raise BadRow("missing answer", f"{name!r} is {shown(given)}, expected {SHAPE}")
    found = [placed(text, begin, context) for text, begin in answers_of(given)]
    if impossible and found:
        raise BadRow(
            "answer to an impossible question",
            f"'is_impossible' is true, and {name!r} is {shown(given)}; expected none, or false",
        )
    answers = tuple(dict.fromkeys(answer for answer, _ in found))
    return answers, not answers, any(repaired for _, repaired in found)


def _is_impossible(value: Any) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False, "": False, "none": False}
    found = words.get(str(value).strip().lower())
    if found is None:
        raise BadRow("not a boolean", f"'is_impossible' is {shown(value)}, expected true or false")
    return found


def answers_of(given: Any) -> list[tuple[str, int | None]]:
    """Return the texts of answers and where they are said to stand (None: nothing is said), or raise BadRow.

    >>> answers_of({"text": ["北京"], "answer_start": [3]}), answers_of("Paris")
    ([('北京', 3)], [('Paris', None)])
    """
    if isinstance(given, dict) and isinstance(given.get("text"), list):
        texts, begins = given["text"], given.get("answer_start")
        begins = [None] * len(texts) if begins is None else begins
        if not isinstance(begins, list) or len(begins) != len(texts):
            raise BadRow("not an answer", f"found {shown(given)}, expected as many starts as texts: {SHAPE}")
        given = [{"text": text, "answer_start": begin} for text, begin in zip(texts, begins)]
    out = []
    for item in given if isinstance(given, list) else [given]:
        text, begin = (item.get("text"), item.get("answer_start")) if isinstance(item, dict) else (item, None)
        if not isinstance(text, str) or not (begin is None or type(begin) is int):
            raise BadRow("not an answer", f"found the answer {shown(item)}, expected {SHAPE}")
        out.append((checked_text(text, "answer"), begin))
    return out


def placed(text: str, begin: int | None, context: str) -> tuple[Answer, bool]:
    """Return an answer where it stands, and whether that is not where it was said to be; or raise BadRow.

    >>> placed("北京", 4, "我住在北京。"), placed("北京", None, "北京很大，北京很老。")
    ((Answer(text='北京', begin=3), True), (Answer(text='北京', begin=0), False))
    """
    if begin is None:
        found = context.find(text)
        if found < 0:
            raise BadRow(
                "answer not in context",
                f"the answer {text[:60]!r} is not in its context; expected a piece of it",
            )
        return Answer(text, found), False
    if begin >= 0 and context.startswith(text, begin):
        return Answer(text, begin), False
    low, high = max(0, begin - NEARBY), max(0, begin + len(text) + NEARBY)
    found = context.find(text, low, high)
    if found < 0 or context.find(text, found + 1, high) >= 0:
        there = context[max(0, begin) : max(0, begin) + len(text)]
        raise BadRow(
            "answer not in context",
            f"the answer {text[:60]!r} is not in its context at {begin}, where {there[:60]!r} stands;"
            f" expected it there, or once within {NEARBY} characters",
        )
    return Answer(text, found), True
