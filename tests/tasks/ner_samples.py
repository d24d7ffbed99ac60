"""Texts with spans that a tiny model learns at once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import langmill
from langmill.text.documents import ReadReport
from langmill.text.labelled_spans import TaggedExample, read_spans
from langmill.training.settings import DataSettings

PEOPLE = ("Ada", "Bob", "Cleo", "王明", "李华")
PLACES = ("Oslo", "Rome", "New York", "北京", "上海")
TINY = {"family": "eurobert", "layers": 1, "width": 32, "heads": 2}


def sentence(draw: random.Random) -> tuple[str, list[dict[str, object]]]:
    """Return a text and its spans."""
    text, spans = "", []
    for part in draw.choice(
        (("P", " met ", "P", " in ", "L", "."), ("P", "去了", "L", "。"), ("it rained.",))
    ):
        begin = len(text)
        text += draw.choice(PEOPLE) if part == "P" else draw.choice(PLACES) if part == "L" else part
        if part in "PL":
            spans.append({"start": begin, "end": len(text), "label": {"P": "person", "L": "地点 📍"}[part]})
    return text, spans


def write_entities(path: Path, count: int = 150, *, seed: int = 0) -> Path:
    """Write rows with a text and its spans."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text, spans = sentence(draw)
            print(json.dumps({"id": number, "text": text, "entities": spans}, ensure_ascii=False), file=file)
    return path


def write_words(path: Path, count: int = 120) -> Path:
    """Write lines of Chinese words."""
    draw = random.Random(0)
    words = ("我们", "爱", "北京", "天安门", "，", "去", "看电影")
    path.write_text("\n".join(" ".join(draw.choices(words, k=6)) for _ in range(count)), encoding="utf-8")
    return path


def read(path: Path) -> list[TaggedExample]:
    """Return the examples of a file."""
    return list(read_spans([str(path)], DataSettings(), ReadReport()))


def train(data: Path, output: Path, **settings: object) -> langmill.TrainResult:  # type: ignore[name-defined]
    """Train a tiny tagger."""
    asked: dict[str, object] = {
        "model": TINY,
        "steps": 60,
        "batch": 16,
        "vocabulary": 400,
        "seed": 1,
        "tensorboard": False,
    }
    return langmill.train("ner", str(data), output=str(output), **{**asked, **settings})
