"""Linear classifiers of n-grams as folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.checkpoint.export import check_known_elsewhere
from langmill.core.errors import CheckpointError, ConfigError
from langmill.evaluation.anatomy import anatomy
from langmill.evaluation.checkup import describe
from langmill.models.bag_features import Alphabet
from langmill.models.bag_fit import RECIPES, fit_bag
from langmill.models.heads import HeadConfig
from langmill.models.initialise import under_head
from langmill.tokens.train import train_tokenizer

TEXTS = ["ham and eggs", "cheap pills!", "开会 at noon", "WIN 奖金 now", "lunch at noon", "win cheap 奖金"]
LABELS = ("ham & 蛋", "spam 🚫")


def made(kind="nbsvm", targets=None) -> Checkpoint:
    tokenizer = train_tokenizer(TEXTS, kind="char")
    rows = [np.array(row, dtype=np.int64) for row in tokenizer.encode_batch(TEXTS)]
    wanted = np.array([0, 1] * 3) if targets is None else targets
    return Checkpoint(fit_bag(kind, rows, wanted, LABELS, alphabet=Alphabet.of(tokenizer)), tokenizer)


@pytest.mark.parametrize("kind", RECIPES)
def test_a_folder_gives_the_same_logits(tmp_path, kind):
    checkpoint = made(kind)
    save_checkpoint(tmp_path, checkpoint)
    again = load_checkpoint(tmp_path)
    assert again.model.config == checkpoint.model.config and again.family == "langmill_bag"
    ids = torch.tensor(again.tokenizer.encode("win ham at noon, 奖金!"))[None]
    assert torch.equal(checkpoint.model(ids), again.model(ids))
    assert not torch.equal(again.model(ids)[0], again.model.bias)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    save_checkpoint(tmp_path / "again", again)
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == again.config
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_labels_stand_where_transformers_has_them(tmp_path):
    save_checkpoint(tmp_path, made(targets=np.eye(6, 2, dtype=bool)))
    theirs = json.loads((tmp_path / "config.json").read_text())
    assert theirs["id2label"] == {"0": "ham & 蛋", "1": "spam 🚫"} and theirs["dtype"] == "float32"
    assert theirs["problem_type"] == "multi_label_classification"
    assert theirs["architectures"] == ["LangmillBag"] and theirs["vocab_size"] > 256
    assert load_checkpoint(tmp_path).model.config.head.multi_label


def test_a_damaged_folder_is_told(tmp_path):
    save_checkpoint(tmp_path, made())
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"keys.0": tensors["keys.0"].flip(0)}, path)
    with pytest.raises(CheckpointError, match="the keys of its n-grams are damaged; copy or save it again"):
        load_checkpoint(tmp_path)
    save_file(tensors | {"folded": tensors["folded"] + 100_000}, path)
    with pytest.raises(CheckpointError, match="are damaged"):
        load_checkpoint(tmp_path)
    save_file(tensors | {"weight": tensors["weight"][1:]}, path)
    with pytest.raises(CheckpointError, match="1 of another shape: weight"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("features", [3], "it must be two counts"),
        ("features", [3, -1], "must be at least 1, the others 0"),
        ("problem_type", "regression", "'regression' is not supported; known: single_label_classification"),
        ("weighting", "bm25", "'bm25' is not supported; known: tfidf, mean"),
        ("words", None, "words is null"),
    ],
)
def test_a_wrong_config_is_told(tmp_path, key, value, message):
    save_checkpoint(tmp_path, made())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_what_else_asks_for_a_model_knows_it():
    checkpoint = made()
    found = anatomy(checkpoint.model)
    assert found.total == sum(p.numel() for p in checkpoint.model.parameters())
    assert "nbsvm" in describe(checkpoint) and "2 labels" in describe(checkpoint)
    with pytest.raises(CheckpointError, match="no other program opens"):
        check_known_elsewhere(checkpoint)
    with pytest.raises(ConfigError, match="no states for a head to read"):
        under_head(checkpoint.model, HeadConfig(kind="text", labels=("a", "b")))


def test_doctor_finds_nothing_wrong(tmp_path, capsys):
    from small_runs import CommandLine

    import langmill

    rows = "".join(
        f'{{"text": "{word} thing {n}", "label": "{word}"}}\n' for n in range(20) for word in ("good", "差")
    )
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    run = langmill.train("classify", str(tmp_path / "rows.jsonl"), output=str(tmp_path / "run")).folder
    said = CommandLine(capsys)("doctor", run)
    assert said.status == 0 and "nothing wrong was found" in said.out
    assert "reads one text a row" in said.out
    again = CommandLine(capsys)(
        "train", "classify", tmp_path / "rows.jsonl", "--from", run, "-o", tmp_path / "new"
    )
    assert "fitted in one go and has no weights to go on training; fit one anew" in again.error
