"""From files to a tokenizer and shards, each made once and kept. [tasks]"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal, Protocol, cast

from langmill.batches.shards import Shards, build_shards, open_shards
from langmill.core.errors import CheckpointError, ConfigError, DataError, did_you_mean
from langmill.core.files import atomic_folder, cache_folder, digest, remove_partial
from langmill.core.log import format_count, say, warn
from langmill.text.documents import Document, ReadReport
from langmill.text.holdout import HeldOutSplit, plan_split, split_documents
from langmill.text.paths import expand, source_fingerprint
from langmill.text.readers import read_documents
from langmill.tokens.tokenizer import Tokenizer
from langmill.tokens.train import SPECIALS, TrainingReport, train_tokenizer
from langmill.training.settings import DataSettings, TrainSettings

KINDS = ("char", "bpe", "wordpiece", "unigram")
TOKENIZER_BYTES = 32_000_000
"""Text that a tokenizer trained on the way to a model sees at most, taken evenly from the corpus."""
SURVEY_CHARACTERS = 2_000_000
"""Text looked at to learn how many different characters the corpus has."""


SPELT = {"mask": "<|mask|>", "cls": "<|cls|>", "sep": "<|sep|>"}
"""Special tokens that a task may need of a tokenizer whose kind has none of its own."""
IDLE_SECONDS = 600.0
"""How long a half-written folder of the cache must lie untouched to be taken for a killed process's."""


class TextSource(Protocol):
    """Text that a tokenizer can learn from."""

    @property
    def data(self) -> tuple[str, ...]:
        """The files."""

    @property
    def fingerprint(self) -> str:
        """Tells apart whatever gives other text."""

    @property
    def characters(self) -> int:
        """Of all text."""

    def training_texts(self) -> Iterator[str]:
        """Yield the texts that may be learned from."""


class Corpus:
    """The user's files, read as often as needed, always in the same order."""

    def __init__(
        self, data: tuple[str, ...], held_out: tuple[str, ...], settings: DataSettings, *, seed: int
    ) -> None:
        self.data, self.held_out, self.settings, self.seed = data, held_out, settings, seed
        self.report = ReadReport()
        self.fingerprint = digest(
            source_fingerprint(data),
            source_fingerprint(held_out) if held_out else "",
            settings.model_dump_json(),
            str(seed),
        )
        self._split: HeldOutSplit | None = None

    def read(self, paths: tuple[str, ...]) -> Iterator[Document]:
        """Yield the documents of `paths`, counting afresh."""
        self.report = ReadReport()
        return read_documents(
            paths,
            boundary=self.settings.boundary,
            text_field=self.settings.text_field,
            encoding=self.settings.encoding,
            on_bad_row=self.settings.on_bad_row,
            report=self.report,
        )

    @property
    def split(self) -> HeldOutSplit:
        """How training and held-out text are told apart; reads everything once."""
        if self._split is None:
            fraction = 0.0 if self.held_out else self.settings.held_out
            documents = self.read(self.data)
            first = next(documents, None)
            if first is None:
                raise DataError(f"{', '.join(self.data)}: no text to train on; {self.report}")
            self._split = plan_split(chain([first], documents), fraction=fraction, seed=self.seed)
            for reason, count in sorted(self.report.skipped.items()):
                warn(f"{count} left out: {reason}")
        return self._split

    @property
    def characters(self) -> int:
        """Of all documents."""
        return self.split.characters

    def documents(self) -> Iterator[tuple[Document, bool]]:
        """Yield every document and whether it is held out."""
        yield from split_documents(self.read(self.data), self.split)
        if self.held_out:
            yield from ((document, True) for document in self.read(self.held_out))

    def training_texts(self) -> Iterator[str]:
        """Yield the text that may be learned from."""
        return (document.text for document, held_out in self.documents() if not held_out)

    def describe(self) -> str:
        """Say what is held out, in a sentence."""
        return f"evaluated on {', '.join(self.held_out)}" if self.held_out else str(self.split)


def choose_vocabulary(corpus: TextSource) -> int:
    """Return a size for a tokenizer trained here: a power of two that grows with the corpus.

    About 2,000 · (megabytes)^0.3, and at least one and a half times the different characters in the first part of
    the text, so that Chinese characters get tokens of their own.
    """
    size = 2000 * max(corpus.characters / 1e6, 0.05) ** 0.3
    seen: set[str] = set()
    read = 0
    for text in corpus.training_texts():
        seen.update(text)
        read += len(text)
        if read > SURVEY_CHARACTERS:
            break
    return int(
        min(max(1 << round(math.log2(size)), 512, 1 << math.ceil(math.log2(1.5 * len(seen)))), 1 << 16)
    )


def open_tokenizer(
    corpus: TextSource,
    settings: TrainSettings,
    *,
    roles: Sequence[str] = (),
    extra_tokens: Sequence[str] = (),
) -> Tokenizer:
    """Return the tokenizer that `settings.tokenizer` names, training it (once) where it names a kind.

    roles: those of `SpecialTokens` that a tokenizer trained here has beyond its kind's usual ones.
    extra_tokens: further special tokens of it.
    """
    name = settings.tokenizer
    if name not in KINDS:
        if not Path(name).exists():
            raise ConfigError(
                f"--tokenizer {name}: neither a kind ({', '.join(KINDS)}) nor a path that exists{did_you_mean(name, KINDS)}"
            )
        return Tokenizer.load(name)
    wanted = [corpus.fingerprint, name, str(settings.vocabulary), *roles, *extra_tokens]
    kept = cache_folder() / "tokenizers" / digest("1", *wanted)
    if (kept / "tokenizer.json").is_file():
        with contextlib.suppress(CheckpointError):  # damaged: trained anew
            return Tokenizer.load(kept)
    vocabulary = settings.vocabulary or (None if name == "char" else choose_vocabulary(corpus))
    report = TrainingReport()
    usual = SPECIALS[name].named()
    tokenizer = train_tokenizer(
        corpus.training_texts(),
        kind=cast(Literal["char", "bpe", "wordpiece", "unigram"], name),
        vocabulary=vocabulary,
        specials=replace(SPECIALS[name], **{role: SPELT[role] for role in roles if role not in usual}),
        extra_specials=extra_tokens,
        maximum_bytes=TOKENIZER_BYTES,
        total_bytes=sum(path.stat().st_size for path in expand(corpus.data)),
        report=report,
    )
    say(
        f"tokenizer: {name}, {tokenizer.vocabulary_size} tokens, from {format_count(report.bytes_used)}B of text"
    )
    for note in report.notes:
        say(f"    {note}")
    with atomic_folder(kept) as aside:
        tokenizer.save(aside)
    return tokenizer


def open_corpus(corpus: Corpus, tokenizer: Tokenizer, *, expected: str = "") -> Shards:
    """Return the corpus as tokens, from the cache where nothing changed since they were made.

    expected: the digest (`Shards.content`) that a run to be resumed began with.
    """
    key = {"sources": corpus.fingerprint, "tokenizer": tokenizer.fingerprint()}
    folder = cache_folder() / "shards" / digest(*key.values())
    shards = open_shards(folder, key)
    if shards is None:
        split = corpus.describe()
        # What a killed process was writing; another one may be at work beside this one.
        remove_partial(folder.parent, idle_seconds=IDLE_SECONDS)
        shards = build_shards(folder, corpus.documents(), tokenizer=tokenizer, key=key, split=split)
    size = f"{format_count(shards.train.bytes)}B = {format_count(len(shards.train.tokens))} tokens"
    if expected and shards.content != expected:
        raise DataError(
            f"{', '.join(corpus.data)}: the text has changed since this run began, so it cannot be resumed; bring the"
            " former text back, or start another run with --from"
        )
    say(f"corpus: {size}{' (tokens reused from the cache)' if shards.reused else ''}; {shards.split}")
    return shards


def texts(documents: Iterable[Document]) -> Iterator[str]:
    """Yield whole texts, the parts of long documents joined."""
    parts: list[str] = []
    for document in documents:
        parts.append(document.text)
        if document.last:
            yield "".join(parts)
            parts = []
