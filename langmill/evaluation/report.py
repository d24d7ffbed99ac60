"""A score beside its references, as a table for people and as one object for programs. [evaluation]"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from langmill.checkpoint import Checkpoint, load_checkpoint
from langmill.core.log import say
from langmill.evaluation.language import TextScore, compare, evaluate_texts, need_tokenizer
from langmill.evaluation.references import Reference, ngram_reference, xz_each, xz_together
from langmill.evaluation.texts import Texts, TrainingData, named_data, read_texts, run_data
from langmill.evaluation.verdict import difference_tree, verdict
from langmill.metrics.bootstrap import PairedDifference
from langmill.text.documents import ReadReport, plural
from langmill.training.settings import DataSettings

LINE_SECONDS = 5.0
"""Time between lines of progress."""


@dataclass(frozen=True)
class Comparison:
    """A second checkpoint on the same text."""

    name: str
    score: TextScore
    difference: PairedDifference | None
    """The first one's bits per byte minus this one's; None where there is too little text to say."""

    def sentence(self, first: str) -> str:
        """Say which of the two is better, and whether that is real."""
        return verdict(first, self.name, self.difference, figure="bits per byte", falls=True)


@dataclass(frozen=True)
class Evaluation:
    """What `langmill evaluate` found."""

    name: str
    score: TextScore
    references: tuple[Reference, ...] = ()
    against: Comparison | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        tree = {"checkpoint": self.name, **_figures(self.score)}
        tree["references"] = [vars(each) for each in self.references]
        if self.against is not None:
            against = self.against
            tree["against"] = {
                "checkpoint": against.name,
                **_figures(against.score),
                **difference_tree(against.difference),
            }
        return tree | {"notes": [*self.notes, *_remarks(self.score)]}

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (name, bits per byte, remark) of the checkpoints and their references."""
        rows = [(self.name, self.score)] + ([(self.against.name, self.against.score)] if self.against else [])
        lines = [(name, f"{score.bits_per_byte:.4f}", _interval(score)) for name, score in rows]
        return lines + [(each.name, f"{each.bits_per_byte:.4f}", each.note) for each in self.references]

    def lines(self) -> list[str]:
        """Return what stands below the table."""
        score = self.score
        size = f"{score.bytes:,} bytes, {score.characters:,} characters, {score.tokens:,} tokens"
        lines = [
            f"{self.name}: {score.bits_per_character:.4f} bits per character, "
            f"perplexity {score.perplexity:.5g} per token",
            f"on {plural(score.documents, 'document')}: {size}; context {score.reach.context}, "
            f"stride {score.reach.stride}; ends of documents are not counted",
        ]
        if self.against is not None:
            lines.append(self.against.sentence(self.name))
        return lines + [f"note: {note}" for note in (*_remarks(score), *self.notes)]

    def table(self) -> str:
        """Return it all as text, columns aligned."""
        from rich.cells import cell_len

        rows = [("", "bits/byte", ""), *self.rows()]
        width = max(cell_len(name) for name, _, _ in rows)
        table = [
            f"{name}{' ' * (width - cell_len(name))}  {bits:>9}  {remark}".rstrip()
            for name, bits, remark in rows
        ]
        return "\n".join([*table, "", *self.lines()])


def evaluate_language(
    names: Sequence[str],
    data: Sequence[str],
    *,
    reading: DataSettings,
    train_data: Sequence[str],
    references: bool,
    context: int | None,
    stride: int | None,
    device: torch.device,
) -> Evaluation:
    """Score the checkpoint `names[0]` on text; a second one is compared with it.

    train_data: what the n-gram reference counts; empty: what the run of the first checkpoint was trained on.
    """
    report = ReadReport()
    texts = read_texts(data, reading=reading, report=report)
    say(f"read {report}")
    own = run_data(names[0])
    training = named_data(train_data, reading=reading) if train_data else own

    def score(name: str) -> TextScore:  # one after the other, so that two never lie in memory together
        opened = load_checkpoint(name, device=device)
        return score_checkpoint(opened, name, texts, context=context, stride=stride)

    result = Evaluation(names[0], score(names[0]), notes=overlap_note(own, data, names[0]))
    for name in names[1:]:
        result = add_comparison(result, name, score(name))
    return add_references(result, texts, training) if references else result


def add_references(evaluation: Evaluation, texts: Texts, training: TrainingData) -> Evaluation:
    """Score `xz -9` and, where the training text is known, an n-gram model on the same text."""
    say(f"references: xz -9{', and an n-gram model of the training text' if training.paths else ''} …")
    found = [xz_each(texts.texts), xz_together(texts.texts)]
    ngram = ngram_reference(training.texts(), texts.texts)
    why = training.why_not and f"the training text is not known: {training.why_not}"
    notes = () if ngram else (f"no n-gram reference: {why or 'the training text is empty'}",)
    return replace(evaluation, references=(*found, *ngram), notes=(*evaluation.notes, *notes))


def score_checkpoint(
    checkpoint: Checkpoint, name: str, texts: Texts, *, context: int | None = None, stride: int | None = None
) -> TextScore:
    """Score one checkpoint, saying on stderr how far it is."""
    return evaluate_texts(
        checkpoint.model,
        need_tokenizer(checkpoint),
        texts.texts,
        context=context,
        stride=stride,
        names=texts.names,
        report=_Progress(name),
    )


def add_comparison(evaluation: Evaluation, name: str, score: TextScore) -> Evaluation:
    """Compare with a second checkpoint's score on the same text."""
    return replace(evaluation, against=Comparison(name, score, compare(evaluation.score, score)))


def held_out_report(folder: str | Path, checkpoint: Checkpoint) -> str:
    """Return the score of a run on its own held-out text, beside its references, as text."""
    training = run_data(folder)
    texts = training.held_out()
    evaluation = Evaluation(str(folder), score_checkpoint(checkpoint, str(folder), texts))
    return add_references(evaluation, texts, training).table()


class _Progress:
    """Says now and then how many tokens are scored."""

    def __init__(self, name: str) -> None:
        self.name, self.begin = name, time.perf_counter()
        self.last = self.begin

    def __call__(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if now - self.last >= LINE_SECONDS:
            self.last = now
            rate = done / (now - self.begin)
            say(f"{self.name}: {done / total:.0%} of {total:,} tokens scored, {rate:,.0f} a second")


def _figures(score: TextScore) -> dict[str, Any]:
    interval = score.interval
    return {
        "bits_per_byte": score.bits_per_byte,
        "bits_per_character": score.bits_per_character,
        "perplexity": score.perplexity if math.isfinite(score.perplexity) else None,
        "tokens": score.tokens,
        "interval": None if interval is None else [interval.low, interval.high],
        "interval_level": None if interval is None else interval.level,
        "interval_unit": None if interval is None else interval.unit,
        "documents": score.documents,
        "bytes": score.bytes,
        "characters": score.characters,
        "context": score.reach.context,
        "stride": score.reach.stride,
    }


def _interval(score: TextScore) -> str:
    found = score.interval
    return "" if found is None else f"{found.level:.0%} interval {found.low:.4f} to {found.high:.4f}"


def _remarks(score: TextScore) -> Iterator[str]:
    if score.interval_note:
        yield score.interval_note
    yield from score.notes


def overlap_note(training: TrainingData, paths: Sequence[str], name: str) -> tuple[str, ...]:
    """Return a note when the text to score on is among what the checkpoint was trained on."""
    own = training.overlap(paths)
    if not own:
        return ()
    which = own[0] if len(own) == 1 else f"{own[0]} and {len(own) - 1} more"
    return (f"{which}: among the training data of {name}, so this is no score on unseen text",)
