"""The one training loop. [training]"""

from __future__ import annotations

import contextlib
import copy
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from langmill.batches.packing import LoaderState
from langmill.core.device import forward_products, training_dtype
from langmill.core.distributed import World
from langmill.core.errors import LangmillError
from langmill.core.log import say, warn
from langmill.core.products import cpu_products
from langmill.training.job import WATCHED, Job, Outcome, Watch
from langmill.training.optimizers import optimizer_of
from langmill.training.schedules import Progress, learning_rate_scale
from langmill.training.settings import TrainSettings
from langmill.training.state import load_newest_state, pack, save_state, seed_everything, trained, unpack
from langmill.training.tracking import Tracker

SAVE_SECONDS = 60.0
"""Time between saved states when --save-every does not say."""
EVALUATIONS = 10
"""Evaluations in a run when --evaluate-every does not say."""
EVALUATION_SHARE = 0.03
"""Time that they may take of a run with a budget; where ten would take more there are fewer."""
BAD_STEPS = 3
"""Non-finite steps in a row that are skipped before the run goes back to its last state."""
ROLLBACKS = 2
"""Times a run goes back before it gives up."""


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Gather SIGINT and SIGTERM in a list instead of dying of them; a second one acts at once.

    Two within a second are one: torchrun passes on to its processes what the terminal sent them too.
    """
    caught: list[str] = []
    first = 0.0

    def note(number: int, frame: Any) -> None:
        nonlocal first
        if not caught:
            first = time.monotonic()
            caught.append(signal.Signals(number).name)
            # Not print, which a signal may have interrupted.
            os.write(2, b"\nlangmill: stopping after this step and saving; once more to stop at once\n")
        elif time.monotonic() - first > 1:
            raise KeyboardInterrupt

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are its business
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def averaged_copy(model: nn.Module) -> nn.Module:
    """Return a copy to average weights in; those that are not trained it shares with the model."""
    fast = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, fast).requires_grad_(False)


class Trainer:
    """A run's moving parts: what a saved state holds, and a step."""

    def __init__(
        self, job: Job, settings: TrainSettings, *, folder: Path, here: World, deadline: float
    ) -> None:
        self.job, self.settings, self.folder, self.here = job, settings, folder, here
        self.model = job.model
        self.device = next(self.model.parameters()).device
        self.dtype = training_dtype(self.device, settings.precision)
        wanted = settings.optimizer
        assert wanted.learning_rate > 0 and wanted.matrix_learning_rate > 0, "the plan fills in the rates"
        self.optimizer = optimizer_of(self.model, wanted)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.names = tuple(trained(self.model))
        self.average = averaged_copy(self.model) if wanted.ema or wanted.average else None
        self.averaged = 0
        """Steps whose weights are in a plain average."""
        self.progress = Progress(job.steps, deadline=deadline)
        self.step = self.tokens = self.skipped = self.rollbacks = self.bad = 0
        self.seconds = 0.0
        self.best = math.inf
        self.stale = self.kept = 0
        """Evaluations since the best one; the step of the weights that the run is to end with."""
        self.judged = 0
        """The step of the last evaluation."""
        self.best_weights: dict[str, Tensor] | None = None

    @property
    def shown(self) -> nn.Module:
        """The model to evaluate and save: the average where one is kept."""
        return self.model if self.average is None else self.average

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Return what is trained, of the model or of its average."""
        named: dict[str, Tensor] = dict(model.named_parameters())
        return {name: named[name] for name in self.names}

    def save(self) -> None:
        """Write the state, then the checkpoint; every process calls, the main one writes."""
        if self.here.is_main:
            averaged = {} if self.average is None else self.weights(self.average)
            extra: dict[str, Tensor] = {f"ema.{name}": p for name, p in averaged.items()}
            extra |= {f"best.{name}": p for name, p in (self.best_weights or {}).items()}
            loader = self.job.loader.state
            facts = {
                "step": self.step,
                "tokens": self.tokens,
                "seconds": self.seconds,
                "progress": self.progress.fraction,
                "budget": self.settings.budget,
                "loader": {"epoch": loader.epoch, "rows": loader.rows},
                "skipped_steps": self.skipped,
                "rollbacks": self.rollbacks,
                "best": None if math.isinf(self.best) else self.best,
                "stale": self.stale,
                "judged": self.judged,
                "kept": self.kept,
                "averaged": self.averaged,
            }
            save_state(self.folder, self.step, pack(self.model, self.optimizer, extra), facts)
            self.job.save_model(self.folder, self.shown)
        self.here.barrier()

    def restore(self, *, keep_loader: bool = False) -> bool:
        """Go back to the newest saved state; False where there is none.

        keep_loader: leave the order of data where it is, so that a rolled-back run meets other rows.
        """
        found = load_newest_state(self.folder)
        if found is None:
            return False
        tensors, facts = found
        rest = unpack(tensors, self.model, self.optimizer)
        if self.average is not None:
            for name, p in self.weights(self.average).items():
                p.data.copy_(rest[f"ema.{name}"])
        best = {name.removeprefix("best."): t for name, t in rest.items() if name.startswith("best.")}
        self.best_weights = best or None
        self.step, self.tokens, self.seconds = facts["step"], facts["tokens"], facts["seconds"]
        self.skipped = max(self.skipped, facts["skipped_steps"])
        self.rollbacks = max(self.rollbacks, facts["rollbacks"])
        self.best = math.inf if facts["best"] is None else facts["best"]
        self.stale, self.judged = facts["stale"], facts["judged"]
        self.averaged, self.kept = facts.get("averaged", 0), facts.get("kept", 0)  # older states lack them
        same_budget = facts["budget"] == self.settings.budget
        self.progress.restart(
            self.step, seconds=self.seconds, fraction=facts["progress"] if same_budget else None
        )
        if not keep_loader:
            self.job.loader.state = LoaderState(**facts["loader"])
        return True

    def update(self) -> dict[str, float] | None:
        """Take one optimiser step; None if its loss or gradient was not finite and it was skipped."""
        batch = self.job.loader.take()
        self.optimizer.zero_grad()
        loss_sum = torch.zeros((), device=self.device)
        count = torch.zeros((), device=self.device)
        for part in batch.split(self.job.micro_batch):
            with forward_products(self.device, self.dtype):
                loss, targets = self.job.objective(self.model, part.to(self.device))
            loss.backward()
            loss_sum += loss.detach()
            count += targets
        self.here.sum(loss_sum, count)
        self.here.sum_gradients(self.parameters)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) / count
        clip = self.settings.optimizer.clip
        shrink = min(1.0, clip / (float(norm) + 1e-6)) if clip else 1.0
        loss_mean = float(loss_sum / count)
        self.tokens += batch.tokens * self.here.size
        if not (math.isfinite(loss_mean) and math.isfinite(float(norm))):
            return None
        # The one division by the global count, with the clipping in the same pass.
        torch._foreach_mul_(gradients, shrink / float(count))
        scale = learning_rate_scale(self.settings.optimizer, self.progress.fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * scale
        self.optimizer.step()
        if self.average is not None:
            old, new = (list(self.weights(each).values()) for each in (self.average, self.model))
            torch._foreach_lerp_(old, new, self.share_of_step())
        return {"loss": loss_mean, "gradient_norm": float(norm), "learning_rate_scale": scale}

    def share_of_step(self) -> float:
        """Return how much of the average the weights after this step make up; 1: all, nothing is averaged yet."""
        wanted = self.settings.optimizer
        if wanted.ema:
            # A short run must not remember its beginning: the decay warms up (Karras et al. 2024 in spirit).
            return 1 - min(wanted.ema, (1 + self.step) / (10 + self.step))
        # A run that was lengthened stands before its average again, and begins it anew.
        self.averaged = self.averaged + 1 if self.progress.fraction >= 1 - wanted.average else 0
        return 1 / max(self.averaged, 1)

    def skip(self) -> bool:
        """Count a step whose loss was not finite; when they pile up go back to the last state, and say so."""
        self.skipped += 1
        self.bad += 1
        warn(f"step {self.step}: the loss or its gradient is not finite; the step is skipped")
        if self.bad < BAD_STEPS:
            return False
        self.bad = 0
        self.rollbacks += 1
        if self.rollbacks > ROLLBACKS or not self.restore(keep_loader=True):
            raise LangmillError(
                f"training diverged: the loss is not finite after {self.rollbacks - 1} returns to a saved state;"
                f" lower --optimizer.learning-rate and --optimizer.matrix-learning-rate (the last good state is in"
                f" {self.folder})"
            )
        warn(f"going back to the state of step {self.step} (return {self.rollbacks} of {ROLLBACKS})")
        return True

    def measure(self, tracker: Tracker, step: int | None = None) -> dict[str, float]:
        """Evaluate the model that is shown, and a sample of it. step: whose weights it has, unless the last one's."""
        self.shown.eval()
        with self.eager():
            metrics = self.job.evaluate(self.shown)
            sample = self.job.sample(self.shown) if self.job.sample and self.here.is_main else ""
        self.shown.train()
        tracker.evaluated(self.step if step is None else step, metrics, sample)
        return metrics

    def eager(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which a compiled model runs as written: other shapes would compile it anew."""
        # Asked only of a compiled model: the first call imports the compiler, which takes seconds.
        return (
            contextlib.nullcontext()
            if self.job.compile_stack is None
            else torch.compiler.set_stance("force_eager")
        )

    @property
    def out_of_patience(self) -> bool:
        """Whether early stopping says to end."""
        return bool(self.settings.early_stopping) and self.stale >= self.settings.early_stopping

    def judge(self, tracker: Tracker) -> dict[str, float]:
        """Measure, and remember the best."""
        metrics = self.measure(tracker)
        self.judged = self.step
        figure = next(iter(metrics.values()), math.nan) * (-1 if self.job.rises else 1)
        self.stale = 0 if figure < self.best else self.stale + 1
        self.best = min(self.best, figure)
        if figure <= self.best + self.job.luck(self.best) and (
            self.settings.early_stopping or self.job.keeps_best
        ):
            self.kept = self.step
            kept = self.weights(self.shown)
            self.best_weights = {name: p.detach().clone() for name, p in kept.items()}
        return metrics

    def finish(self, tracker: Tracker) -> dict[str, float]:
        """Save the run's end and return its metrics: where better weights were met on the way, theirs."""
        # Measured first: what an evaluation settles is saved with the weights.
        metrics = {} if self.out_of_patience else self.judge(tracker)
        self.save()
        if self.best_weights is None or self.kept == self.step:
            return metrics or self.measure(tracker)
        # Only the checkpoint goes back to them: the state stays what it was, to be gone on from.
        say(f"kept: the weights of step {self.kept}, better on what is held out than the last ones")
        self.shown.load_state_dict(self.best_weights, strict=False)
        metrics = self.measure(tracker, self.kept)
        if self.here.is_main:
            self.job.save_model(self.folder, self.shown)
        return metrics


def train(
    job: Job,
    settings: TrainSettings,
    *,
    folder: Path,
    here: World,
    resume: bool,
    deadline: float = math.inf,
    watch: Watch | None = None,
) -> Outcome:
    """Run `job` to its end, to its deadline (seconds since the epoch), to a signal or until `watch` ends it, saving on
    the way."""
    seed_everything(settings.seed)
    trainer = Trainer(job, settings, folder=folder, here=here, deadline=deadline)
    with stop_signals() as caught, cpu_products(trainer.dtype):
        if resume and trainer.restore():
            say(f"resumed after step {trainer.step}" + (", the run's end" if trainer.progress.over else ""))
        else:
            trainer.save()
        if job.compile_stack is not None:
            job.compile_stack(job.model)
        tracker = Tracker(job, settings, folder=folder, here=here, first_step=trainer.step)
        stopped = run_steps(trainer, tracker, caught, watch)
        metrics: dict[str, float] = {}
        if stopped:
            trainer.save()
        else:
            metrics = trainer.finish(tracker)
        tracker.close()
    why = (caught or ["another process"])[0] if stopped else ""
    return Outcome(
        trainer.step, trainer.tokens, trainer.seconds, metrics, why, trainer.skipped, trainer.rollbacks
    )


def run_steps(trainer: Trainer, tracker: Tracker, caught: list[str], watch: Watch | None) -> bool:
    """Step until the run is over, `caught` holds a signal or `watch` says so; return whether one of these ended it."""
    job, settings, progress, here = trainer.job, trainer.settings, trainer.progress, trainer.here
    begin, before = time.time(), trainer.seconds
    timed = not math.isinf(progress.deadline)
    evaluate_every = settings.evaluate_every or (0 if timed else max(1, job.steps // EVALUATIONS))
    evaluate_seconds = (progress.deadline - begin) / EVALUATIONS
    last_saved = last_judged = begin
    saved = trainer.step
    job.model.train()
    while not (progress.over or trainer.out_of_patience):
        # A run that was stopped before an evaluation that was due makes up for it here.
        if trainer.judged != trainer.step and _due(trainer, evaluate_every, last_judged, evaluate_seconds):
            began = time.time()
            metrics = trainer.judge(tracker)
            if watch is not None and watch(progress.fraction, metrics):
                caught.append(WATCHED)
            last_judged = time.time()
            evaluate_seconds = max(evaluate_seconds, (last_judged - began) / EVALUATION_SHARE)
            progress.pause()
            if trainer.out_of_patience:
                break
        # While steps fail nothing is saved: what a rollback goes back to must lie before them.
        if (
            saved != trainer.step
            and not trainer.bad
            and _due(trainer, settings.save_every, last_saved, SAVE_SECONDS)
        ):
            trainer.save()
            saved, last_saved = trainer.step, time.time()
            progress.pause()
        figures = trainer.update()
        trainer.step += 1
        progress.advance(trainer.step)
        progress.fraction = here.agree(progress.fraction)
        trainer.seconds = before + time.time() - begin
        if figures is not None:
            trainer.bad = 0
            tracker.stepped(trainer.step, trainer.tokens, figures, progress)
        elif trainer.skip():
            tracker.rolled_back(trainer.step)
        if here.any(bool(caught)):
            return True
    return False


def _due(trainer: Trainer, every: int, last: float, seconds: float) -> bool:
    """Whether something happens now: every `every` steps or, if that is 0, when `seconds` have passed since `last`."""
    if every:
        return trainer.step % every == 0
    return bool(trainer.here.agree(float(time.time() - last >= seconds)))
