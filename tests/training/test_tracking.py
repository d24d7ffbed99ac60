"""metrics.jsonl: what it holds, and what is left of it after a kill."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from toy_jobs import go, make_job

from langmill.training import tracking
from langmill.training.tracking import cut_metrics, draw_curve


def test_rows_after_the_saved_step_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"kind": "train", "step": step, "loss": 1.0} for step in (1, 2, 3)]
    # cut in the middle of the last row, and of the last character
    path.write_bytes(
        b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        + '{"kind": "sample", "text": "磨'.encode()[:-1]
    )
    cut_metrics(path, 2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
    cut_metrics(tmp_path / "none.jsonl", 2)
    assert not (tmp_path / "none.jsonl").exists()


def test_what_is_written(tmp_path: Path) -> None:
    job = make_job(steps=6)
    job.sample = lambda model: "a\u2028 text\n中"
    go(job, tmp_path / "a", evaluate_every=3)
    go(job, tmp_path / "a", resume=True, evaluate_every=3, curve=True)  # reads them all again
    rows = [
        json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text("utf-8").split("\n") if line
    ]
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["tokens"] for row in train] == [32 * step for step in range(1, 7)]
    assert {"loss", "gradient_norm", "learning_rate_scale", "tokens_per_second"} <= train[0].keys()
    assert next(row["text"] for row in rows if row["kind"] == "sample") == "a\u2028 text\n中"
    assert [row["step"] for row in rows if row["kind"] == "held_out"][:2] == [3, 6]


def test_a_curve_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    go(make_job(steps=3), tmp_path / "a", curve=True)
    assert (tmp_path / "a" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_optional_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        tracking.importlib.util,
        "find_spec",
        lambda name: None if name in ("tensorboard", "matplotlib") else find(name),
    )
    go(make_job(steps=3), tmp_path / "a", tensorboard=True, curve=True)
    assert "curve.png is not drawn: matplotlib is missing" in capsys.readouterr().err
    assert not list((tmp_path / "a").glob("events*"))
    draw_curve(tmp_path / "a")


def test_tensorboard_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    go(make_job(steps=3), tmp_path / "a", tensorboard=True)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "a"))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("train/loss")] == [1, 2, 3]
