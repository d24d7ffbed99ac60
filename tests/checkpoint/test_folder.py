"""What a checkpoint folder holds, and what is said when it does not."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_weights
from langmill.checkpoint import weights as weights_module
from langmill.core.errors import CheckpointError, LangmillError
from langmill.models.config import StackConfig, TransformerConfig
from langmill.models.families import FAMILIES
from langmill.models.transformer import Transformer
from tests.checkpoint.folder_samples import VOCABULARY, new_model, new_tokenizer


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, edit) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def refusal(path, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------
# What is written


def test_files_of_a_new_checkpoint(tmp_path):
    save_checkpoint(tmp_path, Checkpoint(new_model(), new_tokenizer()))
    names = {each.name for each in tmp_path.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "dtype": "float32",
        "eos_token_id": 0,
        "head_dim": 8,
        "hidden_act": "silu",
        "hidden_size": 16,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "layer_types": ["full_attention", "full_attention"],
        "max_position_embeddings": 32,
        "max_window_layers": 2,
        "model_type": "qwen3",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "pad_token_id": 1,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "sliding_window": None,
        "tie_word_embeddings": True,
        "transformers_version": "5.0.0",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
    }
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {
        "_from_model_config": True,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "transformers_version": "5.0.0",
        "use_cache": True,
    }


def test_round_trip_with_a_tokenizer(tmp_path):
    model, tokenizer = new_model(), new_tokenizer()
    save_checkpoint(tmp_path, Checkpoint(model, tokenizer))
    read = load_checkpoint(tmp_path)
    assert (read.family, read.folder) == ("qwen3", tmp_path)
    assert not read.model.training
    assert read.model.config == model.config
    assert read.model.output.weight is read.model.decoder.embed.weight
    ids = tokenizer.encode("a")
    assert read.tokenizer.encode("a") == ids
    assert torch.equal(read.model(torch.tensor([ids])), model(torch.tensor([ids])))
    assert load_checkpoint(tmp_path, tokenizer=False).tokenizer is None


def test_tied_weights_are_stored_once(folder):
    tensors = load_file(folder / "model.safetensors")
    assert "model.embed_tokens.weight" in tensors
    assert "lm_head.weight" not in tensors


def test_metadata_says_torch(folder):
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_list_of_ending_ids_stays(tmp_path):
    known = {"eos_token_id": [0, 2], "temperature": 0.7}
    checkpoint = Checkpoint(new_model(), new_tokenizer(), generation=known)
    save_checkpoint(tmp_path, checkpoint)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written == {"eos_token_id": [0, 2], "temperature": 0.7, "pad_token_id": 1}


def test_weights_alone(folder):
    config = (folder / "config.json").read_bytes()
    model = new_model(seed=5)
    save_weights(folder, model, FAMILIES["qwen3"])
    assert (folder / "config.json").read_bytes() == config
    read = load_checkpoint(folder).model
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), model.parameters(), strict=True))


def test_between_one_file_and_several(folder):
    for seed, limit in ((1, 2_000), (2, 5_000), (3, 5e9), (4, 2_000)):
        model = new_model(seed=seed)
        save_weights(folder, model, FAMILIES["qwen3"], max_shard_bytes=limit)
        read = load_checkpoint(folder).model
        assert all(torch.equal(a, b) for a, b in zip(read.parameters(), model.parameters(), strict=True))
        index = folder / "model.safetensors.index.json"
        files = {each.name for each in folder.glob("*.safetensors")}
        if limit == 5e9:
            assert files == {"model.safetensors"}
            assert not index.exists()
        else:
            table = json.loads(index.read_text())
            assert files == set(table["weight_map"].values())
            assert table["metadata"]["total_size"] == sum(each.nbytes for each in model.parameters())
            assert all((folder / name).stat().st_size <= limit + 2_000 + 16 * 64 * 4 for name in files)
    assert not list(folder.glob(".partial*"))


@pytest.mark.parametrize("limit", [5e9, 2_000])
def test_a_full_disk_leaves_the_former_weights(monkeypatch, folder, limit):
    before = load_checkpoint(folder).model

    def refuse(tensors, path, metadata):
        Path(path).write_bytes(b"part of a file")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights_module, "save_file", refuse)
    with pytest.raises(LangmillError, match="the disk is full"):
        save_weights(folder, new_model(seed=9), FAMILIES["qwen3"], max_shard_bytes=limit)
    assert not list(folder.glob(".partial*"))
    after = load_checkpoint(folder).model
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_killed_between_the_renames_is_noticed(monkeypatch, folder):
    """Parts of two saves must never be read as one model."""
    save_weights(folder, new_model(seed=1), FAMILIES["qwen3"], max_shard_bytes=2_000)
    replace = weights_module.os.replace

    def killed(source, target):
        if "00002" in str(target):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(weights_module.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_weights(folder, new_model(seed=2), FAMILIES["qwen3"], max_shard_bytes=2_000)
    assert "but no model.safetensors.index.json" in refusal(folder)


def test_a_family_that_cannot_describe_the_model(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"gpt2 cannot describe this model: .*decoder.qk_norm would become False"
    ):
        save_checkpoint(tmp_path / "new", Checkpoint(new_model(), family="gpt2"))
    assert not (tmp_path / "new").exists()
    odd = StackConfig(layers=1, width=8, heads=2, hidden=8, causal=True, norm="rms", positions="learned")
    with pytest.raises(CheckpointError, match="no known family"):
        Checkpoint(Transformer(TransformerConfig(vocabulary=4, decoder=odd)))


# ------------------------------------------------------------------------------------------------
# Where a checkpoint is looked for


def test_no_such_folder(tmp_path, folder):
    assert "no such folder; did you mean" in refusal(tmp_path / "god")
    assert "organisation/name" in refusal("nothing-of-this-name")
    # A mistyped run is not asked for on the hub: its parent is a folder here.
    assert "no such folder" in refusal(f"{tmp_path}/zzz")


def test_a_mistyped_relative_run_stays_offline(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("the hub was asked"))
    assert "runs/a: no such folder" in refusal("runs/a")


def test_a_file_instead_of_a_folder(folder):
    assert "give the folder that holds it" in refusal(folder / "model.safetensors")


def test_a_folder_above(folder):
    assert f"did you mean {folder}?" in refusal(folder.parent)


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ("run.yaml", "has saved no model yet"),
        ("adapter_config.json", "an adapter that does not name its model"),
        ("model-q4.gguf", "GGUF"),
        ("notes.txt", "no config.json"),
    ],
)
def test_folders_of_other_kinds(tmp_path, file, word):
    (tmp_path / file).write_text("{}")
    assert word in refusal(tmp_path)


def test_hub_download(monkeypatch, folder, caplog):
    asked = {}

    def fake(name, *, allow_patterns, ignore_patterns):
        asked.update(name=name, allow=allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    assert load_checkpoint("Some-Org/model_1.5").folder == folder
    assert asked["name"] == "Some-Org/model_1.5"
    assert not any(pat.endswith((".bin", "*")) for pat in asked["allow"])
    assert "downloading it from the Hugging Face hub" in caplog.text


def hub_error(name: str):
    from huggingface_hub import errors

    kind = getattr(errors, name, None) or {"ConnectionError": ConnectionError}[name]
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("ConnectionError", "the hub cannot be reached"),
        ("OfflineModeIsEnabled", "not a folder here, and the hub cannot be reached"),
        ("LocalEntryNotFoundError", "give a folder or connect"),
        ("RepositoryNotFoundError", "neither a folder here nor a model on the hub"),
        ("GatedRepoError", "accept the model's terms"),
    ],
)
def test_hub_refusals(monkeypatch, name, word):
    def fail(*arguments, **options):
        raise hub_error(name)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert word in refusal("some-org/model")


def test_offline(monkeypatch, tmp_path):
    """The real client, told to stay offline, with nothing in its cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "the hub cannot be reached" in refusal("some-org-of-langmill-tests/model")


# ------------------------------------------------------------------------------------------------
# Damaged and unfitting files


def test_broken_config(folder):
    (folder / "config.json").write_text('{"model_type": "qw')
    assert "not valid JSON" in refusal(folder)
    (folder / "config.json").write_text("[]")
    assert "expected a JSON object, found a list" in refusal(folder)


def test_broken_generation_config(folder):
    (folder / "generation_config.json").write_text("nonsense")
    assert "generation_config.json: not valid JSON" in refusal(folder)


def test_unknown_family(folder):
    edit_config(folder, model_type="qwen33")
    message = refusal(folder)
    assert (
        "known: bart, bert, eurobert, gpt2, langmill_bag, langmill_crf, langmill_ngram, langmill_recurrent"
        in message
    )
    assert "did you mean qwen3?" in message


@pytest.mark.parametrize("size", [0, 5, 100, -10])
def test_truncated_weights(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert "model.safetensors: damaged or cut short" in refusal(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "has not been saved yet" in refusal(folder)


def test_pickled_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "never read" in message
    assert "save_pretrained" in message


def test_everything_that_does_not_fit_at_once(folder):
    def spoil(tensors):
        del tensors["model.layers.0.self_attn.q_proj.weight"], tensors["model.norm.weight"]
        tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 16)
        tensors["model.layers.7.mlp.up_proj.weight"] = torch.zeros(64, 16)
        tensors["score.weight"] = torch.zeros(2, 2)
        tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(64, 16, dtype=torch.int8)

    edit_weights(folder, spoil)
    message = refusal(folder)
    assert "2 missing: model.layers.0.self_attn.q_proj.weight, model.norm.weight" in message
    assert "2 unknown: model.layers.7.mlp.up_proj.weight, score.weight" in message
    assert "1 of another shape: model.layers.1.mlp.up_proj.weight is (3, 16), not (64, 16)" in message
    assert "1 quantised: model.layers.0.mlp.up_proj.weight (I8)" in message


def test_a_stored_output_layer_must_equal_its_twin(folder):
    def store(values):
        return lambda tensors: tensors.update(
            {"lm_head.weight": values(tensors["model.embed_tokens.weight"])}
        )

    edit_weights(folder, store(lambda embed: embed.clone()))
    load_checkpoint(folder)
    edit_weights(folder, store(lambda embed: embed + 0.01))
    message = refusal(folder)
    assert "ties lm_head.weight to the token embedding" in message
    edit_config(folder, tie_word_embeddings=False)
    model = load_checkpoint(folder).model
    assert torch.equal(model.output.weight, model.decoder.embed.weight + 0.01)


def test_an_untied_output_layer_must_be_there(folder):
    edit_config(folder, tie_word_embeddings=False)
    assert "1 missing: lm_head.weight" in refusal(folder)


@pytest.fixture
def shards(folder) -> Path:
    """The same checkpoint in several files."""
    save_weights(folder, new_model(), FAMILIES["qwen3"], max_shard_bytes=6_000)
    return folder


def shard(folder: Path, number: int) -> Path:
    return next(folder.glob(f"model-{number:05d}-of-*.safetensors"))


def test_missing_shard(shards):
    gone, count = shard(shards, 2), len(list(shards.glob("model-*")))
    gone.rename(shards / "elsewhere")
    assert f"1 of {count} weight files missing: {gone.name}" in refusal(shards)


def test_truncated_shard(shards):
    path = shard(shards, 3)
    path.write_bytes(path.read_bytes()[:-4])
    assert f"{path.name}: damaged or cut short" in refusal(shards)


def test_shards_that_do_not_match_their_index(shards):
    shard(shards, 1).write_bytes(shard(shards, 2).read_bytes())
    assert "does not hold what model.safetensors.index.json says" in refusal(shards)


@pytest.mark.parametrize(
    ("index", "word"),
    [
        ("{}", "no weight_map"),
        ("[1]", "expected a JSON object, found a list"),
        ('{"weight_map": {"a": 1}}', "no weight_map"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "outside the folder"),
        ("{", "not valid JSON"),
    ],
)
def test_broken_index(shards, index, word):
    (shards / "model.safetensors.index.json").write_text(index)
    assert word in refusal(shards)


def test_unreadable_config(monkeypatch, folder):
    def deny(self, *arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", deny)
    assert "config.json: cannot be read (Permission denied)" in refusal(folder)


# ------------------------------------------------------------------------------------------------
# The tokenizer


def test_a_tokenizer_with_too_many_tokens(folder):
    new_tokenizer("abcdefghijk").save(folder)
    message = refusal(folder)
    assert "gives ids up to 13, the model's vocabulary has 12" in message
    load_checkpoint(folder, tokenizer=False)
    with pytest.raises(CheckpointError, match="do not belong together"):
        save_checkpoint(folder.parent / "new", Checkpoint(new_model(), new_tokenizer("abcdefghijk")))


def test_a_smaller_tokenizer_is_fine(folder):
    new_tokenizer("ab").save(folder)
    assert load_checkpoint(folder).tokenizer.vocabulary_size == 5


def test_no_tokenizer(folder):
    assert load_checkpoint(folder).tokenizer is None
    (folder / "vocab.json").write_text("{}")
    assert load_checkpoint(folder).tokenizer is None


def test_a_tokenizer_in_an_older_form(folder):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    assert load_checkpoint(folder).tokenizer.encode("AB", special=True) == [2, 5, 6, 3]
