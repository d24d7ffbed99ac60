"""`langmill train` as a user meets it: runs, resumed runs, and one line for each mistake."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import TINY, CommandLine, Said, assert_same_weights, everything_in, write_text

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.tasks import pretraining

RUN = (*TINY, "--steps", "8")


pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def train(command: CommandLine) -> Callable[..., Said]:
    """Return a function that trains on text.txt, into `out` unless told otherwise."""

    def call(*arguments: object, data: tuple[object, ...] = ("text.txt",), output: str = "out") -> Said:
        return command("train", "lm", *data, "-o", output, *arguments)

    return call


def stop_in_step(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Send this process a signal in a step of the next run."""
    from langmill.training import loop

    update, count = loop.Trainer.update, [0]

    def interrupted(self: Any) -> Any:
        count[0] += 1
        if count[0] == step:
            os.kill(os.getpid(), number)
        return update(self)

    monkeypatch.setattr(loop.Trainer, "update", interrupted)


def test_a_run(train: Callable[..., Said], here: Path, command: CommandLine) -> None:
    said = train(*RUN, "--json")
    assert said.status == 0
    result = json.loads(said.out)
    assert (result["steps"], result["tokens"], result["interrupted"]) == (8, 8 * 4 * 16, "")
    assert {"loss", "bits_per_byte"} <= result["metrics"].keys()
    assert "1 layers, width 32" in said.err and "8 of 4 rows × 16 tokens" in said.err
    names = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "run.yaml",
        "metrics.jsonl",
    }
    assert names | {"README.md"} <= {path.name for path in (here / "out").iterdir()}
    assert load_checkpoint("out").tokenizer is not None
    assert "tokens reused from the cache" in train(*RUN, output="again").err
    assert_same_weights(here / "out", here / "again")


def test_the_resolved_config_runs_again(train: Callable[..., Said], here: Path, command: CommandLine) -> None:
    train(*TINY, "--tokens", "500")
    settings = yaml.safe_load((here / "out" / "run.yaml").read_text())
    assert (settings["plan"]["steps"], settings["steps"], settings["tokens"]) == (8, 0, 500)
    assert settings["model"]["heads"] == 2
    said = command("train", "lm", "--config", "out/run.yaml", "-o", "again")
    assert said.status == 0, said.err
    assert_same_weights(here / "out", here / "again")
    changed = command("train", "lm", "--config", "out/run.yaml", "-o", "other", "--seed", "5", "--json")
    assert changed.status == 0
    assert yaml.safe_load((here / "other" / "run.yaml").read_text())["seed"] == 5


# ------------------------------------------------------------------------------------------------
# Stopped and resumed


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_and_resumed(
    train: Callable[..., Said], here: Path, command: CommandLine, number: int, status: int
) -> None:
    options = (*RUN, "--model.dropout", "0.1", "--optimizer.ema", "0.9", "--micro-batch", "2")
    assert train(*options, output="whole").status == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_in_step(patch, 3, number)
        said = train(*options)
    assert said.status == status
    assert "stopping after this step and saving" not in said.out
    line = "langmill train lm -o out --resume auto"
    assert line in said.out and "after 3 steps; saved" in said.out
    load_checkpoint("out")
    said = command(*line.split()[1:])
    assert said.status == 0, said.err
    assert "resumed after step 3" in said.err
    assert_same_weights(here / "whole", here / "out")


def test_the_same_command_with_resume_goes_on(train: Callable[..., Said], here: Path) -> None:
    assert train(*RUN, output="whole").status == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_in_step(patch, 5)
        assert train(*RUN, "--resume", "auto").status == 130, "there is nothing to resume yet: it begins"
    assert train(*RUN, "--resume", "auto").status == 0
    assert_same_weights(here / "whole", here / "out")


def test_a_run_is_lengthened(train: Callable[..., Said], here: Path, command: CommandLine) -> None:
    assert train(*RUN).status == 0
    said = command("train", "lm", "-o", "out", "--resume", "auto", "--steps", "12", "--json")
    assert json.loads(said.out)["steps"] == 12
    # What was asked is remembered, should this be stopped and resumed in its turn.
    assert json.loads(command("train", "lm", "-o", "out", "--resume", "auto", "--json").out)["steps"] == 12
    said = command("train", "lm", "-o", "out", "--resume", "auto", "--tokens", 14 * 64, "--json")
    assert json.loads(said.out)["steps"] == 14
    rows = (here / "out" / "metrics.jsonl").read_text().splitlines()
    assert [r["step"] for r in map(json.loads, rows) if r["kind"] == "train"] == list(range(1, 15))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model.layers", 2), "--model.layers cannot change when a run is resumed"),
        (("--seed", 2, "--batch", 8), "--batch, --seed cannot change"),
        (("--optimizer.learning-rate", "1e-4"), "--optimizer.learning-rate cannot change"),
        (("--data.boundary", "line"), "--data.boundary cannot change"),
        (("--held-out-data", "text.txt"), "was trained with --held-out-data of none; resume with the same"),
        (("--steps", 20, "--budget", "3m"), "--budget and --steps exclude each other"),
    ],
)
def test_what_cannot_change(train: Callable[..., Said], here: Path, options: tuple, words: str) -> None:
    assert train(*RUN).status == 0
    before = {name: (here / "out" / name).read_bytes() for name in ("run.yaml", "model.safetensors")}
    assert words in train(*options, "--resume", "auto").error
    assert all((here / "out" / name).read_bytes() == content for name, content in before.items())


def test_other_data_than_the_run_began_with(train: Callable[..., Said], here: Path) -> None:
    assert train(*RUN).status == 0
    write_text(here / "other.txt", seed=1)
    assert (
        "was trained with DATA text.txt; resume with the same"
        in train("--resume", "auto", data=("other.txt",)).error
    )
    text = (here / "text.txt").read_text(encoding="utf-8")
    (here / "text.txt").write_text(text.replace("mill", "mall", 1), encoding="utf-8")
    error = train("--resume", "auto", "--steps", 10).error
    assert "text.txt: the text has changed since this run began" in error
    # The former text is recognised by what it holds, not by its time.
    (here / "text.txt").write_text(text, encoding="utf-8")
    assert train("--resume", "auto", "--steps", 10).status == 0


def test_a_run_is_not_overwritten_by_accident(train: Callable[..., Said], here: Path) -> None:
    assert train(*RUN).status == 0
    assert "out already holds a run; pass --resume auto to continue it, --overwrite" in train(*RUN).error
    (here / "out" / "notes.txt").write_text("mine")
    (here / "out" / "settings.json").write_text("{}")
    assert "no such file" in train(*RUN, "--overwrite", data=("gone.txt",)).error
    load_checkpoint("out")  # a run that cannot begin destroys nothing
    assert train(*TINY, "--steps", 3, "--overwrite").status == 0
    assert (here / "out" / "notes.txt").read_text() == "mine"
    assert (here / "out" / "settings.json").read_text() == "{}"
    assert [path.name for path in sorted((here / "out" / "state").iterdir())] == [
        "step-00000000",
        "step-00000003",
    ]


@pytest.mark.parametrize("resume", [(), ("--resume", "auto")])
@pytest.mark.parametrize("name", ["config.json", "README.md", "model.safetensors"])
def test_files_that_are_of_no_run_are_not_replaced(
    train: Callable[..., Said], here: Path, name: str, resume: tuple[str, ...]
) -> None:
    (here / "out").mkdir()
    (here / "out" / name).write_text("mine")
    assert f"out holds {name}, which is not of a run here" in train(*RUN, *resume).error
    assert everything_in(here / "out") == [name]
    assert train(*RUN, "--overwrite").status == 0


def test_damaged_states(train: Callable[..., Said], here: Path) -> None:
    train(*RUN, output="whole")
    train(*RUN, "--save-every", 3)
    states = sorted((here / "out" / "state").iterdir())
    for folder in states[1:]:
        os.truncate(folder / "tensors.safetensors", 200)
    said = train("--resume", "auto")
    assert said.status == 0
    assert "a saved state is damaged and removed (step-00000008" in said.err
    assert_same_weights(here / "whole", here / "out")
    for folder in (here / "out" / "state").iterdir():
        os.truncate(folder / "tensors.safetensors", 200)
    error = train("--resume", "auto").error
    assert "out: no saved state can be read" in error and "--from out" in error
    load_checkpoint("out")


def test_a_run_without_its_state_is_not_trained_over(train: Callable[..., Said], here: Path) -> None:
    train(*RUN)
    train("--steps", 4, "--from", "out", output="more")
    shutil.rmtree(here / "more" / "state")
    before = (here / "more" / "model.safetensors").read_bytes()
    error = train("--resume", "auto", output="more").error
    assert "more holds a run's weights without its state" in error and "--overwrite" in error
    assert (here / "more" / "model.safetensors").read_bytes() == before
    assert not (here / "more" / "state").exists()


def test_a_run_killed_before_its_first_save_begins_anew(train: Callable[..., Said], here: Path) -> None:
    train(*RUN)
    for name in ("state", "config.json", "tokenizer.json", "model.safetensors"):
        path = here / "out" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (here / "out" / ".partial-left").mkdir()
    said = train("--resume", "auto")
    assert said.status == 0 and "resumed" not in said.err
    assert not list((here / "out").glob(".partial*"))
    load_checkpoint("out")


# ------------------------------------------------------------------------------------------------
# Mistakes: one line, and nothing left behind


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ((), (), "no data given; name files, folders or globs: langmill train lm FILE"),
        (("txt.txt",), (), "txt.txt: no such file or folder; did you mean text.txt?"),
        (("empty.txt",), (), "empty.txt: no text to train on"),
        (("blank.txt",), (), "blank.txt: no text to train on"),
        (("broken.txt",), (), "broken.txt:2: "),
        (("image.txt",), (), "image.txt:1: "),
        (("short.txt",), ("--model.context", "200"), "--model.context (at most "),
        (("one.txt",), (), "too little text to hold some out"),
        (("text.txt",), ("--tokenizer", "bqe"), "--tokenizer bqe: neither a kind (char, bpe, wordpiece, unigram) nor a path that exists; did you mean bpe?"),
        (("text.txt",), ("--from", "nowhere"), "nowhere: no such folder"),
        (("text.txt",), ("--config", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("text.txt",), ("--model.layers", "x"), "--model.layers: 'x' is not allowed"),
        (("text.txt",), ("--model.width", "33", "--model.heads", "2"), "model.width (33) must be a multiple of model.heads (2)"),
        (("text.txt",), ("--device", "gpu"), "device 'gpu' is unknown"),
        (("text.txt",), ("--budget", "soon"), "--budget: 'soon' is not allowed: expected a duration like 90s, 3m or 1h30m"),
        (("text.txt",), ("--budget", "3m"), "--budget and --steps exclude each other"),
        (("text.txt",), ("--data.encoding", "utf8x"), "encoding"),
        (("text.txt",), ("--data.held-out", "0.7"), "--data.held-out: '0.7' is not allowed"),
        (("text.txt",), ("--held-out-data", "gone.txt"), "gone.txt: no such file"),
        (("rows.jsonl",), (), "rows.jsonl:2: "),
    ],
)  # fmt: skip
def test_one_line_for_each_mistake(
    train: Callable[..., Said], here: Path, data: tuple, options: tuple, words: str
) -> None:
    (here / "empty.txt").write_text("")
    (here / "blank.txt").write_text(" \n\n")
    (here / "broken.txt").write_bytes(b"fine\nbad \xff byte\n" * 20)
    (here / "image.txt").write_bytes(b"\x89PNG\x00\x00")
    (here / "short.txt").write_text("ten words " * 10)
    (here / "one.txt").write_text("字")
    (here / "rows.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n')
    before = everything_in(here)
    assert words in train(*RUN, *options, data=data, output="runs/a/b").error
    assert everything_in(here) == before, "something was left behind"


def test_unknown_tasks(command: CommandLine, here: Path) -> None:
    error = command("train", "ml", "text.txt").error
    assert "unknown task 'ml'; tasks: lm" in error
    assert not (here / "runs").exists()


def test_mistakes_in_a_config_file_name_it(train: Callable[..., Said], here: Path) -> None:
    (here / "a.yaml").write_text("model:\n  layer: 2\nsteps: many\n")
    error = train("--config", "a.yaml").error
    assert "a.yaml: " in error
    assert "unknown setting model.layer; did you mean model.layers?" in error
    assert "steps: 'many' is not allowed" in error
    (here / "b.yaml").write_text("task: classify\n")
    assert "b.yaml: settings of the task classify, not lm" in train("--config", "b.yaml").error
    (here / "c.yaml").write_text(
        "model.layers: 1\nmodel.width: 32\nsteps: 2\nbatch: 2\ntokenizer: char\nmodel:\n  context: 8\n"
    )
    assert train("--config", "c.yaml").status == 0
    assert yaml.safe_load((here / "out" / "run.yaml").read_text())["model"]["width"] == 32


def test_output_that_cannot_be_written(train: Callable[..., Said], here: Path) -> None:
    (here / "file").write_text("")
    for output in ("file", "file/inside"):
        assert "a file or folder of another kind is in the way" in train(*RUN, output=output).error
    assert (here / "file").read_text() == ""
    if Path("/proc/version").exists():
        assert "/proc/runs" in train(*RUN, output="/proc/runs").error
    if os.geteuid():
        (here / "locked").mkdir(mode=0o500)
        assert "cannot write there" in train(*RUN, output="locked/a").error


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("when", ["probe", "run.yaml", "state", "model.safetensors", "config.json"])
def test_a_disk_that_fills_up_at_the_first_save(
    train: Callable[..., Said], here: Path, monkeypatch: pytest.MonkeyPatch, when: str, existing: bool
) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        name = Path(target).name
        if str(here / "out") in str(Path(target).absolute()) and (
            when in name or (when == "state" and name.startswith("step-"))
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    if existing:
        (here / "out").mkdir()
        (here / "out" / "notes.txt").write_text("mine")
    monkeypatch.setattr(os, "replace", full)
    assert "the disk is full; free some space and run the command again" in train(*RUN).error
    assert (here / "out").exists() == existing
    if existing:
        assert everything_in(here / "out") == ["notes.txt"]


def test_a_disk_that_fills_up_in_the_cache(
    train: Callable[..., Said], here: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if "shards" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert "the disk is full" in train(*RUN).error
    assert not (here / "out").exists()
    assert list((own_cache / "shards").iterdir()) == []


def test_ctrl_c_while_the_data_are_read(
    train: Callable[..., Said], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(pretraining, "open_corpus", interrupted)
    said = train(*RUN)
    assert said.status == 130
    assert said.err.strip().splitlines()[-1] == "langmill: interrupted"
    assert not (here / "out").exists()


def test_divergence_leaves_the_last_good_state(train: Callable[..., Said], here: Path) -> None:
    said = train(
        *TINY,
        "--steps",
        200,
        "--optimizer.kind",
        "adamw",
        "--optimizer.learning-rate",
        "1e30",
        "--optimizer.clip",
        0,
    )
    assert "training diverged" in said.error
    assert said.err.count("langmill: warning:") > 3
    load_checkpoint("out")


# ------------------------------------------------------------------------------------------------
# From a checkpoint


@pytest.fixture
def base(train: Callable[..., Said], here: Path) -> Path:
    assert train(*RUN, output="base").status == 0
    return here / "base"


def test_going_on_from_a_checkpoint(train: Callable[..., Said], here: Path, base: Path) -> None:
    write_text(here / "more.txt", seed=2)
    assert (
        train(
            "--from", base, "--steps", 6, "--batch", 4, "--no-tensorboard", data=("more.txt",), output="whole"
        ).status
        == 0
    )
    with pytest.MonkeyPatch.context() as patch:
        stop_in_step(patch, 2)
        assert (
            train("--from", base, "--steps", 6, "--batch", 4, "--no-tensorboard", data=("more.txt",)).status
            == 130
        )
    shutil.rmtree(base)  # a resumed run has in its own folder what it needs
    assert train("--resume", "auto", data=()).status == 0
    assert_same_weights(here / "whole", here / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model.layers", 3), "--model.layers 3: the checkpoint"),
        (("--model.context", 64), "--model.context 64: the checkpoint looks back over 16 tokens"),
        (("--tokenizer", "bpe.json"), "--tokenizer and --from exclude each other"),
    ],
)
def test_what_a_checkpoint_has_decided(
    train: Callable[..., Said], here: Path, base: Path, options: tuple, words: str
) -> None:
    assert words in train("--from", base, "--steps", 3, *options).error
    assert not (here / "out").exists()


def test_a_checkpoint_with_something_missing_or_damaged(
    train: Callable[..., Said], here: Path, base: Path
) -> None:
    (base / "tokenizer.json").rename(here / "kept.json")
    assert "has no tokenizer.json" in train("--from", base, "--steps", 3).error
    (here / "kept.json").rename(base / "tokenizer.json")
    checkpoint = load_checkpoint(base)
    larger = (base / "tokenizer.json").read_text(encoding="utf-8")
    vocabulary = json.loads(larger)
    vocabulary["model"]["vocab"]["再"] = 999
    (base / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    assert "ids up to 999, the model's vocabulary has" in train("--from", base, "--steps", 3).error
    (base / "tokenizer.json").write_text(larger, encoding="utf-8")
    os.truncate(base / "model.safetensors", 1000)
    assert "model.safetensors" in train("--from", base, "--steps", 3).error
    save_checkpoint(base, Checkpoint(checkpoint.model, checkpoint.tokenizer))
    assert train("--from", base, "--steps", 3, "--no-tensorboard").status == 0
