"""Processes that train and may be killed: started from a server that has torch loaded already."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from langmill.checkpoint import load_checkpoint


def train_here(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Call the command line in this process, in `folder`; its exit status becomes the process's."""
    os.environ.update(environment)
    os.chdir(folder)
    import torch

    torch.set_num_threads(1)
    from langmill.cli.main import main
    from langmill.tasks import planning
    from langmill.training import tracking

    planning.measure_matmul = lambda device, seconds, dtype: 1e10
    tracking.draw_curve = lambda folder: None
    with open("log.txt", "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 2)
        os.dup2(log.fileno(), 1)
    main(arguments)


class Runs:
    """Starts `langmill train` in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["langmill.tasks.lm", "langmill.api", "langmill.evaluation.card"])

    def start(self, *arguments: str) -> BaseProcess:
        """Begin a run."""
        environment = {"LANGMILL_CACHE": os.environ["LANGMILL_CACHE"]}
        process = self.context.Process(
            target=train_here, args=(list(arguments), str(self.folder), environment)
        )
        process.start()
        return process

    def finish(self, *arguments: str) -> int | None:
        """Run to the end and return the exit status."""
        process = self.start(*arguments)
        process.join(200)
        return process.exitcode

    def kill_at_random(self, draw: random.Random, *arguments: str) -> None:
        """Start a run and kill it at a random moment soon after it has saved something new."""
        run = self.folder / arguments[arguments.index("-o") + 1]
        before = newest_state(run)
        process = self.start(*arguments)
        while newest_state(run) == before:
            assert process.is_alive(), (self.folder / "log.txt").read_text(encoding="utf-8")
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, 0.1))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, "the run ended before it could be killed"
        load_checkpoint(run)


def newest_state(run: Path) -> str:
    """Return the name of a run's newest state at which its checkpoint is whole; empty before the first."""
    states = sorted(path.name for path in run.glob("state/step-*"))
    return states[-1] if states and (run / "model.safetensors").is_file() else ""
