"""Folders of sentence-transformers: read, written, and their vectors those of Transformers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForFeatureExtraction
from transformers import AutoModel, BertConfig, BertModel

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.checkpoint.adapters import save_adapter
from langmill.checkpoint.folder import gives_answers
from langmill.checkpoint.sentences import SentencePooling, read_pooling, write_pooling
from langmill.core.errors import CheckpointError, ConfigError
from langmill.models.adapters import Form, adapt, choose_layers
from langmill.models.config import default_decoder, default_encoder, gpt2_decoder
from langmill.models.families import FAMILIES
from langmill.models.initialise import allocate, without_scores
from langmill.models.recurrent import RecurrentConfig
from langmill.tasks import task_of
from langmill.tasks.embed import encode
from langmill.tokens import train_tokenizer
from langmill.tokens.train import SPECIALS

TEXTS = ["the mill turns", "a", "raw text into models, raw text " * 9, "磨坊 把 文本 变成 模型"]


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)


@pytest.fixture(scope="module")
def tokenizer():
    specials = replace(SPECIALS["wordpiece"], cls="[CLS]", sep="[SEP]", pad="[PAD]")
    return train_tokenizer(TEXTS * 3, kind="wordpiece", vocabulary=120, specials=specials)


@pytest.fixture(scope="module")
def theirs(tokenizer, tmp_path_factory):
    """A bare BERT with the files that all-MiniLM-L6-v2 has."""
    folder = tmp_path_factory.mktemp("minilm")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = BertModel(BertConfig(vocab_size=tokenizer.vocabulary_size, max_position_embeddings=40, **sizes))
    randomise(model)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    write_modules(folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": false}')
    return folder


def write_modules(folder, *, pooling=None, kinds=("Transformer", "Pooling", "Normalize")):
    """Write modules.json and the pooling's config.json."""
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = pooling or {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    paths = ("", "1_Pooling", "2_Normalize", "3_Dense")
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(zip(paths, kinds))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


def test_vectors_are_those_of_transformers(theirs, tokenizer):
    model = AutoModel.from_pretrained(theirs).eval()
    rows = [tokenizer.encode(text, special=True) for text in TEXTS]
    rows = [row if len(row) <= 24 else [*row[:23], row[-1]] for row in rows]
    ids = torch.zeros(len(rows), 24, dtype=torch.long)
    mask = torch.zeros(len(rows), 24)
    for place, valid, row in zip(ids, mask, rows):
        place[: len(row)] = torch.tensor(row)
        valid[: len(row)] = 1
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    wanted = torch.nn.functional.normalize(mean, dim=1).numpy()
    found, cut = encode(load_checkpoint(theirs), TEXTS)
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    assert np.abs(wanted[0] - wanted[3]).max() > 1e-3  # other texts, other vectors
    assert cut[2] > 0 and cut[0] == cut[1] == 0


def test_a_folder_says_how_vectors_are_made(theirs):
    checkpoint = load_checkpoint(theirs)
    assert checkpoint.pooling == SentencePooling("mean", True, 24)
    assert task_of(checkpoint.model) == "embed" and gives_answers(theirs)


def test_written_and_read_back(theirs, tmp_path):
    first = load_checkpoint(theirs)
    save_checkpoint(tmp_path / "copy", first)
    again = load_checkpoint(tmp_path / "copy")
    assert again.pooling == first.pooling
    assert np.array_equal(encode(again, TEXTS)[0], encode(first, TEXTS)[0])
    assert AutoModel.from_pretrained(tmp_path / "copy").config.hidden_size == 32
    assert not (tmp_path / "copy" / "generation_config.json").exists()


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("normalise", [True, False])
def test_every_pooling_is_kept(tmp_path, pooling, normalise):
    for tokens in (0, 7):
        wanted = SentencePooling(pooling, normalise, tokens)
        folder = tmp_path / str(tokens)
        write_pooling(folder, wanted, width=8)
        assert read_pooling(folder) == wanted
    assert read_pooling(tmp_path) is None


@pytest.mark.parametrize(
    ("mode", "ours"), [("cls", "first"), ("lasttoken", "last"), (["mean"], "mean"), ("mean", "mean")]
)
def test_the_present_spelling_is_read(tmp_path, mode, ours):
    write_modules(
        tmp_path, pooling={"embedding_dimension": 8, "pooling_mode": mode}, kinds=("Transformer", "Pooling")
    )
    assert read_pooling(tmp_path) == SentencePooling(ours, normalise=False)


def test_what_makes_other_vectors_is_refused(tmp_path):
    write_modules(tmp_path, kinds=("Transformer", "Pooling", "Normalize", "Dense"))
    with pytest.raises(CheckpointError, match="Transformer, Pooling, Normalize, Dense are not supported"):
        read_pooling(tmp_path)
    write_modules(tmp_path, pooling={"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True})
    with pytest.raises(CheckpointError, match="pooling mean, max is not supported"):
        read_pooling(tmp_path)
    write_modules(tmp_path, pooling={"word_embedding_dimension": 8})
    with pytest.raises(CheckpointError, match="pooling none is not supported"):
        read_pooling(tmp_path)
    (tmp_path / "modules.json").write_text("{}")
    with pytest.raises(CheckpointError, match="expected a list of modules"):
        read_pooling(tmp_path)
    write_modules(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": "long"}')
    with pytest.raises(CheckpointError, match="max_seq_length 'long' is not a number"):
        read_pooling(tmp_path)


def test_a_prompt_is_pointed_out(tmp_path, caplog):
    write_modules(tmp_path)
    (tmp_path / "config_sentence_transformers.json").write_text('{"default_prompt_name": "query"}')
    read_pooling(tmp_path)
    assert "the prompt 'query' is not put before texts" in caplog.text


CONFIGS = {
    "qwen3": default_decoder(70, layers=2, width=32, heads=2, context=32),
    "gpt2": gpt2_decoder(70, layers=2, width=32, heads=2, context=32),
    "eurobert": default_encoder(70, layers=2, width=32, heads=2, context=32),
}


@pytest.mark.parametrize("family", CONFIGS)
def test_bodies_open_in_transformers_with_equal_states(tmp_path, family):
    body = without_scores(allocate(CONFIGS[family]))
    randomise(body)
    save_checkpoint(tmp_path, Checkpoint(body, family=family, pooling=SentencePooling()))
    ids = torch.arange(24).view(2, 12)
    theirs = AutoModel.from_pretrained(tmp_path).eval()
    again = load_checkpoint(tmp_path, tokenizer=False).model
    with torch.no_grad():
        wanted = theirs(input_ids=ids).last_hidden_state
        for model in (body.eval(), again):
            read = model.decode if model.config.encoder is None else model.encode
            torch.testing.assert_close(read(ids), wanted, atol=2e-4, rtol=2e-4)
    assert task_of(again) == "embed" and gives_answers(tmp_path)


def test_the_body_of_a_language_model_is_its_very_layers():
    model = allocate(CONFIGS["qwen3"])
    body = without_scores(model)
    assert body.decoder is model.decoder and not hasattr(body, "output")
    assert without_scores(body) is body
    pair = allocate(RecurrentConfig(vocabulary=9, layers=1, width=4, role="pair"))
    with pytest.raises(ConfigError, match="encoder or a decoder"):
        without_scores(pair)


@pytest.mark.parametrize("family", CONFIGS)
def test_an_adapter_of_a_body_opens_in_peft(tmp_path, family):
    body = without_scores(allocate(CONFIGS[family]))
    randomise(body)
    base = Checkpoint(body, family=family, pooling=SentencePooling())
    save_checkpoint(tmp_path / "base", base)
    layers = choose_layers(FAMILIES[family], body, ("query",))
    adapt(body, dict.fromkeys(layers.values(), Form(2, 2.0, "lora", 0.0)), torch.Generator())
    randomise(body, seed=1)
    body.load_state_dict(load_checkpoint(tmp_path / "base", tokenizer=False).model.state_dict(), strict=False)
    pooling = SentencePooling("first", normalise=False)
    save_adapter(tmp_path / "lora", replace(base, pooling=pooling), base=str(tmp_path / "base"))
    again = load_checkpoint(tmp_path / "lora", tokenizer=False)
    assert again.pooling == pooling
    theirs = AutoPeftModelForFeatureExtraction.from_pretrained(tmp_path / "lora").eval()
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad():
        wanted = theirs(input_ids=ids).last_hidden_state
        plain = AutoModel.from_pretrained(tmp_path / "base").eval()(input_ids=ids).last_hidden_state
        read = again.model.decode if again.model.config.encoder is None else again.model.encode
        torch.testing.assert_close(read(ids), wanted, atol=2e-4, rtol=2e-4)
    assert (wanted - plain).abs().max() > 0.01


def test_a_language_model_with_a_pooling_gives_vectors(tmp_path):
    """As Qwen3-Embedding is stored: a language model's class, and modules beside it."""
    model = allocate(CONFIGS["qwen3"])
    randomise(model)
    save_checkpoint(tmp_path, Checkpoint(model, family="qwen3"))
    assert not gives_answers(tmp_path)
    write_pooling(tmp_path, SentencePooling("last"), width=32)
    loaded = load_checkpoint(tmp_path, tokenizer=False)
    assert gives_answers(tmp_path) and task_of(loaded.model) == "embed"
    assert loaded.pooling == SentencePooling("last")
