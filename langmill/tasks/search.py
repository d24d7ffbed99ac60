"""Semantic search: passages of files whose vectors are nearest to that of a question. [tasks]

index.json             the model, the settings and the files   passages.jsonl    what is found
vectors.safetensors    a vector of length 1 for each passage

Shape letters: Q questions, N passages, D numbers of a vector.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langmill.checkpoint import Checkpoint, load_checkpoint
from langmill.core.errors import CheckpointError, ConfigError, DataError
from langmill.core.files import atomic_folder, check_writable, digest, read_json, write_json
from langmill.core.log import say
from langmill.tasks import task_of
from langmill.tasks.embed import encode, shortened
from langmill.tasks.retrieval import unit
from langmill.text.documents import ReadReport, plural
from langmill.text.paths import expand
from langmill.text.readers import OnBadRow, read_documents
from langmill.text.words import sentences
from langmill.tokens.tokenizer import Tokenizer

Floats = NDArray[np.float32]

FACTS, PASSAGES, VECTORS = "index.json", "passages.jsonl", "vectors.safetensors"
VERSION = 1
"""Of the layout of an index."""
PASSAGE_TOKENS = 128
"""Tokens of the longest passage, unless the model reads less."""
CHUNK_PASSAGES = 4096
"""Passages that are read together, sorted by length; after each of them progress is told."""
BLOCK_PASSAGES = 65_536
"""Vectors that questions are compared with at once."""


@dataclass(frozen=True)
class Passage:
    """A paragraph, or a part of a long one."""

    text: str
    source: str
    """`path:line` of its beginning."""


@dataclass(frozen=True)
class Hit:
    """A passage that was found."""

    score: float
    """The cosine of its vector and the question's, -1 to 1."""
    source: str
    text: str


@dataclass(frozen=True)
class IndexReport:
    """What an index holds, and what was new."""

    folder: str
    files: int
    passages: int
    encoded: int
    """Passages that were read by the model now; the others' files have not changed."""

    def __str__(self) -> str:
        """Say it in a line.

        >>> print(IndexReport("notes.index", 2, 30, 10))
        notes.index: 30 passages of 2 files, 10 of them new
        """
        return f"{self.folder}: {plural(self.passages, 'passage')} of {plural(self.files, 'file')}, {self.encoded:,} of them new"


# ------------------------------------------------------------------------------------------------
# Passages


def cut_text(text: str, tokenizer: Tokenizer, maximum: int) -> Iterator[tuple[int, str]]:
    """Yield (where it begins, part) for parts of at most `maximum` tokens, of whole sentences where these are no longer.

    Joined, the parts are the text.
    """
    begin, used, part = 0, 0, ""
    for piece in cut_sentences(text, tokenizer, maximum):
        tokens = len(tokenizer.encode(piece))
        if part and used + tokens > maximum:
            yield begin, part
            begin, used, part = begin + len(part), 0, ""
        part, used = part + piece, used + tokens
    if part:
        yield begin, part


def cut_sentences(text: str, tokenizer: Tokenizer, maximum: int) -> Iterator[str]:
    """Yield the sentences of a text, those of more than `maximum` tokens in parts; joined, they are the text."""
    for sentence in sentences(text):
        # A part of a text may have a token more than that text had there, so that room is left.
        starts = [begin for _, begin, _ in tokenizer.encode_offsets(sentence)]
        cuts = starts[:: max(1, maximum - 2)] if len(starts) > maximum else [0]
        for begin, end in zip([0, *cuts[1:]], [*cuts[1:], len(sentence)]):
            if end > begin:
                yield sentence[begin:end]


def passages_of(
    path: Path, tokenizer: Tokenizer, reading: Mapping[str, Any], *, tokens: int, report: ReadReport
) -> Iterator[Passage]:
    """Yield the passages of a file: its paragraphs, or rows, those of more than `tokens` tokens in parts."""
    line_end: dict[str, int] = {}
    for document in read_documents([path], boundary="blank", report=report, **reading):
        place = document.source if document.source != str(path) else f"{path}:1"
        name, _, number = place.rpartition(":")
        line = int(number) + line_end.get(place, 0) if number.isdecimal() else 0
        for begin, text in cut_text(document.text, tokenizer, tokens):
            if text.strip():
                above = document.text.count("\n", 0, begin + len(text) - len(text.lstrip()))
                yield Passage(text.strip(), f"{name}:{line + above}" if line else place)
        line_end[place] = line_end.get(place, 0) + document.text.count("\n")


# ------------------------------------------------------------------------------------------------
# The index


def fingerprint(checkpoint: Checkpoint) -> str:
    """Return a digest of all that a checkpoint's vectors hang on: weights, tokenizer and pooling."""
    assert checkpoint.tokenizer is not None
    parts: list[str | bytes] = [checkpoint.tokenizer.fingerprint(), repr(checkpoint.pooling)]
    for name, weight in sorted(checkpoint.model.named_parameters()):
        parts += [name, weight.detach().cpu().float().contiguous().numpy().tobytes()]
    return digest(*parts)


def open_embedder(name: str, *, device: Any = "cpu") -> Checkpoint:
    """Return the checkpoint called `name`, or raise CheckpointError where it makes no vectors of texts."""
    checkpoint = load_checkpoint(name, device=device)
    if checkpoint.tokenizer is None:
        raise CheckpointError(f"{name}: has no tokenizer.json, without which text cannot be read")
    if task_of(checkpoint.model) != "embed":
        raise CheckpointError(
            f"{name}: makes no vectors of texts; take what `train embed` makes, or a model of sentence-transformers"
        )
    return checkpoint


@dataclass(frozen=True)
class Index:
    """An index on disk."""

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Return the index in a folder, or raise DataError where there is none."""
        if not (folder / FACTS).is_file():
            raise DataError(
                f"{folder}: no index here; make one: langmill search index CKPT PATH… -o {folder}"
            )
        facts = read_json(folder / FACTS)
        if not isinstance(facts, dict) or facts.get("version") != VERSION:
            raise DataError(f"{folder / FACTS}: not an index of this version of langmill; make it anew")
        return cls(folder, facts)

    def passages(self) -> Iterator[Passage]:
        """Yield all passages, in order."""
        with open(self.folder / PASSAGES, encoding="utf-8") as lines:
            for line in lines:
                yield Passage(**json.loads(line))

    def vectors(self) -> Any:
        """Return what gives vectors (·, D) for a slice of them, read when it is asked for."""
        from safetensors import safe_open

        return safe_open(self.folder / VECTORS, framework="np").get_slice("vectors")

    def check(self, checkpoint: Checkpoint) -> None:
        """Raise DataError where the index was made by another model."""
        if fingerprint(checkpoint) != self.facts["fingerprint"]:
            raise DataError(
                f"{self.folder}: was made by another model than {checkpoint.folder}, whose vectors mean something else;"
                f" make it anew with `search index … -o {self.folder} --overwrite`"
            )


def build_index(
    name: str,
    paths: Sequence[str],
    folder: Path,
    *,
    tokens: int = 0,
    size: int = 0,
    text_field: str = "text",
    encoding: str = "utf-8",
    on_bad_row: OnBadRow = "fail",
    overwrite: bool = False,
    device: Any = "cpu",
) -> IndexReport:
    """Write an index of the passages of files to a folder; what an index there knows of unchanged files is kept.

    name: of the checkpoint. tokens: of the longest passage; 0: PASSAGE_TOKENS. size: numbers of a vector; 0: all.
    overwrite: read all files anew.

    Raises DataError where the folder holds something else, or an index by another model or settings.
    """
    check_writable(folder / FACTS)
    checkpoint = shortened(open_embedder(name, device=device), size)
    tokenizer = checkpoint.tokenizer
    assert tokenizer is not None
    limit = checkpoint.model.config.output_stack.max_positions
    limit = min(limit, (checkpoint.pooling and checkpoint.pooling.tokens) or limit) - sum(
        map(len, tokenizer.around)
    )
    if tokens > limit:
        raise ConfigError(f"--tokens {tokens}: the model reads {limit} tokens of a text")
    tokens = tokens or min(limit, PASSAGE_TOKENS)
    reading = {"text_field": text_field, "encoding": encoding, "on_bad_row": on_bad_row}
    facts: dict[str, Any] = {
        "version": VERSION,
        "checkpoint": str(Path(name).resolve()) if Path(name).exists() else name,
        "fingerprint": fingerprint(checkpoint),
        "tokens": tokens,
        "size": size,
        "reading": reading,
    }
    known = known_files(folder, checkpoint, facts, overwrite=overwrite)
    report, files = ReadReport(), {}
    kept: list[tuple[list[Passage], Floats | None]] = []
    for path in expand(paths, report=report):
        content = digest(path.read_bytes())
        old = known.get(str(path))
        if old and old[0] == content:
            kept.append((old[1], old[2]))
        else:
            kept.append((list(passages_of(path, tokenizer, reading, tokens=tokens, report=report)), None))
        files[str(path)] = {"digest": content, "passages": len(kept[-1][0])}
    if not any(passages for passages, _ in kept):
        raise DataError(f"{', '.join(paths)}: no text to search; {report}")
    new = [passage.text for passages, vectors in kept if vectors is None for passage in passages]
    fresh = iter(encode_all(checkpoint, new))
    width = size or checkpoint.model.config.output_stack.width
    blocks = [
        np.array([next(fresh) for _ in passages], np.float32).reshape(-1, width)
        if vectors is None
        else vectors
        for passages, vectors in kept
    ]
    write_index(folder, facts | {"files": files}, [p for passages, _ in kept for p in passages], blocks)
    return IndexReport(str(folder), len(files), sum(map(len, blocks)), len(new))


def known_files(
    folder: Path, checkpoint: Checkpoint, facts: Mapping[str, Any], *, overwrite: bool
) -> dict[str, tuple[str, list[Passage], Floats]]:
    """Return digest, passages and vectors of each file that an index in the folder knows."""
    if not folder.exists() or not any(folder.iterdir()):
        return {}
    if not (folder / FACTS).is_file():
        raise DataError(f"{folder}: holds something else than an index; name another folder with -o")
    if overwrite:
        return {}
    index = Index.open(folder)
    index.check(checkpoint)
    for key in ("tokens", "size", "reading"):
        if (was := index.facts.get(key, 0)) != facts[key]:
            raise DataError(
                f"{folder}: was made with {key} {was}, not {facts[key]}; pass the same, or --overwrite"
            )
    passages, vectors = list(index.passages()), index.vectors()
    found, begin = {}, 0
    for path, file in index.facts["files"].items():
        end = begin + file["passages"]
        if end > begin:
            found[path] = (file["digest"], passages[begin:end], vectors[begin:end])
        begin = end
    return found


def write_index(
    folder: Path, facts: Mapping[str, Any], passages: Sequence[Passage], blocks: Sequence[Floats]
) -> None:
    """Write a whole index, in the place of the one that a folder holds."""
    from safetensors.numpy import save_file

    with atomic_folder(folder) as aside:
        write_json(aside / FACTS, facts)
        with open(aside / PASSAGES, "w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in passages)
        save_file({"vectors": np.concatenate(blocks)}, aside / VECTORS)


def encode_all(checkpoint: Checkpoint, texts: Sequence[str]) -> Iterator[Floats]:
    """Yield the vector of each text, made one long."""
    for begin in range(0, len(texts), CHUNK_PASSAGES):
        yield from unit(encode(checkpoint, texts[begin : begin + CHUNK_PASSAGES])[0])
        if len(texts) > CHUNK_PASSAGES:
            say(f"{min(begin + CHUNK_PASSAGES, len(texts)):,} of {len(texts):,} passages read")


# ------------------------------------------------------------------------------------------------
# Questions


def top_k(questions: Floats, vectors: Any, count: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return the `count` largest products of each question (Q, D) with vectors (N, D), best first, and their numbers.

    Both are (Q, count), or (Q, N) where there are fewer; of equals the earlier comes first. The search is exact.
    vectors: an array, or what gives one for a slice and has `get_shape`.

    >>> top_k(np.array([[1.0, 0.0]], np.float32), np.array([[0, 1], [3, 0], [2, 0]], np.float32), 2)[1].tolist()
    [[1, 2]]
    """
    total = vectors.get_shape()[0] if hasattr(vectors, "get_shape") else len(vectors)
    best = np.zeros((len(questions), 0), np.float32)
    numbers = np.zeros((len(questions), 0), np.int64)
    for begin in range(0, total, BLOCK_PASSAGES):
        block = questions @ vectors[begin : min(begin + BLOCK_PASSAGES, total)].T  # (Q, block)
        place = np.broadcast_to(np.arange(begin, begin + block.shape[1]), block.shape)
        best, numbers = np.hstack([best, block]), np.hstack([numbers, place])
        kept = np.array([largest(row, count) for row in best])
        best, numbers = np.take_along_axis(best, kept, 1), np.take_along_axis(numbers, kept, 1)
    return best, numbers


def largest(scores: Floats, count: int) -> NDArray[np.int64]:
    """Return the places of the `count` largest scores (N,), the largest first, of equals the earlier."""
    near = np.arange(len(scores))
    if count < len(scores):
        near = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    return near[np.argsort(-scores[near], kind="stable")][:count]


def search(
    index: Index, checkpoint: Checkpoint, questions: Sequence[str], *, count: int = 10
) -> list[list[Hit]]:
    """Return the `count` passages nearest to each question, best first.

    Raises DataError where the index was made by another model, and for a question without text.
    """
    if not all(question.strip() for question in questions):
        raise DataError("a question is empty; write what to look for")
    index.check(checkpoint)
    checkpoint = shortened(checkpoint, index.facts.get("size", 0))
    scores, numbers = top_k(unit(encode(checkpoint, questions)[0]), index.vectors(), count)
    wanted = set(numbers.ravel().tolist())
    found = {number: each for number, each in enumerate(index.passages()) if number in wanted}
    return [
        [Hit(score, found[number].source, found[number].text) for score, number in zip(*row)]
        for row in zip(scores.tolist(), numbers.tolist())
    ]
