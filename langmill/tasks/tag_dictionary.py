"""The simplest tagger: spans that were seen in training, wherever they stand. What a model must beat. [tasks]"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from langmill.tasks.tags import leaves_out, pieces
from langmill.text.labelled_spans import TaggedExample

LONGEST_PIECES = 12
"""Words, characters and signs of the longest span that is looked up."""


def tag_by_dictionary(
    train: Sequence[TaggedExample], examples: Sequence[TaggedExample]
) -> list[list[tuple[int, int, str]]]:
    """Return the spans of examples by a dictionary of the spans of others, each with its most frequent label.

    Of several that begin in one place the longest is taken, from left to right. A span that stands without a label in
    training more often than with one is left out. Where training texts are spans throughout (words, parts of speech)
    what is not in the dictionary is a span by itself, with the most frequent label of all.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for example in train:
        for span in example.spans:
            counts[example.text[span.begin : span.end]][span.label] += 1
    labels = {text: seen.most_common(1)[0][0] for text, seen in counts.items()}
    said, right = Counter[str](), Counter[str]()
    for example in train:
        truth = {(span.begin, span.end) for span in example.spans}
        for begin, end, _ in looked_up(example.text, labels):
            said[example.text[begin:end]] += 1
            right[example.text[begin:end]] += (begin, end) in truth
    labels = {text: label for text, label in labels.items() if 2 * right[text] >= said[text]}
    everything = sum((seen for seen in counts.values()), Counter[str]())
    other = "" if any(map(leaves_out, train)) else everything.most_common(1)[0][0]
    return [list(looked_up(example.text, labels, other)) for example in examples]


def looked_up(text: str, labels: Mapping[str, str], other: str = "") -> Iterator[tuple[int, int, str]]:
    """Yield the longest spans of a text that have a label, from left to right.

    other: the label of what has none; empty: it is no span.

    >>> list(looked_up("in New York", {"New York": "LOC", "New": "X"}))
    [(3, 11, 'LOC')]
    """
    found = pieces(text)
    first = 0
    while first < len(found):
        begin = found[first][0]
        for last in range(min(first + LONGEST_PIECES, len(found)) - 1, first - 1, -1):
            end = found[last][1]
            if label := labels.get(text[begin:end], other if last == first else ""):
                yield begin, end, label
                first = last
                break
        first += 1
