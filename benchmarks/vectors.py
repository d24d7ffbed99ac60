"""Training word vectors, beside gensim and fastText's own program.

All read the same file, a sentence a line with spaces between the words, with the same settings, each in a
process of its own, in turn. gensim is given the file's name (`corpus_file`), the fastest way it has; but for
--quality sentences, because its threads lower the learning rate by what one of them has read of a file. A peer
that is not installed is named and left out.

    .venv/bin/python benchmarks/vectors.py --corpus text.txt
    .venv/bin/python benchmarks/vectors.py --corpus text.txt --quality --seeds 5 --benchmarks sets/en

Words per second count the words that occur often enough, once an epoch: in training alone, and with reading
the file and counting its words (fastText's program does not tell them apart). --quality trains once a seed and
scores the vectors on each .tsv file of a folder: pairs (word, word, score; Spearman's correlation) and analogies
(section, a, b, c, d; 3CosAdd among all words), as far as the words are known. No peer has GloVe: it stands alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
from contest import Contestant, installed, peak_bytes, ratios, serve
from numpy.typing import NDArray

OURS, GENSIM, FASTTEXT = "langmill", "gensim", "fasttext"
PACKAGES = {
    OURS: ("langmill", "langmill"),
    GENSIM: ("gensim", "gensim"),
    FASTTEXT: ("fasttext", "fasttext-wheel"),
}
METHODS = ("skipgram", "cbow", "fasttext", "glove")
WARM_UP_BYTES = 300_000


@dataclass(frozen=True)
class Trained:
    """What one run gave."""

    words: list[str]
    matrix: NDArray[np.float32]
    tokens: int
    """Words of the corpus that occur often enough."""
    reading_seconds: float
    training_seconds: float
    """0 where it cannot be told apart from reading."""


Train = Callable[[str, int], Trained]
"""From a file and a seed."""


# --- contestants: each runs in its own process ---------------------------------------------------


def langmill(options: argparse.Namespace) -> Train:
    """Return langmill's training."""
    from langmill.core.log import set_quiet
    from langmill.text.readers import read_documents
    from langmill.vectors.corpus import encode_corpus
    from langmill.vectors.glove import train_glove
    from langmill.vectors.settings import VectorSettings
    from langmill.vectors.training import train_word2vec

    set_quiet(True)

    def train(file: str, seed: int) -> Trained:
        settings = VectorSettings(
            method=options.method,
            dim=options.dim,
            window=options.window,
            negative=options.negative,
            min_count=options.min_count,
            sample=options.sample,
            epochs=options.epochs,
            threads=options.threads,
            seed=seed,
            **({} if options.method == "glove" else {"alpha": options.alpha}),
        )
        begin = time.perf_counter()
        with encode_corpus(read_documents([file]), words="spaces", min_count=settings.min_count) as corpus:
            read = time.perf_counter()
            vectors = (train_glove if options.method == "glove" else train_word2vec)(corpus, settings)
            tokens = len(corpus.ids)
        return Trained(vectors.words, vectors.matrix, tokens, read - begin, time.perf_counter() - read)

    return train


def gensim(options: argparse.Namespace) -> Train:
    """Return gensim's training."""
    from gensim.models import FastText, Word2Vec
    from gensim.models.word2vec import LineSentence

    def train(file: str, seed: int) -> Trained:
        kind = FastText if options.method == "fasttext" else Word2Vec
        begin = time.perf_counter()
        model = kind(
            sg=int(options.method != "cbow"),
            vector_size=options.dim,
            window=options.window,
            negative=options.negative,
            min_count=options.min_count,
            sample=options.sample,
            alpha=options.alpha,
            min_alpha=1e-4,
            workers=options.threads,
            seed=seed,
        )
        text = {"corpus_iterable": LineSentence(file)} if options.quality else {"corpus_file": file}
        model.build_vocab(**text)
        read = time.perf_counter()
        model.train(
            **text,
            total_examples=model.corpus_count,
            total_words=model.corpus_total_words,
            epochs=options.epochs,
        )
        words, end = model.wv.index_to_key, time.perf_counter()
        tokens = sum(model.wv.get_vecattr(word, "count") for word in words)
        return Trained(words, model.wv.vectors, int(tokens), read - begin, end - read)

    return train


def fasttext(options: argparse.Namespace) -> Train:
    """Return the training of fastText's own program, which takes no seed; Word2Vec is FastText without pieces."""
    import fasttext as program

    def train(file: str, seed: int) -> Trained:
        begin = time.perf_counter()
        model = program.train_unsupervised(
            file,
            model="cbow" if options.method == "cbow" else "skipgram",
            dim=options.dim,
            ws=options.window,
            neg=options.negative,
            minCount=options.min_count,
            t=options.sample,
            lr=options.alpha,
            epoch=options.epochs,
            thread=options.threads,
            verbose=0,
            **({} if options.method == "fasttext" else {"maxn": 0, "bucket": 1}),
        )
        seconds = time.perf_counter() - begin
        words, counts = model.get_words(include_freq=True)
        matrix = np.stack([model.get_word_vector(word) for word in words])
        return Trained(words, matrix, int(counts.sum()), seconds, 0.0)

    return train


def worker(options: argparse.Namespace) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what answers a question: seconds, memory, and scores if asked for."""
    train = {OURS: langmill, GENSIM: gensim, FASTTEXT: fasttext}[options.contestant](options)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        trained = train(question["file"], question["seed"])
        memory = peak_bytes()  # before scoring, which takes memory of its own
        return {
            "tokens": trained.tokens,
            "words": len(trained.words),
            "reading": trained.reading_seconds,
            "training": trained.training_seconds,
            "memory": memory,
            "scores": scores(trained, Path(question["sets"])) if question.get("sets") else {},
        }

    return answer


# --- quality -------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[list[str]]:
    """Return a table's rows without its head, in lower case."""
    with open(path, encoding="utf-8", newline="") as lines:
        return [[cell.lower() for cell in row] for row in csv.reader(lines, delimiter="\t")][1:]


def scores(trained: Trained, sets: Path) -> dict[str, float]:
    """Return Spearman's correlation for each set of pairs, and the share of analogies found, in percent."""
    from scipy.stats import spearmanr

    index = {word: row for row, word in enumerate(trained.words)}
    norms = np.linalg.norm(trained.matrix, axis=1, keepdims=True)
    matrix = trained.matrix / np.maximum(norms, 1e-12)
    found = {}
    for path in sorted(sets.glob("*.tsv")):
        rows = rows_of(path)
        known = [row for row in rows if all(word in index for word in words_of(row))]
        ids = np.array([[index[word] for word in words_of(row)] for row in known], np.int64)
        if not known:
            result = float("nan")
        elif len(rows[0]) == 3:
            ours = (matrix[ids[:, 0]] * matrix[ids[:, 1]]).sum(1)
            result = float(spearmanr(ours, [float(row[2]) for row in known])[0])
        else:
            result = float(analogies_found(matrix, ids).mean())
        found[f"{path.stem} ({len(known)} of {len(rows)})"] = 100 * result
    return found


def words_of(row: list[str]) -> list[str]:
    """Return the words of a row of pairs, or of analogies."""
    return row[:2] if len(row) == 3 else row[1:]


def analogies_found(matrix: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each question (questions, 4) whether the nearest word is its answer."""
    found = []
    for begin in range(0, len(ids), 500):
        a, b, c, d = ids[begin : begin + 500].T
        near = (matrix[b] - matrix[a] + matrix[c]) @ matrix.T
        for given in (a, b, c):
            near[np.arange(len(given)), given] = -np.inf
        found.append(near.argmax(1) == d)
    return np.concatenate(found)


# --- the contest ---------------------------------------------------------------------------------


def contest(options: argparse.Namespace, method: str, names: Sequence[str], file: Path, small: Path) -> None:
    """Train by one method in turn, and print what was measured."""
    command = [sys.executable, __file__, *options.given, "--method", method, "--contestant"]
    contestants = [Contestant(name, [*command, name], {"OMP_NUM_THREADS": "1"}) for name in names]
    sets = str(options.benchmarks) if options.quality else ""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for contestant in contestants:
        contestant.ask({"file": str(small), "seed": 1})
    for seed in range(1, 1 + (options.seeds if options.quality else options.rounds)):
        for contestant in contestants:
            question = {"file": str(file), "seed": seed, "sets": sets}
            answers[contestant.name].append(contestant.ask(question, patience=options.patience)[1])
    for contestant in contestants:
        contestant.leave()
    print(f"\n{method}, {options.threads} threads, {options.epochs} epochs", flush=True)
    show_speed(options, answers)
    if options.quality:
        show_quality(answers)


def show_speed(options: argparse.Namespace, answers: dict[str, list[dict[str, Any]]]) -> None:
    """Print words a second, memory, and ratios."""
    whole = {
        name: [answer["reading"] + answer["training"] for answer in rounds]
        for name, rounds in answers.items()
    }
    training = {name: [answer["training"] for answer in rounds] for name, rounds in answers.items()}
    print("              training   with reading   peak memory     words")
    for name, rounds in answers.items():
        done = rounds[0]["tokens"] * options.epochs
        alone = median(training[name])
        speed = f"{done / alone / 1e3:8,.0f}k/s" if alone else f"{'':>11}"
        memory = max(answer["memory"] for answer in rounds) / 1e6
        print(
            f"{name:10} {speed}   {done / median(whole[name]) / 1e3:9,.0f}k/s   {memory:8,.0f} MB"
            f"   {rounds[0]['words']:7,}"
        )
    for name in answers:
        if name != OURS:
            if all(training[name]):
                print(f"langmill / {name}, training:     {ratios(training[OURS], training[name])}")
            print(f"langmill / {name}, with reading: {ratios(whole[OURS], whole[name])}")


def show_quality(answers: dict[str, list[dict[str, Any]]]) -> None:
    """Print mean and standard deviation of each score over the seeds."""
    for measure in next(iter(answers.values()))[0]["scores"]:
        line = f"{measure:35}"
        for name, rounds in answers.items():
            values = [answer["scores"].get(measure, float("nan")) for answer in rounds]
            spread = stdev(values) if len(values) > 1 else float("nan")
            line += f"  {name} {mean(values):6.2f} ± {spread:4.2f}"
        print(line)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="taken together")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--negative", type=int, default=5)
    parser.add_argument("--min-count", type=int, default=5)
    parser.add_argument("--sample", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--alpha", type=float, default=0.025)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--patience", type=float, default=5, help="seconds to wait for a quiet machine each time"
    )
    parser.add_argument("--without", nargs="*", default=[], choices=[GENSIM, FASTTEXT])
    parser.add_argument("--quality", action="store_true", help="score the vectors of each seed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--benchmarks", type=Path, help="the folder of the sets, for --quality")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--contestant", choices=list(PACKAGES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quality and not (options.benchmarks and options.benchmarks.is_dir()):
        parser.error("--quality needs --benchmarks FOLDER with .tsv files of pairs or analogies")
    options.given = sys.argv[1:]
    return options


def main() -> None:
    """Run the contest, or be a contestant."""
    options = parse()
    if options.contestant:
        serve(lambda: worker(options))
        return
    versions = {name: installed(sys.executable, package) for name, (_, package) in PACKAGES.items()}
    names = [name for name in versions if name == OURS or (versions[name] and name not in options.without)]
    print(", ".join(f"{name} {versions[name] or 'not installed'}" for name in PACKAGES))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder, "whole.txt"), Path(folder, "small.txt")
        with open(whole, "wb") as target:
            for path in options.corpus:
                data = path.read_bytes()
                target.write(data if data.endswith(b"\n") else data + b"\n")
        small.write_bytes(whole.read_bytes()[:WARM_UP_BYTES].rpartition(b"\n")[0] + b"\n")
        print(f"corpus: {whole.stat().st_size / 1e6:.1f} MB; {options.dim} numbers, window {options.window}")
        for method in options.methods:
            contest(options, method, names if method != "glove" else [OURS], whole, small)


if __name__ == "__main__":
    main()
