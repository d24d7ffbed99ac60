"""Command-line options made from settings: the documentation beside a setting is its help. [cli]"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from langmill.core.config import Settings, leaves
from langmill.core.errors import DataError

Command = TypeVar("Command", bound=Callable[..., Any])


READING = (
    *("data.boundary", "data.text_field", "data.encoding", "data.on_bad_row"),
    *("data.pair_field", "data.label_field", "data.separator", "data.tag_column", "data.tag_names"),
)


SHORT = {
    "model.family": ("--model",),
    "teacher.checkpoints": ("--teacher",),
    "teacher.unlabelled": ("--unlabelled",),
    "augment.operations": ("--augment",),
}
"""Shorter names of settings."""


class Group(click.Group):
    """Commands whose first sentence is listed whole, where click cuts it to the width of the screen."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        named = ((name, self.commands[name]) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(limit=500)) for name, each in named])


def settings_options(
    kind: type[Settings], *, leave_out: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """Add an option for every setting of `kind` to a command, which receives `overrides`.

    `overrides` maps the dotted names of the options that were given to their values; `resolve` of
    `core.config` validates them. A setting `model.kv_heads` is the option `--model.kv-heads`.
    """

    def decorate(command: Command) -> Command:
        named = [(name, field) for name, field in leaves(kind) if name not in leave_out]
        keys = {name.replace(".", "__"): name for name, _ in named}

        def wrapper(*arguments: Any, **values: Any) -> Any:
            overrides = {name: values.pop(key) for key, name in keys.items()}
            given = {name: value for name, value in overrides.items() if value not in (None, ())}
            return command(*arguments, overrides=given, **values)

        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
        for name, field in reversed(named):
            wrapper = option(name, field.annotation, field.description or "", field.default)(wrapper)
        return typing.cast(Command, wrapper)

    return decorate


def reading_options(command: Command) -> Command:
    """Add what commands are told that read text and refuse or skip bad rows: boundary, text_field, on_bad_row."""
    for add in (
        click.option(
            "--on-bad-row",
            type=click.Choice(["fail", "skip"]),
            default="fail",
            show_default=True,
            help="What to do with a row that cannot be used; skipped rows are counted.",
        ),
        click.option(
            "--text-field",
            default="text",
            show_default=True,
            help="The field or column of rows that holds the text.",
        ),
        click.option(
            "--boundary",
            type=click.Choice(["auto", "file", "line", "blank"]),
            default="auto",
            show_default=True,
            help="What is a document in a text file: the file (auto does so too), a line, or what stands between blank lines.",
        ),
    ):
        command = add(command)
    return command


held_out_option = click.option(
    "--held-out-data", multiple=True, help="Files to evaluate on, instead of a part of DATA. (repeatable)"
)


config_option = click.option(
    "--config", default=None, help="A YAML file of settings, such as a run's run.yaml; options override it."
)


from_option = click.option(
    "--from", "source", default=None, help="Checkpoint (folder or hub name) to go on training from."
)


def resume_options(thing: str, *, more: str = "") -> Callable[[Command], Command]:
    """Add --resume and --overwrite to a command that works for long on a `thing`; more: what --resume says besides."""

    def add(command: Command) -> Command:
        command = click.option(
            "--overwrite",
            is_flag=True,
            help=f"Delete the {thing} that the output folder holds, and begin anew.",
        )(command)
        return click.option(
            "--resume",
            is_flag=False,
            flag_value="auto",
            type=click.Choice(["auto", "no"]),
            default="no",
            help=f"auto: continue the {thing} in the output folder where it stopped, or begin it{more}.",
        )(command)

    return add


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


encoding_option = click.option(
    "--encoding", default="utf-8", show_default=True, help="Encoding of files without a byte order mark."
)


precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="How matrices are multiplied; auto: in bfloat16 where the device has hardware for it, which is faster.",
)


overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an output that exists.")


def option(name: str, annotation: Any, description: str, default: Any) -> Callable[[Any], Any]:
    """Return the click option of one setting; its value stays None when it is not given."""
    flag = "--" + name.replace("_", "-")
    # What readers of text are told has a short name too, the same as in other commands and in their messages.
    short = (f"--{flag.removeprefix('--data.')}",) if name in READING else SHORT.get(name, ())
    key = name.replace(".", "__")
    text = description.strip()
    told = "[default:" in text or isinstance(default, bool)
    if default not in ("", None, (), 0, 0.0) and not told:
        text += f"  [default: {default}]"
    if annotation is bool:
        opposite = flag.replace("--", "--no-", 1)
        return click.option(f"{flag}/{opposite}", key, default=None, help=text)
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return click.option(
            flag, *short, key, type=click.Choice(typing.get_args(annotation)), default=None, help=text
        )
    if origin is tuple:
        return click.option(flag, *short, key, multiple=True, help=f"{text}  (repeatable)")
    # Numbers stay text here: pydantic reads 5M, 3m and 1e-4, and its message names the setting.
    return click.option(flag, *short, key, type=str, default=None, metavar=metavar(annotation), help=text)


def metavar(annotation: Any) -> str:
    """Return what help shows in place of a value."""
    if isinstance(annotation, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    return {int: "N", float: "X", str: "TEXT"}.get(annotation, "VALUE")


def read_input(path: str) -> str:
    """Return a file's text, or that of standard input for `-`; raise DataError where it cannot be read."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}); convert the file to UTF-8") from error
