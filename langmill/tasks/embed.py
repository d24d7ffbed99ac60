"""Embeddings: a vector for a text, near those of texts that belong to it. [tasks]

Shape letters: N texts, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langmill.batches.labelled import LabelledBatch, LabelledRow, by_length, collate
from langmill.batches.text_pairs import PairBatch, PairRow, collate_pairs
from langmill.checkpoint import Checkpoint
from langmill.checkpoint.sentences import SentencePooling
from langmill.core.device import choose_device
from langmill.core.distributed import World
from langmill.core.errors import ConfigError, DataError
from langmill.core.log import say, warn
from langmill.models.heads import pool
from langmill.models.initialise import without_scores
from langmill.models.protocol import device_of
from langmill.objectives.contrastive import ALONE, contrastive
from langmill.tasks.assessment import Assessment
from langmill.tasks.base import Lesson, Request, Text, Use, single_texts
from langmill.tasks.classify import Classifying, encode_texts
from langmill.tasks.labelled import (
    LONGEST_TOKENS,
    QUICK_EXAMPLES,
    choose_limit,
    corpus_facts,
    fill_length,
    most_steps,
    open_run,
    open_words,
)
from langmill.tasks.lessons import Material, make_lesson
from langmill.tasks.mlm import MaskedLanguageModelling
from langmill.tasks.practice import MICRO_TOKENS, SCORE_TOKENS
from langmill.tasks.retrieval import assess_pairs, kind_of_pairs, tfidf_baseline, unit
from langmill.text.documents import ReadReport
from langmill.text.labelled import ClassExample, read_classes
from langmill.text.labelled_pairs import TextPair, read_pairs
from langmill.text.labelled_rows import LabelledSettings
from langmill.text.paths import expand, kind_of
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import EmbedSettings, ModelSettings, TrainSettings
from langmill.training.state import seed_everything

BATCHES = {True: 64, False: 128}
"""Pairs a step: from a checkpoint, and from scratch. All others of a batch are a pair's negatives."""
DROPOUT = 0.1
"""Of a new model that learns from single texts, unless settings say."""


@dataclass(frozen=True)
class TextVector:
    """What a model makes of a text."""

    vector: tuple[float, ...]
    """(D,)."""
    cut: int = 0
    """Tokens at the end of the text that were not read."""

    def columns(self) -> dict[str, Any]:
        """Return what is added to a row."""
        return {"vector": list(self.vector)}

    def summary(self, text: str) -> str:
        """Return the vector's beginning and its length."""
        length = float(np.linalg.norm(self.vector))
        begin = " ".join(f"{number:+.4f}" for number in self.vector[:6])
        return f"{begin} … ({len(self.vector)} numbers, length {length:.4f})\t{text}"


def text_vectors(model: Any, pooling: SentencePooling, batch: LabelledBatch) -> Tensor:
    """Return the vectors of a batch of texts in float32, (B, D), not normalised."""
    read = model.decode if model.config.encoder is None else model.encode
    return pool(read(batch.ids, valid=batch.valid).float(), batch.valid, pooling.pooling)


def default_pooling(model: Any) -> SentencePooling:
    """Return how vectors are made of a model that does not say: a decoder's last state alone has read all."""
    return SentencePooling("last" if model.config.encoder is None else "mean")


@torch.no_grad()
def vectors_of(
    model: Any, tokenizer: Tokenizer, pooling: SentencePooling, texts: Sequence[str]
) -> tuple[NDArray[np.float32], list[int]]:
    """Return the vectors of texts, (N, D), and how many tokens of each are not read; they are read by length."""
    limit = min(model.config.output_stack.max_positions, pooling.tokens or LONGEST_TOKENS)
    encoded, cut = encode_texts([(text,) for text in texts], tokenizer, limit=limit, segments=False)
    rows = [LabelledRow(ids, np.array(0)) for ids, _ in encoded]
    device = device_of(model)
    micro_tokens = SCORE_TOKENS[device.type]
    vectors = np.zeros((len(rows), pooling.size or model.config.output_stack.width), np.float32)
    for numbers in by_length(rows, micro_tokens=micro_tokens):
        batch = collate([rows[n] for n in numbers], micro_tokens=micro_tokens).to(device)
        found = text_vectors(model, pooling, batch)[:, : vectors.shape[1]]
        vectors[numbers] = (nn.functional.normalize(found, dim=1) if pooling.normalise else found).cpu()
    return vectors, cut


def shortened(checkpoint: Checkpoint, size: int) -> Checkpoint:
    """Return the checkpoint with vectors of `size` numbers, their beginnings; 0: whole ones.

    A model trained with --embed.sizes (Matryoshka) loses little by it. Raises ConfigError where vectors are shorter.
    """
    width = checkpoint.model.config.output_stack.width
    if not 0 <= size <= width:
        raise ConfigError(f"--size {size}: vectors of this model have {width} numbers; ask for 1 to {width}")
    pooling = checkpoint.pooling or default_pooling(without_scores(checkpoint.model))
    return replace(checkpoint, pooling=replace(pooling, size=size))


def encode(checkpoint: Checkpoint, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[int]]:
    """Return the vectors of texts, (N, D), and how many tokens of each are not read."""
    assert checkpoint.tokenizer is not None
    model = without_scores(checkpoint.model)
    return vectors_of(model, checkpoint.tokenizer, checkpoint.pooling or default_pooling(model), texts)


def pair_rows(examples: Sequence[TextPair], tokenizer: Tokenizer, limit: int) -> tuple[list[PairRow], int]:
    """Return pairs as rows of at most `limit` tokens a text, and how many different texts are longer."""
    texts = [text for each in examples for text in (each.text, each.positive, *each.negatives)]
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    encoded, cut = encode_texts([(text,) for text in number], tokenizer, limit=limit, segments=False)
    rows = [LabelledRow(ids, np.array(i)) for i, (ids, _) in enumerate(encoded)]
    return [
        PairRow(
            rows[number[each.text]],
            rows[number[each.positive]],
            tuple(rows[number[text]] for text in each.negatives),
            each.score,
        )
        for each in examples
    ], sum(lost > 0 for lost in cut)


class Embedding:
    """`langmill train embed`: learn vectors of texts from pairs, or from texts alone."""

    name = "embed"
    use = Use(
        "text embedder",
        "sentence-similarity",
        "AutoModel",
        'model.predict("…").vector',
        ("predict {} 'some text'", "evaluate {} FILE", "search index {} FOLDER -o INDEX"),
    )
    families = Classifying.families
    fitted: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    own_settings: tuple[str, ...] = ("embed",)
    baselines_learn = False

    def __init__(self, settings: EmbedSettings | None = None) -> None:
        self.settings = settings or EmbedSettings()

    def learn(self, request: Request) -> Lesson:
        """Read the pairs, make or open a model, and take its head and output layer away."""
        return Embedding(request.settings.embed).lesson(request)

    def check(self, model: Any, tokenizer: Tokenizer) -> None:
        """See that it is one stack."""
        without_scores(model)

    def read(
        self, paths: Sequence[str], settings: LabelledSettings, report: ReadReport, *, answers: bool = True
    ) -> Iterator[Any]:
        """Yield the pairs of files; each line of a text file is a pair with itself. Without answers: single texts."""
        if not answers:
            yield from read_classes(paths, settings, report, need_labels=False)
            return
        for path in expand(paths, report=report):
            if kind_of(path) == "text":
                for each in read_classes([path], settings, report, need_labels=False):
                    yield TextPair(each.text, each.text, source=each.source, fields=each.fields)
            else:
                yield from read_pairs([path], settings, report)

    def question(self, example: ClassExample) -> Text:
        """Return the text."""
        return example.text

    def texts(self, example: TextPair) -> tuple[str, ...]:
        """Return all texts of a pair; of a text with itself that one."""
        return tuple(dict.fromkeys((example.text, example.positive, *example.negatives)))

    group = texts

    def stratum(self, example: TextPair) -> str:
        """Return nothing: pairs are held out by chance alone."""
        return ""

    def lesson(self, request: Request) -> Lesson:
        """Do the work of `learn`."""
        settings, source, corpus = open_run(request, self)
        if kind_of_pairs(corpus.train) == "single":
            say(
                "texts without pairs: each is to be told from the others as another dropout shows it (SimCSE)"
            )
            settings = with_dropout(settings, source)
        tokenizer = open_words(request, corpus, settings, source, self)
        checkpoint, pooling = self.start(settings, source)
        seed_everything(settings.seed)
        rows, cut = pair_rows(corpus.train, tokenizer, pooling.tokens)
        if cut:
            warn(f"{cut} texts are longer than {pooling.tokens} tokens; their rest is not read")
        batch = settings.batch or min(BATCHES[source is not None], len(rows))
        settings = settings.model_copy(update={"batch": batch})
        settings = fill_length(settings, len(rows), continues=source is not None)
        micro_tokens = MICRO_TOKENS[choose_device(settings.device).type]
        material = Material(
            rows,
            collate=partial(collate_pairs, micro_tokens=micro_tokens),
            objective=partial(self.objective, pooling, here=request.here),
            evaluate=self.quick_evaluation(corpus.held_out, tokenizer, pooling, batch),
            examples=len(corpus.held_out),
            rises=kind_of_pairs(corpus.held_out) != "single",
            make=partial(new_body, self, tokenizer),
            most_steps=most_steps(settings, len(rows)),
        )
        facts = corpus_facts(corpus, tokenizer, material.tokens)
        lesson = make_lesson(
            request,
            settings,
            material,
            tokenizer,
            checkpoint,
            limit=pooling.tokens,
            facts=facts,
            wrap=lambda model: Checkpoint(model, tokenizer, pooling=pooling),
        )
        check_sizes(self.settings.sizes, lesson.plan.settings.model.width)
        return lesson

    def start(
        self, settings: TrainSettings, source: Checkpoint | None
    ) -> tuple[Checkpoint | None, SentencePooling]:
        """Return what is trained further, if anything, and how vectors are made of how many tokens."""
        limit = choose_limit(settings, source)
        asked = self.settings.pooling
        if source is None:
            encoder = settings.model.family in MaskedLanguageModelling.families
            usual = SentencePooling("mean" if encoder else "last")
            checkpoint = None
        else:
            checkpoint = replace(source, model=without_scores(source.model))
            usual = source.pooling or default_pooling(checkpoint.model)
            if not settings.model.context:
                limit = min(limit, usual.tokens or limit)
        pooling = replace(usual, pooling=usual.pooling if asked == "auto" else asked, tokens=limit)
        return checkpoint and replace(checkpoint, pooling=pooling), pooling

    def objective(
        self, pooling: SentencePooling, model: Any, batch: PairBatch, *, here: World = ALONE
    ) -> tuple[Tensor, Tensor]:
        """Return (loss_sum, count) of a batch, of which each of several processes has its part."""
        return contrastive(
            partial(text_vectors, model, pooling),
            batch,
            temperature=self.settings.temperature,
            symmetric=self.settings.symmetric,
            sizes=self.settings.sizes,
            here=here,
        )

    def quick_evaluation(
        self, examples: Sequence[TextPair], tokenizer: Tokenizer, pooling: SentencePooling, batch: int
    ) -> Callable[[Any], dict[str, float]]:
        """Return a function from a model to its figures on held-out pairs; of single texts to their loss under dropout."""
        examples = examples[:QUICK_EXAMPLES]

        def assess(model: Any) -> dict[str, float]:
            found = assess_pairs(examples, lambda texts: vectors_of(model, tokenizer, pooling, texts)[0])
            figures = dict(found.figures)
            figures.pop("recall_at_k", None)
            return figures

        @torch.no_grad()
        def lose(model: Any) -> dict[str, float]:
            device, total = device_of(model), 0.0
            rows, _ = pair_rows(examples, tokenizer, pooling.tokens)
            with torch.random.fork_rng():
                seed_everything(0)
                model.train()
                for begin in range(0, len(rows), batch):
                    part = collate_pairs(rows[begin : begin + batch], micro_tokens=MICRO_TOKENS[device.type])
                    total += float(self.objective(pooling, model, part.to(device))[0])
            model.eval()
            return {"loss": total / len(rows)}

        return lose if kind_of_pairs(examples) == "single" else assess

    def baselines(
        self, learned: Sequence[TextPair], examples: Sequence[TextPair], head: None
    ) -> list[tuple[str, Assessment, str]]:
        """Return what TF-IDF reaches; it learns nothing."""
        note = "cosines of TF-IDF vectors of words and pairs of words, counted in the texts that are compared"
        return [("TF-IDF", tfidf_baseline(examples), note)]

    def evaluate(self, checkpoint: Checkpoint, examples: Sequence[TextPair]) -> Assessment:
        """Compare the cosines of pairs with their scores, or look for what belongs to each text among all that does."""
        return assess_pairs(examples, lambda texts: encode(checkpoint, texts)[0])

    def predict(self, checkpoint: Checkpoint, inputs: Sequence[Text]) -> list[TextVector]:
        """Return the vector of each text."""
        vectors, cut = encode(checkpoint, single_texts(inputs))
        return [TextVector(tuple(row), lost) for row, lost in zip(vectors.tolist(), cut)]

    def score(self, results: Sequence[TextVector], references: Sequence[Sequence[float]]) -> dict[str, float]:
        """Return the mean cosine of results and the vectors that they should be, one a result."""
        if len(results) != len(references):
            raise DataError(
                f"{len(results)} results and {len(references)} references; one for each is needed"
            )
        one, other = (unit(np.array(rows, np.float32)) for rows in ([r.vector for r in results], references))
        return {"cosine": float((one * other).sum(1).mean())}


def check_sizes(sizes: Sequence[int], width: int) -> None:
    """Raise ConfigError where a beginning of a vector is asked for that vectors do not have."""
    if wrong := [size for size in sizes if not 1 <= size <= width]:
        raise ConfigError(
            f"--embed.sizes {wrong[0]}: vectors of this model have {width} numbers; name sizes from 1 to {width}"
        )


def with_dropout(settings: TrainSettings, source: Checkpoint | None) -> TrainSettings:
    """Return settings of a model that drops something: without that, a text and itself are one and the same."""
    if source is None:
        model = settings.model.model_copy(update={"dropout": settings.model.dropout or DROPOUT})
        return settings.model_copy(update={"model": model})
    if not source.model.config.output_stack.dropout:
        raise ConfigError(
            f"--from {settings.from_checkpoint}: has no dropout, by which a text is told from itself; learn from pairs of"
            " texts, or go on from a model that has, such as BERT"
        )
    return settings


def new_body(
    task: Embedding, tokenizer: Tokenizer, settings: ModelSettings, generator: torch.Generator
) -> nn.Module:
    """Return a new model without an output layer."""
    model = task.families[settings.family](settings, tokenizer.vocabulary_size, generator)
    body: nn.Module = without_scores(model)
    return body
