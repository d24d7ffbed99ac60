"""The import layers of the package: data flows one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import langmill

PACKAGE = Path(langmill.__file__).parent
LAYERS = [
    ["version"],
    ["core"],
    ["text"],
    ["audio"],
    ["metrics"],
    ["tokens"],
    ["vectors"],
    ["batches"],
    ["models"],
    ["objectives"],
    ["checkpoint"],
    ["training", "generation"],
    ["tasks"],
    ["evaluation"],
    ["interpret"],
    ["audit"],
    ["serving"],
    ["cli", "api", "trials", "tuning", "loaded", "__main__", "__init__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    """Return the layer of a file of the package."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_layers(source: str) -> set[str]:
    """Return the layers that a module imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module or ""]
            if node.module == "langmill":
                names = [f"langmill.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "langmill" and len(parts) > 1:
                found.add(parts[1])
    return found


def violations(layer: str, source: str) -> list[str]:
    """Return the layers that a file of `layer` imports and must not."""
    return [
        other
        for other in sorted(imported_layers(source))
        if other not in ("load", "train", "tune", "__version__")
        and other != layer
        and (
            RANK[other] > RANK[layer] or (RANK[other] == RANK[layer] and layer in ("training", "generation"))
        )
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    assert not violations(layer_of(path), path.read_text(encoding="utf-8"))


def test_a_violation_is_seen() -> None:
    assert violations("text", "def f():\n    from langmill.tasks import base\n") == ["tasks"]
    assert violations("training", "import langmill.generation.generate\n") == ["generation"]
    assert violations("tasks", "from langmill.text.readers import read_documents\n") == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_names_its_layer(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "version.py" or path.parent == PACKAGE:
        return
    first = (ast.get_docstring(ast.parse(text)) or "").splitlines()[:1]
    assert first, f"{path} has no docstring"
    assert first[0].endswith(f"[{layer_of(path)}]"), first[0]


def test_only_core_knows_distribution() -> None:
    users = [
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if "torch.distributed" in path.read_text(encoding="utf-8")
    ]
    assert users == ["core/distributed.py"]


def test_no_pickle() -> None:
    banned = ("import pickle", "torch.load(", "torch.save(", "allow_pickle=True")
    assert not [path for path in FILES if any(word in path.read_text(encoding="utf-8") for word in banned)]


def test_files_are_readable_in_one_sitting() -> None:
    long = {
        path.name: count
        for path in [*FILES, *Path(__file__).parent.rglob("*.py"), *PACKAGE.parent.glob("benchmarks/*.py")]
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert not long


def test_help_is_light() -> None:
    code = (
        "import sys; from langmill.cli.main import langmill\n"
        "langmill.main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'tokenizers', 'transformers', 'matplotlib', 'numba', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout
