"""What a run tells while it goes: the terminal, metrics.jsonl, TensorBoard, the curve. [training]"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmill.core.distributed import World
from langmill.core.files import atomic_write, writing_to
from langmill.core.log import format_count, format_seconds, say
from langmill.training.job import Job
from langmill.training.settings import TrainSettings

if TYPE_CHECKING:
    from langmill.training.schedules import Progress

LINE_SECONDS = 5.0
"""Time between lines of progress."""
SMOOTHING = 0.95
"""Weight of the past in the shown training loss."""


def cut_metrics(path: Path, last_step: int) -> None:
    """Drop rows after `last_step` from metrics.jsonl: a resumed run writes them again."""
    if not path.is_file():
        return
    kept = []
    # A kill may have cut the last line short, in the middle of a character even.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row.get("step", 0) <= last_step:
            kept.append(line + "\n")
    atomic_write(path, "".join(kept))


class Tracker:
    """Takes figures from the loop; the main process writes and shows them."""

    def __init__(
        self, job: Job | None, settings: TrainSettings, *, folder: Path, here: World, first_step: int
    ) -> None:
        """job: what takes the steps; None: there are none."""
        self.job, self.settings, self.folder, self.active = job, settings, folder, here.is_main
        self.first_step, self.smooth, self.last_line = first_step, math.nan, 0.0
        self.window: tuple[float, int] | None = None
        self.tokens_per_second = 0.0
        self.file: Any = None
        self.events: Any = None
        if not self.active:
            return
        self.path = folder / "metrics.jsonl"
        self.rolled_back(first_step)
        if settings.tensorboard and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.events = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)

    def rolled_back(self, step: int) -> None:
        """Forget what was written of later steps than `step`: they will be taken again."""
        if not self.active:
            return
        if self.file is not None:
            self.file.close()
        self.window = None
        cut_metrics(self.path, step)
        with writing_to(self.path):
            self.file = open(self.path, "a", encoding="utf-8")

    def write(self, kind: str, step: int, figures: dict[str, float]) -> None:
        """Append one row to metrics.jsonl and to TensorBoard."""
        row = {"kind": kind, "step": step, **{k: round(v, 6) for k, v in figures.items()}}
        self._append(row)
        if self.events is not None:
            with writing_to(self.folder):
                for name, value in figures.items():
                    self.events.add_scalar(f"{kind}/{name}", value, step)

    def _append(self, row: dict[str, Any]) -> None:
        with writing_to(self.path):
            self.file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self.file.flush()

    def stepped(self, step: int, tokens: int, figures: dict[str, float], progress: Progress) -> None:
        """Take a step's figures; show a line now and then."""
        if not self.active:
            return
        assert self.job is not None
        loss = figures["loss"]
        self.smooth = loss if math.isnan(self.smooth) else SMOOTHING * self.smooth + (1 - SMOOTHING) * loss
        now = time.perf_counter()
        if self.window is None:
            self.window = now, tokens
        elif now > self.window[0]:
            self.tokens_per_second = (tokens - self.window[1]) / (now - self.window[0])
        flops = self.tokens_per_second * self.job.flops_per_token
        row = {**figures, "tokens": tokens, "tokens_per_second": self.tokens_per_second}
        if self.job.peak_flops:
            row["utilisation"] = flops / self.job.peak_flops
        self.write("train", step, row)
        if now - self.last_line < LINE_SECONDS and not progress.over:
            return
        self.last_line = now
        name, factor = self.job.units_per_nat
        parts = [f"{progress.fraction:4.0%} step {step}", f"loss {self.smooth:.3f}"]
        if name != "loss":
            parts.append(f"{name} {self.smooth * factor:.3f}")
        if self.tokens_per_second:  # known from the second step behind an evaluation on
            parts.append(f"{format_count(self.tokens_per_second)} tokens/s")
            if self.job.peak_flops:
                parts.append(f"MFU {row['utilisation']:.0%}")
            parts.append(f"{format_seconds(self._left(step, progress))} left")
        say(" · ".join(parts))
        self.window = now, tokens

    def _left(self, step: int, progress: Progress) -> float:
        if not math.isinf(progress.deadline):
            return max(0.0, progress.deadline - time.time())
        assert self.job is not None
        tokens_per_step = self.job.facts.get("tokens_per_step", 0)
        return (self.job.steps - step) * tokens_per_step / self.tokens_per_second

    def evaluated(self, step: int, metrics: dict[str, float], sample: str) -> None:
        """Take held-out metrics, and a sample to show under them."""
        if not self.active:
            return
        self.window = None
        self.write("held_out", step, metrics)
        where = f" at step {step}" if self.job else ""
        say(f"held-out{where}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        if sample:
            say("    " + sample.replace("\n", "\n    "))
            self._append({"kind": "sample", "step": step, "text": sample})

    def close(self) -> None:
        """Finish the files and draw the curve."""
        if not self.active:
            return
        with writing_to(self.path):
            self.file.close()
            if self.events is not None:
                self.events.close()
        draw_curve(self.folder)


def draw_curve(folder: Path) -> None:
    """Draw curve.png from metrics.jsonl: loss of every step, its running mean, and the held-out loss."""
    if importlib.util.find_spec("matplotlib") is None:
        say("curve.png is not drawn: matplotlib is missing (pip install 'langmill[viz]')")
        return
    os.environ.setdefault("MPLBACKEND", "Agg")
    from matplotlib.figure import Figure

    # Not splitlines, which also cuts at characters that a sample may hold.
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    train = [(row["step"], row["loss"]) for row in rows if row["kind"] == "train"]
    # By step: of weights that were kept a run's last row tells a second time.
    losses = {row["step"]: row["loss"] for row in rows if row["kind"] == "held_out" and "loss" in row}
    held_out = sorted(losses.items())
    if not train:
        return
    smooth, means = train[0][1], []
    for _, loss in train:
        smooth = SMOOTHING * smooth + (1 - SMOOTHING) * loss
        means.append(smooth)
    figure = Figure(figsize=(7, 4), dpi=120)
    axes = figure.add_subplot()
    axes.plot(*zip(*train), color="#b8cbe0", linewidth=0.8, label="training, each step")
    axes.plot(
        [step for step, _ in train], means, color="#2b5c8f", linewidth=1.6, label="training, running mean"
    )
    if held_out:
        axes.plot(*zip(*held_out), "o-", color="#c8553d", linewidth=1.6, markersize=4, label="held out")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    low = min([min(means), *(loss for _, loss in held_out)])
    axes.set_ylim(low * 0.95, means[0] * 1.02)
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title(folder.name)
    figure.tight_layout()
    atomic_write(folder / "curve.png", lambda path: figure.savefig(path, format="png"))
