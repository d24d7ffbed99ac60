"""`langmill`: the entry point, and the commands by name. [cli]

A command's module is imported when the command is asked for, so that `langmill --help` stays quick.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import click

from langmill.core.errors import LangmillError, did_you_mean
from langmill.version import __version__

COMMANDS = {
    "quickstart": ("langmill.cli.quickstart", "Train, score and sample a small model here, in minutes."),
    "data": (
        "langmill.cli.data",
        "Clean a corpus, take duplicates away, split, check, describe and augment it.",
    ),
    "train": ("langmill.cli.train", "Train a model: langmill train lm FILE -o runs/a --budget 3m."),
    "tune": ("langmill.cli.tune", "Search for the settings to train with, and keep the best model."),
    "predict": (
        "langmill.cli.predict",
        "Run a model on texts or rows of files: labels, spans, answers, vectors.",
    ),
    "generate": ("langmill.cli.generate", "Continue a text."),
    "chat": ("langmill.cli.chat", "Talk with a model that was made to chat."),
    "evaluate": ("langmill.cli.evaluate", "Score a checkpoint on text or labelled rows, beside references."),
    "search": ("langmill.cli.search", "Find passages of your files by what they mean."),
    "tokenizer": ("langmill.cli.tokenizer", "Train, inspect and compare tokenizers."),
    "vectors": ("langmill.cli.vectors", "Word vectors: Word2Vec, FastText and GloVe from your text."),
    "export": (
        "langmill.cli.export",
        "Write a checkpoint as a plain folder for other programs, adapters merged.",
    ),
    "combine": ("langmill.cli.combine", "Average the weights of checkpoints of one layout: a soup."),
    "info": ("langmill.cli.info", "What a model is made of, what it costs, and a drawing of it."),
    "doctor": ("langmill.cli.doctor", "What this machine can do, and whether a checkpoint holds."),
}
"""Name → module (which holds a click command of that name) and one line of help."""

HABITS = {
    "finetune": "langmill train TASK DATA --from CKPT",
    "fine-tune": "langmill train TASK DATA --from CKPT",
    "soup": "langmill combine CKPT CKPT -o FOLDER",
    "average": "langmill combine CKPT CKPT -o FOLDER",
    "ensemble": "langmill predict CKPT+CKPT TEXT",
    "merge": "langmill export CKPT --to merged -o FOLDER",
    "convert": "langmill export CKPT --to hf -o FOLDER",
    "pretrain": "langmill train lm DATA",
    "eval": "langmill evaluate CKPT DATA",
    "test": "langmill evaluate CKPT DATA",
    "sweep": "langmill tune TASK DATA --search NAME=VALUES",
    "optimize": "langmill tune TASK DATA --search NAME=VALUES",
    "sample": "langmill generate CKPT --prompt …",
    "complete": "langmill generate CKPT --prompt …",
    "talk": "langmill chat CKPT",
    "tokenize": "langmill tokenizer inspect CKPT TEXT",
    "augment": "langmill data augment TASK FILE -o FILE",
    "similar": "langmill vectors similar FILE WORD",
    "analogy": "langmill vectors analogy FILE A B C",
    "clean": "langmill data clean FILE -o FILE",
    "dedup": "langmill data dedup FILE -o FILE",
    "dedupe": "langmill data dedup FILE -o FILE",
    "deduplicate": "langmill data dedup FILE -o FILE",
    "word2vec": "langmill vectors train CORPUS --method skipgram -o FILE",
    "fasttext": "langmill vectors train CORPUS --method fasttext -o FILE",
    "glove": "langmill vectors train CORPUS --method glove -o FILE",
}
"""Names that users bring from elsewhere, and what to type here."""


class Commands(click.Group):
    """A group whose commands are imported when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the road."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return a command."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[name][0])
        return getattr(module, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one is meant."""
        name = args[0]
        if name in HABITS:
            raise click.UsageError(f"there is no command {name!r}; use: {HABITS[name]}")
        if name not in COMMANDS:
            raise click.UsageError(
                f"unknown command {name!r}; commands: {', '.join(COMMANDS)}{did_you_mean(name, COMMANDS)}"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="langmill")
def langmill() -> None:
    """From raw text to a working language model: tokenizers, training, generation, evaluation.

    Results go to stdout, progress to stderr. `langmill COMMAND --help` explains a command.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line on stderr and exit status 2."""
    try:
        with tidy_termination():
            status: Any = langmill.main(args=arguments, prog_name="langmill", standalone_mode=False)
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(2)
    except click.UsageError as error:
        fail(error.format_message(), error.ctx)
    except click.ClickException as error:
        fail(error.format_message(), None)
    except LangmillError as error:
        fail(str(error), None)
    except (KeyboardInterrupt, click.Abort):
        print("langmill: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) has left; there is nobody to tell.
        sys.stderr.close()
        sys.exit(141)
    sys.exit(status if isinstance(status, int) else 0)


@contextlib.contextmanager
def tidy_termination() -> Iterator[None]:
    """Let a SIGTERM end the block as Ctrl-C does, tidying up on the way, with its own exit status."""

    def terminate(number: int, frame: Any) -> None:
        os.write(2, b"langmill: terminated\n")
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def fail(message: str, context: click.Context | None) -> None:
    """Print one line and exit with status 2."""
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    print(f"langmill: error: {' '.join(message.split())}{hint}", file=sys.stderr)
    sys.exit(2)
