"""The page about a classifier's mistakes."""

from __future__ import annotations

import numpy as np

from langmill.evaluation.error_report import likely_mislabelled, mistakes, write_report
from langmill.evaluation.labelled import TaskEvaluation, interval_of
from langmill.models.heads import HeadConfig
from langmill.tasks.classify import Classifying
from langmill.text.labelled import ClassExample


def test_rows_that_others_contradict_are_suspect():
    chances = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.02, 0.98], [0.45, 0.55]])
    truth = np.array([0, 0, 1, 1, 0, 0])
    # Means of those labelled so: (0.9 + 0.7 + 0.02 + 0.45) / 4 = 0.5175 and 0.85; the last row is sure of nothing.
    assert likely_mislabelled(chances, truth) == [4]


def test_the_most_confident_mistakes_come_first():
    chances = np.array([[0.6, 0.4], [0.1, 0.9], [0.99, 0.01]])
    examples = [ClassExample(f"text {n} <b>", ("x",), source=f"f.csv:{n}") for n in range(3)]
    page = "".join(mistakes(chances, np.array([1, 0, 0]), examples, ("no", "yes")))
    assert page.index("f.csv:1") < page.index("f.csv:0") and "&lt;b&gt;" in page and "<b>" not in page


def test_the_page_holds_all_parts(tmp_path):
    draw = np.random.default_rng(0)
    head = HeadConfig(kind="text", labels=("差评", "好评"))
    examples = [ClassExample(f"第{n}条", (head.labels[n % 2],), source=f"评论.csv:{n}") for n in range(40)]
    scores = [np.array([0.0, 2.0 * (n % 2) - 1], np.float32) + draw.normal(size=2) for n in range(40)]
    found = Classifying().assess(scores, examples, head)
    write_report(
        tmp_path / "page.html",
        TaskEvaluation("runs/x", "classify", found, interval_of(found)),
        examples,
        head,
    )
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for part in (
        "Confusions",
        "Curves",
        "temperature",
        "most confident of",
        "likely labelled wrong",
        "评论.csv:",
    ):
        assert part in page
    assert page.count("data:image/png;base64,") == 3 and "http" not in page
