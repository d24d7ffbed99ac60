"""The entry point: help, names that users bring, signals, and the shape of an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from small_runs import CommandLine

from langmill.cli.main import COMMANDS, HABITS


def test_help_lists_every_command(command: CommandLine) -> None:
    said = command("--help")
    assert said.status == 0 and said.err == ""
    assert all(name in said.out for name in COMMANDS)
    assert command("--version").out.startswith("langmill, version")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(command: CommandLine, name: str) -> None:
    said = command(name, "--help")
    assert said.status == 0 and "Usage: langmill" in said.out


def test_train_help_documents_every_setting(command: CommandLine) -> None:
    from langmill.core.config import leaves, option_name
    from langmill.training.settings import TrainSettings

    text = command("train", "--help").out
    missing = [
        name
        for name, _ in leaves(TrainSettings)
        if name != "from_checkpoint" and option_name(name) not in text
    ]
    assert not missing
    assert all(field.description for _, field in leaves(TrainSettings))


@pytest.mark.parametrize(("name", "instead"), HABITS.items())
def test_habits_are_answered(command: CommandLine, name: str, instead: str) -> None:
    assert f"there is no command '{name}'; use: {instead}" in command(name, "x").error


def test_unknown_commands(command: CommandLine) -> None:
    assert "unknown command 'trian'; commands: quickstart, data, train" in command("trian").error
    assert "did you mean train?" in command("trian").error
    assert "did you mean" not in command("xyzzy").error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "lm", "x", "--step", "3"], "--steps"),
        (["train", "lm", "x", "--modle.layers", "3"], "--model.layers"),
        (["train", "lm", "x", "--learning-rate", "3"], "--optimizer.learning-rate"),
        (["train", "lm", "x", "--model.kv_heads", "3"], "--model.kv-heads"),
        (["train"], "Missing argument 'TASK'"),
        (["train", "lm", "x", "--optimizer.kind", "sgd"], "'sgd' is not one of 'auto', 'muon', 'adamw'"),
    ],
)
def test_wrong_options_name_the_right_ones(command: CommandLine, arguments: list[str], words: str) -> None:
    assert words in command(*arguments).error


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_before_any_work(number: int, status: int, word: str) -> None:
    code = (
        "import click, time, sys\n"
        "from langmill.cli import main\n"
        "def work():\n    print('ready', flush=True)\n    time.sleep(30)\n"
        "main.COMMANDS = {'work': ('__main__', '')}\n"
        "work = click.command('work')(work)\n"
        "main.main(['work'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert err.split("\n") in (["", f"langmill: {word}", ""], [f"langmill: {word}", ""])


def test_a_reader_that_leaves_is_no_error() -> None:
    code = (
        "import click\n"
        "from langmill.cli import main\n"
        "def work():\n    for i in range(100000):\n        print('line')\n"
        "main.COMMANDS = {'work': ('__main__', '')}\n"
        "work = click.command('work')(work)\n"
        "main.main(['work'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) in (1, 141)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("name", ["data", "tokenizer", "vectors", "search"])
def test_no_line_of_a_group_is_cut(name: str, command: CommandLine) -> None:
    said = command(name, "--help")
    _, heading, listed = said.out.partition("Commands:")
    assert heading and "..." not in listed


@pytest.mark.parametrize("name", ["predict", "train", "evaluate"])
def test_a_default_is_told_once(name: str, command: CommandLine) -> None:
    words = " ".join(command(name, "--help").out.split())
    assert "[default: text, or one called like it]" in words
    assert "] [default:" not in words
