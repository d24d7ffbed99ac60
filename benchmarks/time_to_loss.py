"""Time to loss on character-level tiny Shakespeare: langmill's default against nanoGPT's CPU recipe.

Both run through the same command, in turn, as whole processes: imports, tokenizer, planning,
compilation, evaluation and saving are all inside the clock. Held-out loss is `langmill evaluate`'s,
in nats a character, each model with its own context.

    python benchmarks/time_to_loss.py --train tinyshakespeare.train.txt --held-out tinyshakespeare.dev.txt
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent


def langmill(*arguments: str) -> tuple[dict, float]:
    """Run a langmill command; return its JSON and its wall time in seconds."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "langmill", *arguments, "--json"], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"langmill {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout), seconds


def run(folder: Path, train: str, held_out: str, options: list[str]) -> dict[str, float]:
    """Train and evaluate one run."""
    result, seconds = langmill(
        "train", "lm", train, "--held-out-data", held_out, "-o", str(folder), "--overwrite", *options
    )
    score, _ = langmill("evaluate", str(folder), held_out, "--no-references")
    return {
        "seconds": seconds,
        "loop_seconds": result["seconds"],
        "tokens": result["tokens"],
        "nats": score["bits_per_character"] * math.log(2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, help="the first 90 % of tiny Shakespeare")
    parser.add_argument("--held-out", required=True, help="the rest of it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", dest="as_json", action="store_true")
    options = parser.parse_args()
    for path in (options.train, options.held_out):
        if not Path(path).is_file():
            sys.exit(f"{path}: no such file; give --train and --held-out, tiny Shakespeare cut in two")
    rows: dict[str, list[dict[str, float]]] = {
        "nanoGPT recipe": [],
        "1/15 of its time": [],
        "1/8": [],
        "its time": [],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(options.seeds):
            base = run(
                folder / "base",
                options.train,
                options.held_out,
                ["--config", str(HERE / "nanogpt_char.yaml"), "--seed", str(seed)],
            )
            rows["nanoGPT recipe"].append(base)
            for label, share in (("1/15 of its time", 15), ("1/8", 8), ("its time", 1)):
                budget = f"{base['seconds'] / share:.1f}"
                ours = ["--tokenizer", "char", "--budget", budget, "--seed", str(seed)]
                rows[label].append(run(folder / "ours", options.train, options.held_out, ours))
            show(rows)
    if options.as_json:
        print(json.dumps(rows))


def show(rows: dict[str, list[dict[str, float]]]) -> None:
    """Print the table as it stands: medians over seeds, with the range of the losses."""
    base = rows["nanoGPT recipe"]
    print(
        f"\n{'run':<18}{'wall s':>8}{'of base':>9}{'chars/s':>10}{'nats/char':>11}{'range':>16}{'below base':>12}"
    )
    for label, runs in rows.items():
        if not runs:
            continue
        seconds, nats = median(r["seconds"] for r in runs), [r["nats"] for r in runs]
        ratio = median(r["seconds"] / b["seconds"] for r, b in zip(runs, base))
        speed = median(r["tokens"] / r["loop_seconds"] for r in runs)
        gain = median(b["nats"] - r["nats"] for r, b in zip(runs, base))
        spread = f"{min(nats):.3f}-{max(nats):.3f}"
        print(
            f"{label:<18}{seconds:>8.1f}{ratio:>9.3f}{speed:>10.0f}{median(nats):>11.3f}{spread:>16}{gain:>12.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
