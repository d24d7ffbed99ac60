"""What a text must and must not hold, whatever the model thinks likely. [generation]

Shape letters: B rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langmill.core.errors import CheckpointError


@dataclass(frozen=True)
class TokenRules:
    """The ids that begin, end and are kept out of a model's texts."""

    ends: tuple[int, ...] = ()
    """Tokens that end a text."""
    start: int | None = None
    """What an encoder-decoder's text begins with; not part of it."""
    first: int | None = None
    """What the first generated token must be."""
    last: tuple[int, ...] = ()
    """What the last token that `max_tokens` has room for must be, one of these."""
    banned: tuple[int, ...] = ()
    """Tokens that no text holds."""


def as_ids(value: Any) -> tuple[int, ...]:
    """Return the ids that a key of a generation_config.json names: none, one or a list."""
    ids = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(int(number) for number in ids)


def token_rules(
    eos_id: int | None, config: Mapping[str, Any], generation_config: Mapping[str, Any]
) -> TokenRules:
    """Return the rules of a checkpoint: its tokenizer's end, and what its two configuration files say.

    Raises CheckpointError for a rule that langmill does not follow.
    """
    said = {**{key: config[key] for key in config if key.endswith("_token_id")}, **generation_config}
    ends = set(as_ids(generation_config.get("eos_token_id")))
    if eos_id is not None:
        ends.add(eos_id)
    elif not ends:
        ends = set(as_ids(said.get("eos_token_id")))
    words = generation_config.get("bad_words_ids") or []
    if any(len(word) > 1 for word in words):
        raise CheckpointError(
            "generation_config.json: bad_words_ids with words of several tokens are not supported; leave them out"
        )
    start = as_ids(said.get("decoder_start_token_id"))
    first = as_ids(said.get("forced_bos_token_id"))
    return TokenRules(
        ends=tuple(sorted(ends)),
        start=start[0] if start else None,
        first=first[0] if first else None,
        last=as_ids(said.get("forced_eos_token_id")),
        banned=tuple(
            sorted({word[0] for word in words} | set(as_ids(generation_config.get("suppress_tokens"))))
        ),
    )


def repeated(tokens: Sequence[int], size: int) -> list[int]:
    """Return the tokens that would end a run of `size` tokens that `tokens` holds already.

    Paulus et al. 2017 (arXiv:1705.04304), section 2.5, for size 3.

    >>> repeated([5, 6, 7, 5, 6], 3)
    [7]
    """
    if size < 1 or len(tokens) < size:
        return []
    tail = tuple(tokens[len(tokens) - size + 1 :])
    places = range(len(tokens) - size + 1)
    return [tokens[i + size - 1] for i in places if tuple(tokens[i : i + size - 1]) == tail]


def restrict_(
    scores: Tensor,
    rules: TokenRules,
    histories: Sequence[Sequence[int]],
    *,
    generated: int,
    limit: int,
    min_tokens: int = 0,
    no_repeat_ngram: int = 0,
) -> None:
    """Set scores (B, V) of what the next token must not be to -inf.

    histories: each row's tokens so far, its start included. generated: how many of them are new.
    limit: how many tokens may be generated. min_tokens: before these are generated no text ends.
    """
    if no_repeat_ngram:
        for row, history in zip(scores, histories, strict=True):
            row[repeated(history, no_repeat_ngram)] = -math.inf
    if rules.banned:
        scores[:, list(rules.banned)] = -math.inf
    if rules.ends and generated < min_tokens:
        scores[:, list(rules.ends)] = -math.inf
    only: tuple[int, ...] = ()
    if generated == 0 and rules.first is not None:
        only = (rules.first,)
    if generated == limit - 1 and rules.last:
        only = rules.last
    if only:
        scores[:] = -math.inf
        scores[:, list(only)] = 0.0
