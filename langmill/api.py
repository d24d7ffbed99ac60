"""A training run from request to result: what `langmill train` and `langmill.train` call. [cli]

`import langmill` costs nothing; these functions import what they need when they are called.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmill.core import log
from langmill.core.config import flatten, merge, nest, option_name, read_yaml, resolve, to_yaml
from langmill.core.errors import ConfigError, DataError
from langmill.core.files import atomic_write, make_folder, remove_partial

if TYPE_CHECKING:
    from langmill.core.distributed import World
    from langmill.evaluation.learning_curve import LearningCurve
    from langmill.tasks.base import Lesson, Request, Task
    from langmill.training.job import Outcome, Watch
    from langmill.training.settings import TrainSettings

RUN_FILE = "run.yaml"
RUN_FILES = (
    "state",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "adapter_config.json",
    "head_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "target_tokenizer.json",
    "chat_template.jinja",
    "modules.json",
    "1_Pooling",
    "sentence_bert_config.json",
    "metrics.jsonl",
    "events.out.tfevents.*",
    "curve.png",
    "README.md",
    RUN_FILE,
)
"""What a run writes into its folder, as patterns."""
FACTS = ("task", "files", "held_out_files", "content", "asked", "plan")
"""What run.yaml holds beside the settings."""
LENGTHS = ("budget", "steps", "tokens", "epochs")
"""Settings that say how long a run is; one of them at most."""
WEIGHTS = "*model*.safetensors"
"""Files of weights, an adapter's among them."""
EXTENDABLE = frozenset(
    (*LENGTHS, "save_every", "evaluate_every", "early_stopping", "tensorboard", "device", "compile")
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
    next_commands: tuple[str, ...] = ()
    skipped_steps: int = 0

    def summary(self) -> str:
        """Say it in a few lines, with what to do next."""
        if self.interrupted:
            return f"stopped by {self.interrupted} after {self.steps} steps; saved. To go on:\n    {self.resume_command}"
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        work = f"{self.steps} steps, " if self.steps else "one pass over "
        done = f"{work}{log.format_count(self.tokens)} tokens in {log.format_seconds(self.seconds)}"
        skipped = f" ({self.skipped_steps} steps skipped: not finite)" if self.skipped_steps else ""
        lines = [f"{self.folder}: {done}{skipped}; quick held-out {figures}"]
        return "\n".join(lines + [f"    {command}" for command in self.next_commands])


def train(
    task: str,
    data: str | Sequence[str] = (),
    *,
    output: str | None = None,
    held_out_data: str | Sequence[str] = (),
    config: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> TrainResult:
    """Train as `langmill train` does; settings are its options, nested ones as dicts; a model may be named as it is there.

    >>> train("lm", "book.txt", output="runs/book", budget="3m", model={"layers": 4})  # doctest: +SKIP
    """
    from langmill.training.settings import named_model

    files, held_out = ((x,) if isinstance(x, str) else tuple(x) for x in (data, held_out_data))
    return run_training(
        task,
        files,
        output=output,
        held_out_data=held_out,
        config=config,
        overrides=named_model(settings),
        resume=resume,
        overwrite=overwrite,
    )


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
    watch: Watch | None = None,
) -> TrainResult:
    """Train `task` on `data` into the folder `output`; the one path behind the command and the function.

    overrides: settings by dotted name. resume: continue what the folder holds, if anything. started:
    when a budget's clock began, in seconds since the epoch (default: when langmill was imported). watch: may end a run
    of steps at any of its evaluations.
    """
    from langmill.core.distributed import join
    from langmill.tasks import find_task

    learner = find_task(task)
    folder = Path(output or f"runs/{task}")
    asked = read_config(config, task) if config else {}
    asked = merge(asked, nest(dict(overrides or {})))
    resuming = resume and (folder / RUN_FILE).is_file()
    if resuming:
        request = resumed_request(task, folder, tuple(data), tuple(held_out_data), asked)
    else:
        if not overwrite:
            refuse_existing(folder)
        request = new_request(task, folder, tuple(data), tuple(held_out_data), asked)
    here = join()
    log.set_quiet(not here.is_main)
    started = log.STARTED if started is None else started
    request = replace(request, here=here, started=started - request.spent_seconds)
    try:
        with run_folder(folder, here):
            outcome = carry_out(task, request, learner, asked, watch)
    finally:
        here.leave()
    return TrainResult(
        str(folder),
        outcome.steps,
        outcome.tokens,
        round(outcome.seconds, 2),
        outcome.metrics,
        outcome.interrupted,
        resume_command(task, folder, here) if outcome.interrupted else "",
        tuple(
            f"{log.program()} {command.format(shlex.quote(str(folder)))}" for command in learner.use.commands
        ),
        outcome.skipped_steps,
    )


def run_seeds(
    task: str,
    data: Sequence[str],
    *,
    seeds: int,
    output: str | None,
    overrides: Mapping[str, Any],
    started: float | None = None,
    **options: Any,
) -> list[TrainResult]:
    """Train with `seeds` seeds, from that of `overrides` on, as `run_training` does.

    One run lies in `output` itself, several in its folders seed-N. A run that is interrupted is the last.
    """
    if seeds == 1:
        return [run_training(task, data, output=output, overrides=overrides, started=started, **options)]
    results: list[TrainResult] = []
    first = int(overrides.get("seed", 0))
    for seed in range(first, first + seeds):
        folder = str(Path(output or f"runs/{task}") / f"seed-{seed}")
        started = time.time() if results else started
        asked = {**overrides, "seed": seed}
        results.append(run_training(task, data, output=folder, overrides=asked, started=started, **options))
        if results[-1].interrupted:
            break
    return results


def run_sizes(
    task: str,
    data: Sequence[str],
    *,
    sizes: Sequence[int],
    output: str | None,
    overrides: Mapping[str, Any],
    **options: Any,
) -> tuple[list[TrainResult], LearningCurve | None]:
    """Train with so many examples each time (0: all), as `run_seeds` does; return the runs and how scores rise.

    The runs lie in folders size-N of `output`, the picture beside them. The held-out part is the same for all sizes
    of a seed, and fewer examples are among more. The curve is None when a run was interrupted, which then is the last,
    and in processes that are not the main one.
    """
    from langmill.core.distributed import world
    from langmill.evaluation.learning_curve import LearningCurve, draw, measure_point

    if len(set(sizes)) < 2 or "data.examples" in overrides:
        raise ConfigError(
            "--sizes names two sizes or more, such as 100,300,all, and sets --data.examples itself"
        )
    parent = Path(output or f"runs/{task}")
    runs: list[list[TrainResult]] = []
    for size in sorted(set(sizes), reverse=True):  # a size that is too large is refused before any run
        folder, asked = str(parent / f"size-{size or 'all'}"), {**overrides, "data.examples": size}
        started = time.time() if runs else None
        runs.append(run_seeds(task, data, output=folder, overrides=asked, started=started, **options))
        if runs[-1][-1].interrupted:
            break
    results = [result for group in runs for result in group]
    if results[-1].interrupted or not world().is_main:
        return results, None
    points = [measure_point(task, [(Path(r.folder), r.metrics) for r in group]) for group in runs]
    curve = LearningCurve(
        task, next(iter(results[0].metrics)), tuple(sorted(points, key=lambda p: p.examples))
    )
    draw(curve, parent / "learning_curve.png")
    return results, curve


def read_config(path: str, task: str) -> dict[str, Any]:
    """Read a file of settings, such as a run.yaml, and check it."""
    from langmill.training.settings import TrainSettings

    tree = nest(read_yaml(path))
    if tree.get("task", task) != task:
        raise ConfigError(f"{path}: settings of the task {tree['task']}, not {task}")
    resolve(TrainSettings, {name: value for name, value in tree.items() if name not in FACTS}, source=path)
    return tree


def new_request(
    task: str, folder: Path, data: tuple[str, ...], held_out: tuple[str, ...], asked: dict[str, Any]
) -> Request:
    """Return what is asked of a new run; files named in a config file stand where none are given."""
    from langmill.tasks.base import Request
    from langmill.training.settings import TrainSettings

    said = {name: asked.pop(name) for name in FACTS if name in asked}
    data, held_out = data or tuple(said.get("files", ())), held_out or tuple(said.get("held_out_files", ()))
    if not data:
        raise DataError(f"no data given; name files, folders or globs: langmill train {task} FILE…")
    settings = resolve(TrainSettings, asked)
    check_length(settings)
    return Request(data, held_out, folder, settings)


def check_length(settings: TrainSettings) -> None:
    """Raise ConfigError when a run is told its length in two ways."""
    lengths = [option_name(name) for name in LENGTHS if getattr(settings, name)]
    if len(lengths) > 1:
        raise ConfigError(f"{' and '.join(lengths)} exclude each other; give one of them")


def resumed_request(
    task: str, folder: Path, data: tuple[str, ...], held_out: tuple[str, ...], asked: dict[str, Any]
) -> Request:
    """Return what a run in `folder` was asked, with what may be and was asked anew.

    What is asked may repeat what the run was told or has decided; only EXTENDABLE may differ.
    """
    from langmill.tasks.base import Request
    from langmill.training.settings import TrainSettings
    from langmill.training.state import saved_seconds, saved_states

    tree = read_yaml(folder / RUN_FILE)
    then = {name: tree.pop(name, None) or () for name in FACTS}
    asked = {name: value for name, value in asked.items() if name not in FACTS}
    if then["task"] != task:
        raise ConfigError(f"{folder} holds a run of the task {then['task']}, not {task}")
    if "steps" in then["plan"] and list(folder.glob(WEIGHTS)) and not saved_states(folder):
        raise ConfigError(
            f"{folder} holds a run's weights without its state, so that it cannot be resumed; pass --overwrite and its data"
            f" to train anew, or go on from the weights alone with --from {folder} and another -o"
        )
    for name, given, was in (
        ("DATA", data, then["files"]),
        ("--held-out-data", held_out, then["held_out_files"]),
    ):
        if given and list(given) != list(was):
            raise ConfigError(
                f"{folder} was trained with {name} {' '.join(was) or 'of none'}; resume with the same"
            )
    run = resolve(TrainSettings, tree, source=str(folder / RUN_FILE))
    first = flatten(resolve(TrainSettings, dict(then["asked"])).model_dump())
    decided, new = flatten(run.model_dump()), flatten(resolve(TrainSettings, asked).model_dump())
    changed = {name: new[name] for name in flatten(asked) if new[name] not in (first[name], decided[name])}
    if fixed := [option_name(name) for name in changed if name not in EXTENDABLE]:
        raise ConfigError(
            f"{folder}: {', '.join(fixed)} cannot change when a run is resumed; leave it out, or start another run"
            f" with --from {folder}"
        )
    if any(name in LENGTHS for name in changed):
        changed = {**dict.fromkeys(LENGTHS, 0), **changed}
    settings = run.model_copy(update=changed)
    check_length(settings)
    spent = saved_seconds(folder) if settings.budget else 0.0
    files, held_out = tuple(then["files"]), tuple(then["held_out_files"])
    return Request(
        files, held_out, folder, settings, resume=True, content=then["content"] or "", spent_seconds=spent
    )


def carry_out(
    task: str, request: Request, learner: Task, asked: Mapping[str, Any], watch: Watch | None
) -> Outcome:
    """Prepare the run, note in run.yaml what it is, and train."""
    from langmill.evaluation.card import write_card
    from langmill.training.fit import FitJob, fit
    from langmill.training.loop import train as run

    lesson = learner.learn(request)
    plan, folder, here = lesson.plan, request.folder, request.here
    if here.is_main:
        for line in plan.lines(resumed=request.resume):
            log.say(line)
        if not request.resume:
            clear_run(folder)
    try:
        if here.is_main:
            atomic_write(folder / RUN_FILE, describe_run(task, request, lesson, asked))
        if isinstance(lesson.job, FitJob):
            outcome = fit(lesson.job, plan.settings, folder=folder, here=here)
        else:
            outcome = run(
                lesson.job,
                plan.settings,
                folder=folder,
                here=here,
                resume=request.resume,
                deadline=lesson.deadline,
                watch=watch,
            )
    except BaseException:
        if here.is_main and not request.resume and not is_saved(folder):
            clear_run(folder)
        raise
    if here.is_main:
        facts = lesson.job.facts
        write_card(
            folder, task=task, use=learner.use, data=request.data, plan=plan, outcome=outcome, facts=facts
        )
    return outcome


def describe_run(task: str, request: Request, lesson: Lesson, asked: Mapping[str, Any]) -> str:
    """Return run.yaml: the run's facts, then its settings with every open size decided."""
    import yaml

    plan = lesson.plan
    before = read_yaml(request.folder / RUN_FILE) if request.resume else {}
    facts = {
        "task": task,
        "files": list(request.data),
        "held_out_files": list(request.held_out),
        "content": lesson.job.facts.get("content", ""),
        "asked": before.get("asked", dict(asked)),
        "plan": before.get("plan") or plan.figures,
    }
    # How long the run is stays as it was asked, so that the file can be run again, and lengthened.
    settings = plan.settings
    if settings.budget or settings.tokens or settings.epochs:
        settings = settings.model_copy(update={"steps": 0})
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True) + to_yaml(settings)


@contextlib.contextmanager
def run_folder(folder: Path, here: World) -> Iterator[None]:
    """Make the folder and see that it can be written; if it comes to nothing, take it and its parents away."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        if here.is_main:
            make_folder(folder)
            remove_partial(folder)
            # Find out now, not after an hour of training, that nothing can be written there.
            atomic_write(folder / ".probe", "")
            (folder / ".probe").unlink()
        here.barrier()
        yield
    finally:
        if here.is_main:
            for each in made:
                with contextlib.suppress(OSError):
                    each.rmdir()  # refuses where there is something in it


def refuse_existing(folder: Path) -> None:
    """Raise ConfigError where a new run would write over something."""
    if (folder / RUN_FILE).is_file():
        raise ConfigError(
            f"{folder} already holds a run; pass --resume auto to continue it, --overwrite to replace it, or another -o"
        )
    if found := run_files(folder):
        raise ConfigError(
            f"{folder} holds {found[0].name}, which is not of a run here and would be replaced; choose another -o, or"
            " pass --overwrite"
        )


def run_files(folder: Path) -> list[Path]:
    """Return what lies in `folder` under a name that a run writes."""
    return [path for pattern in RUN_FILES for path in sorted(folder.glob(pattern))]


def is_saved(folder: Path) -> bool:
    """Whether a run's first save is whole: a state to resume from and weights to load."""
    return bool(list(folder.glob("state/step-*")) and list(folder.glob(WEIGHTS)))


def clear_run(folder: Path) -> None:
    """Delete a run's files, and nothing else; what makes it a run goes last."""
    for path in run_files(folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def resume_command(task: str, folder: Path, here: World) -> str:
    """Return what to type to continue a run: the rest is in its run.yaml."""
    launch = log.program() if here.size == 1 else f"torchrun --nproc-per-node {here.size} -m langmill"
    return f"{launch} train {task} -o {shlex.quote(str(folder))} --resume auto"
