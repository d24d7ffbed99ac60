"""Question answering: the piece of a text that answers a question, or that there is none. [tasks]"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langmill.batches.labelled import LabelledBatch
from langmill.checkpoint import Checkpoint, Ensemble
from langmill.core.errors import ConfigError, DataError
from langmill.core.log import warn
from langmill.metrics.answers import score_answers
from langmill.models.heads import HeadConfig
from langmill.models.protocol import device_of
from langmill.objectives.labels import extent_loss
from langmill.tasks.assessment import Assessment
from langmill.tasks.base import Lesson, Request, Text, Use
from langmill.tasks.ensembles import mean_answers
from langmill.tasks.labelled import LONGEST_TOKENS, Encoded, prepare, score_rows
from langmill.tasks.mlm import MaskedLanguageModelling
from langmill.tasks.practice import SCORE_TOKENS
from langmill.tasks.qa_answers import THRESHOLD, Answer, answer_of, assess_answers, best_threshold
from langmill.tasks.qa_baseline import window_baseline
from langmill.tasks.qa_windows import (
    Candidates,
    Window,
    Windows,
    answer_places,
    cut_windows,
    gather_candidates,
    longest_answer,
    read_window,
)
from langmill.text.documents import ReadReport
from langmill.text.labelled_questions import QuestionExample, read_questions
from langmill.text.labelled_rows import LabelledSettings
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import ModelSettings, TrainSettings


class QuestionAnswering:
    """`langmill train qa`: learn to find answers in texts."""

    name = "qa"
    use = Use(
        "question answerer",
        "question-answering",
        "AutoModelForQuestionAnswering",
        'model.predict([("question", "context")])[0].text',
        ("predict {} 'a question' --pair 'a context'", "evaluate {} FILE"),
    )
    families: Mapping[str, Callable[[ModelSettings, int, torch.Generator], nn.Module]] = (
        MaskedLanguageModelling.families
    )
    """All read a text in both directions: where an answer begins what follows tells."""
    fitted: tuple[str, ...] = ()
    own_settings: tuple[str, ...] = ()
    by_token = False
    roles: tuple[str, ...] = ("cls", "sep")

    def __init__(self) -> None:
        self.decisions: dict[str, float] = {}

    def learn(self, request: Request) -> Lesson:
        """Read the questions, make or open a model, and put a head on it."""
        return prepare(request, QuestionAnswering())

    def check(self, model: Any, tokenizer: Tokenizer) -> None:
        """See that it is one stack."""
        if model.config.encoder is not None and model.config.decoder is not None:
            raise ConfigError("qa goes on from an encoder or a decoder; this checkpoint has both")

    def baselines(
        self, train: Sequence[QuestionExample], examples: Sequence[QuestionExample], head: HeadConfig
    ) -> Iterator[tuple[str, Assessment, str]]:
        """Yield what is found without learning."""
        note = "the rarest words of the sentence that shares the rarest with the question; of a Chinese one all of it"
        yield "TF-IDF window", window_baseline(examples), note

    def read(
        self, paths: Sequence[str], settings: LabelledSettings, report: ReadReport, *, answers: bool = True
    ) -> Iterator[QuestionExample]:
        """Yield the questions of files."""
        return read_questions(paths, settings, report, need_labels=answers)

    def question(self, example: QuestionExample) -> Text:
        """Return the question and the context."""
        return example.question, example.context

    def texts(self, example: QuestionExample) -> tuple[str, ...]:
        """Return both too."""
        return example.question, example.context

    def group(self, example: QuestionExample) -> tuple[str, ...]:
        """Return the context: whoever has seen one question about it knows it."""
        return (example.context,)

    def stratum(self, example: QuestionExample) -> str:
        """Return nothing: contexts have no labels."""
        return ""

    def head(self, examples: Sequence[QuestionExample], settings: TrainSettings) -> HeadConfig:
        """Return a head for spans."""
        if all(example.impossible for example in examples):
            raise DataError("no question has an answer; there is nothing to learn")
        return HeadConfig(kind="span")

    def encode(
        self,
        examples: Sequence[QuestionExample],
        tokenizer: Tokenizer,
        head: HeadConfig,
        *,
        limit: int,
        segments: bool,
    ) -> Encoded:
        """Return the windows of each question."""
        found = cut_windows(examples, tokenizer, limit=limit, segments=segments)
        return Encoded(found.rows, found.owners, notes=found.notes)

    def loss(self, scores: Tensor, batch: LabelledBatch, model: Any) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of where answers begin and end."""
        valid = answer_places(batch.targets, scores.shape[1])
        return extent_loss(scores, batch.targets[:, :2], valid)

    def figures(
        self,
        scores: Sequence[NDArray[np.float32]],
        examples: Sequence[QuestionExample],
        encoded: Encoded,
        model: Any,
    ) -> dict[str, float]:
        """Return F1 and exact match; where some questions have no answer, with the threshold that is best for F1."""
        found = candidates_of(encoded, examples, enumerate(scores))
        if any(example.impossible for example in examples):
            self.decisions[THRESHOLD] = best_threshold(found, examples)
        assessment = self.assess(found, examples, self.decisions)
        return {name: assessment.figures[name] for name in ("f1", "exact_match")}

    def assess(
        self,
        found: Sequence[Candidates],
        examples: Sequence[QuestionExample],
        decisions: Mapping[str, float],
    ) -> Assessment:
        """Return all metrics of what was found; the main one is F1."""
        threshold = decisions.get(THRESHOLD, math.inf)
        answers = [answer_of(each, example.context, threshold).text for each, example in zip(found, examples)]
        return assess_answers(answers, examples)

    def outputs(self, checkpoint: Checkpoint, examples: Sequence[QuestionExample]) -> list[Candidates]:
        """Return what the model holds possible of each question."""
        if isinstance(checkpoint, Ensemble):
            return mean_answers(checkpoint, examples, self.outputs, none=THRESHOLD in checkpoint.decisions)
        model, tokenizer = checkpoint.model, checkpoint.tokenizer
        assert tokenizer is not None
        stack = model.config.output_stack
        limit = min(stack.max_positions, LONGEST_TOKENS)
        windows = cut_windows(examples, tokenizer, limit=limit, segments=stack.segments > 1)
        for note in windows.notes:
            warn(note)
        micro_tokens = SCORE_TOKENS[device_of(model).type]
        batches = score_rows(model, windows.rows, micro_tokens=micro_tokens)
        rows = ((n, row) for numbers, _, got in batches for n, row in zip(numbers, got.cpu().numpy()))
        return candidates_of(windows, examples, rows)

    def settle(self, checkpoint: Checkpoint, examples: Sequence[QuestionExample]) -> None:
        """Set the threshold of a model by questions that it has not seen, some of them without an answer."""
        if any(example.impossible for example in examples):
            checkpoint.decisions[THRESHOLD] = best_threshold(self.outputs(checkpoint, examples), examples)

    def evaluate(self, checkpoint: Checkpoint, examples: Sequence[QuestionExample]) -> Assessment:
        """Answer questions and compare with their answers."""
        return self.assess(self.outputs(checkpoint, examples), examples, checkpoint.decisions)

    def predict(self, checkpoint: Checkpoint, inputs: Sequence[Text]) -> list[Answer]:
        """Answer questions, each given as (question, context)."""
        examples = []
        for text in inputs:
            if isinstance(text, str):
                raise DataError(
                    f"the question {text[:40]!r} has no context to find its answer in; give one with --pair"
                )
            examples.append(QuestionExample("", *text))
        threshold = checkpoint.decisions.get(THRESHOLD, math.inf)
        found = self.outputs(checkpoint, examples)
        return [answer_of(each, example.context, threshold) for each, example in zip(found, examples)]

    def score(self, results: Sequence[Answer], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return F1 and exact match of results, against the texts that are right for each; none: there is no answer."""
        if len(results) != len(references):
            raise DataError(
                f"{len(results)} results and {len(references)} references; one for each is needed"
            )
        scores = score_answers([found.text for found in results], references)
        return {"exact_match": float(scores.exact.mean()), "f1": float(scores.f1.mean())}


def candidates_of(
    windows: Windows | Encoded,
    examples: Sequence[QuestionExample],
    scores: Iterable[tuple[int, NDArray[np.float32]]],
) -> list[Candidates]:
    """Return the candidates of each question. scores: (row number, (T, 2)) of all rows, in any order."""
    parts: dict[int, list[Any]] = defaultdict(list)
    for number, row in scores:
        owner = int(windows.owners[number])
        example = examples[owner]
        longest = longest_answer(example.question)
        window = windows.rows[number]
        assert isinstance(window, Window)
        parts[owner].append(read_window(window, row, example.context, longest=longest))
    return [gather_candidates(parts[number]) for number in range(len(examples))]
