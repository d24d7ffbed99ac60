"""Input embeddings that begin as word vectors. [tasks]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from langmill.core.errors import DataError
from langmill.core.log import say
from langmill.tasks.base import Request
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import TrainSettings
from langmill.vectors.formats import read_vectors

SURVEY_TOKENS = 1 << 24
"""Running text looked at to say how much of it has vectors."""


@dataclass(frozen=True)
class Start:
    """The vectors of those tokens that have one."""

    ids: NDArray[np.int64]
    """(found,)."""
    matrix: NDArray[np.float32]
    """(found, width of the vectors)."""


def open_vectors(request: Request, tokenizer: Tokenizer, running: NDArray[Any]) -> Start | None:
    """Return the word vectors that a new model's embeddings start from; a resumed one has trained embeddings.

    running: tokens of the training text, in any order.
    """
    path = request.settings.embeddings
    if not path or (request.resume and any(request.folder.glob("state/step-*"))):
        return None
    return find_vectors(path, tokenizer, running)


def find_vectors(path: str, tokenizer: Tokenizer, running: NDArray[Any]) -> Start:
    """Read the vectors of the tokenizer's tokens from a file, and say how many it has, of running text too."""
    names = {number: spellings(tokenizer, number) for number in range(len(tokenizer))}
    vectors = read_vectors(path, wanted={name for row in names.values() for name in row})
    place = vectors.index
    found = {
        number: place[next(name for name in row if name in place)]
        for number, row in names.items()
        if not place.keys().isdisjoint(row)
    }
    if not found:
        raise DataError(
            f"--embeddings {path}: none of its words is a token of this run's tokenizer; use vectors of the text's"
            " language"
        )
    ids = np.array(list(found))
    counts = np.bincount(running[:SURVEY_TOKENS], minlength=len(tokenizer))
    say(
        f"embeddings: {len(found):,} of {len(tokenizer):,} tokens found in {path}, "
        f"{counts[ids].sum() / max(1, counts.sum()):.0%} of the running text"
    )
    return Start(ids, vectors.matrix[list(found.values())])


def spellings(tokenizer: Tokenizer, number: int) -> list[str]:
    """Return the words whose vector a token may take, the nearest first.

    They are the token as the vocabulary spells it, the text that it stands for without the space around it,
    and that in lower case. Special tokens, bytes and WordPiece's word-inner tokens stand for no word.
    """
    if tokenizer.is_special(number):
        return []
    token = tokenizer.token(number)
    if tokenizer.is_byte(number) or (tokenizer.kind == "wordpiece" and token.startswith("##")):
        return [token]
    word = tokenizer.piece(number).decode("utf-8", "ignore").strip()
    return [name for name in dict.fromkeys([token, word, word.lower()]) if name]


def fit_width(settings: TrainSettings, size: int) -> TrainSettings:
    """Return `settings` with the vectors' width for a width left open, where heads of an even width fit into it."""
    model = settings.model
    most = max(2, size // 64)
    allowed = [model.heads] if model.heads else range(most, 0, -1)
    heads = next((h for h in allowed if size % (2 * h) == 0 and h % (model.kv_heads or h) == 0), 0)
    if model.width or not heads:
        return settings
    say(f"embeddings: the model is {size} wide, as the vectors are; --model.width sets another width")
    return settings.model_copy(update={"model": model.model_copy(update={"width": size, "heads": heads})})


@torch.no_grad()
def start_from(model: Any, start: Start) -> None:
    """Write the vectors into a new model's input embeddings, whose other rows stay as they are.

    Longer vectors are projected onto the directions in which they are largest (a truncated singular value
    decomposition), shorter ones filled up with zeros; then all are scaled by one number, so that their root
    mean square is that of the embeddings before.
    """
    weight = model.output_embed.weight
    size, width = start.matrix.shape[1], weight.shape[1]
    matrix = start.matrix.astype(np.float64)
    if size > width:
        _, directions = np.linalg.eigh(matrix.T @ matrix)  # (size, size), the largest last
        directions = directions[:, : -width - 1 : -1]
        signs = np.sign(directions[np.abs(directions).argmax(0), np.arange(width)])
        projected = matrix @ (directions * signs)
        kept = np.square(projected).sum() / max(np.square(matrix).sum(), 1e-30)
        say(f"embeddings: vectors of {size} numbers projected onto {width}, with {kept:.0%} of their squares")
        matrix = projected
    elif size < width:
        say(f"embeddings: vectors of {size} numbers filled up with zeros to the model's width of {width}")
        matrix = np.pad(matrix, ((0, 0), (0, width - size)))
    level = float(np.sqrt(np.square(matrix).mean()))
    if not level:
        raise DataError("--embeddings: every vector found is zero")
    scale = float(weight.float().square().mean().sqrt()) / level
    rows = torch.from_numpy(matrix * scale).to(weight)
    weight[torch.from_numpy(start.ids).to(weight.device)] = rows
