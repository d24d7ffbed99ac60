"""Errors that a user can mend. [core]

Everything a user can cause raises a `LangmillError`: its message says what was given, what is
allowed and what to do. The command line prints it on one line and exits with status 2. Our own
mistakes stay `AssertionError` and keep their traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LangmillError(ValueError):
    """A mistake in what the user gave; the message names the remedy."""


class ConfigError(LangmillError):
    """A setting has an unknown name or a value outside its range."""


class DataError(LangmillError):
    """Input data cannot be read; the message begins with `file:line` where there is a line."""


class CheckpointError(LangmillError):
    """A checkpoint directory is missing, incomplete, corrupt or does not fit."""


class MissingDependencyError(LangmillError):
    """An optional dependency is not installed; the message names the extra that brings it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint naming the closest known name, or the empty string.

    >>> did_you_mean("modle.layers", ["model.layers", "seed"])
    '; did you mean model.layers?'
    >>> did_you_mean("zzz", ["model.layers", "seed"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
