"""What every test lives under: one thread, no network, a cache of its own, the same generated inputs."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from small_runs import CommandLine, write_text

os.environ["HF_HUB_OFFLINE"] = "1"
# The same examples every time; `pytest --hypothesis-profile=default` draws others.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep tests that run side by side from waiting for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def compiled_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all tests of the session keep compiled kernels in: making them takes seconds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def own_cache(
    tmp_path_factory: pytest.TempPathFactory, compiled_kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Give the test a cache folder of its own, which its subprocesses inherit."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "kernels").symlink_to(compiled_kernels)
    monkeypatch.setenv("LANGMILL_CACHE", str(folder))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of the test's own, and draw no curves and measure no machine: that takes longer than a run."""
    from langmill.tasks import planning
    from langmill.training import tracking

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "draw_curve", lambda folder: None)
    monkeypatch.setattr(planning, "measure_matmul", lambda device, seconds, dtype: 1e10)
    write_text(tmp_path / "text.txt")
    return tmp_path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)
