"""Training texts that differ from epoch to epoch, by the operations of `langmill data augment`. [tasks]"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from langmill.batches.labelled import Row
from langmill.core.config import option_name
from langmill.core.errors import ConfigError
from langmill.core.files import digest
from langmill.core.log import say
from langmill.tasks.augmentation import ROWS_AT_A_TIME, augmented, make_operations, operation_names
from langmill.tasks.augmented_rows import Example
from langmill.text.augment import Changes, passage, render
from langmill.text.augment_settings import AugmentSettings
from langmill.text.documents import plural
from langmill.text.labelled_spans import TaggedExample
from langmill.text.segmentation import Segmenter, dictionary_segmenter
from langmill.training.settings import TrainSettings, VariationSettings

PREFIX = "--augment."


def check_variation(settings: VariationSettings, task: str) -> None:
    """Raise ConfigError for operations that cannot be, or settings that have no effect."""
    if not settings.operations:
        if given := settings.model_dump(exclude_defaults=True):
            name = option_name(f"augment.{next(iter(given))}")
            raise ConfigError(f"{name} needs operations: --augment swap,delete")
        return
    if "translate" in settings.operations:
        raise ConfigError(
            "--augment translate takes too long between epochs; write a file by `langmill data augment`"
        )
    operation_names(task, AugmentSettings(**settings.model_dump()), prefix=PREFIX, without=("translate",))


def varying(
    settings: TrainSettings,
    task: str,
    examples: Sequence[Any],
    rows_of: Callable[[Sequence[Any]], Sequence[Row]],
) -> Callable[[int], Sequence[Row]] | None:
    """Return a function from an epoch's number to its rows; None: no operation is asked for.

    A text is read as it is in one epoch and changed in the next. What it is changed to depends on the text, the seed
    and the epoch alone, so that a run that is resumed reads what it would have read. rows_of: encodes examples.
    """
    asked = settings.augment
    if not asked.operations:
        return None
    wanted = AugmentSettings(**asked.model_dump())
    operations = make_operations(task, wanted)
    segment = dictionary_segmenter(wanted.dictionary) if wanted.dictionary else None
    sources = [changeable(example, segment) for example in examples]
    fast = sum(not each.passage.words for each in sources)
    say(
        f"augment: {asked.operations}; a text is read as it is and changed by turns"
        + (f"; {plural(fast, 'text')} have no word that may change" if fast else "")
    )

    # Kept for the loader that measures a step and the one that trains.
    @functools.lru_cache(maxsize=1)
    def rows(epoch: int) -> Sequence[Row]:
        seed = int(digest(str(settings.seed), str(epoch)), 16)
        drawn = wanted.model_copy(update={"seed": seed})
        read = list(examples)
        turn = range((epoch + 1) % 2, len(read), 2)
        for begin in range(0, len(turn), ROWS_AT_A_TIME):
            part = turn[begin : begin + ROWS_AT_A_TIME]
            for place, found in zip(
                part, augmented([sources[i] for i in part], operations, drawn), strict=True
            ):
                read[place] = found[0][1] if found else read[place]
        return rows_of(read)

    return rows


def changeable(example: Any, segment: Segmenter | None) -> Example:
    """Return an example as one whose words may change, those in its spans excepted; of two texts the first."""
    spans = example.spans if isinstance(example, TaggedExample) else ()
    each = passage(example.text, [(span.begin, span.end) for span in spans], segment=segment)

    def change(result: Changes | str, operation: str) -> tuple[str, Any]:
        assert not isinstance(result, str)
        text, moved = render(each, result)
        if not isinstance(example, TaggedExample):
            return text, replace(example, text=text)
        places = (moved((span.begin, span.end)) for span in spans)
        there = tuple(replace(span, begin=b, end=e) for span, (b, e) in zip(spans, places, strict=True))
        return text, replace(example, text=text, spans=there, tokens=())

    return Example(each, example, change, example.source)
