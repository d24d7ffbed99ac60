"""Where a classifier is wrong and how sure it is, as one HTML page to be opened without a network. [evaluation]"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langmill.core.files import atomic_write
from langmill.core.page import page, picture, table
from langmill.evaluation.labelled import TaskEvaluation
from langmill.metrics.calibration import fit_temperature, probabilities_of, reliability
from langmill.metrics.classification import confusion_matrix
from langmill.metrics.curves import average_precision, per_class, precision_recall_curve, roc_auc, roc_curve
from langmill.models.heads import HeadConfig
from langmill.tasks.classify import indicators
from langmill.text.labelled import ClassExample

SHOWN_ROWS = 50
"""Rows of each table of examples."""
SHOWN_CHARACTERS = 300
OPTION = "--report"
MOST_LABELS = 30
"""Labels up to which pictures show each."""


def write_report(
    path: Path, evaluation: TaskEvaluation, examples: Sequence[ClassExample], head: HeadConfig
) -> None:
    """Write the page; raises MissingDependencyError without matplotlib."""
    logits = evaluation.assessment.logits
    assert logits is not None, "only classifiers have such a report"
    truth = indicators([example.labels for example in examples], head.labels)
    several = head.multi_label
    chances = probabilities_of(logits, multilabel=several)
    answers = truth if several else truth.argmax(1)
    body = [
        f"<pre>{escape(evaluation.table())}</pre>",
        "<h2>How sure, and how right</h2>",
        f"<p>A temperature of {fit_temperature(logits, answers):.3f} would calibrate these scores best.</p>",
        picture(partial(draw_calibration, chances=chances, truth=answers), option=OPTION),
    ]
    if len(head.labels) <= MOST_LABELS:
        body += ["<h2>Curves</h2>", picture(partial(draw_curves, chances=chances, truth=truth), option=OPTION),
                 curves_table(chances, truth, head.labels)]  # fmt: skip
        if not several:
            matrix = confusion_matrix(answers, logits.argmax(1), classes=len(head.labels))
            body += ["<h2>Confusions</h2>", table(["true \\ predicted", *head.labels],
                     [(label, *row) for label, row in zip(head.labels, matrix.tolist())]),
                     picture(partial(draw_confusions, matrix=matrix), height=4.5, option=OPTION)]  # fmt: skip
    if not several:
        body += mistakes(chances, truth.argmax(1), examples, head.labels)
    atomic_write(path, page(f"{evaluation.name}: where it is wrong", body))


def curves_table(chances: NDArray[np.float64], truth: NDArray[np.bool_], labels: Sequence[str]) -> str:
    """Return areas under the curves, label by label."""
    roc, precision = per_class(roc_auc, truth, chances), per_class(average_precision, truth, chances)
    rows = [(label, f"{a:.4f}", f"{b:.4f}") for label, a, b in zip(labels, roc, precision)]
    rows.append(("mean", f"{np.nanmean(roc):.4f}", f"{np.nanmean(precision):.4f}"))
    return table(["label", "area under ROC", "average precision"], rows)


def mistakes(
    chances: NDArray[np.float64],
    truth: NDArray[np.int64],
    examples: Sequence[ClassExample],
    labels: Sequence[str],
) -> list[str]:
    """Return tables of the most confident mistakes and of rows that are likely labelled wrong."""
    heads = ["row", "labelled", "predicted", "probability", "of the label", "text"]

    def rows(chosen: Sequence[int]) -> list[tuple[Any, ...]]:
        return [
            (
                examples[i].source,
                labels[truth[i]],
                labels[chances[i].argmax()],
                f"{chances[i].max():.3f}",
                f"{chances[i, truth[i]]:.3f}",
                " ⁄ ".join(filter(None, (examples[i].text, examples[i].pair)))[:SHOWN_CHARACTERS],
            )
            for i in chosen[:SHOWN_ROWS]
        ]

    wrong = np.flatnonzero(chances.argmax(1) != truth)
    sure = wrong[np.argsort(-chances[wrong].max(1), kind="stable")].tolist()
    doubtful = likely_mislabelled(chances, truth)
    return [
        f"<h2>The most confident of {len(wrong):,} mistakes</h2>",
        table(heads, rows(sure), kind="text"),
        f"<h2>{len(doubtful):,} rows that are likely labelled wrong</h2>",
        table(heads, rows(doubtful), kind="text"),
    ]


def likely_mislabelled(chances: NDArray[np.float64], truth: NDArray[np.int64]) -> list[int]:
    """Return the numbers of rows whose label is likely wrong, the likeliest first.

    Confident learning (Northcutt et al. 2021, arXiv:1911.00068, section 3): a row counts as of a class where its
    probability is at least the mean of those labelled so; it is suspect where such a class is not its label.

    >>> chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.05, 0.95]])
    >>> likely_mislabelled(chances, np.array([0, 0, 1, 0]))
    [3]
    """
    own = chances[np.arange(len(truth)), truth]
    means = np.array(
        [
            own[truth == label].mean() if (truth == label).any() else np.inf
            for label in range(chances.shape[1])
        ]
    )
    counts = np.where(chances >= means, chances, -1.0)
    best = counts.argmax(1)
    suspect = np.flatnonzero((counts.max(1) >= 0) & (best != truth) & (chances.argmax(1) == best))
    margin = own[suspect] - chances[suspect, best[suspect]]
    return suspect[np.argsort(margin, kind="stable")].tolist()


def draw_calibration(figure: Any, chances: NDArray[np.float64], truth: NDArray[Any]) -> None:
    """Draw how often predictions are right by how sure they are, and how many there are of each."""
    found = reliability(chances, truth)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    full = found.counts > 0
    left.plot(found.confidence[full], found.accuracy[full], "o-")
    left.set(
        xlabel="confidence",
        ylabel="share that is right",
        title=f"expected calibration error {found.expected_error:.4f}",
    )
    right.stairs(found.counts, found.edges, fill=True)
    right.set(xlabel="confidence", ylabel="predictions")


def draw_curves(figure: Any, chances: NDArray[np.float64], truth: NDArray[np.bool_]) -> None:
    """Draw ROC and precision-recall curves, one a label."""
    axes = figure.subplots(1, 2)
    for i in range(truth.shape[1]):
        if truth[:, i].any() and not truth[:, i].all():
            for axis, curve in zip(axes, (roc_curve, precision_recall_curve)):
                found = curve(truth[:, i], chances[:, i])
                axis.plot(found.x, found.y, linewidth=1)
    axes[0].set(xlabel="false positive rate", ylabel="true positive rate")
    axes[1].set(xlabel="recall", ylabel="precision")


def draw_confusions(figure: Any, matrix: NDArray[np.int64]) -> None:
    """Draw the confusion matrix, each row as shares; labels stand in the table above in the same order."""
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", xticks=range(len(matrix)), yticks=range(len(matrix)))
    if len(matrix) <= 12:
        for (row, column), count in np.ndenumerate(matrix):
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                color="w" if shares[row, column] > 0.5 else "k",
            )
