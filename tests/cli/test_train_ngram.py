"""`langmill train lm --model ngram`, and all that is done with what it writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file
from small_runs import SIZES, CommandLine, assert_same_weights, everything_in

import langmill
from langmill.models.ngram import NgramModel
from langmill.tasks import ngram as task
from langmill.tasks.corpus import Corpus
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import DataSettings

COUNT = ("train", "lm", "text.txt", "--model", "ngram", "--tokenizer", "char", "--no-tensorboard")

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def run(here: Path, command: CommandLine) -> Path:
    """Return the folder of a run on English and Chinese lines."""
    said = command(*COUNT, "--boundary", "line", "-o", "out", "--json")
    assert said.status == 0, said.err
    return here / "out"


def test_a_run(run: Path, command: CommandLine) -> None:
    assert everything_in(run) == [
        *("README.md", "config.json", "generation_config.json", "metrics.jsonl", "model.safetensors"),
        *("run.yaml", "tokenizer.json", "tokenizer_config.json"),
    ]
    config = json.loads((run / "config.json").read_text())
    assert config["model_type"] == "langmill_ngram" and len(config["ngrams"]) == 8
    tree = yaml.safe_load((run / "run.yaml").read_text())
    assert tree["model"]["order"] == 8 and tree["plan"]["tokens"] > 0
    (row,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert row["kind"] == "held_out" and 0 < row["bits_per_byte"] < 2
    card = (run / "README.md").read_text()
    assert "An n-gram model of order 8" in card and f"| loss | {row['loss']:.4f} |" in card
    assert "opens in langmill alone" in card and "curve.png" not in card
    said = command(*COUNT, "--boundary", "line", "--model.order", "3", "-o", "short")
    assert "order 3, modified Kneser-Ney" in said.err and "one pass over" in said.out
    assert "held-out: " in said.err and "at step" not in said.err


def test_it_scores_as_what_is_counted_directly(run: Path) -> None:
    """The model of the run's own documents, counted and asked without any of its files or protocol."""
    model = langmill.load(run)
    corpus = Corpus(("text.txt",), (), DataSettings(boundary="line"), seed=0)
    tokenizer = Tokenizer.load(run)
    kept, held = ([d.text for d, out in corpus.documents() if out is side] for side in (False, True))
    ids = [np.array(tokenizer.encode(text)) for text in kept]
    size, start = tokenizer.vocabulary_size, tokenizer.eos_id
    assert start is not None and len(held) > 5
    table = NgramModel.train(ids, vocabulary=size, start=start)
    for text in (*held[:5], "磨坊 unseen text"):
        wanted = table.logprobs(np.array(tokenizer.encode(text)))
        np.testing.assert_allclose(model.logprobs(text), wanted, rtol=2e-6)


def test_evaluate_says_the_same_bits_and_the_reference_beside(run: Path, command: CommandLine) -> None:
    text = "the mill turns raw 磨坊 把 文本\nmodels with one command line and care\n"
    Path("other.txt").write_text(text, encoding="utf-8")
    said = command("evaluate", run, "other.txt", "--boundary", "line", "--json")
    assert said.status == 0, said.err
    tree = json.loads(said.out)
    lines = text.splitlines()
    model = langmill.load(run)
    nats = -sum(float(model.logprobs(line).sum()) for line in lines)
    length = sum(len(line.encode()) for line in lines)
    assert tree["bits_per_byte"] == pytest.approx(nats / math.log(2) / length, rel=1e-6)
    assert [each["name"] for each in tree["references"]].count("8-gram") == 1
    against = command("evaluate", run, "other.txt", "--against", run, "--json", "--no-references")
    assert json.loads(against.out)["against"]["bits_per_byte"] == json.loads(against.out)["bits_per_byte"]


def test_it_continues_texts(run: Path, command: CommandLine) -> None:
    model = langmill.load(run)
    prompts = ["the mill ", "磨坊 把 ", "raw"]
    greedy = model.generate_batch(prompts, temperature=0, max_tokens=12)
    assert [each.text for each in greedy] == [
        model.generate(prompt, temperature=0, max_tokens=12).text for prompt in prompts
    ]
    ids = model.tokenizer.encode("the mill ")
    assert greedy[0].tokens[0] == int(model.logits([ids])[0, -1].argmax())
    drawn = model.generate("磨坊", max_tokens=20, seed=3, top_k=5)
    assert drawn == model.generate("磨坊", max_tokens=20, seed=3, top_k=5)
    beams = model.generate("the mill ", beams=3, alternatives=3, max_tokens=8, early_stopping="no")
    assert len(beams.alternatives) == 2 and beams.score >= beams.alternatives[0].score
    said = command("generate", run, "--prompt", "the mill", "--max-tokens", "5", "--seed", "1", "--json")
    assert said.status == 0 and len(json.loads(said.out)["tokens"]) <= 5
    assert command("predict", run, "the mill").status == 0


def test_info_doctor_and_saving(run: Path, here: Path, command: CommandLine) -> None:
    said = command("info", run)
    assert said.status == 0 and "order 8" in said.out and "operations" not in said.out
    tree = json.loads(command("info", run, "--json").out)
    assert sum(tree["parts"].values()) == tree["parameters"]
    counts = sum(load_file(run / "model.safetensors")[f"counts.{order}"].numel() for order in range(8))
    assert tree["memory_bytes"]["counts"]["1024"] == 12 * counts + 4 * 3 * 8
    doctor = command("doctor", run, "--json")
    assert doctor.status == 0, doctor.out
    ran = {c["name"] for c in json.loads(doctor.out)["checks"] if c["status"] == "ok"}
    assert {
        "batched = single",
        "padded = unpadded",
        "cached = uncached",
        "saved and loaded = original",
    } <= ran
    langmill.load(run).save("copy")
    assert_same_weights(run, here / "copy")
    said = command("export", run, "-o", "elsewhere")
    assert "an n-gram model is counts, which no other program opens" in said.error


def test_the_same_again(run: Path, here: Path, command: CommandLine) -> None:
    said = command("train", "lm", "--config", run / "run.yaml", "-o", "again")
    assert said.status == 0, said.err
    assert_same_weights(run, here / "again")
    (run / "model.safetensors").unlink()  # as if it had been killed
    said = command("train", "lm", "-o", run, "--resume", "auto")
    assert said.status == 0 and "from the beginning" in said.err
    assert_same_weights(run, here / "again")
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    assert "already holds a run" in command(*COUNT, "-o", run).error


def test_what_is_interrupted_leaves_nothing(
    here: Path, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*settings: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(task.NgramModel, "train", interrupted)
    assert command(*COUNT, "-o", "out").status == 130
    assert not (here / "out").exists()


def test_a_tokenizer_without_an_end_counts_too(run: Path, command: CommandLine) -> None:
    tokenizer = json.loads((run / "tokenizer.json").read_text())
    named = json.loads((run / "tokenizer_config.json").read_text())
    bare = Path("bare")
    bare.mkdir()
    (bare / "tokenizer.json").write_text(json.dumps(tokenizer))
    plain = {name: value for name, value in named.items() if name not in ("eos_token", "bos_token")}
    (bare / "tokenizer_config.json").write_text(json.dumps(plain))
    assert Tokenizer.load(bare).eos_id is None
    said = command(
        "train",
        "lm",
        "text.txt",
        "--model",
        "ngram",
        "--tokenizer",
        bare,
        "--no-tensorboard",
        "-o",
        "endless",
    )
    assert said.status == 0, said.err
    config = json.loads(Path("endless/config.json").read_text())
    assert config["start_token_id"] == config["vocab_size"]
    assert command("doctor", "endless").status == 0
    assert command("generate", "endless", "--prompt", "the", "--max-tokens", "4").status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", "5"), "--model ngram: --steps has no effect"),
        (("--budget", "1m"), "--model ngram: --budget has no effect"),
        (("--epochs", "2", "--batch", "4"), "--epochs, --batch have no effect"),
        (("--model.layers", "2"), "--model.layers has no effect"),
        (("--model.context", "64"), "--model.context has no effect"),
        (("--embeddings", "x.vec"), "--embeddings has no effect"),
        (("--optimizer.ema", "0.9"), "--optimizer.ema has no effect"),
        (("--adapter.rank", "4"), "--adapter.rank has no effect"),
        (("--compile", "yes"), "--compile has no effect"),
        (("--from", "out"), "--model ngram: --from has no effect"),
        (("--device", "cuda"), "--device cuda: an n-gram model is counted on the CPU"),
        (("--model.order", "40"), "--model.order: '40' is not allowed"),
    ],
)
def test_what_it_has_no_use_for(options: tuple[str, ...], message: str, command: CommandLine) -> None:
    assert message in command(*COUNT, *options, "-o", "new").error
    assert not Path("new").exists()


def test_only_one_process_counts(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from langmill.core import distributed

    monkeypatch.setattr(distributed, "join", lambda: distributed.World(0, 2, 0))
    monkeypatch.setattr(distributed.World, "barrier", lambda self: None)
    monkeypatch.setattr(distributed.World, "leave", lambda self: None)
    assert "counted by one process" in command(*COUNT, "-o", "new").error


def test_neural_runs_and_ngrams_keep_apart(run: Path, command: CommandLine) -> None:
    said = command("train", "lm", "text.txt", "--model.order", "3", "-o", "new")
    assert "--model.order is of n-gram models" in said.error
    said = command("train", "lm", "text.txt", "--from", run, "--steps", "1", "-o", "new")
    assert "--from names an n-gram model, which has none" in said.error
    said = command("train", "lm", "text.txt", "--model", "ngam", *SIZES, "--steps", "1", "-o", "new")
    assert "qwen3, gpt2, lstm, gru, ngram" in said.error and "did you mean ngram?" in said.error
    said = command("train", "mlm", "text.txt", "--model", "ngram", "--steps", "1", "-o", "new")
    assert "mlm trains eurobert" in said.error


def test_a_damaged_model_is_said_in_a_line(run: Path, command: CommandLine) -> None:
    tensors = load_file(run / "model.safetensors")
    tensors["keys.3"] = tensors["keys.3"].flip(0)
    save_file(tensors, run / "model.safetensors")
    said = command("generate", run, "--prompt", "the", "--max-tokens", "3")
    assert "out: the counts of order 4 are damaged" in said.error
    said = command("doctor", run)
    assert said.status == 1 and "opens" in said.out and "FAILED" in said.out
    tensors.pop("counts.2")
    tensors["counts.1"] = tensors["counts.1"].float()
    save_file(tensors, run / "model.safetensors")
    said = command("generate", run, "--prompt", "the")
    assert "1 missing: counts.2" in said.error and "counts.1 (F32)" in said.error


def test_help_names_it(command: CommandLine) -> None:
    said = command("train", "--help")
    assert "n-gram model too" in said.out and "--model.order" in said.out
