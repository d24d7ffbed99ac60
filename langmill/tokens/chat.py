"""Messages to text by a chat template, in the same words as Transformers' apply_chat_template. [tokens]

A template is a program from whoever made the model, in Jinja; it runs in Jinja's sandbox, which lets it
read its messages and nothing else.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from langmill.core.errors import CheckpointError, DataError
from langmill.tokens.tokenizer import Tokenizer

Message = Mapping[str, Any]
"""{"role": "system" | "user" | "assistant" …, "content": text}"""


class Generation(Extension):
    """`{% generation %} … {% endgeneration %}`, which marks for training what the model says; no text of its own."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands between the marks."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def raise_exception(message: str) -> None:
    """Let a template refuse its messages."""
    raise jinja2.TemplateError(message)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return plain JSON; Jinja's own filter of this name escapes what HTML would read."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def date_now(pattern: str) -> str:
    """Return the present time as `strftime` writes it."""
    return datetime.now().strftime(pattern)


@functools.lru_cache(maxsize=16)
def compiled(template: str) -> jinja2.Template:
    """Return a template ready to be filled in."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": date_now}
    return environment.from_string(template)


def check_messages(messages: Sequence[Message], *, source: str = "messages") -> None:
    """Raise a DataError where something is not a message."""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise DataError(
            f'{source}: {short(messages)}; it must be a list of {{"role": "user", "content": "…"}}'
        )
    if not messages:
        raise DataError(f'{source}: empty; give at least one {{"role": "user", "content": "…"}}')
    for number, message in enumerate(messages, 1):
        fields = message if isinstance(message, Mapping) else {}
        if not all(isinstance(fields.get(key), str) for key in ("role", "content")):
            raise DataError(
                f'{source}: message {number} is {short(message)}; it must be {{"role": "user", "content": "…"}}'
            )


def short(value: Any, limit: int = 80) -> str:
    """Return a value as text of at most `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def need_template(tokenizer: Tokenizer) -> str:
    """Return the chat template, or raise a CheckpointError that says what to do without one."""
    if tokenizer.chat_template is None:
        raise CheckpointError(
            "the model has no chat template, so it was not made to chat: continue texts with `langmill generate`,"
            " take a model whose name says instruct or chat, or put its chat_template.jinja into the folder"
        )
    return tokenizer.chat_template


def render_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = True
) -> str:
    """Return messages as the text that the model was trained to go on from.

    add_generation_prompt: end where the model's answer begins. The text holds its special tokens, so it is
    encoded without adding others.

    Raises CheckpointError without a chat template or for a broken one, DataError for messages that are none
    or that the template refuses.
    """
    source = need_template(tokenizer)
    check_messages(messages)
    try:
        template = compiled(source)
    except jinja2.TemplateError as error:
        raise CheckpointError(f"the chat template is broken: {error}") from error
    known = [{key: value for key, value in each.items() if value is not None} for each in messages]
    tokens = {f"{role}_token": token for role, token in tokenizer.specials.named().items()}
    try:
        return template.render(
            messages=known,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **tokens,
        )
    except Exception as error:  # a template's mistakes are of any class; nothing goes on after it
        raise DataError(f"the chat template refuses these messages: {error}") from error


def end_of_answer(tokenizer: Tokenizer, messages: Sequence[Message]) -> int | None:
    """Return the special token that the template puts behind an answer to `messages`, if it puts one there.

    A model ends its answers with it, even where its files call another token the end of a text.
    """
    users = [place for place, message in enumerate(messages) if message["role"] == "user"]
    asked = messages[: users[-1] + 1] if users else messages
    reply = "the answer"
    text = render_chat(
        tokenizer, [*asked, {"role": "assistant", "content": reply}], add_generation_prompt=False
    )
    after = tokenizer.encode(text.rpartition(reply)[2].lstrip())
    return after[0] if after and tokenizer.is_special(after[0]) else None


def read_conversations(text: str, *, source: str) -> list[list[dict[str, Any]]]:
    """Return the conversations of a JSON or JSONL text.

    JSON: a list of messages, {"messages": […]}, or a list of these. JSONL: one of the first two a line.
    Raises a DataError that names the line or the conversation.
    """
    found: dict[str, Any] = {}
    try:
        tree = json.loads(text)
        several = isinstance(tree, list) and not any(
            isinstance(each, dict) and "role" in each for each in tree
        )
        found = (
            {f"{source}, conversation {n}": each for n, each in enumerate(tree, 1)}
            if several
            else {source: tree}
        )
    except json.JSONDecodeError:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    found[f"{source}:{number}"] = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{source}:{number}: not valid JSON ({error})") from error
    if not found:
        raise DataError(f"{source}: no conversation in it")
    return [_messages(each, place) for place, each in found.items()]


def _messages(value: Any, place: str) -> list[dict[str, Any]]:
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list):
        raise DataError(
            f'{place}: {short(value)} is no conversation; it must be a list of messages or {{"messages": […]}}'
        )
    check_messages(messages, source=place)
    return messages
