"""Rows of each task, as files, for the tests of augmentation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REVIEWS = [
    {"text": "The room was very clean, and the staff were kind.", "label": "good", "id": 1},
    {"text": "房间不大，但是很干净，服务也很周到。", "label": "好", "id": 2},
    {"text": "Breakfast started late. Nobody told us why.", "label": "bad", "id": 3},
]
CONLL = """\
Ann\tNNP\tB-PER
Lee\tNNP\tI-PER
flew\tVBD\tO
slowly\tRB\tO
to\tTO\tO
New\tNNP\tB-LOC
York\tNNP\tI-LOC
.\t.\tO

吴\t_\tB-PER
阳\t_\tI-PER
昨\t_\tO
天\t_\tO
离\t_\tO
开\t_\tO
北\t_\tB-LOC
京\t_\tI-LOC
。\t_\tO
"""
ENTITIES = [
    {
        "text": "Ann Lee flew slowly from York to New York yesterday evening.",
        "entities": [
            {"start": 0, "end": 7, "label": "PER", "text": "Ann Lee"},
            {"start": 33, "end": 41, "label": "LOC"},
            {"start": 37, "end": 41, "label": "CITY"},
        ],
    },
    {"text": "昨天晚上吴阳离开了北京大学。", "entities": [[4, 6, "PER"], [9, 11, "LOC"], [9, 13, "ORG"]]},
]
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Whales",
            "paragraphs": [
                {
                    "context": "The white whale sank the old ship in 1851 near the warm islands.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "What sank it?",
                            "answers": [{"text": "white whale", "answer_start": 4}],
                        },
                        {
                            "id": "b",
                            "question": "Why?",
                            "is_impossible": True,
                            "answers": [],
                            "plausible_answers": [{"text": "warm islands", "answer_start": 51}],
                        },
                    ],
                }
            ],
        },
        {
            "title": "鲸",
            "paragraphs": [
                {
                    "context": "白鲸在温暖的海岛旁边撞沉了一艘旧船。",
                    "qas": [{"id": "c", "question": "?", "answers": [{"text": "海岛", "answer_start": 6}]}],
                }
            ],
        },
    ],
}


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows, a JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read rows."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
