"""Runs small enough for tests: their text, their options, and the command line called as a function."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORDS = "the mill turns raw text into models 磨坊 把 文本 变成 模型 with one command line and care".split()
SIZES = ("--tokenizer", "char", "--model.layers", "1", "--model.width", "32", "--model.context", "16")
TINY = (*SIZES, "--batch", "4", "--no-tensorboard")


def write_text(path: Path, *, lines: int = 300, seed: int = 0) -> Path:
    """Write lines of eight words, the same for the same seed."""
    draw = random.Random(seed)
    path.write_text("\n".join(" ".join(draw.choices(WORDS, k=8)) for _ in range(lines)), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a user's mistake; fails the test if it is anything else."""
        lines = [line for line in self.err.splitlines() if line.startswith("langmill: error:")]
        assert self.status == 2, (self.status, self.err)
        assert len(lines) == 1, self.err
        assert self.err.rstrip().endswith(lines[0]), self.err
        assert "Traceback" not in self.err
        return lines[0]


class CommandLine:
    """Calls `langmill` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Said:
        from langmill.cli.main import main

        self.capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        said = self.capsys.readouterr()
        status = stop.value.code
        return Said(int(status or 0), said.out, said.err)


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights that a run's folder holds."""
    return load_file(run / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    """Compare two runs' weights to the bit."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, different


def everything_in(folder: Path) -> Sequence[str]:
    """Return the names of all that lies in a folder, to any depth."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
