"""A search for the settings to train with, from request to result: `langmill tune` and `langmill.tune`. [cli]"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmill.api import FACTS, LENGTHS, read_config, run_folder
from langmill.core.config import flatten, merge, nest, read_yaml, resolve
from langmill.core.errors import ConfigError, DataError, MissingDependencyError
from langmill.core.files import atomic_write
from langmill.trials import BEST, REPORT, STUDY, TRIAL_FOLDER, TRIALS, Order, Search

if TYPE_CHECKING:
    from langmill.evaluation.tuning import TuneResult

ORDER = "tune.yaml"
WRITTEN = (ORDER, STUDY, TRIAL_FOLDER, BEST, REPORT)
"""What a search writes into its folder."""
TRIALS_SHARE = 0.95
"""Share of a budget that trials divide; the rest goes by between them."""


def tune(
    task: str,
    data: str | Sequence[str] = (),
    *,
    search: str | Sequence[str] | Mapping[str, str | Sequence[Any]] = (),
    trials: int = 0,
    budget: float | str = 0,
    metric: str = "",
    output: str | None = None,
    held_out_data: str | Sequence[str] = (),
    config: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> TuneResult:
    """Search as `langmill tune` does; settings are the options of all trials, nested ones as dicts.

    search: declarations, or for each name a range, "LOW:HIGH" or "LOW:HIGH:log", or values.

    >>> tune("classify", "reviews.csv", search=["model=lstm,gru", "model.width=64:256:log"])  # doctest: +SKIP
    >>> tune("classify", "reviews.csv", search={"model": ["lstm", "gru"]})  # doctest: +SKIP
    """
    from langmill.training.settings import named_model

    if isinstance(search, Mapping):
        search = [
            f"{name}={values if isinstance(values, str) else ','.join(map(str, values))}"
            for name, values in search.items()
        ]
    files, held_out, declared = (
        (x,) if isinstance(x, str) else tuple(x) for x in (data, held_out_data, search)
    )
    return run_tuning(
        task,
        files,
        search=declared,
        trials=trials,
        budget=budget,
        metric=metric,
        output=output,
        held_out_data=held_out,
        config=config,
        overrides=named_model(settings),
        resume=resume,
        overwrite=overwrite,
    )


def run_tuning(
    task: str,
    data: Sequence[str],
    *,
    search: Sequence[str] = (),
    trials: int = 0,
    budget: float | str = 0,
    metric: str = "",
    output: str | None = None,
    held_out_data: Sequence[str] = (),
    config: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TuneResult:
    """Search for the settings that `task` learns `data` best with; the one path behind the command and the function.

    search: declarations as `tasks.spaces.parse` reads them; none: `default_space`. trials: how many, the defaults
    included. budget: time for all, in seconds or as 90s, 10m; trials that are not told their length share it.
    """
    import yaml

    from langmill.core.distributed import World, world
    from langmill.tasks.spaces import read_space
    from langmill.training.settings import TrainSettings

    need_optuna()
    if world().size > 1:
        raise ConfigError("tune runs its trials in one process; start it without torchrun")
    folder = Path(output or f"runs/tune-{task}")
    seconds = resolve(TrainSettings, {"budget": budget}).budget
    asked = flatten(merge(read_config(config, task) if config else {}, nest(dict(overrides or {}))))
    files, held_out = (
        tuple(given or asked.get(name, ()))
        for name, given in (("files", data), ("held_out_files", held_out_data))
    )
    asked = {name: value for name, value in asked.items() if name.partition(".")[0] not in FACTS}
    given = Order(task, files, held_out, asked, tuple(search), metric, trials, seconds)
    if resume and (folder / ORDER).is_file():
        order = resumed_order(folder, given)
    else:
        if not overwrite:
            refuse_existing(folder)
        order = new_order(given)
        clear(folder)
    settings = resolve(TrainSettings, nest(order.asked))
    space = read_space(order.search, settings)
    with run_folder(folder, World()):
        atomic_write(folder / ORDER, yaml.safe_dump(plain(order), sort_keys=False, allow_unicode=True))
        hunt = Search(folder, order, space, seed=settings.seed)
        try:
            return hunt.run()
        except BaseException:
            if not any(trial.state != "failed" for trial in hunt.trials):
                clear(folder)
            raise


def need_optuna() -> None:
    """Raise MissingDependencyError without Optuna; else let it say what is wrong alone."""
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError(
            "tune needs Optuna; install it with `pip install 'langmill[tune]'`"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def plain(order: Order) -> dict[str, Any]:
    """Return what is asked as YAML holds it: lists, no tuples."""
    tree: dict[str, Any] = json.loads(json.dumps(asdict(order)))
    return tree


def refuse_existing(folder: Path) -> None:
    """Raise ConfigError where a new search would write over something."""
    for name in WRITTEN:
        if (folder / name).exists():
            raise ConfigError(
                f"{folder} holds {name} already; pass --resume auto to continue the search, --overwrite to replace it, or"
                " another -o"
            )


def new_order(given: Order) -> Order:
    """Return what is asked, with the space and the length of a trial decided where they are open."""
    from langmill.tasks import find_task
    from langmill.tasks.pretraining import choose_family
    from langmill.tasks.spaces import default_space, parse
    from langmill.training.settings import TrainSettings

    learner: Any = find_task(given.task)
    if not given.files:
        raise DataError(f"no data given; name files, folders or globs: langmill tune {given.task} FILE…")
    settings = resolve(TrainSettings, nest(given.asked))
    if settings.budget:
        raise ConfigError(
            "the budget of tune is that of the whole search, not of a run as in --config; leave that out"
        )
    searched = [parse(text) for text in given.search]
    known = {*(name for name in LENGTHS if getattr(settings, name)), *(each.name for each in searched)}
    timed = given.budget > 0 and not known & {*LENGTHS}
    search = given.search or default_space(learner, settings, given.asked, timed=timed)
    kinds = next((each.choices for each in map(parse, search) if each.name == "model.family"), ())
    for kind in kinds:
        choose_family(resolve(TrainSettings, {"model": {"family": kind}}), learner)
    asked = dict(given.asked)
    if timed and not {settings.model.family, *kinds} & {*learner.fitted}:
        asked["budget"] = round(TRIALS_SHARE * given.budget / (given.trials or TRIALS), 1)
    return replace(given, asked=asked, search=tuple(search))


def resumed_order(folder: Path, given: Order) -> Order:
    """Return what a search in `folder` was asked; only the number of trials and the budget may be asked anew."""
    tree = read_yaml(folder / ORDER)
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in tree.items()}
    then = Order(**values)
    now, before = plain(given), plain(then)
    changed = [name for name, value in now.pop("asked").items() if before["asked"].get(name) != value]
    changed += [name for name in ("task", "files", "held_out_files", "search", "metric") if now[name] not in ([], "", before[name])]  # fmt: skip
    if changed:
        raise ConfigError(
            f"{folder}: {', '.join(changed)} cannot change when a search is resumed; leave it out, or choose another -o"
        )
    return replace(then, trials=given.trials or then.trials, budget=given.budget or then.budget)


def clear(folder: Path) -> None:
    """Delete a search's files, and nothing else."""
    for path in (folder / name for name in WRITTEN):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
