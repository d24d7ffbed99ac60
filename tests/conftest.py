"""What every test lives under: one thread, no network, a cache of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


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
