"""Machine code that numba makes once. [tests]"""

from __future__ import annotations

import importlib.util
import subprocess

import pytest

from langmill.core.errors import MissingDependencyError
from langmill.core.machine_code import machine_code

MODULE = "langmill.vectors.kernels"


def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    machine_code.__wrapped__(MODULE, "train_chunks", "langmill.vectors.tiles", "langmill.vectors.layout")
    monkeypatch.setattr(subprocess, "run", None)
    run = machine_code.__wrapped__(
        MODULE, "train_chunks", "langmill.vectors.tiles", "langmill.vectors.layout"
    )
    assert callable(run)
    with pytest.raises(TypeError):  # of other files it is made anew
        machine_code.__wrapped__(MODULE, "train_chunks", "langmill.vectors.sampling")


def test_without_numba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'langmill\[fast\]'"):
        machine_code.__wrapped__(MODULE, "train_chunks")
