"""A corpus dealt out to files: by lot, by group, by time, label for label, near-duplicates on one side. [text]

Documents that must stay together are one unit: equal texts always, near-duplicates and those of one group as asked.
Units are put in order, by a digest of the seed and their key or by time, and the order is cut at the shares: the part
of a unit depends on the corpus, never on the order or the names of its files. Under `label_field` every label is
ordered and cut for itself (a unit has the label of its first document). Shares are met up to half a unit a label.

The corpus is read twice. In memory are about 100 bytes a document, and each different group and label.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from langmill.core.errors import ConfigError, DataError, did_you_mean
from langmill.core.files import make_folder, write_json
from langmill.core.log import say, warn
from langmill.text import duplicates
from langmill.text.documents import ReadReport
from langmill.text.formats import shown
from langmill.text.holdout import digest_number
from langmill.text.paths import check_outputs
from langmill.text.rows import Row, as_json, as_reject, open_writer
from langmill.text.settings import SplitSettings
from langmill.text.sifting import batches, check_reading, numbered_rows

_ISO_TIME = re.compile(r"\d{4}([-/.]\d{2}([-/.]\d{2}([T ]\d{2}:?\d{2}.*)?)?)?\Z")
Labels = npt.NDArray[np.int64]


@dataclass
class Part:
    """What a part holds."""

    share: float
    documents: int = 0
    characters: int = 0
    labels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitReport:
    """Where every document went: `read` is what the parts hold and what was rejected."""

    folder: str
    read: int
    rejected: dict[str, int]
    units: int
    """Documents or groups of them that stayed together."""
    parts: dict[str, Part]


def parse_parts(parts: str) -> dict[str, float]:
    """Return name → share.

    >>> parse_parts("train=0.8,test=0.2")
    {'train': 0.8, 'test': 0.2}
    """
    shares: dict[str, float] = {}
    for item in parts.split(","):
        name, _, share = item.strip().partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not name.replace("-", "_").isidentifier() or name in (*shares, "rejects") or not 0 < value <= 1:
            raise ConfigError(
                f"--parts: {item!r} is not allowed; expected such as train=0.8,dev=0.1,test=0.1"
            )
        shares[name] = value
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ConfigError(f"--parts: the shares sum to {sum(shares.values()):g}; expected 1")
    return shares


def split(
    paths: Sequence[str | Path], folder: Path, *, settings: SplitSettings, overwrite: bool = False
) -> SplitReport:
    """Write the parts of a corpus to `folder` as NAME.jsonl, what cannot be read to rejects.jsonl, and report.json.

    overwrite: replace those of an earlier split.
    """
    shares = parse_parts(settings.parts)
    names = [f"{name}.jsonl" for name in (*shares, "rejects")]
    check_outputs([folder / name for name in (*names, "report.json")], read=paths, overwrite=overwrite)
    make_folder(folder)
    survey = _Survey(settings)
    read = ReadReport()
    for batch in batches(numbered_rows(paths, settings, read)):
        survey.add([row for _, row in batch if not row.reason])
    check_reading(len(survey.labels), read.skipped, read, settings, "split")
    say("dealing out …")
    units = survey.units()
    chosen = assign(units, survey.keys(units), survey.labels, list(shares.values()))
    report = _write(paths, folder, settings, shares, chosen, len(np.unique(units)))
    for name, part in report.parts.items():
        tell_share(name, part, report, settings)
    write_json(folder / "report.json", asdict(report) | {"settings": settings.model_dump(mode="json")})
    return report


def tell_share(name: str, part: Part, report: SplitReport, settings: SplitSettings) -> None:
    """Warn of a part that is empty, or a quarter and a document off its share."""
    total = sum(each.documents for each in report.parts.values())
    wanted = part.share * total
    if not part.documents:
        warn(f"part {name} is empty: {report.units:,} documents or groups are too few for its share")
    elif abs(part.documents - wanted) > max(1, wanted / 4):
        warn(
            f"part {name} has {part.documents / total:.1%} of the documents where {part.share:.1%} were asked for:"
            f" what stays together makes {report.units:,} groups of unequal size"
            + ("" if settings.time_field else "; another --seed may come nearer")
        )


class _Survey:
    """What must be known of all documents before the first can be given away."""

    def __init__(self, settings: SplitSettings) -> None:
        self._settings = settings
        self._sketches = duplicates.Sketches(near=settings.near_duplicates, threshold=settings.threshold)
        self._lots: list[float] = []
        self.labels: list[int] = []
        self._label_codes: dict[str, int] = {}
        self._groups: list[int] = []
        self._group_codes: dict[str, int] = {}
        self._times: list[float | str] = []

    def add(self, rows: Sequence[Row]) -> None:
        settings = self._settings
        self._sketches.add([row.text for row in rows])
        for row in rows:
            if not settings.time_field and not settings.group_field:
                self._lots.append(digest_number(row.text, seed=settings.seed))
            label = _value(row, settings.label_field) if settings.label_field else ""
            self.labels.append(self._label_codes.setdefault(str(label), len(self._label_codes)))
            if settings.group_field:
                group = str(_value(row, settings.group_field))
                self._groups.append(self._group_codes.setdefault(group, len(self._group_codes)))
            if settings.time_field:
                self._times.append(_time(row, settings.time_field))

    def units(self) -> Labels:
        """Return for each document the first of its unit."""
        units = self._sketches.first()[1]
        if self._groups:
            _, first, inverse = np.unique(self._groups, return_index=True, return_inverse=True)
            units = duplicates.connect(units, np.stack([np.arange(len(units)), first[inverse]]))
        return units

    def keys(self, units: Labels) -> npt.NDArray[Any]:
        """Return for each document what its unit is ordered by."""
        if self._times:
            kinds = {type(time) for time in self._times}
            if len(kinds) > 1:
                raise DataError(
                    f"field {self._settings.time_field!r} holds numbers and text; expected one kind, such as 2024-05-01"
                )
            _, rank = np.unique(np.array(self._times), return_inverse=True)
            latest = np.zeros(len(units), np.int64)
            np.maximum.at(latest, units, rank)  # a unit is as late as its last document
            return latest[units]
        if self._groups:
            lots = [digest_number(name, seed=self._settings.seed) for name in self._group_codes]
            return np.array(lots)[np.array(self._groups)[units]]
        return np.array(self._lots)[units]


def _value(row: Row, name: str) -> Any:
    """Return a field that every document must have."""
    if row.fields.get(name) is None:
        hint = did_you_mean(name, row.fields)
        found = ", ".join(map(repr, row.fields)) or "none"
        raise DataError(f"{row.source}: no field {name!r}{hint} (other fields found: {found})")
    return row.fields[name]


def _time(row: Row, name: str) -> float | str:
    """Return a time as a number where it is one, else as text, which ISO 8601 puts in order."""
    value = _value(row, name)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number):
        return number
    if not _ISO_TIME.match(str(value)):
        raise DataError(
            f"{row.source}: field {name!r} is {shown(value)}, expected a time: a number, or such as 2024-05-01 or"
            " 2024-05-01T12:30"
        )
    return str(value)


def assign(
    units: Labels, keys: npt.NDArray[Any], labels: Sequence[int], shares: Sequence[float]
) -> npt.NDArray[np.int64]:
    """Return the part of each document, from 0.

    units: for each document the first of its unit. keys: equal within a unit; units of equal keys stay together.
    labels: which documents are cut for themselves.

    >>> assign(np.arange(4), np.array([3, 1, 2, 1]), [0, 0, 0, 0], [0.5, 0.5]).tolist()
    [1, 0, 1, 0]
    """
    ends = np.cumsum(shares)[:-1]
    stratum = np.asarray(labels)[units]
    chosen = np.empty(len(units), np.int64)
    for label in np.unique(stratum):
        members = np.flatnonzero(stratum == label)
        _, inverse, sizes = np.unique(keys[members], return_inverse=True, return_counts=True)
        middle = (np.cumsum(sizes) - sizes / 2) / len(members)
        chosen[members] = np.searchsorted(ends, middle, side="right")[inverse]
    return chosen


def _write(
    paths: Sequence[str | Path],
    folder: Path,
    settings: SplitSettings,
    shares: dict[str, float],
    chosen: Iterable[int],
    units: int,
) -> SplitReport:
    names, where = list(shares), iter(chosen)
    parts = {name: Part(share) for name, share in shares.items()}
    rejected: Counter[str] = Counter()
    read = 0
    with contextlib.ExitStack() as stack:
        streams = {
            name: stack.enter_context(open_writer(folder / f"{name}.jsonl")) for name in (*names, "rejects")
        }
        for _, row in numbered_rows(paths, settings, ReadReport()):
            read += row.part == 0
            if row.reason:
                rejected[row.reason] += row.part == 0
                streams["rejects"].write(as_reject(row, row.reason))
                continue
            name = names[next(where)]
            streams[name].write(as_json(row))
            part = parts[name]
            part.documents += 1
            part.characters += len(row.text)
            if settings.label_field:
                label = str(row.fields[settings.label_field])
                part.labels[label] = part.labels.get(label, 0) + 1
    assert read == sum(part.documents for part in parts.values()) + rejected.total(), "a row was lost"
    return SplitReport(str(folder), read, dict(rejected), units, parts)
