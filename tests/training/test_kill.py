"""kill -9 at any moment leaves a loadable checkpoint and a run that goes on as if nothing had been."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from killed_runs import Runs
from small_runs import TINY, assert_same_weights, write_text

OPTIONS = ("train", "lm", "text.txt", *TINY, "--model.dropout", "0.1", "--optimizer.ema", "0.9")


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("kills", "steps"), [(3, 400), pytest.param(20, 1800, marks=pytest.mark.slow)], ids=["3", "20"]
)
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, kills: int, steps: int) -> None:
    write_text(tmp_path / "text.txt")
    runs = Runs(tmp_path)
    options = (*OPTIONS, "--steps", str(steps), "--save-every", "7")
    draw = random.Random(steps)
    for _ in range(kills):
        runs.kill_at_random(draw, *options, "-o", "killed", "--resume", "auto")
    assert runs.finish("train", "lm", "-o", "killed", "--resume", "auto") == 0, (
        tmp_path / "log.txt"
    ).read_text()
    assert runs.finish(*options, "-o", "whole") == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert log.count("resumed after step") == kills
    assert not list((tmp_path / "killed").rglob(".partial-*"))
