"""Few labels, much text: does pre-training on the unlabelled text pay?

    python recipes/few_labels.py TEXT LABELLED TEST -o runs/few

TEXT: text without labels, of the same kind (a file with a text a line, or rows with a column `text`). LABELLED and TEST: rows
with `text` and `label`; of the former only --sizes many are learned from, drawn label by label with each seed.

1. Word vectors are learned from TEXT (seconds).
2. A small encoder starts from them and learns to guess hidden words of TEXT (mlm, minutes).
3. With 50, 200 and 1,000 labels are compared, on TEST: that encoder, fine-tuned; the same one with the word vectors alone, and
   from scratch; TF-IDF with logistic regression; and what `langmill train classify` takes by itself, a classifier of n-grams.

TEST settles nothing: each run has a fixed number of steps, and is scored once, at its end.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev

import langmill
from langmill.text.readers import read_documents
from langmill.vectors.settings import VectorSettings
from langmill.vectors.training import train_vectors

BATCH = 16
"""Rows of a step."""


def main() -> None:
    """Read what is asked, pre-train, and print the table."""
    parser = argparse.ArgumentParser(description="Few labels: pre-trained against from scratch.")
    parser.add_argument("text"), parser.add_argument("labelled"), parser.add_argument("test")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/few-labels"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretraining-steps", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=150, help="of each fine-tuning, at least")
    parser.add_argument("--passes", type=int, default=8, help="over the labelled rows, at least")
    asked = parser.parse_args()

    body, vectors = pretrain(asked.text, asked.output, steps=asked.pretraining_steps)
    size = {"family": "eurobert", "layers": 2, "width": 128, "context": 128}
    tokenizer = str(body / "tokenizer.json")  # learned from TEXT; 50 labelled rows hold too few words
    gentle = {"learning_rate": 1e-3, "layer_decay": 0.7}  # lower layers keep what they have learned
    ways = {
        "encoder, mlm on the text": {"batch": BATCH, "from_checkpoint": str(body), "optimizer": gentle},
        "encoder, word vectors": {
            "batch": BATCH,
            "model": size,
            "tokenizer": tokenizer,
            "embeddings": str(vectors),
        },
        "encoder, from scratch": {"batch": BATCH, "model": size, "tokenizer": tokenizer},
        "TF-IDF": {"model": {"family": "tfidf"}},
        "n-grams (default)": {},
    }
    print("| | " + " | ".join(f"{count:,} labels" for count in asked.sizes) + " |")
    print("|---" * (len(asked.sizes) + 1) + "|")
    for way, settings in ways.items():
        cells = [way]
        for count in asked.sizes:
            scores = []
            steps = max(asked.steps, asked.passes * count // BATCH)
            length = {"steps": steps, "evaluate_every": steps} if "batch" in settings else {}
            for seed in range(asked.seeds):
                result = langmill.train(
                    "classify",
                    asked.labelled,
                    held_out_data=asked.test,
                    output=str(asked.output / way.replace(" ", "-") / f"size-{count}" / f"seed-{seed}"),
                    overwrite=True,
                    seed=seed,
                    **{**settings, **length, "data.examples": count},
                )
                scores.append(result.metrics["accuracy"])
            cells.append(f"{mean(scores):.3f}" + (f" ± {stdev(scores):.3f}" if len(scores) > 1 else ""))
        print("| " + " | ".join(cells) + " |", flush=True)


def pretrain(text: str, output: Path, *, steps: int) -> tuple[Path, Path]:
    """Learn word vectors and then a masked language model from `text`; return where they lie, which may be from before."""
    body, vectors = output / "mlm", output / "words.vec"
    if not vectors.exists():
        output.mkdir(parents=True, exist_ok=True)
        settings = VectorSettings(dim=128, epochs=20, min_count=2, threads=1)
        train_vectors(read_documents([text], boundary="line"), settings, output=vectors)
    langmill.train(
        "mlm",
        text,
        output=str(body),
        resume=True,
        steps=steps,
        batch=8,
        vocabulary=8000,
        embeddings=str(vectors),
        model={"family": "eurobert", "layers": 2, "width": 128, "context": 128},
        **{"data.boundary": "line"},
    )
    return body, vectors


if __name__ == "__main__":
    main()
