"""What the benchmarks share: contestants in processes of their own that take turns, so that a drift of the
machine's speed falls on all."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any


def busy_seconds(pid: int | None = None) -> float:
    """Return the CPU seconds used so far by a process, or by everything; 0 where the system does not tell."""
    stat = Path("/proc/stat" if pid is None else f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    ticks = stat.read_text().rsplit(")")[-1].split()
    return sum(map(int, ticks[1:4] if pid is None else ticks[11:13])) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(seconds: float) -> None:
    """Return when other programs use less than a tenth of a core, or after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = busy_seconds()
        time.sleep(0.5)
        if busy_seconds() - before < 0.05:
            return


def peak_bytes() -> int:
    """Return the most memory this process has held; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def installed(python: str, module: str) -> str:
    """Return the version of `module` in an environment, or an empty string."""
    code = f"import importlib.metadata as m; print(m.version({module!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


class Contestant:
    """A process that works when asked; see `serve`."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {})},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.ready_seconds: float = self._answer()
        self.others: list[float] = []
        """Cores that other programs took while it worked."""

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} broke off; see its message above")
        return json.loads(line)

    def ask(self, question: Any = None, *, patience: float = 0.0) -> Any:
        """Return what it answers, after up to `patience` seconds of waiting for a quiet machine."""
        wait_for_quiet(patience)
        assert self.process.stdin is not None
        before = busy_seconds() - busy_seconds(self.process.pid)
        begin = time.perf_counter()
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        spent = busy_seconds() - busy_seconds(self.process.pid) - before
        self.others.append(spent / (time.perf_counter() - begin))
        return answer

    def leave(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()


def serve(make: Callable[[], Callable[[Any], Any]]) -> None:
    """Be a contestant: make the worker, then answer each question with [seconds, its answer]."""
    results, sys.stdout = sys.stdout, sys.stderr
    begin = time.perf_counter()
    work = make()
    print(json.dumps(time.perf_counter() - begin), file=results, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        begin = time.perf_counter()
        answer = work(question)
        print(json.dumps([time.perf_counter() - begin, answer]), file=results, flush=True)


def take_turns(
    contestants: Sequence[Contestant], question: Any, *, warm_up: Any, rounds: int, patience: float
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Return each contestant's seconds in every round, and its last answer, by name."""
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    answers: dict[str, Any] = {}
    for contestant in contestants:
        contestant.ask(warm_up)
        contestant.others.clear()
    for _ in range(rounds):
        for contestant in contestants:
            taken, answers[contestant.name] = contestant.ask(question, patience=patience)
            seconds[contestant.name].append(taken)
    return seconds, answers


def options_of(parser: argparse.ArgumentParser, *, new_tokens: int) -> None:
    """Add what benchmarks of generation are told."""
    parser.add_argument("--new-tokens", type=int, default=new_tokens)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--patience", type=float, default=5, help="seconds to wait for a quiet machine each time"
    )
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)


class Numbers:
    """A tokenizer of nothing: text is not what is measured."""

    bos_id = eos_id = None

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Any, *, skip_special: bool = True) -> str:
        return " ".join(map(str, ids))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Say how much faster ours is: the median of the rounds, the best of each, all rounds."""
    rounds = [b / a for a, b in zip(ours, theirs, strict=True)]
    each = " ".join(f"{ratio:.2f}" for ratio in rounds)
    return f"{median(rounds):5.2f} median, {min(theirs) / min(ours):5.2f} of the best (rounds: {each})"
