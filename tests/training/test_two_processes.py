"""Two processes = one: the same losses and weights, whoever computes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import TINY, CommandLine, weights, write_text

# Rates at which AdamW and Muon do not blow rounding up: both divide a gradient by its size, however small.
RATES = ("--optimizer.matrix-learning-rate", "0.005", "--optimizer.learning-rate", "0.001")
OPTIONS = (*TINY, "--steps", "12", "--micro-batch", "2", "--precision", "float32", *RATES)
LAUNCH = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "langmill",
)


def losses(run: Path, kind: str) -> torch.Tensor:
    rows = [
        json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").split("\n") if line
    ]
    return torch.tensor([row["loss"] for row in rows if row["kind"] == kind])


def torchrun(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*LAUNCH, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_two_processes_equal_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    done = torchrun(tmp_path, "train", "lm", "text.txt", *OPTIONS, "-o", "two")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("model    qwen3") == done.stdout.count("two: 12 steps") == 1, (
        "only one process talks"
    )
    assert CommandLine(capsys)("train", "lm", "text.txt", *OPTIONS, "-o", "one").status == 0
    for kind in ("train", "held_out"):
        one, two = losses(tmp_path / "one", kind), losses(tmp_path / "two", kind)
        assert len(one) == 12
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    two_weights = weights(tmp_path / "two")
    for name, weight in weights(tmp_path / "one").items():
        torch.testing.assert_close(weight, two_weights[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scored", [False, True])
def test_embeddings_have_the_negatives_of_all_processes(
    scored: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the order of all scores. Rows have one negative or none, so that processes have unequal numbers of texts."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "text": f"mill {n % 13} by {n}",
            "positive": f"{n} 磨坊 {n % 13}",
            **({"score": n % 5} if scored else {"negatives": [f"no {n}"] * (n % 3 == 0)}),
        }
        for n in range(48)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given = ("train", "embed", "pairs.jsonl", "--held-out-data", "pairs.jsonl", *OPTIONS, "--batch", 8)
    options = [str(each) for each in (*given, "--embed.sizes", 8)]
    done = torchrun(tmp_path, *options, "-o", "two")
    assert done.returncode == 0, done.stderr
    assert CommandLine(capsys)(*options, "-o", "one").status == 0
    one, two = losses(tmp_path / "one", "train"), losses(tmp_path / "two", "train")
    assert len(one) == 12
    torch.testing.assert_close(one, two, rtol=0, atol=1e-4)
    two_weights = weights(tmp_path / "two")
    for name, weight in weights(tmp_path / "one").items():
        torch.testing.assert_close(weight, two_weights[name], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_budget_on_two_processes_ends_on_both(tmp_path: Path) -> None:
    """Each has its own clock and its own measurements, and both must plan and stop alike."""
    write_text(tmp_path / "text.txt")
    done = torchrun(
        tmp_path, "train", "lm", "text.txt", "--tokenizer", "char", "--budget", "25s", "-o", "two", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] > 1


@pytest.mark.slow
def test_a_mistake_ends_both(tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt")
    done = torchrun(tmp_path, "train", "lm", "text.txt", *OPTIONS, "--batch", "3", "-o", "two")
    assert done.returncode != 0
    assert "--batch 3 does not divide over 2 processes; use a multiple of 2" in done.stderr
    assert not (tmp_path / "two").exists()
