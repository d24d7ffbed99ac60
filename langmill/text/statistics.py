"""A corpus in figures: lengths, scripts, languages, vocabulary growth, word frequencies, tokens, duplicates. [text]

Vocabulary growth is fitted by Heaps' law V = K n^b (V different words after n words) and word frequencies by Zipf's
law f = C r^-a (f occurrences of the r-th most frequent word), both by least squares of the logarithms over points
that are evenly spaced in the logarithm. In memory are 24 bytes a document for lengths, the vocabulary, and what
`duplicates` needs.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from langmill.text.characters import Kinds, count_kinds
from langmill.text.documents import ReadReport
from langmill.text.duplicates import Sketches
from langmill.text.rows import TOO_LONG, Row
from langmill.text.settings import StatisticsSettings
from langmill.text.sifting import Batch, batches, check_reading, numbered_rows
from langmill.text.words import tokenise

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
GROWTH_STEP = 1.1
"""A point of vocabulary growth is taken whenever so many times the words are read."""
CURVE_POINTS = 200


@dataclass(frozen=True)
class Lengths:
    """How long documents are."""

    mean: float
    quantiles: dict[str, int]
    """`0.5` is the median."""
    histogram: list[tuple[float, int]]
    """Lower end → documents, in bins evenly spaced in the logarithm."""


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer makes of the corpus."""

    total: int
    per_character: float
    per_word: float
    documents: Lengths


@dataclass(frozen=True)
class CorpusStatistics:
    """The figures of a corpus."""

    files: int
    documents: int
    rejected: dict[str, int]
    """Reason → rows that could not be read."""
    ignored: dict[str, int]
    characters: int
    bytes: int
    lines: int
    words: int
    lengths: dict[str, Lengths]
    """Of documents in `characters`, `words` and `lines`."""
    scripts: dict[str, float]
    """Kind of character → its share of all that are not white space."""
    languages: dict[str, int]
    """Language → documents."""
    vocabulary: int
    vocabulary_is_partial: bool
    """Rare words were let go on the way: the vocabulary is larger, its rare words are more frequent."""
    once: int
    """Words that occur once."""
    growth: list[tuple[int, int]]
    """Words read → different words among them."""
    heaps: tuple[float, float]
    """K and b."""
    frequencies: list[tuple[int, int]]
    """Rank → occurrences, at ranks evenly spaced in the logarithm."""
    zipf: tuple[float, float]
    """C and a."""
    top: list[tuple[str, int]]
    exact_duplicates: int
    near_duplicates: int
    tokens: Tokens | None = None
    settings: dict[str, object] = field(default_factory=dict)


class _Vocabulary:
    """Counts words and watches how their number grows."""

    def __init__(self, maximum: int) -> None:
        self.counts: Counter[str] = Counter()
        self.total, self.growth, self.partial = 0, list[tuple[int, int]](), False
        self._next, self._maximum = 1.0, maximum

    def add(self, words: Sequence[str]) -> None:
        begin = 0
        while begin < len(words):
            end = min(len(words), begin + max(1, int(self._next) - self.total))
            self.counts.update(words[begin:end])
            self.total += end - begin
            begin = end
            if self.total >= self._next:
                if not self.partial:
                    self.growth.append((self.total, len(self.counts)))
                self._next = max(self.total * GROWTH_STEP, self.total + 1)
        if len(self.counts) > self._maximum:
            self.partial = True
            self.counts = Counter({word: count for word, count in self.counts.items() if count > 1})


class _Survey:
    def __init__(
        self,
        settings: StatisticsSettings,
        language_of: Callable[[str], str] | None,
        count_tokens: Callable[[Sequence[str]], Sequence[int]] | None,
    ) -> None:
        self.lengths = {name: array("q") for name in ("characters", "words", "lines", "tokens")}
        self.kinds = np.zeros(len(Kinds._fields), np.int64)
        self.languages: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.vocabulary = _Vocabulary(settings.maximum_words)
        self.bytes = 0
        self.sketches = Sketches(near=settings.duplicates == "near", threshold=settings.threshold)
        self._settings, self._language_of, self._count_tokens = settings, language_of, count_tokens

    def add(self, batch: Batch) -> None:
        """Measure some rows; documents that come in parts are measured part by part."""
        self.rejected.update(row.reason for _, row in batch if row.reason and row.part == 0)
        rows = [row for _, row in batch if row.reason in ("", TOO_LONG)]
        tokens = self._count_tokens([row.text for row in rows]) if self._count_tokens else [0] * len(rows)
        for row, count in zip(rows, tokens):
            self._measure(row, count)
        if self._settings.duplicates != "none":
            self.sketches.add([row.text for row in rows if not row.reason])

    def _measure(self, row: Row, tokens: int) -> None:
        text = row.text
        words = tokenise(text)
        self.vocabulary.add(words)
        self.bytes += len(text.encode())
        self.kinds += count_kinds(text)
        lines = text.count("\n") + (not text.endswith("\n"))
        figures = {"characters": len(text), "words": len(words), "lines": lines, "tokens": tokens}
        for name, figure in figures.items():
            if row.part == 0:
                self.lengths[name].append(figure)
            else:
                self.lengths[name][-1] += figure
        if self._language_of and row.part == 0:
            self.languages[self._language_of(text)] += 1


def statistics(
    paths: Sequence[str | Path],
    *,
    settings: StatisticsSettings | None = None,
    language_of: Callable[[str], str] | None = None,
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None,
) -> CorpusStatistics:
    """Measure a corpus in one pass.

    language_of: names a text's language. count_tokens: returns the tokens of each of some texts.
    """
    settings = settings or StatisticsSettings()
    read = ReadReport()
    survey = _Survey(settings, language_of, count_tokens)
    for batch in batches(numbered_rows(paths, settings, read)):
        survey.add(batch)
    documents = len(survey.lengths["characters"])
    check_reading(documents, survey.rejected, read, settings, "measure")
    vocabulary, total = survey.vocabulary, {name: sum(lengths) for name, lengths in survey.lengths.items()}
    ordered = vocabulary.counts.most_common()
    frequencies = _curve([count for _, count in ordered])
    exact, near = survey.sketches.first()
    own = np.arange(len(exact))
    visible = max(1, int(survey.kinds.sum() - survey.kinds[Kinds._fields.index("space")]))
    shares = {name: int(n) / visible for name, n in zip(Kinds._fields, survey.kinds) if name != "space" and n}
    tokens = None
    if count_tokens:
        per = (total["tokens"] / max(1, total["characters"]), total["tokens"] / max(1, total["words"]))
        tokens = Tokens(total["tokens"], *per, lengths_of(survey.lengths["tokens"]))
    return CorpusStatistics(
        files=read.files,
        documents=documents,
        rejected=dict(survey.rejected),
        ignored=dict(read.ignored),
        characters=total["characters"],
        bytes=survey.bytes,
        lines=total["lines"],
        words=vocabulary.total,
        lengths={name: lengths_of(survey.lengths[name]) for name in ("characters", "words", "lines")},
        scripts=dict(sorted(shares.items(), key=lambda pair: -pair[1])),
        languages=dict(survey.languages.most_common()),
        vocabulary=len(ordered),
        vocabulary_is_partial=vocabulary.partial,
        once=sum(count == 1 for _, count in ordered),
        growth=vocabulary.growth,
        heaps=power_law(vocabulary.growth),
        frequencies=frequencies,
        zipf=_negated(power_law(frequencies)),
        top=ordered[: settings.top],
        exact_duplicates=int((exact != own).sum()),
        near_duplicates=int(((near != own) & (exact == own)).sum()),
        tokens=tokens,
        settings=settings.model_dump(mode="json"),
    )


def lengths_of(values: Sequence[int]) -> Lengths:
    """Summarise lengths.

    >>> lengths_of([1, 2, 3]).quantiles["0.5"]
    2
    """
    lengths = np.asarray(values)
    found = np.quantile(lengths, QUANTILES, method="inverted_cdf").astype(int).tolist()
    edges = np.unique(np.geomspace(1, max(2, int(lengths.max()) + 1), 41))
    counts, _ = np.histogram(np.maximum(lengths, 1), edges)
    histogram = list(zip(edges[:-1].round(1).tolist(), counts.tolist()))
    return Lengths(float(lengths.mean()), dict(zip(map(str, QUANTILES), found)), histogram)


def _curve(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Return rank and count at ranks evenly spaced in the logarithm."""
    if not counts:
        return []
    ranks = np.unique(np.geomspace(1, len(counts), CURVE_POINTS).round().astype(int)).tolist()
    return [(rank, counts[rank - 1]) for rank in ranks]


def power_law(points: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return factor and exponent of y = factor x^exponent, by least squares of the logarithms; (0, 0) for one point.

    >>> tuple(round(value, 6) for value in power_law([(1, 3), (10, 30), (100, 300)]))
    (3.0, 1.0)
    """
    if len(points) < 2:
        return 0.0, 0.0
    x, y = np.log(np.array(points, float)).T
    exponent = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return float(np.exp(y.mean() - exponent * x.mean())), exponent


def _negated(law: tuple[float, float]) -> tuple[float, float]:
    return law[0], -law[1]
