"""Which of two checkpoints is better on the same examples, and whether that is more than chance. [evaluation]"""

from __future__ import annotations

from typing import Any

from langmill.metrics.bootstrap import PairedDifference


def is_real(difference: PairedDifference | None) -> bool | None:
    """Whether a difference is more than chance: its interval leaves out 0. None: cannot be told."""
    if difference is None:
        return None
    return difference.interval.low > 0 or difference.interval.high < 0


def verdict(
    first: str,
    second: str,
    found: PairedDifference | None,
    *,
    figure: str,
    falls: bool = False,
    tests: str = "",
) -> str:
    """Say which of two is better, and whether that is real.

    found: the first one's figure minus the second one's; None: too little to tell. falls: the lower figure is the better.
    tests: what further tests say.
    """
    if found is None:
        return f"{first} against {second}: too little to tell a difference from chance"
    gap, interval = found.difference, found.interval
    better, worse = (first, second) if (gap < 0) == falls else (second, first)
    low, high = sorted((abs(interval.low), abs(interval.high)))
    certainty = f"{interval.level:.0%} interval {{}} to {{}}, p = {found.p_value:.2g}{tests}"
    if not is_real(found):
        chance = certainty.format(f"{interval.low:+.4f}", f"{interval.high:+.4f}")
        return f"no real difference: {first} minus {second} is {gap:+.4f} {figure}, which chance alone may give ({chance})"
    told = certainty.format(f"{low:.4f}", f"{high:.4f}")
    return (
        f"{better} is better than {worse} by {abs(gap):.4f} {figure}, and the difference is real "
        f"({told}, paired over {interval.units} {interval.unit}s)"
    )


def difference_tree(found: PairedDifference | None) -> dict[str, Any]:
    """Return a comparison as JSON can hold it."""
    return {
        "difference": None if found is None else found.difference,
        "difference_interval": None if found is None else [found.interval.low, found.interval.high],
        "p_value": None if found is None else found.p_value,
        "real": is_real(found),
    }
