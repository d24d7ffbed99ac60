"""So many of the examples, for a curve of scores over their number. [tasks]"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langmill.core.errors import DataError
from langmill.text.holdout import digest_number

if TYPE_CHECKING:
    from langmill.tasks.labelled import LabelledTask


def draw_examples(examples: Sequence[Any], task: LabelledTask, count: int, *, seed: int) -> list[Any]:
    """Return `count` examples in their order, each label by its share; 0: all. Fewer of the same seed are among more."""
    if count > len(examples):
        raise DataError(
            f"{count:,} examples are asked for (--data.examples, --sizes), and {len(examples):,} are there to learn from; ask for"
            " fewer, or all"
        )
    strata: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for number, example in enumerate(examples):
        chance = digest_number("\0".join(task.group(example)), seed=seed)
        strata[task.stratum(example)].append((chance, number))
    # Of a label's n examples the k-th stands at (k + ½) / n, so that every beginning of the row has each label's share.
    places = sorted(
        ((k + 0.5) / len(members), label, number)
        for label, members in strata.items()
        for k, (_, number) in enumerate(sorted(members))
    )
    return [examples[number] for number in sorted(number for *_, number in places[: count or None])]
