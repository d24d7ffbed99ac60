"""langmill: from raw text to working language models.

>>> import langmill
>>> model = langmill.load("runs/quickstart")  # doctest: +SKIP
>>> model.generate("def main(", max_tokens=40).text  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from langmill.version import __version__

__all__ = ["__version__", "load", "train", "tune"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `langmill --help` does not wait for torch.
    if name == "train":
        from langmill.api import train

        return train
    if name == "tune":
        from langmill.tuning import tune

        return tune
    if name == "load":
        from langmill.loaded import load

        return load
    raise AttributeError(f"module 'langmill' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
