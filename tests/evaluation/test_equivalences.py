"""The equivalences: they hold on sound models, and each sees the fault that it is for."""

from __future__ import annotations

import math

import pytest
import torch
from evaluation_samples import FAMILIES, make_model

from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.evaluation import equivalences as module
from langmill.evaluation.equivalences import Check
from langmill.models.cache import Cache
from langmill.models.transformer import Stack, Transformer

VOCABULARY = 41


@pytest.fixture(params=list(FAMILIES))
def model(request):
    return make_model(VOCABULARY, family=request.param)


@pytest.mark.parametrize("check", module.MODEL_CHECKS)
@pytest.mark.parametrize("context", [32, 5, 2])
def test_sound_models_pass(model, check, context):
    model = make_model(
        VOCABULARY, family="qwen3" if hasattr(model.decoder, "rates") else "gpt2", context=context
    )
    found = check(model)
    assert found.ok, found
    assert found.difference is not None or "numba" in found.note or "single" in found.note


def test_all_checks_run_in_order(model):
    names = [check.name for check in module.model_checks(model)]
    assert names[:4] == ["batched = single", "padded = unpadded", "cached = uncached", "packed = separate"]


def test_rows_that_leak_into_each_other_fail(model, monkeypatch):
    sound = Transformer.decode

    def leaking(self, ids, **settings):
        states = sound(self, ids, **settings)
        return states + 0.01 * states.mean(0, keepdim=True)

    monkeypatch.setattr(Transformer, "decode", leaking)
    assert not module.batched_is_single(model).ok


def test_padding_that_is_seen_fails(model, monkeypatch):
    sound = Stack.mask

    def blind(self, ids, *, valid, starts, past, dtype):
        return sound(self, ids, valid=None, starts=starts, past=past, dtype=dtype)

    monkeypatch.setattr(Stack, "mask", blind)
    assert not module.padded_is_unpadded(model).ok
    assert not module.cached_is_uncached(model).ok  # its second half is padded on the left


def test_positions_that_count_padding_fail():
    # Learned positions only: rotary ones know no absolute place, so left padding may shift them.
    model = make_model(VOCABULARY, family="gpt2")
    model.decoder.token_positions = lambda ids, *, valid, starts, past: torch.arange(
        past, past + ids.shape[1]
    )[None]
    assert not module.padded_is_unpadded(model).ok


def test_a_cache_that_ignores_positions_fails(model, monkeypatch):
    sound = Stack.token_positions

    def forgetful(self, ids, *, valid, starts, past):
        if past:
            return torch.arange(ids.shape[1])[None]
        return sound(self, ids, valid=valid, starts=starts, past=past)

    monkeypatch.setattr(Stack, "token_positions", forgetful)
    assert not module.cached_is_uncached(model).ok
    assert module.batched_is_single(model).ok


def test_a_cache_that_swaps_rows_fails(model, monkeypatch):
    sound = Cache.append
    monkeypatch.setattr(
        Cache, "append", lambda self, *parts: tuple(part.flip(0) for part in sound(self, *parts))
    )
    assert not module.cached_is_uncached(model).ok


def test_packed_documents_that_see_each_other_fail(model, monkeypatch):
    sound = Stack.mask

    def open_doors(self, ids, *, valid, starts, past, dtype):
        return sound(self, ids, valid=valid, starts=None, past=past, dtype=dtype)

    monkeypatch.setattr(Stack, "mask", open_doors)
    assert not module.packed_is_separate(model).ok


def test_a_fast_decoder_that_differs_fails(model, monkeypatch):
    class Wrong(module.TorchDecoder):
        def __init__(self, model, rows):
            super().__init__(model)

        def step(self, ids, cache):
            scores = super().step(ids, cache)
            scores.logits[0, 3] += 0.01
            return scores

    monkeypatch.setattr(module, "FastDecoder", Wrong)
    monkeypatch.setattr(module, "obstacle", lambda model, rows: "")
    assert not module.fast_is_plain(model).ok
    monkeypatch.setattr(module, "obstacle", lambda model, rows: "numba is not installed")
    assert module.fast_is_plain(model) == Check("fast decoding = plain", None, 2e-5, "numba is not installed")


def test_saving_is_exact_and_a_changed_weight_is_seen(model, characters, monkeypatch):
    checkpoint = Checkpoint(make_model(characters.vocabulary_size), characters)
    assert module.saved_is_original(checkpoint).difference == 0
    sound = module.load_checkpoint

    def other(*arguments, **settings):
        loaded = sound(*arguments, **settings)
        loaded.model.decoder.blocks[0].attention.query.weight.data[0, 0] += 1
        return loaded

    monkeypatch.setattr(module, "load_checkpoint", other)
    assert not module.saved_is_original(Checkpoint(model)).ok
    monkeypatch.setattr(module, "LARGEST_COPY_BYTES", 100)
    assert module.saved_is_original(checkpoint).status == "skipped"


def test_ours_against_transformers(model, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    save_checkpoint(tmp_path, Checkpoint(model))
    assert module.ours_is_transformers(tmp_path, model).difference < 2e-5
    block = model.decoder.blocks[1].attention
    block.query.weight.data[[0, 1]] = block.query.weight.data[[1, 0]]
    assert not module.ours_is_transformers(tmp_path, model).ok
    monkeypatch.setattr(module, "_transformers", lambda: None)
    assert module.ours_is_transformers(tmp_path, model).note == "transformers is not installed"


def test_tokenizer_against_transformers(characters, tokenizers, tmp_path):
    pytest.importorskip("transformers")
    characters.save(tmp_path)
    samples = {"en": "the times", "zh": "荒唐🦉"}
    assert module.tokenizer_is_transformers(tmp_path, characters, samples).ok
    other = module.tokenizer_is_transformers(tmp_path, tokenizers["bpe"], samples)
    assert (other.difference, other.note) == (2.0, "other ids for: en, zh")


def test_numbers_that_are_none_fail(model):
    model.decoder.blocks[0].feed_forward.up.weight.data[1, 1] = math.nan
    for check in module.model_checks(model):
        assert check.status in ("FAILED", "skipped"), check


@pytest.mark.parametrize(
    ("difference", "status", "shown"),
    [
        (None, "skipped", None),
        (0.5, "ok", 0.5),
        (0.6, "FAILED", 0.6),
        (math.nan, "FAILED", None),
        (math.inf, "FAILED", None),
    ],
)
def test_status_of_a_check(difference, status, shown):
    check = Check("x", difference, 0.5)
    assert (check.status, check.ok) == (status, status != "FAILED")
    assert check.to_dict()["difference"] == shown
