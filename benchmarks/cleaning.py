"""Cleaning a corpus against datatrove: the same documents, equivalent steps, the same number of processes.

A corpus is made from the text files given: documents of a few paragraphs, of which one in five has some words changed
(the same text comes many times in a large corpus), some are damaged (mojibake, e-mail addresses) and some repeat
others. Both repair mojibake, apply the filters of C4, Gopher and FineWeb, put placeholders for e-mail and network
addresses, and remove near-duplicates; each writes what it keeps as JSON Lines. Times are of whole runs, starting
processes included, in turns. datatrove's steps want spaCy; `--datatrove-python` names an environment that has both.

    python benchmarks/cleaning.py --corpus book.txt … --size-mb 20 --rounds 3
    python benchmarks/cleaning.py --corpus book.txt … --size-mb 1000 --rounds 1 --only langmill     # memory
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from contest import Contestant, installed, ratios, serve, take_turns

CONTESTANTS = ("langmill", "datatrove")
MEAN_PARAGRAPHS = 8


def paragraphs_of(files: list[Path]) -> list[str]:
    """Return the paragraphs of prose, each in one line."""
    text = "\n\n".join(file.read_text(encoding="utf-8") for file in files)
    found = (" ".join(block.split()) for block in text.split("\n\n"))
    return [paragraph for paragraph in found if len(paragraph) >= 40]


def documents(paragraphs: list[str], megabytes: float, draw: random.Random) -> Iterator[str]:
    """Yield documents of about so many megabytes, the same for the same generator."""
    words = " ".join(draw.sample(paragraphs, min(200, len(paragraphs)))).split(" ")
    written, recent = 0, list[str]()
    while written < megabytes * 1e6:
        kind = draw.random()
        if kind < 0.08 and recent:  # a duplicate, half of them with a word changed
            text = draw.choice(recent)
            text = text if kind < 0.04 else text.replace(" the ", f" {draw.choice(words)} ", 1)
        else:
            at = draw.randrange(len(paragraphs))
            body = "\n".join(paragraphs[at : at + draw.randint(2, 2 * MEAN_PARAGRAPHS)]).split(" ")
            for _ in range(len(body) // 5):
                body[draw.randrange(len(body))] = draw.choice(words)
            text = " ".join(body)
            recent = [*recent[-500:], text]
        if kind > 0.95:
            text = f"{text} Write to miller{draw.randrange(1000)}@mill-{draw.randrange(99)}.com."
        elif kind > 0.9:
            text = f"{text} “Café”, naïve.".encode().decode("cp1252", "ignore")
        written += len(text.encode())
        yield text


def make_corpus(files: list[Path], folder: Path, megabytes: float, parts: int) -> list[Path]:
    """Write the corpus to `parts` files, in turns, and return them."""
    folder.mkdir()
    paths = [folder / f"{part:03d}.jsonl" for part in range(parts)]
    streams = [path.open("w", encoding="utf-8") for path in paths]
    for number, text in enumerate(documents(paragraphs_of(files), megabytes, random.Random(0))):
        print(json.dumps({"id": str(number), "text": text}, ensure_ascii=False), file=streams[number % parts])
    for stream in streams:
        stream.close()
    return paths


def ours(workers: int) -> Callable[[Any], Any]:
    """Return a function that cleans files of JSON Lines with langmill."""
    from functools import partial

    from langmill.text.cleaning import CleanSettings, build_steps
    from langmill.text.pipeline import clean
    from langmill.text.settings import PipelineSettings

    steps = partial(build_steps, CleanSettings(html="keep", filters="c4,gopher,fineweb"))

    def work(paths: list[str]) -> Any:
        with tempfile.TemporaryDirectory(dir=Path(paths[0]).parent.parent) as folder, Memory() as memory:
            settings = PipelineSettings(workers=workers)
            report = clean(paths, Path(folder, "clean.jsonl"), make_steps=steps, settings=settings)
        return {
            "read": report.read,
            "kept": report.kept,
            "peak_bytes": memory.peak,
            "rejected": report.rejected,
        }

    return work


def theirs(workers: int) -> Callable[[Any], Any]:
    """Return a function that does the like with datatrove's local executor, a task a process."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup import minhash
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    def work(paths: list[str]) -> Any:
        source = Path(paths[0]).parent
        with tempfile.TemporaryDirectory(dir=source.parent) as name, Memory() as memory:
            at = {
                stage: f"{name}/{stage}"
                for stage in ("clean", "signatures", "buckets", "remove", "output", "bad")
            }
            config = minhash.MinhashConfig()
            cleaning = [
                JsonlReader(str(source)), FTFYFormatter(), GopherRepetitionFilter(), GopherQualityFilter(),
                C4QualityFilter(), FineWebQualityFilter(), PIIFormatter(), JsonlWriter(at["clean"], compression=None),
            ]  # fmt: skip
            stages = [
                (cleaning, len(paths)),
                ([JsonlReader(at["clean"]), minhash.MinhashDedupSignature(at["signatures"], config=config)], len(paths)),
                ([minhash.MinhashDedupBuckets(at["signatures"], at["buckets"], config=config)], config.num_buckets),
                ([minhash.MinhashDedupCluster(at["buckets"], at["remove"], config=config)], 1),
                ([JsonlReader(at["clean"]), minhash.MinhashDedupFilter(at["remove"]),
                  JsonlWriter(at["output"], compression=None)], len(paths)),
            ]  # fmt: skip
            rejected: dict[str, int] = {}
            for number, (pipeline, tasks) in enumerate(stages):
                executor = LocalPipelineExecutor(pipeline, tasks, min(workers, tasks), f"{name}/logs{number}")
                for step in executor.run().stats:
                    dropped = {
                        k.removeprefix("dropped_"): v.total for k, v in step.stats.items() if "dropped_" in k
                    }
                    rejected |= {f"{step.name}: {reason}": count for reason, count in dropped.items()}
            kept = sum(file.read_bytes().count(b"\n") for file in Path(at["output"]).glob("*.jsonl"))
        read = sum(Path(path).read_bytes().count(b"\n") for path in paths)
        return {"read": read, "kept": kept, "peak_bytes": memory.peak, "rejected": rejected}

    return work


class Memory:
    """Watches what this process and all that it starts hold together."""

    def __enter__(self) -> Memory:
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.peak = max(self.peak, tree_bytes(os.getpid()))


def tree_bytes(root: int) -> int:
    """Return the memory of a process and its descendants, what they share counted once for each."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(
                int(stat.parent.name)
            )
        except OSError:
            continue
    total, open_ids = 0, [root]
    while open_ids:
        process = open_ids.pop()
        open_ids += parents.get(process, [])
        try:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


def main() -> None:
    """Make the corpus, let both clean it in turns, print ratios and memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", nargs="+", type=Path, required=True, help="text files of English prose")
    parser.add_argument("--size-mb", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--patience", type=float, default=5, help="seconds to wait for a quiet machine each time"
    )
    parser.add_argument("--datatrove-python", default=sys.executable)
    parser.add_argument("--only", choices=CONTESTANTS)
    parser.add_argument("--folder", type=Path, help="where to put the corpus and all outputs for a while")
    arguments = parser.parse_args()
    pythons = {"langmill": sys.executable, "datatrove": arguments.datatrove_python}
    names = [arguments.only] if arguments.only else list(CONTESTANTS)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        corpus = make_corpus(arguments.corpus, folder / "corpus", arguments.size_mb, arguments.workers)
        warm_up = make_corpus(arguments.corpus, folder / "small", 0.2, arguments.workers)
        megabytes = sum(path.stat().st_size for path in corpus) / 1e6
        print(f"{megabytes:.1f} MB of JSON Lines, {arguments.workers} processes; "
              + ", ".join(f"{each} {installed(pythons[each], each)}" for each in names))  # fmt: skip
        here = [str(Path(__file__).resolve()), "--contestant"]
        players = [Contestant(each, [pythons[each], *here, each, str(arguments.workers)]) for each in names]
        seconds, answers = take_turns(
            players, [str(path) for path in corpus], warm_up=[str(path) for path in warm_up],
            rounds=arguments.rounds, patience=arguments.patience,
        )  # fmt: skip
        for player in players:
            answer, best = answers[player.name], min(seconds[player.name])
            print(f"{player.name:10} {megabytes / best:6.2f} MB/s of the best round ({best:.1f} s), "
                  f"kept {answer['kept']:,} of {answer['read']:,}, peak {answer['peak_bytes'] / 1e6:,.0f} MB")  # fmt: skip
            print(f"{'':10} {answer['rejected']}")
            player.leave()
        if len(players) == 2:
            print(f"langmill over datatrove: {ratios(*(seconds[name] for name in CONTESTANTS))}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        make = {"langmill": ours, "datatrove": theirs}[sys.argv[2]]
        serve(lambda: make(int(sys.argv[3])))
    else:
        main()
