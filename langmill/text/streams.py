"""Bytes to text, as a stream: compression, encodings, line ends, and where exactly a file is broken. [text]

Line ends: `\\r\\n` becomes `\\n`; every other character is kept as it stands, a lone `\\r` included. A byte
order mark at the beginning is dropped and decides the encoding (UTF-8, UTF-16 or UTF-32) whatever was asked.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from encodings.aliases import aliases
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from langmill.core.errors import ConfigError, DataError, MissingDependencyError, did_you_mean
from langmill.text.documents import PART_CHARACTERS
from langmill.text.paths import closest, split_ending

BLOCK_BYTES = 1 << 20
_ZSTD_INPUT_BYTES = 1 << 12  # small, because a few bytes can stand for a long repetition


class UnreadableText(DataError):
    """A file's bytes are not text in the expected encoding."""

    def __init__(self, message: str, *, reason: str = "") -> None:  # empty while it passes between processes
        super().__init__(message)
        self.reason = reason


class Line(NamedTuple):
    """A line without its end; `fault` tells why its bytes are not text, `reason` names the kind of fault.

    The text of a faulty line shows what is not text as an escape, such as \\xff.
    """

    number: int
    text: str
    reason: str = ""
    fault: str = ""


class _ZstdStream(io.RawIOBase):
    """Decompress Zstandard frames one after another, and refuse a frame that is cut short."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise MissingDependencyError(
                f"{path}: reading .zst needs zstandard; install it with `pip install 'langmill[data]'`"
            ) from error
        self._error = zstandard.ZstdError
        self._open = zstandard.ZstdDecompressor().decompressobj
        self._stream, self._path = stream, path
        self._frame: Any = None
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._ready:
            unused = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
            data = unused or self._stream.read(_ZSTD_INPUT_BYTES)
            if not data:
                if self._frame is not None and not self._frame.eof:
                    raise DataError(f"{self._path}: the zstd data end too early; the file is cut short")
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = self._open()
            try:
                self._ready = self._frame.decompress(data)
            except self._error as error:
                raise DataError(f"{self._path}: damaged or not zstd data ({error})") from error
        count = min(len(target), len(self._ready))
        target[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed by its ending; failures become a DataError naming it."""
    compression = split_ending(path)[1]
    try:
        with open(path, "rb") as file:
            if compression == "gz":
                yield io.BufferedReader(gzip.GzipFile(fileobj=file), BLOCK_BYTES)
            elif compression == "zst":
                yield io.BufferedReader(_ZstdStream(file, path), BLOCK_BYTES)
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or not gzip data ({error})") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file{closest(path)}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def check_encoding(encoding: str) -> None:
    """Raise ConfigError if Python knows no text encoding of this name."""
    try:
        "\n".encode(encoding)
    except LookupError as error:
        hint = did_you_mean(encoding.lower().replace("-", "_"), [*aliases, *aliases.values()])
        raise ConfigError(f"encoding: {encoding!r} is not a known text encoding{hint}") from error


def detect(path: Path, encoding: str) -> str:
    """Return the encoding that the file's byte order mark tells, else `encoding`."""
    with open_bytes(path) as stream:
        head = stream.read(4)
    if head in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else encoding


def text_blocks(path: Path, *, encoding: str) -> Iterator[str]:
    """Yield the text of a file in blocks of up to `BLOCK_BYTES` characters, cut anywhere.

    Raises UnreadableText, with line and column, at the first byte that is not text.
    """
    encoding = detect(path, encoding)
    decoder = codecs.getincrementaldecoder(encoding)()
    line, column, held = 1, 1, ""  # column: of the next character; held: a \r whose \n may follow
    with open_bytes(path) as stream:
        while True:
            data = stream.read(BLOCK_BYTES)
            try:
                text = decoder.decode(data, not data)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(encoding, "replace")
                raise _not_valid(path, error, _after(line, column, before), encoding=encoding) from error
            if line == 1 and column == 1:
                text = text.removeprefix("\ufeff")
            if (found := text.find("\0")) >= 0:
                raise _binary(path, *_after(line, column, text[:found]))
            line, column = _after(line, column, text)
            text = (held + text).replace("\r\n", "\n")
            held = "\r" if data and text.endswith("\r") else ""
            if text := text.removesuffix(held) if held else text:
                yield text
            if not data:
                return


def broken_blocks(path: Path, *, encoding: str) -> Iterator[str]:
    """Yield what `text_blocks` refuses, in blocks: what is not text as an escape, such as \\xff."""
    decoder = codecs.getincrementaldecoder(detect(path, encoding))("backslashreplace")
    with open_bytes(path) as stream:
        while data := stream.read(BLOCK_BYTES):
            yield decoder.decode(data).replace("\0", "\\x00")
        yield decoder.decode(b"", True)


def _after(line: int, column: int, text: str) -> tuple[int, int]:
    """Return line and column behind `text` that begins at the given ones."""
    lines = text.count("\n")
    return (line + lines, len(text) - text.rfind("\n")) if lines else (line, column + len(text))


def _not_valid(
    path: Path, error: UnicodeDecodeError, at: tuple[int, int], *, encoding: str
) -> UnreadableText:
    data = bytes(error.object)
    if b"\0" in data:
        return _binary(path, at[0], len(data[: data.index(b"\0")].decode(encoding, "replace")) + 1)
    detail = encoding_fault(
        data[error.start], data[error.start : error.start + 64], at[1], encoding=encoding, path=path
    )
    return UnreadableText(f"{path}:{at[0]}: {detail}", reason=_reason(encoding))


def _binary(path: Path, line: int, column: int) -> UnreadableText:
    return UnreadableText(f"{path}:{line}: {_nul_fault(column)}", reason="binary")


def _reason(encoding: str) -> str:
    return f"not valid {_proper(encoding)}"


def _proper(encoding: str) -> str:
    return encoding.removesuffix("-sig").upper()


def _nul_fault(column: int) -> str:
    return (
        f"found a NUL byte at column {column}, expected text; the file is binary, or UTF-16 without a mark "
        "(then pass --encoding utf-16-le or utf-16-be)"
    )


def encoding_fault(byte: int, sample: bytes, column: int, *, encoding: str, path: Path) -> str:
    """Say that a byte is not valid in `encoding`, and what to do.

    sample: some bytes from the faulty one on, from which the likely encoding is guessed.
    """
    what = f"{_reason(encoding)} (byte 0x{byte:02X} at column {column})"
    if _proper(encoding) not in ("UTF-8", "UTF8", "UTF_8"):
        return f"{what}; pass the file's own encoding with --encoding"
    likely = _likely_encoding(sample)
    convert = f"iconv -f {likely} -t UTF-8 {path.name}"
    return f"{what}; convert it with `{convert}` or pass --encoding {likely.lower()}"


def _likely_encoding(sample: bytes) -> str:
    """Guess between Chinese and Western text.

    >>> _likely_encoding("春眠不觉晓".encode("gb18030")), _likely_encoding("é en été".encode("cp1252"))
    ('GB18030', 'Windows-1252')
    """
    wide = [c for c in sample.decode("gb18030", "replace").removesuffix("\ufffd") if not c.isascii()]
    chinese = sum("\u3000" <= c <= "\u9fff" or "\uff00" <= c <= "\uffef" for c in wide)
    return "GB18030" if wide and chinese >= 0.8 * len(wide) else "Windows-1252"


def text_lines(path: Path, *, encoding: str) -> Iterator[Line]:
    """Yield the lines of a file; a line whose bytes are not text carries a fault instead of raising.

    A line is held in memory whole, the file is not. Where line ends cannot be told from the bytes (UTF-16,
    UTF-32) a broken file raises UnreadableText.
    """
    encoding = detect(path, encoding)
    if "\n".encode(encoding.removesuffix("-sig")) != b"\n":
        yield from _lines_of_blocks(text_blocks(path, encoding=encoding))
        return
    with open_bytes(path) as stream:
        for number, data in enumerate(stream, 1):
            data = data[:-2] if data.endswith(b"\r\n") else data.removesuffix(b"\n")
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError as error:
                column = len(data[: error.start].decode(encoding, "replace")) + 1
                sample = data[error.start : error.start + 64]
                fault = encoding_fault(data[error.start], sample, column, encoding=encoding, path=path)
                shown = data.decode(encoding, "backslashreplace").replace("\0", "\\x00")
                yield Line(number, shown, _reason(encoding), fault)
                continue
            if number == 1:
                text, encoding = text.removeprefix("\ufeff"), encoding.removesuffix("-sig")
            if "\0" in text:
                yield Line(number, text.replace("\0", "\\x00"), "binary", _nul_fault(text.index("\0") + 1))
            else:
                yield Line(number, text)


def _lines_of_blocks(blocks: Iterator[str]) -> Iterator[Line]:
    number, open_line = 1, ""
    for block in blocks:
        *whole, open_line = (open_line + block).split("\n")
        for text in whole:
            yield Line(number, text)
            number += 1
    if open_line:
        yield Line(number, open_line)


def whole_lines(blocks: Iterator[str]) -> Iterator[str]:
    """Cut blocks anew so that each consists of whole lines.

    Only a line longer than `PART_CHARACTERS` is cut within, into pieces of that length, which hold no
    line end; what is left of the last line comes at the end and is shorter than that.
    """
    carried = ""
    for block in blocks:
        carried += block
        if end := carried.rfind("\n") + 1:
            yield carried[:end]
            carried = carried[end:]
        while len(carried) >= PART_CHARACTERS:
            yield carried[:PART_CHARACTERS]
            carried = carried[PART_CHARACTERS:]
    if carried:
        yield carried
