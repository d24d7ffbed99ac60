"""Fine-tuning a classifier and using it, against Transformers' Trainer: the same checkpoint, rows, batches and rates.

Both read rows of JSON Lines with `text` and `label`, train one pass with AdamW in batches of 32, and classify the rows of
--dev. Trainer pads each batch to its longest row; langmill puts rows of like length together and works on tokens, not on
padding. Each runs in float32 and in bfloat16 (products; Trainer by autocast), in turn, each in a process of its own; medians.

    python benchmarks/finetune.py --checkpoint minilm-folder --train train.jsonl --dev dev.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from contest import Contestant, installed, peak_bytes, ratios, serve

BATCH, RATE, TOKENS = 32, 1e-4, 256
OURS, THEIRS = "langmill", "trainer"
PRECISIONS = ("float32", "bfloat16")
Row = dict[str, str]


def rows_of(path: str, most: int) -> list[Row]:
    """Return up to `most` rows, the same ones every time."""
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    random.Random(13).shuffle(rows)
    return [{"text": row["text"], "label": str(row["label"])} for row in rows[:most]]


def langmill(
    checkpoint: str, precision: str, folder: Path
) -> Callable[[Sequence[Row], Sequence[Row]], dict[str, float]]:
    """Return langmill's training and prediction."""
    import langmill as package
    from langmill.core.log import set_quiet

    set_quiet(True)

    def work(train: Sequence[Row], dev: Sequence[Row]) -> dict[str, float]:
        files = [folder / f"{precision}-{name}.jsonl" for name in ("train", "dev")]
        for file, rows in zip(files, (train, dev)):
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        result = package.train(
            "classify",
            str(files[0]),
            held_out_data=str(files[1]),
            output=str(folder / precision),
            overwrite=True,
            from_checkpoint=checkpoint,
            epochs=1,
            batch=BATCH,
            precision=precision,
            evaluate_every=10**9,
            save_every=10**9,
            tensorboard=False,
            model={"context": TOKENS},
            optimizer={"kind": "adamw", "learning_rate": RATE},
            labels={"rdrop": "no"},  # each row is read once, as by Trainer
        )
        lines = (folder / precision / "metrics.jsonl").read_text().splitlines()
        assert sum('"kind": "held_out"' in line for line in lines) == 1, "only the end is evaluated"
        model = package.load(folder / precision)
        begin = time.perf_counter()
        answers = model.predict([row["text"] for row in dev], precision=precision)
        spent = time.perf_counter() - begin
        right = sum(answer.label == row["label"] for answer, row in zip(answers, dev))
        return {"training": result.seconds, "prediction": spent, "accuracy": right / len(dev)}

    return work


def trainer(
    checkpoint: str, precision: str, folder: Path
) -> Callable[[Sequence[Row], Sequence[Row]], dict[str, float]]:
    """Return the training and prediction of Transformers' Trainer."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)

    def work(train: Sequence[Row], dev: Sequence[Row]) -> dict[str, float]:
        labels = sorted({row["label"] for row in train})
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=len(labels))

        def encoded(rows: Sequence[Row]) -> list[dict[str, Any]]:
            found = tokenizer([row["text"] for row in rows], truncation=True, max_length=TOKENS)
            return [
                {**{name: found[name][i] for name in found}, "labels": labels.index(rows[i]["label"])}
                for i in range(len(rows))
            ]

        settings = TrainingArguments(
            output_dir=str(folder / f"trainer-{precision}"),
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=RATE,
            warmup_steps=1,
            bf16=precision == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        runner = Trainer(
            model=model,
            args=settings,
            train_dataset=encoded(train),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        begin = time.perf_counter()
        runner.train()
        middle = time.perf_counter()
        scores = runner.predict(encoded(dev)).predictions  # type: ignore[arg-type]
        end = time.perf_counter()
        right = sum(labels[int(row.argmax())] == each["label"] for row, each in zip(scores, dev))
        return {"training": middle - begin, "prediction": end - middle, "accuracy": right / len(dev)}

    return work


def main() -> None:
    """Let all train and predict in turns; print samples a second, memory, accuracy and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="a folder of a BERT, or minilm")
    parser.add_argument("--train", required=True)
    parser.add_argument("--dev", required=True)
    parser.add_argument("--rows", type=int, default=2000, help="of --train")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=5)
    parser.add_argument("--contestant", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    train, dev = rows_of(options.train, options.rows), rows_of(options.dev, options.rows)
    if options.contestant:
        kind, precision, folder = options.contestant
        make = {OURS: langmill, THEIRS: trainer}[kind]

        def worker() -> Callable[[Any], Any]:
            work = make(options.checkpoint, precision, Path(folder))

            def answer(question: int) -> Any:
                found = work(train[:question], dev[: min(question, len(dev))])
                return {**found, "memory": peak_bytes()}

            return answer

        return serve(worker)
    from langmill.checkpoint.locate import locate

    options.checkpoint = str(locate(options.checkpoint))
    print(
        f"langmill {installed(sys.executable, 'langmill')}, transformers {installed(sys.executable, 'transformers')}"
    )
    print(f"{len(train):,} rows to train on, {len(dev):,} to classify")
    with tempfile.TemporaryDirectory() as folder:
        contest(options, folder, len(train), len(dev))


def contest(options: argparse.Namespace, folder: str, trained: int, classified: int) -> None:
    """Run the rounds."""
    given = [
        "--checkpoint",
        options.checkpoint,
        "--train",
        options.train,
        "--dev",
        options.dev,
        "--rows",
        str(options.rows),
    ]
    names = [(kind, precision) for precision in PRECISIONS for kind in (OURS, THEIRS)]
    players = {
        name: Contestant(" ".join(name), [sys.executable, __file__, *given, "--contestant", *name, folder])
        for name in names
    }
    answers: dict[tuple[str, str], list[dict[str, float]]] = {name: [] for name in names}
    for player in players.values():
        player.ask(2 * BATCH)
    for _ in range(options.rounds):
        for name, player in players.items():
            answers[name].append(player.ask(trained, patience=options.patience)[1])
    for player in players.values():
        player.leave()
    print("                      training   prediction   accuracy   peak memory")
    for name, rounds in answers.items():
        speed = [
            count / median(each[what] for each in rounds)
            for what, count in (("training", trained), ("prediction", classified))
        ]
        shown = f"{speed[0]:8.1f}/s   {speed[1]:8.1f}/s   {median(each['accuracy'] for each in rounds):8.4f}"
        print(f"{' '.join(name):20}{shown}   {max(each['memory'] for each in rounds) / 1e6:8,.0f} MB")
    for precision in PRECISIONS:
        for what in ("training", "prediction"):
            both = [[each[what] for each in answers[kind, precision]] for kind in (OURS, THEIRS)]
            print(f"langmill / Trainer, {what}, {precision}: {ratios(*both)}")


if __name__ == "__main__":
    main()
