"""`langmill doctor` from end to end."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_checkpoint import write_checkpoint

from langmill.cli.main import main
from langmill.evaluation import machine
from langmill.models.transformer import Stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def quick(monkeypatch):
    """Measure on small matrices, for a moment."""
    monkeypatch.setattr(machine, "MATRIX", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr(machine, "MEASURE_SECONDS", 0.01)


def call(capsys, *arguments):
    """Run the command; return its exit status, stdout and stderr."""
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *map(str, arguments)])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_the_machine(capsys, quick):
    status, out, err = call(capsys)
    assert status == 0
    named = [line[:16].strip() for line in out.splitlines()]
    assert named[:8] == [
        "python",
        "processor",
        "memory",
        "disk here",
        "GPU",
        "matrix product",
        "memory read",
        "torch.compile",
    ]
    assert named[8:] == list(machine.EXTRAS)
    assert err == "measuring …\n"


def test_the_machine_as_json(capsys, quick, monkeypatch):
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    status, out, _ = call(capsys, "--json")
    tree = json.loads(out)
    assert status == 0
    assert tree["torch"] == torch.__version__
    assert tree["matmul_flops"]["float32"] > 0
    assert tree["read_bytes"] > 0
    assert tree["cores"] >= 1
    assert tree["packages"] == dict.fromkeys(machine.EXTRAS)
    assert tree["compile_seconds"] is None


def test_trying_to_compile(capsys, quick, monkeypatch):
    monkeypatch.setattr(machine, "can_compile", lambda device: True)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    assert "works; a small function took" in call(capsys, "--compile")[1]

    def broken(function):
        raise RuntimeError("no header\nomp.h")

    monkeypatch.setattr(torch, "compile", broken)
    assert "does not work here: RuntimeError: no header\n" in call(capsys, "--compile")[1]
    monkeypatch.setattr(machine, "can_compile", lambda device: False)
    assert "no: it needs" in call(capsys, "--compile")[1]


def test_memory_of_a_container(tmp_path, monkeypatch):
    whole, free = machine.memory_bytes()
    assert whole >= free >= 0
    numbers = {"memory.max": 1000, "memory.current": 400}
    monkeypatch.setattr(machine, "_number", lambda path: numbers[path.name])
    assert machine.memory_bytes() == (1000, 600)


def test_a_sound_checkpoint(capsys, folder):
    status, out, _ = call(capsys, folder)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["opens", "ok"]
    assert any(line.startswith("cached = uncached") and "≤ 2e-05" in line for line in lines)
    assert lines[-1] == f"{folder}: nothing wrong was found"
    status, out, _ = call(capsys, folder, "--json")
    tree = json.loads(out)
    assert (status, tree["ok"]) == (0, True)
    assert {"name", "difference", "tolerance", "status", "note"} == set(tree["checks"][0])


def test_a_cache_that_ignores_positions_is_caught(capsys, folder, monkeypatch):
    sound = Stack.token_positions

    def forgetful(self, ids, *, valid, starts, past):
        return (
            torch.arange(ids.shape[1])[None]
            if past
            else sound(self, ids, valid=valid, starts=starts, past=past)
        )

    monkeypatch.setattr(Stack, "token_positions", forgetful)
    status, out, _ = call(capsys, folder, "--json")
    tree = json.loads(out)
    assert (status, tree["ok"]) == (1, False)
    failed = {check["name"] for check in tree["checks"] if check["status"] == "FAILED"}
    assert "cached = uncached" in failed
    assert "batched = single" not in failed
    status, out, _ = call(capsys, folder)
    assert status == 1
    assert out.splitlines()[-1].startswith(f"{folder}: FAILED: cached = uncached")


def test_a_damaged_checkpoint_fails_and_a_missing_one_is_a_mistake(capsys, tmp_path):
    folder = write_checkpoint(tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"nothing")
    status, out, _ = call(capsys, folder)
    assert status == 1
    assert "opens" in out
    assert "FAILED" in out
    assert "nan" not in out and "≤" not in out
    status, out, err = call(capsys, tmp_path / "nowhere")
    assert (status, out) == (2, "")
    assert "no such folder" in err
