"""Classification by a language model that was never trained for it: which label's words are likeliest. [evaluation]

A prompt has some examples with their labels (few-shot; Brown et al. 2020, arXiv:2005.14165, section 2) or none
(zero-shot), then the text; each label is scored by the log-probability of its words as what comes next.
Shape letters: N texts, L labels.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from langmill.checkpoint import Checkpoint, load_checkpoint
from langmill.core.config import Settings
from langmill.core.errors import DataError
from langmill.core.log import say, warn
from langmill.evaluation.continuations import encode_continuations, score_continuations
from langmill.evaluation.labelled import Baseline, TaskEvaluation, add_duel, interval_of, read_examples
from langmill.evaluation.language import need_tokenizer
from langmill.evaluation.prompts import BETWEEN, choose_prompt, spell_labels
from langmill.evaluation.report import overlap_note
from langmill.evaluation.texts import run_data
from langmill.metrics.answers import is_chinese
from langmill.metrics.calibration import probabilities_of
from langmill.models.heads import HeadConfig
from langmill.tasks.classify import Classifying
from langmill.text.documents import plural
from langmill.text.labelled import ClassExample
from langmill.tokens.chat import render_chat
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import DataSettings, TrainSettings

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Texts that say nothing, by which calibration sees which labels the prompt alone favours (Zhao et al. 2021)."""
LINE_SECONDS = 5.0
"""Time between lines of progress."""


class FewShotSettings(Settings):
    """How a language model is asked for labels."""

    shots: int = Field(0, ge=0)
    """Examples with their labels in the prompt; 0: none."""
    template: str = ""
    """A name of `PROMPTS`, or text with {text} (and {pair}) that ends with {label}; empty: by the labels."""
    label_words: Mapping[str, str] = Field(default_factory=dict)
    """How labels are spelled; empty: as the prompt has it, else as they are."""
    calibrate: bool = False
    """Divide each label's probability by what it has after texts that say nothing."""
    normalise: bool = False
    """Compare labels by their mean log-probability a token instead of the sum, so that long ones are not worse off."""
    chat: bool = False
    """Put the prompt through the checkpoint's chat template: each example is a turn of the user and one of the model."""
    seed: int = Field(0, ge=0)
    """Fixes which examples are drawn."""


def evaluate_few_shot_files(
    names: Sequence[str],
    data: Sequence[str],
    *,
    reading: DataSettings,
    train_data: Sequence[str],
    settings: FewShotSettings,
    device: torch.device,
    references: bool = True,
) -> TaskEvaluation:
    """Ask the language model `names[0]` for the labels of files' texts; a second one is compared with it.

    train_data: where the examples of the prompt are drawn from; empty: from the data themselves. references: also what
    simple models reach.
    """
    examples = read_examples(Classifying(), data, reading)
    train = read_examples(Classifying(), train_data, reading) if train_data else []

    def ask(
        name: str, *, references: bool = False
    ) -> TaskEvaluation:  # so that two never lie in memory together
        opened = load_checkpoint(name, device=device)
        return evaluate_few_shot(opened, name, examples, train, settings, references=references)

    result = ask(names[0], references=references)
    for name in names[1:]:
        result = add_duel(result, name, ask(name).assessment)
    return replace(result, notes=(*result.notes, *overlap_note(run_data(names[0]), data, names[0])))


def evaluate_few_shot(
    checkpoint: Checkpoint,
    name: str,
    examples: Sequence[ClassExample],
    train: Sequence[ClassExample],
    settings: FewShotSettings,
    *,
    references: bool = False,
) -> TaskEvaluation:
    """Ask a language model for the labels of texts, and score its answers as a classifier's.

    train: where the examples of the prompt are drawn from, those left out that are among the texts; none: from
    `examples`, and what is drawn is not evaluated on. Calibrated figures stand beside those that are not. references:
    what simple models reach does too.

    Raises ConfigError for a model that is no decoder, a template or words that cannot be used; DataError where there
    are too few examples, or a text has not one label.
    """
    tokenizer = need_tokenizer(checkpoint)
    shots, examples, origin = draw_shots(examples, train, settings.shots, settings.seed)
    head = head_of([*shots, *train, *examples], settings.label_words)
    pairs = any(example.pair for example in examples)
    chinese = 2 * sum(is_chinese(example.text) for example in examples) > len(examples)
    prompt = choose_prompt(settings.template, head.labels, chinese=chinese, pairs=pairs)
    words = spell_labels(head.labels, prompt, settings.label_words)
    spell = dict(zip(head.labels, words))
    turns = [(prompt.before(shot.text, shot.pair), spell[shot.labels[0]]) for shot in shots]
    asked = [prompt.before(example.text, example.pair) for example in examples]
    asked += [prompt.before(text, text) for text in CONTENT_FREE] if settings.calibrate else []
    contexts = [context_of(turns, question, tokenizer if settings.chat else None) for question in asked]
    scores, cut = label_scores(
        checkpoint.model, tokenizer, contexts, words, normalise=settings.normalise, name=name
    )
    task, count = Classifying(), len(examples)
    found = task.assess(list(scores[:count]), examples, head)
    notes = [
        f"prompt {prompt.template!r}{' in the chat template' if settings.chat else ''}, labels"
        f" {', '.join(words)}; {origin}"
    ]
    if lost := sum(cut[:count]):
        notes.append(
            f"{lost} of {plural(count, 'prompt')} are longer than the model looks back; they lose their beginning"
        )
        warn(notes[-1])
    baselines: tuple[Baseline, ...] = ()
    if settings.calibrate:
        baselines = (Baseline("not calibrated", found.figures, ""),)
        found = task.assess(list(calibrated(scores[:count], scores[count:])), examples, head)
    if references:
        baselines += tuple(simple_models(train, examples, head))
    return TaskEvaluation(name, task.name, found, interval_of(found), baselines, notes=tuple(notes))


def simple_models(
    train: Sequence[ClassExample], examples: Sequence[ClassExample], head: HeadConfig
) -> Iterator[Baseline]:
    """Yield what always the commonest label reaches, of `train` or else of `examples` themselves, and TF-IDF fitted to `train`."""
    found = Classifying().baselines(train or examples, examples, head)
    name, assessment, note = next(found)
    yield Baseline.of(name, assessment, note if train else "of the evaluated texts themselves")
    if len({example.labels for example in train}) > 1:
        yield from (Baseline.of(*each) for each in found)


def head_of(examples: Sequence[ClassExample], words: Mapping[str, str]) -> HeadConfig:
    """Return the labels of examples, and those that have words, in order of their names; each text has one."""
    if row := next((example for example in examples if len(example.labels) != 1), None):
        raise DataError(
            f"{row.source}: {len(row.labels)} labels; a language model is asked for one label a text"
        )
    named = [ClassExample("", (label,)) for label in words]
    return Classifying().head([*examples, *named], TrainSettings())


def draw_shots(
    examples: Sequence[ClassExample], train: Sequence[ClassExample], count: int, seed: int
) -> tuple[list[ClassExample], list[ClassExample], str]:
    """Return the examples of a prompt, the texts to evaluate on, and in words where the former are from.

    They are drawn label by label in turn, so that each label has as many as the others, or one more.
    Raises DataError where there are too few.
    """
    if not count:
        return [], list(examples), "no examples (zero-shot)"
    texts = {(example.text, example.pair) for example in examples} if train else set()
    by_label: dict[tuple[str, ...], list[ClassExample]] = defaultdict(list)
    for example in train or examples:
        if (example.text, example.pair) not in texts:
            by_label[example.labels].append(example)
    generator = np.random.default_rng(seed)
    piles = [by_label[labels] for labels in sorted(by_label)]
    ranked = [
        (turn, float(generator.random()), pile[place])
        for pile in piles
        for turn, place in enumerate(generator.permutation(len(pile)))
    ]
    if len(ranked) < count + (not train):
        raise DataError(
            f"--shots {count}: there are {plural(len(ranked), 'example')} to draw from; ask for fewer"
        )
    chosen = [row for _, _, row in sorted(ranked, key=lambda each: each[:2])[:count]]
    shots = [chosen[place] for place in generator.permutation(count)]
    drawn = {(shot.text, shot.pair) for shot in shots}
    left = [example for example in examples if (example.text, example.pair) not in drawn]
    source = "the training data" if train else "the data, and left out of the evaluation"
    return shots, left, f"{plural(count, 'example')} drawn with seed {seed} from {source}"


def context_of(turns: Sequence[tuple[str, str]], question: str, tokenizer: Tokenizer | None) -> str:
    """Return a prompt up to where the label begins. tokenizer: its chat template is used; None: plain text."""
    if tokenizer is None:
        return BETWEEN.join([*(before + word for before, word in turns), question])
    messages = []
    for before, word in turns:
        messages += [{"role": "user", "content": before.rstrip()}, {"role": "assistant", "content": word}]
    return render_chat(tokenizer, [*messages, {"role": "user", "content": question.rstrip()}])


def label_scores(
    model: Any,
    tokenizer: Tokenizer,
    contexts: Sequence[str],
    words: Sequence[str],
    *,
    normalise: bool = False,
    name: str = "",
) -> tuple[NDArray[np.float64], list[bool]]:
    """Return the log-probability of each word after each context, (N, L), and which contexts were cut.

    normalise: the mean over the tokens of a word instead of the sum.
    """
    requests = encode_continuations(tokenizer, [(context, word) for context in contexts for word in words])
    begin = last = time.perf_counter()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if time.perf_counter() - last >= LINE_SECONDS:
            last = time.perf_counter()
            say(
                f"{name}: {done / total:.0%} of {total:,} labels scored, {done / (last - begin):,.0f} a second"
            )

    found = score_continuations(model, requests, report=progress)
    scores = np.array([each.logprob / (each.tokens if normalise else 1) for each in found])
    cut = np.array([each.cut > 0 for each in found])
    return scores.reshape(-1, len(words)), [bool(row.any()) for row in cut.reshape(-1, len(words))]


def calibrated(scores: NDArray[np.float64], neutral: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-scores (N, L) less those of the mean probabilities after texts that say nothing (K, L).

    Contextual calibration, Zhao et al. 2021 (arXiv:2102.09690, section 4): W = diag(p)^-1, b = 0.

    >>> calibrated(np.log([[0.6, 0.4]]), np.log([[0.9, 0.1]])).argmax()
    np.int64(1)
    """
    return scores - np.log(probabilities_of(neutral).mean(0))
