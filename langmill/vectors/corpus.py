"""A corpus as word ids on disk, made in one pass over the text. [vectors]

Words are numbered as they come and written down; when all are counted, the file is gone through once
more in place: rare words leave, the others get their rank as number. Only the words themselves are ever in
memory, and what is made is memory-mapped.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import zlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import DataError
from langmill.core.files import cache_folder, digest, make_folder, remove_partial, writing_to
from langmill.text.documents import Document

Words = Literal["auto", "spaces"]
"""How a text is taken apart. auto: `text.words.tokenise`. spaces: at white space, as gensim's LineSentence."""

SENTENCE_WORDS = 10_000
"""A longer sentence is cut, as gensim cuts it."""
CHUNK = 1 << 18
"""Ids that are renumbered at a time."""
ABANDONED_SECONDS = 7 * 24 * 3600.0
"""A temporary folder that nothing was written to for so long belongs to a process that was killed."""


@dataclass(frozen=True)
class Vocabulary:
    """The words that occur often enough, most frequent first (equal ones in the order of the text)."""

    words: list[str]
    counts: NDArray[np.int64]
    """(words,), as they occur in the corpus."""

    def keep(self, sample: float) -> NDArray[np.float64]:
        """Return each word's probability of being kept when frequent words are skipped.

        min(1, sqrt(t / f) + t / f) where f is the word's share of the text and t is `sample`, as
        word2vec's and fastText's programs have it; the paper (Mikolov et al. 2013b, section 2.3) gives
        sqrt(t / f) alone.
        """
        if not sample:
            return np.ones(len(self.words))
        ratio = sample * self.counts.sum() / self.counts
        return np.minimum(1.0, np.sqrt(ratio) + ratio)


@dataclass(frozen=True)
class EncodedCorpus:
    """The text as ids, without the words left out; its files live as long as `encode_corpus`'s block."""

    vocabulary: Vocabulary
    ids: NDArray[np.int32]
    """(tokens,), memory-mapped: rows of the vocabulary."""
    begins: NDArray[np.int64]
    """(sentences + 1,), memory-mapped: where each sentence begins in `ids`, and their end; none is empty."""
    read_tokens: int
    """Words in the text, those left out included."""
    read_words: int
    """Different words in the text, those left out included."""

    def forget(self) -> None:
        """Give back the memory of what was read of the files; what is used again is read again."""
        for numbers in (self.ids, self.begins):
            pages = numbers.base
            if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                pages.madvise(mmap.MADV_DONTNEED)

    @property
    def ends(self) -> NDArray[np.int64]:
        """(sentences,): where each sentence ends in `ids`."""
        return self.begins[1:]

    def fingerprint(self) -> str:
        """Return what tells this corpus from others."""
        sums = (str(zlib.crc32(numbers.data)) for numbers in (self.ids, self.begins))
        return digest("\n".join(self.vocabulary.words), *sums)


@contextlib.contextmanager
def encode_corpus(
    documents: Iterable[Document], *, words: Words = "auto", min_count: int = 5
) -> Iterator[EncodedCorpus]:
    """Read documents; yield them as ids, in temporary files that go when the block ends.

    A line is a sentence. Raises DataError where no word is left.
    """
    parent = make_folder(cache_folder() / "corpora")
    remove_partial(parent, idle_seconds=ABANDONED_SECONDS)
    with writing_to(parent), tempfile.TemporaryDirectory(prefix=".partial-", dir=parent) as folder:
        ids_path, begins_path = Path(folder, "ids"), Path(folder, "begins")
        index, tokens = number_words(sentences(documents, words), ids_path, begins_path)
        kept, counts, tokens_kept, sentences_kept = renumber(ids_path, begins_path, len(index), min_count)
        if not tokens_kept:
            raise DataError(none_left(len(index), tokens, min_count))
        different, spelled = len(index), list(index)
        joined = "\n".join(spelled[word] for word in kept)  # no word holds a line end
        del index, spelled  # all words go, so that those that stay lie together and memory is given back
        vocabulary = Vocabulary(joined.split("\n"), counts)
        del joined
        yield EncodedCorpus(
            vocabulary,
            np.memmap(ids_path, np.int32, "r", shape=(tokens_kept,)),
            np.memmap(begins_path, np.int64, "r", shape=(sentences_kept + 1,)),
            tokens,
            different,
        )


def none_left(words: int, tokens: int, min_count: int) -> str:
    """Say why there is nothing to train on."""
    if not tokens:
        return "the text holds no word; give a corpus with some"
    return (
        f"none of the {words:,} different words of the text ({tokens:,} in all) occurs {min_count:,} times;"
        " lower --min-count or give more text"
    )


def sentences(documents: Iterable[Document], words: Words) -> Iterator[list[str]]:
    """Yield the words of each line that has any, at most SENTENCE_WORDS at a time."""
    take = taker(words)
    held = ""
    for document in documents:
        text = held + document.text
        held = ""
        if not document.last and not text.endswith("\n"):  # a part that ends within a line, perhaps in a word
            head, space, tail = text.rpartition(" ")
            if space and len(tail) < SENTENCE_WORDS:
                text, held = head, tail
        for line in text.split("\n"):
            found = take(line)
            for begin in range(0, len(found), SENTENCE_WORDS):
                yield found[begin : begin + SENTENCE_WORDS]


def taker(words: Words) -> Callable[[str], list[str]]:
    """Return the function that takes a line apart."""
    if words == "spaces":
        return str.split
    from langmill.text.words import tokenise

    return tokenise


def number_words(
    found: Iterable[list[str]], ids_path: Path, begins_path: Path
) -> tuple[defaultdict[str, int], int]:
    """Write ids in the order in which words first come, and sentence bounds; return word → id, and tokens."""
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__
    tokens = 0
    with open(ids_path, "wb") as ids, open(begins_path, "wb") as begins:
        array("q", (0,)).tofile(begins)
        for sentence in found:
            tokens += len(sentence)
            array("i", map(index.__getitem__, sentence)).tofile(ids)
            array("q", (tokens,)).tofile(begins)
    index.default_factory = None  # which refers to the words, and would keep them in memory
    return index, tokens


def renumber(
    ids_path: Path, begins_path: Path, words: int, min_count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
    """Replace ids by ranks and leave out rare words and empty sentences, in place.

    Returns the former ids in the order of the ranks, their counts, and how many tokens and sentences stay.
    """
    if not words:
        return np.empty(0, np.int64), np.empty(0, np.int64), 0, 0
    ids, begins = np.memmap(ids_path, np.int32, "r+"), np.memmap(begins_path, np.int64, "r+")
    ends = begins[1:]
    counts = np.zeros(words, np.int64)
    for begin in range(0, len(ids), CHUNK):
        counts += np.bincount(ids[begin : begin + CHUNK], minlength=words)
    kept = np.argsort(-counts, kind="stable")
    kept = kept[counts[kept] >= min_count]
    ranks = np.full(words, -1, np.int32)
    ranks[kept] = np.arange(len(kept), dtype=np.int32)
    tokens = sentence = sentences_kept = 0
    before = 0  # tokens that stay before the sentence at hand
    for begin in range(0, len(ids), CHUNK):
        part = ranks[ids[begin : begin + CHUNK]]
        stays = part >= 0
        last = int(np.searchsorted(ends, begin + len(part), side="right"))
        shifted = tokens + np.cumsum(stays)[ends[sentence:last] - begin - 1]
        shifted = shifted[np.diff(shifted, prepend=before) > 0]
        ends[sentences_kept : sentences_kept + len(shifted)] = shifted
        before = int(shifted[-1]) if len(shifted) else before
        sentences_kept, sentence = sentences_kept + len(shifted), last
        part = part[stays]
        ids[tokens : tokens + len(part)] = part
        tokens += len(part)
    ids.flush()
    begins.flush()
    return kept, counts[kept], tokens, sentences_kept
