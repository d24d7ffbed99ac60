"""Binary files of word vectors: word2vec's, and fastText's own, in which words have pieces. [vectors]

Both end in `.bin`; fastText's begins with a number of its own. Numbers are little-endian, as on every machine
that these programs are used on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import DataError
from langmill.text.streams import open_bytes
from langmill.vectors.subwords import hashed_pieces, sums_of_rows
from langmill.vectors.table import Subwords, WordVectors

MAGIC, VERSION = 793712314, 12
"""What fastText's files begin with (`fasttext.cc`)."""
ARGUMENTS = struct.Struct("<12id")
"""fastText's settings (`args.cc`): dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn,
lrUpdateRate, t."""
SIZES = struct.Struct("<3iqq")
"""Entries, words, labels, tokens, pruned buckets (`dictionary.cc`)."""
CBOW, SKIPGRAM, CLASSIFIER = 1, 2, 3
HIERARCHICAL, NEGATIVE = 1, 2
LONGEST_WORD_BYTES = 1 << 16
BLOCK_ROWS = 1000
READ_BYTES = 1 << 20


class Reader:
    """Reads a stream of binary data from front to back, and knows where it is."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self.path = stream, path
        self._held, self._at, self._before = b"", 0, 0

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._before + self._at

    def fault(self, message: str) -> DataError:
        """Return an error that says where the reader is."""
        return DataError(f"{self.path}: at byte {self.offset:,}: {message}")

    def _fill(self) -> bool:
        more = self._stream.read(READ_BYTES)
        self._before += self._at
        self._held, self._at = self._held[self._at :] + more, 0
        return bool(more)

    def take(self, count: int) -> bytes:
        """Return so many bytes, few enough to hold."""
        while len(self._held) - self._at < count:
            if not self._fill():
                raise self.fault(f"the file ends, {count:,} bytes more were expected; it is cut short")
        self._at += count
        return self._held[self._at - count : self._at]

    def peek(self, count: int) -> bytes:
        """Return up to so many bytes that are still to come."""
        while len(self._held) - self._at < count and self._fill():
            pass
        return self._held[self._at : self._at + count]

    def text_until(self, end: bytes) -> str:
        """Return the text before a byte, and pass over both."""
        while (place := self._held.find(end, self._at)) < 0:
            if len(self._held) - self._at > LONGEST_WORD_BYTES:
                raise self.fault(
                    f"no word ends within {LONGEST_WORD_BYTES:,} bytes; the file is of another kind"
                )
            if not self._fill():
                raise self.fault("the file ends within a word; it is cut short, or of another kind")
        data = self._held[self._at : place]
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise self.fault(
                f"the word {data[:40]!r} is not UTF-8; the file is damaged or of another kind"
            ) from error
        self._at = place + 1
        return text

    def fields(self, form: struct.Struct) -> tuple[Any, ...]:
        """Return the values of a record."""
        return form.unpack(self.take(form.size))

    def matrix(self, rows: int, width: int) -> NDArray[np.float32]:
        """Return a matrix of float32, read in parts: a size that is a lie asks for no memory."""
        whole = np.empty((0, width), np.float32)
        step = max(1, READ_BYTES // (4 * width))
        for begin in range(0, rows, step):
            count = min(step, rows - begin)
            data = self.take(4 * width * count)
            if begin + count > len(whole):
                whole.resize((min(rows, 2 * len(whole) + step), width), refcheck=False)
            whole[begin : begin + count] = np.frombuffer(data, "<f4").reshape(count, width)
        return whole


def read_binary(path: Path) -> WordVectors:
    """Read a `.bin` file of either program."""
    with open_bytes(path) as stream:
        reader = Reader(stream, path)
        head = reader.peek(8)
        if head[:4] == struct.pack("<i", MAGIC):
            return read_fasttext(reader)
        return read_word2vec(reader)


def read_word2vec(reader: Reader) -> WordVectors:
    """Read word2vec's form: a line of how many words and numbers, then each word, a space and its numbers."""
    line = reader.peek(64).partition(b"\n")
    sizes = line[0].split(b" ")
    if not line[1] or len(sizes) != 2 or not all(size.isdigit() for size in sizes) or int(sizes[1]) < 1:
        raise reader.fault(
            f"found {line[0][:24]!r}, expected a line with how many words and numbers follow (word2vec), or"
            " fastText's mark; the file is of another kind"
        )
    reader.take(len(line[0]) + 1)
    count, width = int(sizes[0]), int(sizes[1])
    words: list[str] = []
    matrix = np.empty((0, width), np.float32)
    while len(words) < count:
        if reader.peek(1) == b"\n":  # word2vec ends a row with it, gensim does not
            reader.take(1)
        words.append(reader.text_until(b" "))
        row = np.frombuffer(reader.take(4 * width), "<f4")
        if len(words) > len(matrix):
            matrix.resize(
                (min(count, 2 * len(matrix) + 1 + READ_BYTES // (4 * width)), width), refcheck=False
            )
        matrix[len(words) - 1] = row
    if reader.peek(2) not in (b"", b"\n"):
        raise reader.fault(
            f"the file goes on behind the {count:,} words that its first line tells of; it is damaged"
        )
    finite(reader.path, words, matrix)
    return WordVectors(words, matrix)


def write_word2vec(path: Path, vectors: WordVectors) -> None:
    """Write word2vec's binary form."""
    with open(path, "wb") as stream:
        stream.write(b"%d %d\n" % vectors.matrix.shape)
        for word, row in zip(vectors.words, vectors.matrix.astype("<f4", copy=False), strict=True):
            stream.write(word.encode() + b" " + row.tobytes() + b"\n")


def finite(path: Path, words: list[str], matrix: NDArray[np.float32]) -> None:
    """Refuse numbers that are not finite."""
    for begin in range(0, len(matrix), BLOCK_ROWS):
        good = np.isfinite(matrix[begin : begin + BLOCK_ROWS]).all(1)
        if not good.all():
            row = begin + int(np.argmin(good))
            name = repr(words[row]) if row < len(words) else f"piece {row - len(words)}"
            raise DataError(
                f"{path}: the vector of {name} has a number that is not finite; the file is damaged"
            )


def read_fasttext(reader: Reader) -> WordVectors:
    """Read fastText's own form (`fasttext.cc`, `saveModel`): settings, words, and the matrix of words and buckets."""
    _, version = reader.fields(struct.Struct("<2i"))
    if version != VERSION:
        raise reader.fault(f"fastText's version {version} of this form is not read, only {VERSION}")
    arguments = reader.fields(ARGUMENTS)
    width, model, buckets, shortest, longest = (arguments[place] for place in (0, 7, 8, 9, 10))
    if model == CLASSIFIER:
        raise reader.fault(
            "this is fastText's classifier, not word vectors; print those with `fasttext dump`"
        )
    entries, count, labels, _, pruned = reader.fields(SIZES)
    if width < 1 or min(entries, buckets) < 0 or entries != count or labels or pruned > 0:
        raise reader.fault("these are no sizes of word vectors; the file is damaged")
    words, counts = [], []
    for _ in range(count):
        words.append(reader.text_until(b"\0"))
        times, kind = reader.fields(struct.Struct("<qb"))
        if kind:
            raise reader.fault(f"{words[-1][:40]!r} is no word; the file is damaged")
        counts.append(times)
    (quantised,) = reader.fields(struct.Struct("<?"))
    if quantised:
        raise reader.fault("quantised matrices are not read; give the file from before `fasttext quantize`")
    rows, columns = reader.fields(struct.Struct("<2q"))
    if (rows, columns) != (count + buckets, width):
        raise reader.fault(
            f"found a matrix of {rows} × {columns}, expected {count + buckets} × {width}; the file is damaged"
        )
    matrix = reader.matrix(rows, width)
    finite(reader.path, words, matrix)
    shortest = max(1, shortest)
    subwords = Subwords(matrix[count:], shortest, longest) if buckets and longest >= shortest else None
    own = matrix[:count].copy()
    vectors = WordVectors(words, own, np.array(counts, np.int64), subwords, facts_of(arguments))
    for begin, sums, pieces in sums_of_pieces(vectors):
        block = own[begin : begin + len(sums)]
        block[:] = (block + sums) / (1 + pieces)
    return vectors


def sums_of_pieces(vectors: WordVectors) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.int64]]]:
    """Yield for each block of words its first row, the sums of the words' pieces (block, width), and their number."""
    subwords = vectors.subwords
    if subwords is None:
        return
    for begin in range(0, len(vectors.words), BLOCK_ROWS):
        begins, buckets = hashed_pieces(
            vectors.words[begin : begin + BLOCK_ROWS],
            subwords.shortest,
            subwords.longest,
            len(subwords.matrix),
        )
        yield begin, sums_of_rows(subwords.matrix, begins, buckets), np.diff(begins)[:, None]


def facts_of(arguments: tuple[Any, ...]) -> dict[str, str]:
    """Return fastText's settings under langmill's names."""
    dim, window, epochs, min_count, negative, _, loss, model, buckets, shortest, longest, _, sample = (
        arguments
    )
    facts = {
        "method": "fasttext",
        "dim": dim,
        "window": window,
        "epochs": epochs,
        "min_count": min_count,
        "negative": 0 if loss == HIERARCHICAL else negative,
        "hs": loss == HIERARCHICAL,
        "predict": "word" if model == CBOW else "context",
        "buckets": buckets,
        "shortest": shortest,
        "longest": longest,
        "sample": sample,
    }
    return {name: str(value) for name, value in facts.items()}


def number(facts: dict[str, str], name: str, usual: float) -> float:
    """Return a fact that is a number of 32 bits, or what fastText takes where there is none."""
    try:
        value = float(facts.get(name, usual))
    except ValueError:
        return usual
    return value if abs(value) < 2**31 else usual


def write_fasttext(path: Path, vectors: WordVectors) -> None:
    """Write fastText's own form, the matrix of targets as zeros: the vectors do not need it.

    A word's own row is what its mean leaves when its pieces are taken off.
    """
    subwords, facts = vectors.subwords, vectors.facts
    assert subwords is not None
    count, width, buckets = len(vectors.words), vectors.width, len(subwords.matrix)
    loss = HIERARCHICAL if facts.get("hs") == "True" else NEGATIVE
    model = CBOW if facts.get("predict") == "word" else SKIPGRAM
    times = vectors.counts if vectors.counts is not None else np.ones(count, np.int64)
    with open(path, "wb") as stream:
        stream.write(struct.pack("<2i", MAGIC, VERSION))
        usual = {"window": 5, "epochs": 5, "min_count": 1, "negative": 5}
        settings = (int(number(facts, name, value)) for name, value in usual.items())
        lengths = buckets, subwords.shortest, subwords.longest
        stream.write(
            ARGUMENTS.pack(width, *settings, 1, loss, model, *lengths, 100, number(facts, "sample", 1e-4))
        )
        stream.write(SIZES.pack(count, count, 0, int(times.sum()), -1))
        for word, often in zip(vectors.words, times.tolist(), strict=True):
            stream.write(word.encode() + struct.pack("<bqb", 0, often, 0))
        stream.write(struct.pack("<?2q", False, count + buckets, width))
        for begin, sums, pieces in sums_of_pieces(vectors):
            mean = vectors.matrix[begin : begin + len(sums)].astype(np.float64)
            stream.write((mean * (1 + pieces) - sums).astype("<f4").tobytes())
        for begin in range(0, buckets, BLOCK_ROWS):
            stream.write(subwords.matrix[begin : begin + BLOCK_ROWS].astype("<f4").tobytes())
        stream.write(struct.pack("<?2q", False, count, width))
        for begin in range(0, count, BLOCK_ROWS):
            stream.write(bytes(4 * width * min(BLOCK_ROWS, count - begin)))
