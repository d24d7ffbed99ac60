"""Files of word vectors: what each ending means, and the text form. [vectors]

    .vec .txt      text, as word2vec, fastText and (without a first line of sizes) GloVe write it
    .bin           word2vec's binary form, or fastText's own where words have pieces; see `binary`
    .npz           arrays of numpy, without pickle      } keep everything: counts, pieces, facts,
    .safetensors   the same arrays                      } and any word; see `arrays`

All are read packed as `.gz` or `.zst` too, but for the last two.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import ConfigError, DataError
from langmill.core.files import atomic_write
from langmill.core.log import warn
from langmill.text.paths import closest, split_ending
from langmill.text.streams import text_lines
from langmill.vectors.arrays import read_npz, read_safetensors, write_npz, write_safetensors
from langmill.vectors.binary import read_binary, write_fasttext, write_word2vec
from langmill.vectors.table import WordVectors

BLOCK_ROWS = 1000
UNWRITABLE = frozenset(" \t\n\v\f\r\0")
"""What ends a word in a file of word2vec or fastText."""
ENDINGS = (".vec", ".txt", ".bin", ".npz", ".safetensors")


def write_vectors(path: Path | str, vectors: WordVectors) -> None:
    """Write word vectors in the form that the file's ending says.

    Raises ConfigError for an unknown ending, DataError for a word that the form has no room for (nothing is
    written then), a word that comes twice, and numbers that are not finite.
    """
    path = Path(path)
    ending = path.suffix.lower()
    writers: dict[str, Callable[[Path, WordVectors], None]] = {
        ".vec": write_text,
        ".txt": write_text,
        ".bin": write_fasttext if vectors.subwords else write_word2vec,
        ".npz": write_npz,
        ".safetensors": write_safetensors,
    }
    check_ending(path)
    check(path, vectors, any_word=ending in (".npz", ".safetensors"))
    if vectors.subwords and not keeps_pieces(path):
        warn_of_lost_pieces(path)
    atomic_write(path, lambda aside: writers[ending](aside, vectors))


def keeps_pieces(path: Path) -> bool:
    """Tell whether a file has room for the vectors of pieces of words."""
    return path.suffix.lower() not in (".vec", ".txt")


def warn_of_lost_pieces(path: Path) -> None:
    """Warn of what a file of text leaves out."""
    warn(
        f"{path}: text has no room for the vectors of pieces of words, so that unknown words will have none;"
        " .bin, .npz and .safetensors keep them"
    )


def check_ending(path: Path) -> None:
    """Refuse a file whose ending says no form."""
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{path}: unknown ending {path.suffix!r}; allowed: {' '.join(ENDINGS)}")


def check(path: Path, vectors: WordVectors, *, any_word: bool) -> None:
    """Refuse what a file could not give back."""
    if not vectors.words:
        raise DataError(f"{path}: there is no word to write")
    if len(vectors.index) < len(vectors.words):
        twice = next(word for row, word in enumerate(vectors.words) if vectors.index[word] != row)
        raise DataError(f"{path}: the word {twice!r} comes twice; merge its vectors first")
    for word in vectors.words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{path}: the word {word!r} is no valid text; repair or leave it out") from error
        if not any_word and (not word or not UNWRITABLE.isdisjoint(word)):
            raise DataError(
                f"{path}: the word {word!r} has no place in this form, where white space ends a word; write .npz or"
                " .safetensors, or join its parts with _"
            )
    for row in range(0, len(vectors.words), BLOCK_ROWS):
        finite = np.isfinite(vectors.matrix[row : row + BLOCK_ROWS]).all(1)
        if not finite.all():
            word = vectors.words[row + int(np.argmin(finite))]
            raise DataError(f"{path}: the vector of {word!r} has a number that is not finite")


def write_text(path: Path, vectors: WordVectors) -> None:
    """Write how many words and numbers, then a word and its numbers a line, exact to the bit."""
    row_form = " %.9g" * vectors.width + "\n"
    with open(path, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(f"{len(vectors.words)} {vectors.width}\n")
        for begin in range(0, len(vectors.words), BLOCK_ROWS):
            rows = vectors.matrix[begin : begin + BLOCK_ROWS].astype(np.float32).tolist()
            words = vectors.words[begin : begin + BLOCK_ROWS]
            stream.writelines(word + row_form % tuple(row) for word, row in zip(words, rows, strict=True))


def read_vectors(path: Path | str, *, wanted: Container[str] | None = None) -> WordVectors:
    """Read word vectors in the form that the file's ending says; a file of another ending is taken for text.

    wanted: the words to keep, of a file that may be huge. A word that comes again keeps its first vector, and
    a warning counts the rest. Raises DataError, with file:line or the byte, where the file does not hold what
    it should.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file{closest(path)}")
    ending, packed = split_ending(path)
    readers: dict[str, Callable[[Path], WordVectors]] = {
        ".bin": read_binary,
        ".npz": read_npz,
        ".safetensors": read_safetensors,
    }
    if ending not in readers:
        return read_text(path, wanted=wanted)
    if packed and ending != ".bin":
        raise DataError(f"{path}: {ending} is not read packed; unpack it first")
    vectors = readers[ending](path)
    first = vectors.words if len(vectors.index) == len(vectors.words) else dict.fromkeys(vectors.words)
    if repeated := len(vectors.words) - len(first):
        tell_repeated(path, repeated)
        vectors = vectors.take(list(first))
    return vectors if wanted is None else vectors.take([word for word in first if word in wanted])


def read_text(path: Path, *, wanted: Container[str] | None = None) -> WordVectors:
    """Read a text file of vectors.

    word2vec and fastText begin with a line of how many words and numbers follow, GloVe does not.
    """
    index: dict[str, int] = {}
    matrix = np.empty((0, 0), np.float32)
    width = announced = total = repeated = 0
    for number, text, reason, _ in text_lines(path, encoding="utf-8"):
        where = f"{path}:{number}"
        if reason:
            raise DataError(
                f"{where}: {reason}; expected a file of word vectors: UTF-8 text with a word and its numbers a line,"
                f" or another form by its ending: {' '.join(ENDINGS)}"
            )
        text = text.rstrip(" ")
        if number == 1:
            head = text.split(" ")
            if len(head) == 2 and all(part.isascii() and part.isdigit() for part in head):
                announced, width = int(head[0]), int(head[1])
                continue
            width = len(head) - 1
        word, numbers = split(text, width, where)
        total += 1
        if word in index:
            repeated += 1
        elif wanted is None or word in wanted:
            if len(index) == len(matrix):
                matrix.resize((2 * len(matrix) + 1024, width), refcheck=False)
            matrix[len(index)] = parse(numbers, where)
            index[word] = len(index)
    if not total or (announced and announced != total):
        said = (
            f"its first line says {announced} words"
            if announced
            else "expected a word and its numbers a line"
        )
        raise DataError(f"{path}: {said}, found {total}; the file is cut short, or not of word vectors")
    if repeated:
        tell_repeated(path, repeated)
    matrix.resize((len(index), width), refcheck=False)
    return WordVectors(list(index), matrix)


def tell_repeated(path: Path, count: int) -> None:
    """Warn of words that come again."""
    again = "1 word comes again" if count == 1 else f"{count:,} words come again"
    warn(f"{path}: {again}; the first vector of each counts")


def split(text: str, width: int, where: str) -> tuple[str, list[str]]:
    """Return the word of a line, which may have spaces in it, and its `width` numbers as text."""
    word, *numbers = text.rsplit(" ", width) if width else [text]
    before, _, last = word.rpartition(" ")
    if not width or len(numbers) != width or (before and is_number(last)):
        first, *rest = text.split(" ")
        raise DataError(
            f"{where}: found {len(rest)} numbers behind {first[:40]!r}, expected {width or 'some'}; a line holds a"
            " word and its numbers with single spaces between them"
        )
    return word, numbers


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse(numbers: list[str], where: str) -> NDArray[np.float32]:
    """Return the numbers of a line, or raise DataError."""
    try:
        row = np.array(numbers, dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{where}: not a number ({error}); expected a word and its numbers a line") from error
    if not np.isfinite(row).all():
        raise DataError(f"{where}: a number is not finite; expected finite ones")
    return row
