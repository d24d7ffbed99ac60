"""Classification: one label for a text, or several, or for two texts read together. [tasks]"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langmill.batches.labelled import LabelledBatch, LabelledRow
from langmill.checkpoint import Checkpoint, Ensemble
from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.core.log import say
from langmill.metrics.calibration import (
    expected_calibration_error,
    logits_of,
    probabilities_of,
)
from langmill.metrics.classification import classification_scores, multilabel_scores
from langmill.models.heads import HeadConfig
from langmill.models.protocol import device_of
from langmill.objectives.distillation import mixed_loss, teacher_loss
from langmill.objectives.labels import class_loss, several_labels_loss
from langmill.tasks.assessment import Assessment, ratio_score
from langmill.tasks.bags import BAG, BAGS, FOLLOWED, fit_texts, prepare_bag, say_stepwise, unfollowed
from langmill.tasks.base import Lesson, Request, Text, Use
from langmill.tasks.calibrated import best_temperature, divide_scores, save_calibrated
from langmill.tasks.ensembles import mean_classes
from langmill.tasks.labelled import LONGEST_TOKENS, Encoded, prepare, score_rows
from langmill.tasks.lm import LanguageModelling
from langmill.tasks.mlm import MaskedLanguageModelling
from langmill.tasks.practice import SCORE_TOKENS
from langmill.text.documents import ReadReport, plural
from langmill.text.labelled import ClassExample, read_classes
from langmill.text.labelled_rows import LabelledSettings
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import LabelSettings, ModelSettings, TeacherSettings, TrainSettings

BEST = "nbsvm"
"""What `--model auto` means where no setting asks for steps."""
SEVERAL = 0.5
"""Probability from which on a label of several holds."""
PAIRS = "pairs"
"""What is kept beside the model: 1 where all texts that it learned from were pairs, 0 where none was."""


@dataclass(frozen=True)
class Classification:
    """What a model makes of a text."""

    label: str
    """The likeliest; of several labels those that hold, with commas between, which may be none."""
    probabilities: Mapping[str, float]
    """Of every label, the likeliest first; they sum to 1 unless several may hold."""
    labels: tuple[str, ...]
    """Those that hold."""
    cut: int = 0
    """Tokens at the end of the text that were not read."""

    @property
    def probability(self) -> float:
        """Of the label; of several labels that of the least certain of them, or of the likeliest where none holds."""
        held = [self.probabilities[label] for label in self.labels]
        return min(held) if held else next(iter(self.probabilities.values()))

    def columns(self) -> dict[str, Any]:
        """Return what is added to a row."""
        return {"predicted_label": self.label, "probability": round(self.probability, 6)}

    def summary(self, text: str) -> str:
        """Return the answer to a text as a line; of several labels each has its probability.

        >>> Classification("new, good", {"new": 0.9, "good": 0.52, "long": 0.1}, ("new", "good")).summary("a text")
        'new, good\\t0.9000, 0.5200\\ta text'
        """
        chances = [self.probabilities[label] for label in self.labels] or [self.probability]
        figures = ", ".join(f"{chance:.4f}" for chance in chances)
        return f"{self.label or '(none)'}\t{figures}\t{' '.join(text.split())}"


def class_of(
    scores: NDArray[np.float32], labels: Sequence[str], *, several: bool, cut: int = 0
) -> Classification:
    """Return what scores (L,) say.

    >>> class_of(np.array([0.0, 2.0], np.float32), ("bad", "good"), several=False).label
    'good'
    """
    chances = probabilities_of(scores[None], multilabel=several)[0]
    order = np.argsort(-chances, kind="stable")
    held = [labels[i] for i in order if chances[i] >= SEVERAL] if several else [labels[order[0]]]
    return Classification(", ".join(held), {labels[i]: float(chances[i]) for i in order}, tuple(held), cut)


class Classifying:
    """`langmill train classify`: learn the labels of texts."""

    name = "classify"
    use = Use(
        "classifier",
        "text-classification",
        "AutoModelForSequenceClassification",
        'model.predict("…").label',
        ("predict {} 'some text'", "evaluate {} FILE"),
    )
    families: Mapping[str, Callable[[ModelSettings, int, torch.Generator], nn.Module]] = {
        **MaskedLanguageModelling.families,
        **{name: make for name, make in LanguageModelling.families.items() if name in ("qwen3", "gpt2")},
    }
    fitted: tuple[str, ...] = BAGS
    own_settings: tuple[str, ...] = ("labels", "teacher", "augment")
    by_token = False
    roles: tuple[str, ...] = ()

    def __init__(
        self,
        settings: LabelSettings | None = None,
        weights: Tensor | None = None,
        teacher: TeacherSettings | None = None,
    ) -> None:
        """weights: (L,), how much each label counts."""
        self.settings, self.weights = settings or LabelSettings(), weights
        self.teacher = teacher or TeacherSettings()
        self.decisions: dict[str, float] = {}
        self.temperature = 1.0
        """By which scores are to be divided."""

    def learn(self, request: Request) -> Lesson:
        """Read the rows, make or open a model, and put a head on it."""
        for name in ("crf", "scheme"):
            if getattr(request.settings.labels, name) != LabelSettings.model_fields[name].default:
                raise ConfigError(f"--labels.{name} has no effect on classify; leave it out")
        settings = choose_model(request)
        request = replace(request, settings=settings)
        task = Classifying(settings.labels, teacher=settings.teacher)
        lesson = prepare_bag(request, task) if settings.model.family in BAGS else prepare(request, task)
        lesson.job.save_model = partial(save_calibrated, task, lesson.job.save_model)
        return lesson

    def baselines(
        self, train: Sequence[ClassExample], examples: Sequence[ClassExample], head: HeadConfig
    ) -> Iterator[tuple[str, Assessment, str]]:
        """Yield what simple models reach: always the commonest label, and TF-IDF with logistic regression."""
        targets = indicators([example.labels for example in train], head.labels)
        shares = targets.mean(0)
        chances = shares if head.multi_label else np.eye(len(shares))[shares.argmax()]
        always = logits_of(chances, multilabel=head.multi_label)
        same = [always.astype(np.float32)] * len(examples)
        yield "commonest label", self.assess(same, examples, head), ""
        fitted = fit_texts(
            "tfidf",
            [self.texts(example) for example in train],
            targets if head.multi_label else targets.argmax(1),
            head,
        )
        scores, _ = self.outputs(fitted, [("\n".join(self.texts(example)),) for example in examples])
        note = f"n-grams of 1 and 2 words, logistic regression, fitted to {plural(len(train), 'example')}"
        yield "TF-IDF", self.assess(scores, examples, head), note

    def check(self, model: Any, tokenizer: Tokenizer) -> None:
        """See that it is one stack."""
        if model.config.encoder is not None and model.config.decoder is not None:
            raise ConfigError("classify goes on from an encoder or a decoder; this checkpoint has both")

    def read(
        self, paths: Sequence[str], settings: LabelledSettings, report: ReadReport, *, answers: bool = True
    ) -> Iterator[ClassExample]:
        """Yield the rows of files."""
        return read_classes(paths, settings, report, need_labels=answers)

    def question(self, example: ClassExample) -> Text:
        """Return what is to be classified."""
        return (example.text, example.pair) if example.pair else example.text

    def texts(self, example: ClassExample) -> tuple[str, ...]:
        """Return the text, or both."""
        return (example.text, example.pair) if example.pair else (example.text,)

    group = texts

    def stratum(self, example: ClassExample) -> str:
        """Return the labels."""
        return "\0".join(sorted(example.labels))

    def head(self, examples: Sequence[ClassExample], settings: TrainSettings) -> HeadConfig:
        """Return a head for all labels, in order of their names."""
        found = {label for example in examples for label in example.labels}
        labels = tuple(
            sorted(found, key=lambda label: (not label.isdigit(), label.isdigit() and int(label), label))
        )
        if len(labels) < 2:
            raise DataError(
                f"all {plural(len(examples), 'row')} have the label {labels[0]!r}; add rows with another, or see whether"
                " --label-field names the right column"
            )
        wanted = settings.labels.several
        several = (
            any(len(example.labels) != 1 for example in examples) if wanted == "auto" else wanted == "yes"
        )
        if not several and (row := next((e for e in examples if len(e.labels) != 1), None)):
            raise DataError(f"{row.source}: {len(row.labels)} labels; --labels.several no wants one a text")
        if settings.labels.weights == "balanced":
            counts = np.array([sum(label in example.labels for example in examples) for label in labels])
            self.weights = torch.tensor(
                len(examples) / (len(labels) * np.maximum(counts, 1)), dtype=torch.float32
            )
        if len(paired := {bool(example.pair) for example in examples}) == 1:
            self.decisions[PAIRS] = float(paired.pop())
        return HeadConfig(kind="text", labels=labels, multi_label=several)

    def encode(
        self,
        examples: Sequence[ClassExample],
        tokenizer: Tokenizer,
        head: HeadConfig,
        *,
        limit: int,
        segments: bool,
    ) -> Encoded:
        """Return a row an example; what is beyond `limit` tokens is cut off, of two texts the longer first.

        Raises DataError, naming the row, where a label is none of the head's.
        """
        check_labels(examples, head)
        number = {label: i for i, label in enumerate(head.labels)}
        texts = [self.texts(example) for example in examples]
        encoded, cut = encode_texts(texts, tokenizer, limit=limit, segments=segments)
        rows = []
        for example, (ids, kinds) in zip(examples, encoded):
            places = [number[label] for label in example.labels]
            several = np.isin(np.arange(len(number)), places)
            target = several if head.multi_label else np.array((places or [-100])[0])
            rows.append(LabelledRow(ids, target.astype(np.int64), kinds))
        return Encoded(rows, np.arange(len(rows)), cut=sum(lost > 0 for lost in cut))

    def loss(self, scores: Tensor, batch: LabelledBatch, model: Any) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy, and with a teacher its loss mixed in."""
        weights = None if self.weights is None else self.weights.to(scores.device)
        several, focus = batch.targets.ndim == 2, self.settings.focus
        if several:
            hard = several_labels_loss(scores, batch.targets, weights=weights, focus=focus)
        else:
            smoothing = self.settings.smoothing
            hard = class_loss(scores, batch.targets, weights=weights, smoothing=smoothing, focus=focus)
        if batch.teacher is None:
            return hard
        told = self.teacher
        soft = teacher_loss(scores, batch.teacher, temperature=told.temperature, several=several)
        return mixed_loss(hard, soft, batch.targets, weight=told.weight, label_weights=weights)

    def figures(
        self,
        scores: Sequence[NDArray[np.float32]],
        examples: Sequence[ClassExample],
        encoded: Encoded,
        model: Any,
    ) -> dict[str, float]:
        """Return accuracy (of several labels micro F1), macro F1 and the calibration error, with the best temperature.

        By that the model is saved; see `save_calibrated`. It is fitted on examples by which the best weights are chosen
        as well, so the error here is a little too low; `evaluate` on other data gives an honest one.
        """
        head = model.config.head
        found = self.assess(scores, examples, head)
        figures = {name: found.figures[name] for name in (*dict.fromkeys((found.main, "f1_macro")), "ece")}
        truth = indicators([example.labels for example in examples], head.labels)
        self.temperature = best_temperature(np.stack(scores), truth, several=head.multi_label)
        if self.temperature == 1:
            return figures
        mended = self.assess([row / self.temperature for row in scores], examples, head).figures["ece"]
        return {**figures, "ece": mended, "ece_uncalibrated": figures["ece"]}

    def assess(
        self, scores: Sequence[NDArray[np.float32]], examples: Sequence[ClassExample], head: HeadConfig
    ) -> Assessment:
        """Return all metrics of scores, an array (L,) an example. The main one is accuracy; of several labels micro F1."""
        truth = indicators([example.labels for example in examples], head.labels)  # (N, L)
        logits = np.stack(scores)
        several = head.multi_label
        chances = probabilities_of(logits, multilabel=several)
        if several:
            held = chances >= SEVERAL
            table = multilabel_scores(truth, held)
            numerators, denominators = 2.0 * (held & truth).sum(1), held.sum(1) + truth.sum(1)
        else:
            held = np.eye(len(head.labels), dtype=bool)[logits.argmax(1)]
            table = classification_scores(truth.argmax(1), logits.argmax(1), classes=len(head.labels))
            numerators, denominators = (held & truth).any(1), np.ones(len(truth))
        right = (held == truth).all(1)
        figures = {
            "accuracy": float(right.mean()),
            "precision_macro": table.macro.precision,
            "recall_macro": table.macro.recall,
            "f1_macro": table.macro.f1,
            "f1_micro": table.micro.f1,
            "per_class": {label: vars(table.per_class[i]) for i, label in enumerate(head.labels)},
            "ece": expected_calibration_error(chances, truth if several else truth.argmax(1)),
        }
        return Assessment(
            figures,
            "f1_micro" if several else "accuracy",
            ratio_score(numerators, denominators),
            right,
            logits,
        )

    def outputs(
        self, checkpoint: Checkpoint, texts: Sequence[tuple[str, ...]]
    ) -> tuple[list[Any], list[int]]:
        """Return scores (L,) of texts or pairs of texts, and how many tokens of each are not read."""
        if isinstance(checkpoint, Ensemble):
            return mean_classes(checkpoint, texts, self.outputs)
        model, tokenizer = checkpoint.model, checkpoint.tokenizer
        assert tokenizer is not None
        stack = model.config.output_stack
        limit = min(stack.max_positions, LONGEST_TOKENS) if stack.layers else stack.max_positions
        encoded, cut = encode_texts(texts, tokenizer, limit=limit, segments=stack.segments > 1)
        rows = [LabelledRow(ids, np.array(0), kinds) for ids, kinds in encoded]
        found: list[Any] = [None] * len(rows)
        for numbers, _, scores in score_rows(model, rows, micro_tokens=SCORE_TOKENS[device_of(model).type]):
            for number, row in zip(numbers, scores.cpu().numpy()):
                found[number] = row
        return found, cut

    def settle(self, checkpoint: Checkpoint, examples: Sequence[ClassExample]) -> None:
        """Calibrate a model by examples that it has not seen."""
        head: HeadConfig = checkpoint.model.config.head
        scores, _ = self.outputs(checkpoint, [self.texts(example) for example in examples])
        truth = indicators([example.labels for example in examples], head.labels)
        divide_scores(checkpoint.model, best_temperature(np.stack(scores), truth, several=head.multi_label))

    def evaluate(self, checkpoint: Checkpoint, examples: Sequence[ClassExample]) -> Assessment:
        """Classify examples and compare with their labels, all of which the model must know."""
        head: HeadConfig = checkpoint.model.config.head
        check_labels(examples, head)
        texts = [self.texts(example) for example in examples]
        check_pairs(checkpoint, texts)
        scores, _ = self.outputs(checkpoint, texts)
        return self.assess(scores, examples, head)

    def predict(self, checkpoint: Checkpoint, inputs: Sequence[Text]) -> list[Classification]:
        """Classify texts or pairs of texts."""
        head: HeadConfig = checkpoint.model.config.head
        texts = [(text,) if isinstance(text, str) else text for text in inputs]
        check_pairs(checkpoint, texts)
        scores, cut = self.outputs(checkpoint, texts)
        return [
            class_of(row, head.labels, several=head.multi_label, cut=lost) for row, lost in zip(scores, cut)
        ]

    def score(
        self, results: Sequence[Classification], references: Sequence[Sequence[str]]
    ) -> dict[str, float]:
        """Return metrics of results against labels, one sequence of them a result."""
        if len(results) != len(references):
            raise DataError(
                f"{len(results)} results and {len(references)} references; one for each is needed"
            )
        labels = tuple(sorted(results[0].probabilities))
        several = any(len(found.labels) != 1 for found in results)
        head = HeadConfig(kind="text", labels=labels, multi_label=several)
        chances = np.array([[found.probabilities[label] for label in labels] for found in results])
        logits = logits_of(chances, multilabel=several)
        examples = [ClassExample("", tuple(wanted)) for wanted in references]
        return dict(self.assess(list(logits), examples, head).figures)


def check_pairs(checkpoint: Checkpoint, texts: Sequence[tuple[str, ...]]) -> None:
    """Raise DataError for pairs where single texts were learned, and for single texts where pairs were, if it is known."""
    learned = checkpoint.decisions.get(PAIRS)
    other = [text for text in texts if (len(text) == 2) != learned]
    if learned not in (0, 1) or not other:  # an ensemble may be of both
        return
    found = repr(other[0][0][:40])
    raise DataError(
        f"this classifier learned pairs of texts, and {found} stands alone; give its second text, with --pair, or in rows"
        " --pair-field"
        if learned
        else f"this classifier learned single texts, and {found} comes with a second one; leave out --pair, or in rows name"
        " the text alone, --text-field"
    )


def check_labels(examples: Sequence[ClassExample], head: HeadConfig) -> None:
    """Raise DataError, naming the row, where a label is none of the head's."""
    known = set(head.labels)
    for example in examples:
        if unknown := [label for label in example.labels if label not in known]:
            raise DataError(
                f"{example.source}: the label {unknown[0]!r} is none of the model's: {', '.join(head.labels)};"
                " mend or leave out the row, or train with this label too"
                f"{did_you_mean(unknown[0], head.labels)}"
            )


def indicators(wanted: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Return which labels hold, (N, L)."""
    number = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(wanted), len(labels)), bool)
    for row, held in zip(table, wanted):
        row[[number[label] for label in held]] = True
    return table


def choose_model(request: Request) -> TrainSettings:
    """Return the settings with a model chosen where none is: a classifier of n-grams, which beats small Transformers
    from scratch on few examples (docs/log.md)."""
    settings = request.settings
    if settings.model.family != "auto" or settings.from_checkpoint:
        return settings
    if idle := unfollowed(settings, FOLLOWED):
        say_stepwise(next(iter(Classifying.families)), idle, BAG, BEST)
        return settings
    say(
        f"model auto: {BEST}, the best on few examples without a checkpoint to begin --from; or name one with --model"
    )
    return settings.model_copy(update={"model": settings.model.model_copy(update={"family": BEST})})


def encode_texts(
    texts: Sequence[tuple[str, ...]], tokenizer: Tokenizer, *, limit: int, segments: bool
) -> tuple[list[tuple[NDArray[np.int32], NDArray[np.int8] | None]], list[int]]:
    """Return ids and segments of texts or pairs of at most `limit` tokens, and how many tokens each loses.

    segments: the model tells segments apart; of a single text all tokens are of the first.
    """
    before, behind = tokenizer.around
    singles = iter(tokenizer.encode_batch([text[0] for text in texts if len(text) == 1]))
    found, cut = [], []
    for text in texts:
        if len(text) == 2:
            pair = tokenizer.encode_pair(*text, maximum=limit)
            ids, kinds, lost = pair.ids, pair.segments, sum(pair.cut)
        else:
            plain = next(singles)
            lost = max(0, len(plain) + len(before) + len(behind) - limit)
            ids = before + plain[: len(plain) - lost] + behind
            kinds = [0] * len(ids)
        if not ids:  # a text of nothing, and no sign around it: a model reads one token at least
            ids, kinds = [tokenizer.eos_id or tokenizer.pad_id or 0], [0]
        found.append((np.array(ids, np.int32), np.array(kinds, np.int8) if segments else None))
        cut.append(lost)
    return found, cut
