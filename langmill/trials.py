"""The trials of a search for settings, by Optuna. [cli]

The first trial has the settings that `langmill train` would have, so that a search says what it gained. The others' come
from a tree-structured Parzen estimator (Bergstra et al. 2011), or one after the other where there are few. Optuna keeps
the study in SQLite, which a kill leaves whole; it minimises, so that figures to be raised stand in it with their sign
turned.
"""

from __future__ import annotations

import itertools
import math
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmill.api import RUN_FILE, run_training
from langmill.core import log
from langmill.core.config import flatten, read_yaml
from langmill.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LangmillError,
    MissingDependencyError,
)
from langmill.core.files import atomic_folder, atomic_write

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OpenTrial

    from langmill.evaluation.tuning import Trial, TuneResult
    from langmill.tasks.spaces import Searched

TRIALS = 20
"""Trials where neither their number nor a budget is given; a budget divides into so many."""
STUDY, TRIAL_FOLDER, BEST, REPORT = "study.db", "trials", "best", "report.html"
"""What lies in a search's folder."""
KEPT = (RUN_FILE, "metrics.jsonl")
"""What is kept of every trial's folder."""
TENTHS = 10
"""Figures are compared at so many places of a run: trials of other batches evaluate after other steps."""
STARTUP_TRIALS, WARMUP_TENTHS = 5, 2
"""Trials whose settings are drawn evenly and that are not pruned, and tenths of a run before which none is."""
ROOM = 0.9
"""Share of a usual trial's time from which on another is begun."""
LEAST_TRIALS = 4
"""Of those that ran to their end, for importances to be shown."""
LAST_WORD = (DataError, CheckpointError, MissingDependencyError)
"""Mistakes that, where the defaults meet them, no other settings mend."""


@dataclass(frozen=True)
class Order:
    """What is searched, on what; it stands in tune.yaml, and a resumed search has it from there."""

    task: str
    files: tuple[str, ...]
    held_out_files: tuple[str, ...]
    asked: dict[str, Any]
    """Settings of all trials, by dotted name."""
    search: tuple[str, ...]
    metric: str
    trials: int
    """How many in all; 0: as many as the budget lets, else TRIALS."""
    budget: float
    """Seconds for all trials of a command; 0: without end."""


@dataclass(frozen=True)
class Ended:
    """How a trial's run ended."""

    state: str = ""
    """As of `Trial`; empty: it was cut off, and does not count."""
    loss: float | None = None
    """The figure, as one to be lowered."""
    facts: dict[str, Any] = field(default_factory=dict)
    interrupted: str = ""


class Watcher:
    """Tells Optuna what a trial's run measures, and ends the run where others were better by then."""

    def __init__(
        self, trial: OpenTrial | None, measure: Callable[[dict[str, float]], float], deadline: float
    ) -> None:
        """trial: None is never pruned. measure: from figures to the one to be lowered. deadline: when all must end."""
        self.trial, self.measure, self.deadline = trial, measure, deadline
        self.seen: dict[int, float] = {}
        self.pruned = False
        self.mistake: ConfigError | None = None
        """What is wrong with what is to be improved."""

    def __call__(self, share: float, metrics: dict[str, float]) -> bool:
        """Take an evaluation, as `training.job.Watch`."""
        try:
            self.take(round(TENTHS * share), self.measure(metrics))
        except ConfigError as error:
            self.mistake = error
            return True
        self.pruned = self.trial is not None and self.trial.should_prune()
        return self.pruned or time.time() > self.deadline

    def take(self, tenth: int, loss: float) -> None:
        """Note what is known after a tenth of the run: until an evaluation, what the one before has said."""
        last = max(self.seen, default=tenth - 1)
        for each in range(last + 1, tenth + 1):
            self.seen[each] = loss if each == tenth else self.seen[last]
            if self.trial is not None:
                self.trial.report(self.seen[each], each)


class Search:
    """A search at work."""

    def __init__(self, folder: Path, order: Order, space: Sequence[Searched], *, seed: int) -> None:
        import optuna

        self.folder, self.order, self.space, self.seed = folder, order, space, seed
        self.deadline = time.time() + order.budget if order.budget else math.inf
        self.wanted = order.trials or (math.inf if order.budget else TRIALS)
        # The median needs few trials, where Hyperband's brackets each need many before they prune well.
        pruner = optuna.pruners.MedianPruner(STARTUP_TRIALS, n_warmup_steps=WARMUP_TENTHS)
        self.study = optuna.create_study(
            storage=f"sqlite:///{folder / STUDY}", study_name="langmill", load_if_exists=True, pruner=pruner
        )
        self.distributions = {each.name: distribution_of(each) for each in space}
        values = [each.values for each in space]
        few = all(values) and math.prod(map(len, values)) <= self.wanted
        self.grid = (
            [dict(zip(self.distributions, chosen)) for chosen in itertools.product(*values)] if few else []
        )
        """All there is to try, where that is less than may be tried."""
        # What a kill has left waiting or running.
        while self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
            self.study.ask()
        for left in self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            self.study.tell(left.number, state=optuna.trial.TrialState.FAIL)

    @property
    def trials(self) -> list[Trial]:
        """Those that have ended by themselves: one that was cut off has failed without a reason."""
        return [
            trial_of(each, self.metric)
            for each in self.study.get_trials(deepcopy=False)
            if each.state.is_finished() and (each.state.name != "FAIL" or "reason" in each.user_attrs)
        ]

    @property
    def metric(self) -> str:
        """What is to be improved, once a trial has measured it."""
        return str(self.study.user_attrs.get("metric", self.order.metric))

    def measure(self, metrics: dict[str, float]) -> float:
        """Return the figure to be lowered; raises ConfigError where it cannot be compared."""
        from langmill.tasks.spaces import aim, check_comparable

        name, loss = aim(metrics, self.order.metric)
        check_comparable(self.space, name, self.order.task)
        if name != self.study.user_attrs.get("metric"):
            self.study.set_user_attr("metric", name)
        return loss

    def run(self) -> TuneResult:
        """Conduct trials until there are enough of them, the time is over or a signal comes."""
        from langmill.training.job import WATCHED

        interrupted = ""
        many = "as many trials as the budget lets" if math.isinf(self.wanted) else f"{self.wanted} trials"
        log.say(f"search: {'; '.join(map(str, self.space))}; {many}")
        if len(self.trials) >= self.wanted:
            log.say(
                f"{len(self.trials)} are done already: nothing is left to do; a larger --trials makes more"
            )
        while not interrupted:
            trials = self.trials
            left = [chosen for chosen in self.grid if chosen not in [trial.settings for trial in trials]]
            if len(trials) >= self.wanted:
                break
            if trials and self.grid and not left:
                log.say(f"all {len(self.grid)} combinations are tried")
                break
            if trials and not self.has_time(trials):
                log.say("the budget leaves no time for another trial")
                break
            ended = self.another(left[0] if left else {}) if trials else self.first()
            interrupted = ended.interrupted
            self.keep_best()
        return self.result("" if interrupted == WATCHED else interrupted)

    def has_time(self, trials: Sequence[Trial]) -> bool:
        """Whether the budget has room for a trial as long as those that ran to their end."""
        done = [trial.seconds for trial in trials if trial.state == "complete"]
        return time.time() + ROOM * sum(done) / max(1, len(done)) < self.deadline

    def first(self) -> Ended:
        """Conduct the trial of the settings that are not searched; it is never pruned."""
        import optuna

        watcher = Watcher(None, self.measure, self.deadline)
        ended = self.conduct(0, {}, watcher)
        if not ended.state:
            return ended
        decided = self.folder / TRIAL_FOLDER / "0" / RUN_FILE
        came_to = flatten(read_yaml(decided)) if ended.state == "complete" else {}
        known = {
            each.name: came_to[each.name]
            for each in self.space
            if each.name in came_to and each.holds(came_to[each.name])
        }
        self.study.add_trial(
            optuna.create_trial(
                state=state_of(ended),
                value=ended.loss,
                params=known,
                distributions={name: self.distributions[name] for name in known},
                user_attrs=ended.facts,
                intermediate_values=watcher.seen,
            )
        )
        return ended

    def another(self, chosen: Mapping[str, Any]) -> Ended:
        """Conduct a trial of `chosen` settings, or of those that the sampler proposes where there are none."""
        import optuna

        # Seeded anew by the trials before it, a search that is resumed proposes what it would have.
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, seed=1000 * self.seed + len(self.trials)
        )
        if chosen:
            self.study.enqueue_trial(dict(chosen))
        trial = self.study.ask(self.distributions)
        ended = self.conduct(trial.number, trial.params, Watcher(trial, self.measure, self.deadline))
        for name, fact in ended.facts.items():
            trial.set_user_attr(name, fact)
        self.study.tell(trial, ended.loss if ended.state == "complete" else None, state_of(ended))
        return ended

    def conduct(self, number: int, settings: Mapping[str, Any], watcher: Watcher) -> Ended:
        """Train with the settings of a trial."""
        import torch

        from langmill.evaluation.tuning import form

        said = ", ".join(f"{name} {form(value)}" for name, value in settings.items()) or "the defaults"
        of = "" if math.isinf(self.wanted) else f" of {self.wanted}"
        log.say(f"trial {number} ({len(self.trials) + 1}{of}): {said}")
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # which else gives up on a function after eight models of other sizes
        begin = time.time()
        try:
            result = run_training(
                self.order.task,
                self.order.files,
                output=str(self.folder / TRIAL_FOLDER / str(number)),
                held_out_data=self.order.held_out_files,
                overrides={**self.order.asked, **settings},
                overwrite=True,
                started=begin,
                watch=watcher,
            )
        except (LangmillError, torch.OutOfMemoryError) as error:
            if number == 0 and isinstance(error, LAST_WORD):
                raise
            reason = " ".join(str(error).split())
            log.say(f"trial {number} failed: {reason}")
            return Ended("failed", facts={"seconds": time.time() - begin, "reason": reason})
        except KeyboardInterrupt:
            return Ended(interrupted="SIGINT")
        if watcher.mistake is not None:
            raise watcher.mistake
        facts = {"seconds": time.time() - begin, "metrics": result.metrics}
        if watcher.pruned:
            log.say(f"trial {number} is pruned: the others were better by then")
            return Ended("pruned", facts=facts)
        if result.interrupted:
            return Ended(interrupted=result.interrupted)
        loss = self.measure(result.metrics)
        if not math.isfinite(loss):
            return Ended("failed", facts={**facts, "reason": f"its {self.metric} is {loss}"})
        watcher.take(TENTHS, loss)
        return Ended("complete", loss, facts)

    def keep_best(self) -> None:
        """Keep the best trial's run as an ordinary one, and of the others what they were told and measured."""
        if any(trial.state == "complete" for trial in self.trials):
            number = self.study.best_trial.number
            winner, best = self.folder / TRIAL_FOLDER / str(number), self.folder / BEST
            card = winner / "README.md"  # the last file of a run, and gone once the run is kept
            if card.is_file():
                with atomic_folder(best) as aside:
                    shutil.copytree(winner, aside, dirs_exist_ok=True)
                    text = card.read_text(encoding="utf-8").replace(str(winner), str(best))
                    atomic_write(
                        aside / card.name, text.replace(f"\n# {number}\n", f"\n# {self.folder.name}\n")
                    )
        for path in self.folder.glob(f"{TRIAL_FOLDER}/*/*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in KEPT:
                path.unlink()

    def importance(self) -> dict[str, float]:
        """Return each setting's share in what sets the better trials apart; nothing where there are hardly any."""
        import optuna

        if sum(trial.state == "complete" for trial in self.trials) < LEAST_TRIALS:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are few: the report says so
            return optuna.importance.get_param_importances(
                self.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )

    def result(self, interrupted: str) -> TuneResult:
        """Return what was found, and write the report."""
        from langmill.evaluation.tuning import TuneResult, write_page
        from langmill.tasks import find_task

        trials = self.trials
        done = [trial for trial in trials if trial.state == "complete"]
        if not done and not interrupted:
            if not trials:
                raise LangmillError(
                    "the budget ended before the first trial did; raise --budget, or shorten trials by --steps"
                )
            raise LangmillError(f"no trial has run to its end; the first: {trials[0].reason}")
        program, where, best = log.program(), shlex.quote(str(self.folder)), self.folder / BEST
        commands = [
            command.format(shlex.quote(str(best))) for command in find_task(self.order.task).use.commands
        ]
        commands.append(f"train {self.order.task} --config {shlex.quote(str(best / RUN_FILE))} -o FOLDER")
        result = TuneResult(
            folder=str(best) if done else "",
            metric=self.metric,
            value=None,
            default_value=next((trial.value for trial in done if trial.number == 0), None),
            settings={},
            trials=tuple(trials),
            space=tuple(map(str, self.space)),
            importance=self.importance(),
            seconds=sum(trial.seconds for trial in trials),
            interrupted=interrupted,
            resume_command=f"{program} tune {self.order.task} -o {where} --resume auto"
            if interrupted
            else "",
            next_commands=tuple(f"{program} {command}" for command in commands) if done else (),
        )
        if not done:
            return result
        chosen = result.ranked[0]
        result = replace(
            result, value=chosen.value, settings=chosen.settings, report=str(self.folder / REPORT)
        )
        try:
            write_page(
                self.folder / REPORT, result, self.space, title=f"tune {self.order.task}: {self.folder.name}"
            )
        except MissingDependencyError as error:
            log.say(f"no report: {error}")
            result = replace(result, report="")
        return result


def distribution_of(each: Searched) -> Any:
    """Return Optuna's form of a searched setting."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if each.choices:
        return CategoricalDistribution(each.choices)
    if each.whole:
        return IntDistribution(int(each.low), int(each.high), log=each.log)
    return FloatDistribution(each.low, each.high, log=each.log)


def state_of(ended: Ended) -> Any:
    """Return Optuna's state of a trial."""
    from optuna.trial import TrialState

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    return states.get(ended.state, TrialState.FAIL)


def trial_of(found: FrozenTrial, metric: str) -> Trial:
    """Return Optuna's trial as ours, the figures in their own sign."""
    from langmill.evaluation.tuning import Trial
    from langmill.tasks.spaces import shown

    state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(found.state.name, "failed")
    return Trial(
        number=found.number,
        state=state,
        value=None if state == "failed" or found.value is None else shown(metric, found.value),
        settings=found.params,
        seconds=found.user_attrs.get("seconds", 0.0),
        metrics=found.user_attrs.get("metrics", {}),
        curve={tenth: shown(metric, value) for tenth, value in found.intermediate_values.items()},
        reason=found.user_attrs.get("reason", ""),
    )
