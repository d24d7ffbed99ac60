"""Tagging: named entities, words of Chinese, parts of speech; any labelled spans that do not overlap. [tasks]"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langmill.batches.labelled import TOKEN_FILL, LabelledBatch
from langmill.checkpoint import Checkpoint, Ensemble
from langmill.core.config import option_name
from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.core.log import warn
from langmill.metrics.spans import Scheme, find_scheme, span_counts, span_scores, spans_to_tags
from langmill.models.crf import CrfTagger
from langmill.models.heads import HeadConfig
from langmill.models.protocol import device_of
from langmill.objectives.crf import chain_loss, restricted
from langmill.objectives.labels import class_loss
from langmill.tasks import tags as tagging
from langmill.tasks.assessment import Assessment, ratio_score
from langmill.tasks.bags import LIMIT, prepare_fit
from langmill.tasks.base import Lesson, Request, Text, Use
from langmill.tasks.classify import Classifying
from langmill.tasks.ensembles import mean_tags
from langmill.tasks.labelled import LONGEST_TOKENS, Encoded, prepare, score_rows
from langmill.tasks.practice import SCORE_TOKENS
from langmill.tasks.tag_dictionary import tag_by_dictionary
from langmill.tasks.taggers import CRF, TAGGER, WITHOUT_CRF, choose_model
from langmill.tasks.tags import (
    ALONE,
    Chain,
    Places,
    TaggedRows,
    TagSet,
    decode,
    gathered,
    leaves_out,
    placed,
    places_of,
    rows_of,
)
from langmill.text.documents import ReadReport, plural
from langmill.text.labelled_entities import Span
from langmill.text.labelled_rows import LabelledSettings
from langmill.text.labelled_spans import TAGS, TaggedExample, read_spans
from langmill.text.labelled_tags import WORD, joined, shape_of
from langmill.text.segmentation import Segmenter
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import LabelSettings, ModelSettings, TrainSettings

Question = Text | list[str]
"""A text, or its tokens."""


@dataclass(frozen=True)
class Entity:
    """A labelled piece of a text."""

    text: str
    label: str
    """`_` for a word and no more."""
    begin: int
    """Its first character, from 0."""
    end: int
    """Behind its last character."""
    score: float
    """The probability of its tags."""


@dataclass(frozen=True)
class Tagged:
    """What a model makes of a text."""

    text: str
    entities: tuple[Entity, ...]
    """In their order in the text; none overlap."""
    words: tuple[str, ...] = ()
    """The text's words, by a model that only finds these."""
    tags: tuple[str, ...] = ()
    """One for each token, where tokens were given."""

    def summary(self, text: str) -> str:
        """Return it for people: the words; or the text, and a line for each entity."""
        if self.words:
            return " ".join(self.words)
        places = [f"{each.begin}-{each.end}" for each in self.entities]
        place_width = max(map(len, places), default=0)
        width = max((len(entity.label) for entity in self.entities), default=0)
        return "\n".join(
            [
                self.text,
                *(
                    f"    {place:<{place_width}}  {each.score:6.1%}  {each.label:<{width}}  {each.text}"
                    for place, each in zip(places, self.entities)
                ),
            ]
        )

    def columns(self) -> dict[str, Any]:
        """Return what is added to a row of a file."""
        found: dict[str, Any] = {"entities": [asdict(entity) for entity in self.entities]}
        return (
            found
            | ({"words": list(self.words)} if self.words else {})
            | ({"predicted_tags": list(self.tags)} if self.tags else {})
        )


class Tagging:
    """`langmill train ner`: learn labelled spans of texts."""

    name = "ner"
    use = Use(
        "tagger",
        "token-classification",
        "AutoModelForTokenClassification",
        'model.predict("…").entities',
        ("predict {} 'some text'", "evaluate {} FILE"),
    )
    families: Mapping[str, Callable[[ModelSettings, int, torch.Generator], nn.Module]] = Classifying.families
    fitted: tuple[str, ...] = (CRF,)
    roles: tuple[str, ...] = ()
    own_settings: tuple[str, ...] = ("labels", "augment")
    by_token = True

    def __init__(self, settings: LabelSettings | None = None) -> None:
        self.settings = settings or LabelSettings()
        self.decisions: dict[str, float] = {}

    def learn(self, request: Request) -> Lesson:
        """Read the rows, make or open a model, and put a head on it."""
        settings = choose_model(request.settings)
        request, task = replace(request, settings=settings), Tagging(settings.labels)
        return prepare_fit(request, task, TAGGER) if settings.model.family == CRF else prepare(request, task)

    def baselines(
        self, train: Sequence[TaggedExample], examples: Sequence[TaggedExample], head: HeadConfig
    ) -> Iterator[tuple[str, Assessment, str]]:
        """Yield what a dictionary of the spans of `train` reaches."""
        note = f"the spans of {plural(len(train), 'text')}, wherever they stand"
        yield "dictionary", assess(tag_by_dictionary(train, examples), examples), note

    def check(self, model: Any, tokenizer: Tokenizer) -> None:
        """See that it is one stack."""
        if model.config.encoder is not None and model.config.decoder is not None:
            raise ConfigError("ner goes on from an encoder or a decoder; this checkpoint has both")

    def read(
        self, paths: Sequence[str], settings: LabelledSettings, report: ReadReport, *, answers: bool = True
    ) -> Iterator[TaggedExample]:
        """Yield the texts of files."""
        return read_spans(paths, settings, report, need_labels=answers)

    def question(self, example: TaggedExample) -> str | list[str]:
        """Return the tokens, where they are given, or the text."""
        return [example.text[begin:end] for begin, end in example.tokens] or example.text

    def group(self, example: TaggedExample) -> tuple[str, ...]:
        """Return the text."""
        return (example.text,)

    def texts(self, example: TaggedExample) -> tuple[str, ...]:
        """Return the text cut at each Chinese and Japanese character, so that no token covers several of them."""
        return tuple(filter(None, ALONE.split(example.text)))

    def stratum(self, example: TaggedExample) -> str:
        """Return nothing: texts are held out by chance."""
        return ""

    def head(self, examples: Sequence[TaggedExample], settings: TrainSettings) -> HeadConfig:
        """Return a head for the tags of all labels."""
        wanted = settings.labels
        for name, value in (("several", "auto"), ("weights", "none"), ("rdrop", "auto")):
            if getattr(wanted, name) != value:
                raise ConfigError(f"--labels.{name} has no effect on ner; leave it out")
        if wanted.crf == "yes" and (wanted.smoothing or wanted.focus):
            named = " and ".join(map(option_name, WITHOUT_CRF))
            raise ConfigError(f"--labels.crf yes scores whole texts; leave out {named}")
        labels = sorted({span.label for example in examples for span in example.spans})
        if not labels:
            raise DataError("no text has a span with a label; there is nothing to find")
        usual: Scheme = "BIOES" if settings.model.family == CRF else "BIO"
        scheme = scheme_of(examples, labels, usual) if wanted.scheme == "auto" else wanted.scheme
        tags = tagging.tags_of(scheme, labels, outside=any(map(leaves_out, examples)))
        return HeadConfig(kind="tokens", labels=tags, scheme=scheme, crf=wanted.crf == "yes")

    def encode(
        self,
        examples: Sequence[TaggedExample],
        tokenizer: Tokenizer,
        head: HeadConfig,
        *,
        limit: int,
        segments: bool,
    ) -> TaggedRows:
        """Return texts as rows that overlap where a text is longer than `limit` tokens; nothing is cut off.

        Raises DataError, naming the row, where a label is none of the head's.
        """
        check_labels(examples, head)
        tags = TagSet.of(head)
        places = [places_of(example.text, tokenizer) for example in examples]
        targets: list[NDArray[np.int64] | None] = []
        torn = []
        for example, where in zip(examples, places):
            spans, bad = placed(example.spans, where.extents)
            torn += [(example, span) for span in bad]
            spelt = spans_to_tags(spans, len(where.tokens), tags.spelling)
            targets.append(np.array([tags.number.get(tag, TOKEN_FILL) for tag in spelt], np.int64))
        if torn:
            example, span = torn[0]
            warn(
                f"{plural(len(torn), 'span')} of {sum(len(each.spans) for each in examples):,} begin or end inside a"
                f" word or token, or at a space, and are learned as far as whole ones go; the first is"
                f" {example.text[span.begin : span.end]!r} ({example.source})"
            )
        return rows_of(places, targets, tokenizer.around, limit=limit, segments=segments)

    def loss(self, scores: Tensor, batch: LabelledBatch, model: Any) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of the tags, or of the whole chains by a CRF."""
        if model.transitions is not None:
            allowed = TagSet.of(model.config.head).within.to(scores.device)
            return chain_loss(scores, batch.targets, restricted(model.transitions, allowed))
        return class_loss(
            scores.flatten(0, 1),
            batch.targets.flatten(),
            smoothing=self.settings.smoothing,
            focus=self.settings.focus,
        )

    def figures(
        self,
        scores: Sequence[NDArray[np.float32]],
        examples: Sequence[TaggedExample],
        encoded: Encoded,
        model: Any,
    ) -> dict[str, float]:
        """Return F1, precision and recall of spans."""
        assert isinstance(encoded, TaggedRows)
        chains = decoded(model, gathered(encoded, scores, len(examples)))
        found = assess([spans_of(*each) for each in zip(chains, encoded.places)], examples)
        return {name: found.figures[name] for name in ("f1", "precision", "recall")}

    def outputs(self, checkpoint: Checkpoint, texts: Sequence[str]) -> tuple[list[Any], Sequence[Places]]:
        """Return scores (P, L) of the places of texts, and the places."""
        if isinstance(checkpoint, Ensemble):
            return mean_tags(checkpoint, texts, self.outputs)
        model, tokenizer = checkpoint.model, checkpoint.tokenizer
        assert tokenizer is not None
        stack = model.config.output_stack
        places = [places_of(text, tokenizer) for text in texts]
        limit = LIMIT if isinstance(model, CrfTagger) else min(stack.max_positions, LONGEST_TOKENS)
        rows = rows_of(
            places, [None] * len(places), tokenizer.around, limit=limit, segments=stack.segments > 1
        )
        found: list[Any] = [None] * len(rows.rows)
        micro_tokens = SCORE_TOKENS[device_of(model).type]
        for numbers, _, scores in score_rows(model, rows.rows, micro_tokens=micro_tokens, by_token=True):
            for number, row in zip(numbers, scores.cpu().numpy()):
                found[number] = row
        return gathered(rows, found, len(texts)), places

    def evaluate(self, checkpoint: Checkpoint, examples: Sequence[TaggedExample]) -> Assessment:
        """Tag texts and compare with their spans, character by character; the model must know all labels."""
        model = checkpoint.model
        check_labels(examples, model.config.head)
        scores, places = self.outputs(checkpoint, [example.text for example in examples])
        return assess([spans_of(*each) for each in zip(decoded(model, scores), places)], examples)

    def predict(self, checkpoint: Checkpoint, inputs: Sequence[Question]) -> list[Tagged]:
        """Tag texts, or lists of tokens, which are read as the text that they are of."""
        texts, extents = [], []
        for each in inputs:
            if isinstance(each, tuple):
                raise DataError("a tagger reads one text at a time, not pairs")
            text, tokens = (each, None) if isinstance(each, str) else joined(each)
            texts.append(text)
            extents.append(tokens)
        tags = TagSet.of(checkpoint.model.config.head)
        scores, places = self.outputs(checkpoint, texts)
        found = []
        for text, tokens, chain, where in zip(texts, extents, decoded(checkpoint.model, scores), places):
            entities = entities_of(text, chain, where)
            found.append(
                Tagged(
                    text,
                    entities,
                    tuple(words_of(text, entities)) if tags.words_only else (),
                    () if tokens is None else tuple(token_tags(entities, tokens, tags)),
                )
            )
        return found

    def score(self, results: Sequence[Tagged], references: Sequence[Sequence[Any]]) -> dict[str, float]:
        """Return metrics of results against spans (begin, end, label), a sequence of them a result."""
        if len(results) != len(references):
            raise DataError(
                f"{len(results)} results and {len(references)} references; one for each is needed"
            )
        predicted = [[(each.begin, each.end, each.label) for each in result.entities] for result in results]
        spans = [tuple(Span(*span) for span in wanted) for wanted in references]
        examples = [TaggedExample(result.text, wanted) for result, wanted in zip(results, spans)]
        return dict(assess(predicted, examples).figures)


# ------------------------------------------------------------------------------------------------
# Settings and labels


def check_labels(examples: Sequence[TaggedExample], head: HeadConfig) -> None:
    """Raise DataError, naming the row, where a span's label is none of the head's."""
    known = {label for _, _, label in TagSet.of(head).spans([tag for tag in head.labels if tag != "O"])}
    for example in examples:
        if unknown := [span.label for span in example.spans if span.label not in known]:
            raise DataError(
                f"{example.source}: the label {unknown[0]!r} is none of the model's: {', '.join(sorted(known))};"
                " mend or leave out the row, or train with this label too"
                f"{did_you_mean(unknown[0], known)}"
            )


def scheme_of(examples: Sequence[TaggedExample], labels: Sequence[str], usual: Scheme = "BIO") -> Scheme:
    """Return BMES for words alone; for others the scheme that the data are written in if it tells where spans end, else `usual`."""
    if set(labels) == {WORD}:
        return "BMES"
    given = [tags for example in examples if (tags := given_tags(example))]
    if given and shape_of(tag for tags in given for tag in tags) in ("prefixed", "bare"):
        scheme = find_scheme(given)
        if scheme not in ("BIO", "IOB1"):
            return scheme
    return usual


def given_tags(example: TaggedExample) -> list[str]:
    """Return the tags as the row has them; empty: it has none by name."""
    found = next((example.fields[name] for name in TAGS if name in example.fields), None)
    return found if isinstance(found, list) and all(isinstance(tag, str) for tag in found) else []


def decoded(model: Any, scores: Sequence[NDArray[np.float32]]) -> list[Chain]:
    """Return the best tags of texts by a model's scores (P, L), and by its transitions where it has a CRF."""
    ends = len(model.config.head.labels) + 1
    learned = torch.zeros(ends, ends) if model.transitions is None else model.transitions.detach()
    return decode(scores, learned.float().cpu(), TagSet.of(model.config.head))


# ------------------------------------------------------------------------------------------------
# Spans


def spans_of(chain: Chain, places: Places) -> list[tuple[int, int, str]]:
    """Return the spans of characters that the tags of places mark."""
    extents = places.extents.tolist()
    return [(extents[begin][0], extents[end - 1][1], label) for begin, end, label in chain.spans]


def entities_of(text: str, chain: Chain, places: Places) -> tuple[Entity, ...]:
    """Return what the tags of places mark."""
    return tuple(
        Entity(text[begin:end], label, begin, end, chance)
        for (begin, end, label), chance in zip(spans_of(chain, places), chain.chances)
    )


def words_of(text: str, entities: Sequence[Entity]) -> list[str]:
    """Return the words of a text; what stands between them, white space aside, is a word too."""
    found, end = [], 0
    for begin, behind in (*((each.begin, each.end) for each in entities), (len(text), len(text))):
        found += text[end:begin].split()
        found += [text[begin:behind]] if begin < behind else []
        end = behind
    return found


def token_tags(entities: Sequence[Entity], tokens: Sequence[tuple[int, int]], tags: TagSet) -> list[str]:
    """Return a tag for each given token: it is of the entity that it touches first."""
    extents = np.array(tokens, np.int64).reshape(-1, 2)
    spans, _ = placed([Span(each.begin, each.end, each.label) for each in entities], extents)
    if tags.shape in ("prefixed", "bare"):
        return spans_to_tags(spans, len(tokens), tags.spelling)
    found = ["O"] * len(tokens)
    for begin, end, label in spans:
        found[begin:end] = [label] * (end - begin)
    return found


def assess(
    predicted: Sequence[Sequence[tuple[int, int, str]]], examples: Sequence[TaggedExample]
) -> Assessment:
    """Return metrics of spans of characters: right is what has the same begin, end and label."""
    truth = [[(span.begin, span.end, span.label) for span in example.spans] for example in examples]
    table, counts = span_scores(truth, predicted), span_counts(truth, predicted)
    figures = {
        "f1": table.micro.f1,
        "precision": table.micro.precision,
        "recall": table.micro.recall,
        "per_type": {label: vars(score) for label, score in table.per_class.items()},
    }
    right = np.array([set(one) == set(other) for one, other in zip(truth, predicted)])
    return Assessment(figures, "f1", ratio_score(2 * counts[:, 0], counts[:, 1] + counts[:, 2]), right)


def model_segmenter(checkpoint: Checkpoint) -> Segmenter:
    """Return a segmenter by a model that finds words, such as one trained on lines of words or on B M E S tags.

    Raises ConfigError for a model that does something else.
    """
    head = getattr(checkpoint.model.config, "head", None)
    if head is None or head.kind != "tokens" or not TagSet.of(head).words_only:
        raise ConfigError(
            "words are found by a model that was trained to: langmill train ner on lines of words"
        )
    task = Tagging()

    def segment(text: str) -> list[str]:
        """Return the words of a text; joined, they are the text."""
        (found,) = task.predict(checkpoint, [text])
        borders = {0, len(text), *(place for each in found.entities for place in (each.begin, each.end))}
        return [text[begin:end] for begin, end in itertools.pairwise(sorted(borders))]

    return segment
