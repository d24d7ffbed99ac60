"""What is kept of a run, and how often: how its vectors were made, what lets it go on. [vectors]"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from langmill.core.config import option_name
from langmill.core.errors import CheckpointError
from langmill.core.files import atomic_folder, read_json, write_json
from langmill.vectors.settings import VectorSettings

SAVE_SECONDS = 60.0
"""After an epoch that ends so long after the last time, the state is saved."""
SPEAK_SECONDS = 10.0
"""How often progress is told."""
FREE = {"threads", "memory_bytes"}
"""Settings that a resumed run may change."""


def facts_of(settings: VectorSettings, losses: list[float]) -> dict[str, str]:
    """Return how vectors were made, as files of vectors keep it; losses: of each epoch."""
    facts = {
        name: str(value) for name, value in settings.model_dump(mode="json").items() if value is not None
    }
    return facts | {
        "epochs": str(settings.passes),
        "alpha": f"{settings.learning_rate:g}",
        "threads": str(settings.workers),
        "loss": " ".join(f"{loss:.6f}" for loss in losses),
    }


def save(
    folder: Path,
    settings: VectorSettings,
    fingerprint: str,
    *,
    progress: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write how far a run has come; fingerprint: of its corpus."""
    from safetensors.numpy import save_file

    record = {"settings": settings.model_dump(mode="json"), "corpus": fingerprint, "progress": dict(progress)}
    with atomic_folder(folder) as aside:
        save_file(dict(arrays), aside / "arrays.safetensors")
        write_json(aside / "state.json", record)


def load(
    folder: Path, settings: VectorSettings, fingerprint: str, *, arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Read into `arrays` what was kept, and return the progress; raise CheckpointError where it is of another run."""
    from safetensors import safe_open

    if not (folder / "state.json").is_file():
        raise CheckpointError(f"{folder}: there is no state of an interrupted run; leave out --resume")
    record = read_json(folder / "state.json")
    then, now = record["settings"], settings.model_dump(mode="json")
    changed = [name for name in now if name not in FREE and then.get(name) != now[name]]
    if changed:
        raise CheckpointError(
            f"{folder}: is of a run with other settings: "
            + ", ".join(f"{option_name(name)} {then.get(name) or 'left out'}" for name in changed)
            + "; give the same, or leave out --resume"
        )
    if record["corpus"] != fingerprint:
        raise CheckpointError(f"{folder}: is of a run on another text; give the same, or leave out --resume")
    with safe_open(folder / "arrays.safetensors", "np") as kept:
        for name, array in arrays.items():
            array[:] = kept.get_tensor(name)
    progress: dict[str, Any] = record["progress"]
    return progress
