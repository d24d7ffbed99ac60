"""The English filters decide as datatrove's do, where a word is what stands between white space.

Where they differ on purpose, and what the texts here therefore avoid:
- datatrove splits words with spaCy, which is replaced here; its sentences too.
- Gopher's most frequent n-gram must stand there twice: datatrove rejects a text of a few words for its first two.
- FineWeb's limit for repeated lines is the paper's 0.1; datatrove's default of 0.01 is set to that here.
- Words of signs: datatrove's list holds other signs, so the texts keep to common ones.
- C4: curly quotation marks end a sentence as straight ones do; an abbreviation's full stop does not; marks such
  as [1] are no words.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from langmill.text import quality
from langmill.text.measured import Measured

WORDS = (
    "the be to of and that have with a in is it for on was as at by an are from this river bridge morning market stone old "
    "soldiers monks valley grandfather crossed reached believed built carried 1839 12 3.5 don't well-known I so Captain (see "
    "above) water, boats. fish; nets: walked? ran! 'quoted' extraordinarily circumstances"
).split()
REASONS = {
    "gopher_short_doc": "gopher: too few words",
    "gopher_long_doc": "gopher: too many words",
    "gopher_below_avg_threshold": "gopher: mean word length",
    "gopher_above_avg_threshold": "gopher: mean word length",
    "gopher_too_many_hashes": "gopher: hash signs",
    "gopher_too_many_ellipsis": "gopher: ellipses",
    "gopher_too_many_bullets": "gopher: bullet lines",
    "gopher_too_many_end_ellipsis": "gopher: ellipsis lines",
    "gopher_below_alpha_threshold": "gopher: alphabetic words",
    "gopher_enough_stop_words": "gopher: stop words",
    "dup_para_frac": "gopher: repeated paragraphs",
    "dup_para_char_frac": "gopher: characters of repeated paragraphs",
    "dup_line_frac": "gopher: repeated lines",
    "dup_line_char_frac": "gopher: characters of repeated lines",
    **{f"top_{n}_gram": f"gopher: top {n}-gram" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"gopher: repeated {n}-grams" for n in range(5, 11)},
    "line_punct_ratio": "fineweb: lines without punctuation",
    "short_line_ratio": "fineweb: short lines",
    "char_dup_ratio": "fineweb: characters of repeated lines",
    "list_ratio": "fineweb: line breaks",
    "lorem_ipsum": "c4: lorem ipsum",
    "curly_bracket": "c4: curly bracket",
    "too_few_sentences": "c4: too few sentences",
}


def texts(count: int) -> list[str]:
    """Return texts of at least 50 words of many faults: repeated parts, numbers, signs, short words, lists."""
    rng = random.Random(11)
    made = []
    while len(made) < count:
        words = [
            *rng.choices(WORDS, k=rng.choice([50, 51, 80, 200])),
            *(f"w{rng.randrange(10**6)}x" for _ in range(80)),
        ]
        rng.shuffle(words)
        kind = rng.randrange(8)
        if kind == 0:
            words = words[: rng.randrange(30, 60)]
        elif kind == 1:
            words = words[: rng.randrange(5, 60)] * rng.randrange(1, 12)
        elif kind == 2:
            words = [word if rng.random() < 0.8 else str(rng.randrange(1000)) for word in words]
        elif kind == 3:
            words = [
                word if rng.random() < 0.88 else rng.choice(["#", "##", "...", "-", "—"]) for word in words
            ]
        elif kind == 4:
            words = [word[:2] if rng.random() < 0.9 else word for word in words]
        elif kind == 5:
            phrase = words[: rng.randrange(2, 12)]
            words = [part for word in words for part in ([*phrase, word] if rng.random() < 0.08 else [word])]
        breaks = rng.choice([["\n"], ["\n", "\n\n"], ["...\n"], [".\n"], ["\n- "], [".\n", "\n• "]])
        text = "".join(word + (rng.choice(breaks) if rng.random() < 0.15 else " ") for word in words).strip()
        if rng.random() < 0.3:
            lines = text.split("\n")
            text = "\n".join(rng.sample([*lines, *rng.choices(lines, k=len(lines) // 2)], k=len(lines)))
        text = "\n".join(line.strip() for line in text.strip().split("\n")).strip()
        if len(text.split()) >= 30:
            made.append(text)
    return made


@pytest.fixture(autouse=True)
def plain_words(monkeypatch):
    """Make datatrove split at white space, and our rule of stop words take all for English."""
    from datatrove.pipeline.filters import (
        c4_filters,
        fineweb_quality_filter,
        gopher_quality_filter,
        gopher_repetition_filter,
    )

    for module in (fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter):
        monkeypatch.setattr(module, "split_into_words", lambda text, language: text.split())
    monkeypatch.setattr(c4_filters, "split_into_sentences", lambda line, language: [line])
    monkeypatch.setattr(quality, "identify", lambda text: "en")


def theirs(decide, text: str) -> str:
    from datatrove.data import Document

    answer = decide(Document(text=text, id="0"))
    return "" if answer is True else REASONS[answer[1]]


def compare(decide, ours, made: list[str]) -> Counter[str]:
    """Check that both give the same reason for each text, and count the reasons."""
    seen: Counter[str] = Counter()
    for text in made:
        expected = theirs(decide, text)
        assert ours(Measured(text)) == expected, text
        seen[expected] += 1
    return seen


def test_gopher_quality():
    from datatrove.pipeline.filters import GopherQualityFilter

    limits = quality.GopherSettings()

    def ours(measured: Measured) -> str:
        reason = quality.gopher(measured, limits)
        return "" if any(word in reason for word in ("repeated", "-gram")) else reason

    seen = compare(GopherQualityFilter().filter, ours, texts(2000))
    assert len(seen) >= 8, seen


def test_gopher_repetition():
    from datatrove.pipeline.filters import GopherRepetitionFilter

    limits = quality.GopherSettings()
    seen = compare(
        GopherRepetitionFilter().filter,
        lambda measured: quality.gopher_repetition(measured, limits),
        texts(2000),
    )
    assert len(seen) >= 8, seen


def test_fineweb():
    from datatrove.pipeline.filters import FineWebQualityFilter

    limits = quality.FinewebSettings()
    decide = FineWebQualityFilter(char_duplicates_ratio=0.1).filter
    seen = compare(decide, lambda measured: quality.fineweb(measured, limits), texts(2000))
    assert len(seen) == 5, seen


def test_c4():
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter

    rng = random.Random(3)
    starts = [
        "We walked on",
        "It rained",
        "He said: yes",
        "See [1] over there",
        "Javascript is off",
        "Read our privacy policy",
        "One",
    ]
    ends = [".", "!", "?", '"', "", "...", ",", " lorem ipsum.", " {x}.", " " + "x" * 1001 + "."]
    weights = [9, 5, 5, 5, 5, 3, 3, 0.4, 0.4, 1]
    seen: Counter[str] = Counter()
    for _ in range(500):
        text = "\n".join(
            rng.choice(starts) + rng.choices(ends, weights)[0] for _ in range(rng.randrange(4, 20))
        )
        document = Document(text=text, id="0")
        answer = C4QualityFilter().filter(document)
        reason, left, _ = quality.c4(Measured(text), quality.C4Settings())
        expected = "" if answer is True else REASONS[answer[1]]
        assert reason == expected, text
        if not reason:
            assert left == document.text
        seen[reason] += 1
    assert len(seen) == 4, seen
