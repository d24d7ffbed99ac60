"""What the user sees while something runs: one line each, on stderr. [core]

Results go to stdout; everything said through this module is progress and goes to stderr.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import sys
import time
from pathlib import Path

STARTED = time.time()
"""When this process took up langmill, in seconds since the epoch."""

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Silence `say` (warnings stay), as processes of a group other than the first do."""
    global _quiet  # noqa: PLW0603 - one switch a process, as stderr itself is one
    _quiet = quiet


def say(message: str) -> None:
    """Print a line of progress."""
    if not _quiet:
        print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a line about something that the user may not have wanted."""
    print(f"langmill: warning: {message}", file=sys.stderr, flush=True)


@functools.cache
def program() -> str:
    """Return how to type this command line's name here: `langmill` where the shell finds it, else its path."""
    begun = Path(sys.argv[0])
    if begun.name != "langmill" or shutil.which("langmill"):
        return "langmill"
    with_folder = begun if begun.is_absolute() else Path(".", begun)
    here = Path.cwd()
    if with_folder.is_absolute() and with_folder.is_relative_to(here):
        with_folder = with_folder.relative_to(here)
    return shlex.quote(str(with_folder))


def format_seconds(seconds: float) -> str:
    """Return a duration as people say it.

    >>> [format_seconds(s) for s in (4.25, 75, 7260)]
    ['4.2s', '1m15s', '2h01m']
    """
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def format_count(count: float) -> str:
    """Return a number in at most four characters and a suffix.

    >>> [format_count(n) for n in (950, 12_340, 5_600_000, 1.2e12)]
    ['950', '12.3k', '5.6M', '1.2T']
    """
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{count / limit:.1f}{suffix}"
    return f"{count:.0f}"
