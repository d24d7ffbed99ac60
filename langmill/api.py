"""langmill in Python: what the command line calls. [cli]

`import langmill` costs nothing; these functions import what they need when they are called.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmill.core import log
from langmill.core.config import merge, nest, read_yaml, resolve, to_yaml
from langmill.core.errors import ConfigError, DataError, LangmillError
from langmill.core.files import atomic_write, make_folder, remove_partial

if TYPE_CHECKING:
    import numpy as np
    import torch

    from langmill.generation.generate import Generation
    from langmill.tasks.base import Lesson, Request
    from langmill.training.job import Outcome
    from langmill.training.settings import TrainSettings

RUN_FILE = "run.yaml"
EXTENDABLE = frozenset(
    (
        "budget",
        "steps",
        "tokens",
        "epochs",
        "save_every",
        "evaluate_every",
        "early_stopping",
        "tensorboard",
        "device",
    )
)
"""Settings that may differ when a run is resumed."""


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to."""

    folder: str
    steps: int
    tokens: int
    seconds: float
    """Time in the training loop, evaluations and saving included."""
    metrics: dict[str, float] = field(default_factory=dict)
    interrupted: str = ""
    resume_command: str = ""
    skipped_steps: int = 0

    def summary(self) -> str:
        """Say it in a few lines, with what to do next."""
        if self.interrupted:
            return f"stopped by {self.interrupted} after {self.steps} steps; saved. To go on:\n    {self.resume_command}"
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        done = f"{self.steps} steps, {log.format_count(self.tokens)} tokens in {log.format_seconds(self.seconds)}"
        skipped = f" ({self.skipped_steps} steps skipped: not finite)" if self.skipped_steps else ""
        return (
            f"{self.folder}: {done}{skipped}; held-out {figures}\n"
            f"    langmill generate {self.folder} --prompt '…'\n"
            f"    langmill evaluate {self.folder} TEXT"
        )


def train(task: str, data: str | Sequence[str], *, output: str | None = None, **settings: Any) -> TrainResult:
    """Train as `langmill train` does; settings are its options, nested ones as dicts.

    >>> train("lm", "book.txt", output="runs/book", budget="3m", model={"layers": 4})  # doctest: +SKIP
    """
    paths = (data,) if isinstance(data, str) else tuple(data)
    return run_training(task, paths, output=output, overrides=settings)


def run_training(
    task: str,
    data: Sequence[str],
    *,
    output: str | None = None,
    held_out_data: Sequence[str] = (),
    config: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    started: float | None = None,
) -> TrainResult:
    """Train `task` on `data` into the folder `output`; the one path behind the command and the function.

    overrides: settings by dotted name. resume: continue what the folder holds, if anything. started:
    when a budget's clock began, in seconds since the epoch (default: when langmill was imported).
    """
    from langmill.core.distributed import join
    from langmill.tasks import find_task
    from langmill.tasks.base import Request
    from langmill.training.loop import train as run

    learner = find_task(task)
    folder = Path(output or f"runs/{task}")
    run_file = folder / RUN_FILE
    resuming = resume and run_file.is_file()
    if run_file.is_file() and not (resume or overwrite):
        raise ConfigError(
            f"{folder} already holds a run; pass --resume auto to continue it, --overwrite to replace it, or another -o"
        )
    asked = merge(read_yaml(config) if config else {}, nest(dict(overrides or {})))
    data, held_out, settings = _request(task, data, held_out_data, asked, run_file if resuming else None)
    here = join()
    log.set_quiet(not here.is_main)
    if here.is_main:
        if overwrite and folder.is_dir():
            _clear(folder)
        make_folder(folder)
        remove_partial(folder)
        _probe(folder)
    here.barrier()
    try:
        request = Request(
            data, held_out, folder, settings, resuming, here, log.STARTED if started is None else started
        )
        lesson = learner.learn(request)
        outcome = _carry_out(task, request, lesson, run)
    finally:
        here.leave()
        if here.is_main and not any(folder.iterdir()):
            folder.rmdir()
    return TrainResult(
        str(folder),
        outcome.steps,
        outcome.tokens,
        round(outcome.seconds, 2),
        outcome.metrics,
        outcome.interrupted,
        _resume_command() if outcome.interrupted else "",
        outcome.skipped_steps,
    )


def _request(
    task: str, data: Sequence[str], held_out: Sequence[str], asked: dict[str, Any], run_file: Path | None
) -> tuple[tuple[str, ...], tuple[str, ...], TrainSettings]:
    """Bring what was asked together with what a resumed run, or a config file, says."""
    from langmill.training.settings import TrainSettings

    known = ("task", "files", "held_out_files", "asked")
    said = {name: asked.pop(name) for name in known if name in asked}
    data = tuple(data) or tuple(said.get("files", ()))
    held_out = tuple(held_out) or tuple(said.get("held_out_files", ()))
    if run_file is None:
        if not data:
            raise DataError("no data given; name files, folders or globs: langmill train lm FILE…")
        return data, held_out, resolve(TrainSettings, asked)
    before = read_yaml(run_file)
    then = {name: before.pop(name, None) for name in known}
    settings = resolve(TrainSettings, before, source=str(run_file))
    if then["task"] != task:
        raise ConfigError(f"{run_file.parent} holds a run of the task {then['task']}, not {task}")
    for name, given, was in (
        ("DATA", data, then["files"]),
        ("--held-out-data", held_out, then["held_out_files"]),
    ):
        if given and list(given) != list(was):
            raise ConfigError(
                f"{run_file.parent} was trained with {name} {' '.join(was)}; resume with the same"
            )
    new = resolve(TrainSettings, asked)
    first = resolve(TrainSettings, then["asked"] or {})
    changed = [
        name for name in asked if name not in EXTENDABLE and getattr(new, name) != getattr(first, name)
    ]
    if changed:
        raise ConfigError(
            f"{run_file.parent}: {', '.join(changed)} cannot change when a run is resumed; leave it out, or start another"
            f" run with --from {run_file.parent}"
        )
    length = [name for name in ("budget", "steps", "tokens", "epochs") if name in asked]
    update = {name: getattr(new, name) for name in EXTENDABLE if name in asked}
    if length and any(getattr(new, name) != getattr(first, name) for name in length):
        update |= {name: getattr(new, name) for name in ("budget", "steps", "tokens", "epochs")}
    elif "steps" in update and not first.steps:
        del update["steps"]
    return tuple(then["files"]), tuple(then["held_out_files"]), settings.model_copy(update=update)


def _carry_out(task: str, request: Request, lesson: Lesson, run: Any) -> Outcome:
    from langmill.evaluation.card import write_card

    plan = lesson.plan
    if request.here.is_main:
        for line in plan.lines():
            log.say(line)
        if not request.resume:
            facts = {
                "task": task,
                "files": list(request.data),
                "held_out_files": list(request.held_out),
                "asked": request.settings.model_dump(mode="json"),
            }
            import yaml

            text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True) + to_yaml(plan.settings)
            atomic_write(request.folder / RUN_FILE, text)
    outcome = run(
        lesson.job,
        plan.settings,
        folder=request.folder,
        here=request.here,
        resume=request.resume,
        deadline=lesson.deadline,
    )
    if request.here.is_main:
        write_card(
            request.folder, task=task, data=request.data, plan=plan, outcome=outcome, facts=lesson.job.facts
        )
    return outcome


def _probe(folder: Path) -> None:
    """Find out now, not after an hour of training, that the folder cannot be written."""
    atomic_write(folder / ".probe", "")
    (folder / ".probe").unlink()


def _clear(folder: Path) -> None:
    """Delete a former run's files, and nothing that a run does not make."""
    for name in ("state", "best"):
        shutil.rmtree(folder / name, ignore_errors=True)
    patterns = (
        "*.json",
        "*.jsonl",
        "*.safetensors",
        "*.jinja",
        "events.*",
        "curve.png",
        "README.md",
        RUN_FILE,
    )
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


def _resume_command() -> str:
    words = ["langmill", *sys.argv[1:]]
    if "--overwrite" in words:
        words.remove("--overwrite")
    if "--resume" in words:
        return shlex.join(words)
    return shlex.join([*words, "--resume", "auto"])


class Model:
    """A checkpoint in hand: what `langmill.load` returns."""

    def __init__(self, checkpoint: Any) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.tokenizer = checkpoint.tokenizer

    def _need_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise LangmillError(f"{self.checkpoint.folder}: has no tokenizer.json, so it cannot read text")
        return self.tokenizer

    def logits(self, input_ids: Any) -> torch.Tensor:
        """Return scores (B, T, V) of the next token for ids (B, T), a tensor or nested lists."""
        import torch

        with torch.no_grad():
            return self.model(torch.as_tensor(input_ids))

    def logprobs(self, text: str) -> np.ndarray:
        """Return the natural log-probability of each of the text's tokens given those before it, (T,)."""
        from langmill.evaluation.language import logprobs

        return logprobs(self.model, self._need_tokenizer(), text)

    def generate(self, prompt: str | Sequence[str], **settings: Any) -> Generation | list[Generation]:
        """Continue a prompt (or several): `SamplingSettings` by name, such as max_tokens=50, seed=1."""
        from langmill.generation.generate import generate
        from langmill.generation.sampling import SamplingSettings

        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        results = generate(self.model, self._need_tokenizer(), prompts, resolve(SamplingSettings, settings))
        return results[0] if isinstance(prompt, str) else results


def load(path: str | Path, *, device: str = "cpu") -> Model:
    """Load a checkpoint: a run folder, a Hugging Face folder, or a hub name when online."""
    from langmill.checkpoint import load_checkpoint

    return Model(load_checkpoint(path, device=device))
