"""`langmill quickstart`: a model of one's own in minutes, on text that every Python has. [cli]"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import click

BUDGET_SECONDS = 200.0
"""Time for tokenizer, tokens and about three minutes of training."""
PROMPTS = (
    "class Stack:\n    def __init__(self",
    "    if not isinstance(",
    "    try:\n        ",
    "import os\n",
)
LEFT_OUT = ("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3", "encodings", "idlelib",
            "turtledemo", "ensurepip", "pydoc_data")  # fmt: skip
"""Folders of the standard library that are not read: tests, tables, and what was installed beside it."""


@click.command("quickstart")
@click.argument("files", nargs=-1)
@click.option("-o", "--output", default="runs/quickstart", show_default=True, help="Run directory.")
@click.option("--budget", default="", help="Time for everything before the final score.  [default: 200s]")
@click.option("--prompt", "prompts", multiple=True, help="Prompt to show a sample of. (repeatable)")
@click.option("--seed", default=0, show_default=True, help="Fixes weights, order of data and samples.")
def quickstart(files: tuple[str, ...], output: str, budget: str, prompts: tuple[str, ...], seed: int) -> None:
    """Train, score and sample a small model here, offline, in a few minutes.

    Without FILES it learns Python from the Python at hand: the standard library's source and the
    English documentation of its language topics. A former quickstart in the output folder is replaced.
    """
    from langmill.api import run_training
    from langmill.core.log import program, say
    from langmill.evaluation.report import held_out_report
    from langmill.loaded import load

    folder = Path(output)
    if files:
        data = files
    else:
        data = (str(python_corpus()),)
        say(
            f"corpus: the standard library of Python {sys.version.split()[0]} and its documentation, in {data[0]}"
        )
    result = run_training(
        "lm",
        data,
        output=output,
        overrides={"budget": budget or BUDGET_SECONDS, "seed": seed},
        overwrite=True,
    )
    if result.interrupted:
        print(result.summary())
        sys.exit(130)
    model = load(folder)
    print(held_out_report(folder, model.checkpoint))
    for prompt in prompts or (PROMPTS if not files else ("",)):
        (sample,) = model.generate_batch([prompt], max_tokens=90, temperature=0.8, top_p=0.9, seed=seed)
        print(f"\n--- {prompt!r}")
        print(prompt + sample.text.removesuffix("\ufffd"))  # a character that the last token began
    print(f"\nThe model lies in {folder}/ (curve.png, README.md, metrics.jsonl). Next:")
    print(f"    {program()} generate {folder} --prompt 'def parse(' --max-tokens 200")
    print(f"    {program()} evaluate {folder} YOUR.txt")
    print(f"    {program()} train lm YOUR.txt --budget 10m -o runs/mine")


def python_corpus() -> Path:
    """Write the running Python's source and documentation into the cache, a document a file; return the folder."""
    from langmill.core.files import atomic_folder, cache_folder

    library = Path(sysconfig.get_paths()["stdlib"])
    folder = (
        cache_folder()
        / "corpora"
        / f"python-{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    )
    if folder.is_dir():
        return folder
    with atomic_folder(folder) as aside:
        for path in sorted(library.rglob("*.py")):
            inside = path.relative_to(library)
            if is_left_out(inside):
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            # A file in another encoding (the library has a few, as test cases) is not worth guessing at.
            if text.strip() and "\ufffd" not in text:
                (aside / "_".join(inside.parts)).write_text(text, encoding="utf-8")
        from pydoc_data.topics import topics

        for name, text in sorted(topics.items()):
            (aside / f"topic_{name.replace('.', '_')}.txt").write_text(text, encoding="utf-8")
    return folder


def is_left_out(inside: Path) -> bool:
    """Whether a file of the library (a path inside it) is no text to learn from."""
    return any(part in LEFT_OUT for part in inside.parts) or inside.name.startswith("_sysconfigdata")
