"""Neighbouring words that belong together, found by how much oftener they meet than by chance. [text]

Learned in one pass over sentences, kept as JSON, and joined in any text: `new york` becomes `new_york`, and
`人工 智能` becomes `人工智能`, for between Chinese characters no sign is needed. Longer phrases come from learning
again on sentences in which phrases are joined already.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.core.files import atomic_write, read_json
from langmill.core.log import warn
from langmill.text.segmentation import HAN

Measure = Literal["mikolov", "npmi"]
THRESHOLDS: dict[Measure, float] = {"mikolov": 100.0, "npmi": 0.5}
"""What a score has to exceed unless told otherwise: word2phrase's, and half of what NPMI can be."""
MAXIMUM_PAIRS = 2_000_000
"""Pairs counted at a time, about 400 MB; beyond it the rarest are forgotten."""
FORMAT = "langmill phrases 1"
Pair = tuple[str, str]


@dataclass(frozen=True)
class Phrases:
    """Pairs of words that are phrases."""

    scores: dict[Pair, float]
    measure: Measure = "mikolov"
    threshold: float = THRESHOLDS["mikolov"]
    """Every score is above it."""
    forgotten: int = field(default=0, compare=False)
    """Pairs that were forgotten while counting, for want of room."""

    def join(self, words: Iterable[str]) -> list[str]:
        """Return the words with phrases joined, from left to right; a word belongs to one phrase at most.

        >>> Phrases({("new", "york"): 200.0}).join(["in", "new", "york"])
        ['in', 'new_york']
        """
        out: list[str] = []
        open_word: str | None = None  # that may begin a phrase
        for word in words:
            if open_word is not None and (open_word, word) in self.scores:
                out.append(joined((open_word, word)))
                open_word = None
                continue
            if open_word is not None:
                out.append(open_word)
            open_word = word
        return out if open_word is None else [*out, open_word]

    def save(self, path: Path | str) -> None:
        """Write the phrases as JSON, best first, a phrase a line."""
        head = {"format": FORMAT, "measure": self.measure, "threshold": self.threshold}
        ranked = sorted(self.scores.items(), key=lambda item: (-item[1], item[0]))
        lines = ",\n".join(json.dumps([*pair, score], ensure_ascii=False) for pair, score in ranked)
        atomic_write(path, json.dumps(head)[:-1] + f', "phrases": [\n{lines}\n]}}\n')


def load_phrases(path: Path | str) -> Phrases:
    """Read what `Phrases.save` wrote."""
    tree = read_json(path)
    expected = f"expected a file that `langmill data words --learn-phrases` wrote ({FORMAT})"
    if not isinstance(tree, dict) or tree.get("format") != FORMAT or tree.get("measure") not in THRESHOLDS:
        raise DataError(f"{path}: not a file of phrases; {expected}")
    entries = tree.get("phrases")
    if not isinstance(entries, list) or not isinstance(tree.get("threshold"), (int, float)):
        raise DataError(f"{path}: lacks its phrases or their threshold; {expected}")
    for entry in entries:
        if not _is_entry(entry):
            raise DataError(f"{path}: found {entry!r}, expected [word, word, score]; {expected}")
    scores = {(first, second): float(score) for first, second, score in entries}
    return Phrases(scores, tree["measure"], float(tree["threshold"]))


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 3:
        return False
    return isinstance(entry[0], str) and isinstance(entry[1], str) and isinstance(entry[2], (int, float))


def learn_phrases(
    sentences: Iterable[Sequence[str]],
    *,
    measure: Measure = "mikolov",
    threshold: float | None = None,
    min_count: int = 5,
    maximum_pairs: int = MAXIMUM_PAIRS,
) -> Phrases:
    """Return the pairs that occur at least `min_count` times and score above `threshold` (default: THRESHOLDS).

    mikolov: (n(ab) - min_count) / (n(a) n(b)), Mikolov et al. 2013b (arXiv:1310.4546), equation 6, times the
        words of the corpus as word2phrase has it: how many times oftener than by chance.
    npmi: normalised pointwise mutual information, Bouma 2009, -1 to 1.
    maximum_pairs: when more different pairs (or words) are held, those met once are forgotten, then those met twice and
        so on, as gensim does; a rare pair may then be counted too low, and `forgotten` says how many were.
    """
    if measure not in THRESHOLDS:
        hint = did_you_mean(measure, get_args(Measure))
        raise ConfigError(f"measure: {measure!r} is not one of {', '.join(get_args(Measure))}{hint}")
    if min_count < 1:
        raise ConfigError(f"min_count: {min_count} is not allowed; a phrase occurs at least once")
    words: Counter[str] = Counter()
    pairs: Counter[Pair] = Counter()
    total = forgotten = rarest = 0
    for sentence in sentences:
        total += len(sentence)
        words.update(sentence)
        pairs.update(pairwise(sentence))
        while max(len(pairs), len(words)) > maximum_pairs:
            before, rarest = len(pairs), rarest + 1
            pairs = Counter({pair: count for pair, count in pairs.items() if count > rarest})
            # A word as rare as that is in no pair any more, and no pair is ever counted oftener than its words.
            words = Counter({word: count for word, count in words.items() if count > rarest})
            forgotten += before - len(pairs)
    if forgotten:
        warn(f"phrases: {forgotten:,} rare pairs were forgotten while counting, for want of room")
    limit = THRESHOLDS[measure] if threshold is None else threshold
    score = _scorer(measure, words, total, min_count)
    scores = {
        pair: value
        for pair, count in pairs.items()
        if count >= min_count and (value := score(pair, count)) > limit
    }
    return Phrases(scores, measure, limit, forgotten)


def _scorer(
    measure: Measure, words: Counter[str], total: int, min_count: int
) -> Callable[[Pair, int], float]:
    """Return the function that scores a pair by how often it occurs."""

    def mikolov(pair: Pair, count: int) -> float:
        return (count - min_count) / words[pair[0]] / words[pair[1]] * total

    def npmi(pair: Pair, count: int) -> float:
        together = count / total
        apart = (words[pair[0]] / total) * (words[pair[1]] / total)
        return 1.0 if together == 1 else math.log(together / apart) / -math.log(together)

    return mikolov if measure == "mikolov" else npmi


def ngrams(words: Sequence[str], size: int) -> list[str]:
    """Return every run of `size` words, joined.

    >>> ngrams(["the", "white", "whale"], 2)
    ['the_white', 'white_whale']
    """
    return [joined(words[begin : begin + size]) for begin in range(len(words) - size + 1)]


def joined(words: Sequence[str]) -> str:
    """Return words as one: with `_` between them, but nothing between Chinese characters.

    >>> joined(["new", "york"]), joined(["人工", "智能"]), joined(["T", "恤"])
    ('new_york', '人工智能', 'T_恤')
    """
    out = words[0]
    for word in words[1:]:
        out += word if HAN.match(out[-1]) and HAN.match(word[0]) else f"_{word}"
    return out
