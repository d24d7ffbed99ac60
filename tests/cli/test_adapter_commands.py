"""Adapters and exports on the command line, from training to Transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_runs import TINY, CommandLine

import langmill
from langmill.checkpoint import load_checkpoint
from langmill.core.errors import CheckpointError

ADAPTER = ("--adapter.rank", "2", "--batch", "4", "--steps", "6", "--no-tensorboard")


pytestmark = pytest.mark.usefixtures("here")


def trained(command: CommandLine, task: str = "lm", *more: object, base: str = "base") -> Any:
    """Train a base and an adapter beside it, in `out`; return what the second run said."""
    assert command("train", task, "text.txt", "-o", base, *TINY, "--steps", "4").status == 0
    said = command("train", task, "text.txt", "-o", "out", "--from", base, *ADAPTER, *more)
    assert said.status == 0, said.err
    return said


def ids() -> torch.Tensor:
    return torch.arange(5, 15)[None]


@pytest.mark.parametrize(("task", "more"), [("lm", ()), ("mlm", ("--adapter.kind", "dora")), ("denoise", ())])
def test_an_adapter_run(command: CommandLine, here: Path, task: str, more: tuple[str, ...]) -> None:
    said = trained(command, task, *more)
    assert "adapter  " in said.err and "weights trained" in said.err
    names = {path.name for path in (here / "out").iterdir()}
    assert {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "run.yaml",
        "README.md",
    } <= names
    assert not {"config.json", "model.safetensors"} & names
    config = json.loads((here / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(here / "base")
    assert (config["r"], config["lora_alpha"], config["use_dora"]) == (2, 4, bool(more))
    loaded = load_checkpoint("out")
    assert loaded.tokenizer is not None and loaded.adapter == config
    card = (here / "out" / "README.md").read_text()
    assert "library_name: peft\nbase_model: base\n" in card and "adapter of rank 2" in card
    other = load_checkpoint("base")
    same = loaded.model.state_dict(), other.model.state_dict()
    assert any(not torch.equal(same[0][name], same[1][name]) for name in same[0])


def test_what_can_be_done_with_it(command: CommandLine, here: Path) -> None:
    trained(command)
    assert command("generate", "out", "--prompt", "the mill", "--max-tokens", "4").status == 0
    assert command("evaluate", "out", "text.txt", "--no-references", "--json").status == 0
    said = command("info", "out")
    assert f"lora adapter of rank 2, shown merged into {here / 'base'}" in said.out
    assert json.loads(command("info", "out", "--json").out)["adapter"]["r"] == 2
    assert command("train", "lm", "text.txt", "--from", "out", "-o", "full", *ADAPTER[2:]).status == 0
    assert (here / "full" / "config.json").is_file()
    assert command("train", "lm", "text.txt", "--from", "out", "-o", "twice", *ADAPTER).status == 0
    assert load_checkpoint("twice").base == here / "out"
    again = command(
        "train", "lm", "text.txt", "--from", "base", "-o", "out", *TINY[6:], "--steps", "2", "--overwrite"
    )
    assert again.status == 0, again.err
    assert not (here / "out" / "adapter_config.json").exists() and (here / "out" / "config.json").exists()


def test_stopped_and_resumed(command: CommandLine, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.cli.test_train import stop_in_step

    trained(command)
    whole = load_file(here / "out" / "adapter_model.safetensors")
    shutil.rmtree(here / "out")
    with monkeypatch.context() as patch:
        stop_in_step(patch, 3)
        said = command("train", "lm", "text.txt", "--from", "base", "-o", "out", *ADAPTER)
    assert said.status == 130
    assert load_checkpoint("out").adapter  # a killed run leaves an adapter that opens
    changed = command("train", "lm", "-o", "out", "--resume", "auto", "--adapter.rank", "4")
    assert "--adapter.rank cannot change when a run is resumed" in changed.error
    moved = shutil.move(here / "base", here / "elsewhere")
    gone = command("train", "lm", "-o", "out", "--resume", "auto")
    assert "its adapter's model is not here" in gone.error and "base_model_name_or_path" in gone.error
    path = here / "out" / "adapter_config.json"
    path.write_text(path.read_text().replace(str(here / "base"), "../elsewhere"))
    assert command("train", "lm", "-o", "out", "--resume", "auto").status == 0, moved
    parts = load_file(here / "out" / "adapter_model.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert json.loads(path.read_text())["base_model_name_or_path"] == "../elsewhere"
    assert yaml.safe_load((here / "out" / "run.yaml").read_text())["adapter"]["rank"] == 2


def test_mistakes(command: CommandLine, here: Path) -> None:
    assert "name one by --from CKPT" in command("train", "lm", "text.txt", "--adapter.rank", "4").error
    assert (
        "--adapter.kind needs --adapter.rank"
        in command("train", "lm", "text.txt", "--from", "base", "--adapter.kind", "dora").error
    )
    command("train", "lm", "text.txt", "-o", "base", *TINY, "--steps", "1")
    command("train", "lm", "text.txt", "-o", "lstm", "--model", "lstm", *TINY, "--steps", "1")
    said = command("train", "lm", "text.txt", "--from", "base", *ADAPTER, "--adapter.targets", "qeury")
    assert "--adapter.targets qeury: no such layer" in said.error and "did you mean query?" in said.error
    assert not (here / "runs").exists()


# ------------------------------------------------------------------------------------------------
# langmill export


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_adapter_is_exported_merged(command: CommandLine, here: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    trained(command, "lm", "--adapter.kind", kind)
    said = command("export", "out", "--to", "merged", "-o", "whole")
    assert said.status == 0 and f"its adapter merged into {here / 'base'}" in said.out
    expected = load_checkpoint("out").model(ids())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(here / "whole").eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids()).logits, expected, rtol=0, atol=1e-5)
    assert torch.equal(load_checkpoint("whole").model(ids()), expected)
    names = {path.name for path in (here / "whole").iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "model.safetensors"} <= names
    assert not [name for name in names if "adapter" in name]
    theirs_tokenizer = transformers.AutoTokenizer.from_pretrained(here / "whole")
    own = load_checkpoint("whole").tokenizer
    assert own is not None and theirs_tokenizer("the mill")["input_ids"] == own.encode("the mill")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_types_and_parts(command: CommandLine, here: Path, dtype: str) -> None:
    command("train", "lm", "text.txt", "-o", "base", *TINY, "--steps", "1")
    size = "0.02MiB"
    assert command("export", "base", "-o", "small", "--dtype", dtype, "--max-shard-size", size).status == 0
    assert len(list((here / "small").glob("model-*.safetensors"))) > 1
    assert json.loads((here / "small" / "config.json").read_text())["dtype"] == dtype
    model = load_checkpoint("base").model
    found = load_checkpoint("small", dtype=getattr(torch, dtype)).model
    for name, weight in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight.to(getattr(torch, dtype))), name
    langmill.load("base").save("again", dtype=dtype)
    assert (
        load_file(here / "again" / "model.safetensors").keys()
        == load_file(here / "base" / "model.safetensors").keys()
    )
    assert torch.equal(load_checkpoint("again").model(ids()), load_checkpoint("small").model(ids()))
    with pytest.raises(CheckpointError, match="did you mean float32"):
        langmill.load("base").save("other", dtype="float3")


def test_what_export_refuses(command: CommandLine, here: Path) -> None:
    trained(command)
    assert "'gguf' is not one of 'hf', 'merged'" in command("export", "out", "--to", "gguf", "-o", "x").error
    assert "is no size" in command("export", "out", "-o", "x", "--max-shard-size", "big").error
    assert "the model is read from there" in command("export", "out", "-o", "base", "--overwrite").error
    assert "the model is read from there" in command("export", "base", "-o", "base", "--overwrite").error
    command("train", "lm", "text.txt", "-o", "third", *TINY, "--steps", "1")
    assert "holds a run" in command("export", "out", "-o", "third", "--overwrite").error
    assert command("export", "out", "-o", "whole").status == 0
    assert "already holds config.json; pass --overwrite" in command("export", "base", "-o", "whole").error
    (here / "whole" / "notes.txt").write_text("mine")
    assert command("export", "base", "-o", "whole", "--overwrite").status == 0
    assert (here / "whole" / "notes.txt").exists()
    assert torch.equal(load_checkpoint("whole").model(ids()), load_checkpoint("base").model(ids()))
    assert "langmill export" in command("merge", "out").error
