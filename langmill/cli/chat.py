"""`langmill chat`. [cli]"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import click

from langmill.cli.generate import write
from langmill.cli.options import read_input, settings_options
from langmill.generation.settings import SamplingSettings, sampling_settings

HELP = "/reset begins anew, /system TEXT says how to answer and begins anew, /quit or Ctrl-D ends"

Messages = list[dict[str, Any]]
Respond = Callable[[Messages], str]


@click.command("chat")
@click.argument("checkpoint")
@click.option(
    "--message", "turns", multiple=True, metavar="TEXT", help="Say this and print the answer.  (repeatable)"
)
@click.option(
    "--input",
    "path",
    metavar="FILE",
    help='Answer conversations: JSON or JSONL of [{"role": "user", "content": …}, …]; - reads standard input.',
)
@click.option("--system", metavar="TEXT", default="", help="How to answer: the system's message.")
@click.option("--device", default="auto", help="auto, cpu, cuda, mps  [default: auto]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an answer.")
@settings_options(SamplingSettings)
def chat(
    checkpoint: str,
    turns: tuple[str, ...],
    path: str | None,
    system: str,
    device: str,
    as_json: bool,
    overrides: dict[str, Any],
) -> None:
    """Talk with the model in CHECKPOINT (a run, a Hugging Face folder, a .gguf file, a hub name, or smollm2).

    \b
    langmill chat smollm2
    langmill chat smollm2 --message "What is the capital of France?" --temperature 0
    echo "What is 2+2?" | langmill chat smollm2

    Without --message and --input, each line that you type or pipe in is a turn. /reset begins anew,
    /system TEXT says how to answer and begins anew, /quit or Ctrl-D ends; Ctrl-C stops an answer.

    Where an option is not given, what the checkpoint's generation_config.json recommends holds; where that
    says nothing of sampling, temperature 0.4 and top-p 0.9.
    """
    from langmill.checkpoint.folder import load_checkpoint
    from langmill.core.device import choose_device
    from langmill.core.errors import CheckpointError, ConfigError
    from langmill.core.log import say
    from langmill.generation.generate import positions_of
    from langmill.loaded import Model
    from langmill.tokens.chat import need_template, read_conversations

    sampling_settings({}, overrides)  # what is wrong is said before the model is loaded
    if any(not text.strip() for text in turns):
        raise ConfigError("--message is empty; write what to say")
    if turns and path:
        raise ConfigError("--message and --input exclude each other; give one of them")
    conversations = read_conversations(read_input(path), source=path) if path else []
    model = Model(load_checkpoint(checkpoint, device=choose_device(device)))
    if model.tokenizer is None:
        raise CheckpointError(f"{checkpoint}: has no tokenizer.json, without which it cannot chat")
    positions_of(model.model)  # of what cannot generate nobody needs to hear that it has no template
    need_template(model.tokenizer)

    def respond(messages: Messages) -> str:
        """Print the answer, and return it; of one that is interrupted, what there is."""
        said: list[str] = []

        def hear(text: str) -> None:
            said.append(text)
            if not as_json:
                write(text)

        try:
            found = model.chat(messages, on_text=hear, **overrides)
        except KeyboardInterrupt:
            if not (interactive and said):
                raise
            say("\n(stopped)")
        else:
            write((json.dumps(asdict(found), ensure_ascii=False) if as_json else "") + "\n")
            if found.finish_reason == "length":
                say(f"(cut after {len(found.tokens)} tokens; --max-tokens allows more)")
        return "".join(said)

    interactive = not (turns or path) and sys.stdin.isatty()
    if turns:
        said = begin(system)
        for text in turns:
            said.append({"role": "user", "content": text})
            said.append({"role": "assistant", "content": respond(said)})
    elif path:
        for number, messages in enumerate(conversations, 1):
            if len(conversations) > 1 and not as_json:
                write(f"=== {number} of {len(conversations)}\n")
            respond([*(begin(system) if messages[0]["role"] != "system" else []), *messages])
    else:
        if interactive:
            say(f"{checkpoint}: {HELP}; Ctrl-C stops an answer")
        converse(respond, system, interactive=interactive)


def begin(system: str) -> Messages:
    """Return the messages before the first turn."""
    return [{"role": "system", "content": system}] if system else []


def converse(respond: Respond, system: str, *, interactive: bool) -> None:
    """Answer the lines of standard input, each with all that was said before it, and follow commands."""
    from langmill.core.errors import LangmillError
    from langmill.core.log import say, warn

    messages = begin(system)
    for line in typed_lines(interactive):
        command, _, rest = line.strip().partition(" ")
        if command == "/quit":
            return
        if command in ("/reset", "/system"):
            system = rest.strip() if command == "/system" else system
            messages = begin(system)
            say("(begun anew)")
        elif command[:1] == "/" and command[1:].isalpha() and not rest:
            say(f"{command} is not known: {HELP}")
        elif command:
            turn = [*messages, {"role": "user", "content": line.strip()}]
            try:
                messages = [*turn, {"role": "assistant", "content": respond(turn)}]
            except KeyboardInterrupt:
                if not interactive:
                    raise
                say("\n(stopped; it goes unsaid)")
            except LangmillError as error:
                if not interactive:
                    raise
                warn(str(error))


def typed_lines(interactive: bool) -> Iterator[str]:
    """Yield the lines of standard input, with a prompt where somebody types them."""
    from langmill.core.errors import DataError
    from langmill.core.log import say

    if not interactive:
        for line in sys.stdin.buffer:  # one by one: who pipes them in may wait for the answers
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"standard input: not UTF-8 ({error}); convert it to UTF-8") from error
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives `input` its line editing and history
    while True:
        try:
            yield input("> ")
        except EOFError:
            write("\n")
            return
        except KeyboardInterrupt:
            say("\n(/quit or Ctrl-D ends)")
