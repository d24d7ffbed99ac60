"""A conversation's next answer, within the model's context. [generation]"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from langmill.core.errors import ConfigError, DataError
from langmill.core.log import warn
from langmill.generation.generate import Generation, generate, positions_of
from langmill.generation.rules import TokenRules
from langmill.generation.settings import SamplingSettings
from langmill.models.transformer import Transformer
from langmill.tokens.chat import Message, end_of_answer, render_chat
from langmill.tokens.tokenizer import Tokenizer


def answer(
    model: Transformer,
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    settings: SamplingSettings | None = None,
    *,
    on_text: Callable[[str], None] | None = None,
    rules: TokenRules | None = None,
) -> Generation:
    """Return what the model says next in a conversation.

    A conversation that leaves no room for the answer loses its oldest turns, with a warning that counts
    them; system messages stay. on_text and rules: see `generate`; the token that the chat template puts
    behind an answer ends this one too.

    Raises CheckpointError without a chat template, DataError where the template refuses the messages or the
    last turn alone fills the context, ConfigError for a model that is no decoder.
    """
    settings = settings or SamplingSettings()
    positions = positions_of(model)
    if model.config.encoder is not None:
        raise ConfigError("a chat needs a decoder alone; this model has an encoder too")
    ids = fitting(tokenizer, messages, positions, settings.max_tokens)
    rules = rules or TokenRules(ends=() if tokenizer.eos_id is None else (tokenizer.eos_id,))
    end = end_of_answer(tokenizer, messages)
    if end is not None:
        rules = replace(rules, ends=tuple(sorted({*rules.ends, end})))
    (found,) = generate(model, tokenizer, [ids], settings, on_text=on_text, rules=rules)
    return found


def fitting(tokenizer: Tokenizer, messages: Sequence[Message], positions: int, max_tokens: int) -> list[int]:
    """Return a conversation's tokens, without as many of its oldest turns as must go to leave room.

    The room is `max_tokens`, at most half the context of `positions` tokens.
    """
    room = min(max_tokens, positions // 2)
    kept = list(messages)
    whole = ids = tokenizer.encode(render_chat(tokenizer, messages))
    dropped = 0
    while len(ids) > positions - room and (shorter := without_oldest_turn(kept)):
        kept, dropped = shorter, dropped + 1
        ids = tokenizer.encode(render_chat(tokenizer, kept))
    if len(ids) >= positions:
        raise DataError(
            f"the last turn alone has {len(ids)} tokens; the model reads {positions}, its answer included: shorten it"
        )
    if dropped:
        turns = f"{dropped} oldest turn{'s' * (dropped > 1)}"
        warn(
            f"the conversation has {len(whole)} tokens, too many for a context of {positions} with room for {room} more:"
            f" its {turns} ({len(messages) - len(kept)} messages) went unread"
        )
    return ids


def without_oldest_turn(messages: Sequence[Message]) -> list[Message]:
    """Return messages from the second of the user's on, and all system messages; [] where there is no second.

    >>> turns = [{"role": role, "content": ""} for role in ("system", "user", "assistant", "user")]
    >>> [message["role"] for message in without_oldest_turn(turns)]
    ['system', 'user']
    """
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if len(places) < 2:
        return []
    return [m for place, m in enumerate(messages) if place >= places[1] or m["role"] == "system"]
