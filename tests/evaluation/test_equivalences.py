"""The equivalences: they hold on sound models, and each sees the fault that it is for."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from evaluation_samples import EVERY, FAMILIES, make_model

from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.evaluation import equivalences as module
from langmill.evaluation.equivalences import Check
from langmill.models.cache import Cache
from langmill.models.ngram_decoder import NgramDecoder, NgramState
from langmill.models.recurrent import Recurrent, RecurrentState
from langmill.models.recurrent_layers import Sequences, TextAttention
from langmill.models.transformer import Attention, Stack, Transformer

VOCABULARY = 41


@pytest.fixture(params=list(FAMILIES))
def model(request):
    return make_model(VOCABULARY, family=request.param)


@pytest.mark.parametrize("check", module.MODEL_CHECKS)
@pytest.mark.parametrize("context", [32, 5, 2])
@pytest.mark.parametrize("family", EVERY)
def test_sound_models_pass(family, check, context):
    found = check(make_model(VOCABULARY, family=family, context=context))
    assert found.ok, found
    assert found.difference is not None or found.note


SKIPPED = {
    "decoder": {"fast decoding = plain"},
    "encoder": {"fast decoding = plain", "cached = uncached", "reordered = read afresh"},
    "pair": {"fast decoding = plain", "packed = separate"},
}


@pytest.mark.parametrize("family", EVERY)
def test_all_checks_run_in_order(family):
    model = make_model(VOCABULARY, family=family)
    checks = list(module.model_checks(model))
    assert [check.name for check in checks] == [
        *("batched = single", "padded = unpadded", "cached = uncached"),
        *("reordered = read afresh", "packed = separate", "fast decoding = plain"),
    ]
    config = model.config
    role = "decoder" if config.encoder is None else "encoder" if config.decoder is None else "pair"
    assert {check.name for check in checks if check.status == "skipped"} <= SKIPPED[role]


@pytest.mark.parametrize("family", ["eurobert", "gpt2"])
def test_a_model_that_scores_nothing_is_checked_by_its_states(family):
    config = dataclasses.replace(make_model(VOCABULARY, family=family).config, has_output=False)
    model = Transformer(config).eval()
    checks = {check.name: check for check in module.model_checks(model)}
    assert all(check.ok for check in checks.values())
    assert checks["padded = unpadded"].difference is not None


BROKEN = ("t5", "lstm", "gru-encoder", "lstm-luong", "gru-bahdanau")


@pytest.mark.parametrize("family", BROKEN)
def test_rows_that_leak_fail_in_every_architecture(family, monkeypatch):
    model = make_model(VOCABULARY, family=family)
    sound = type(model).score
    monkeypatch.setattr(type(model), "score", lambda self, x: sound(self, x + 0.1 * x.mean(0, keepdim=True)))
    assert not module.batched_is_single(model).ok


@pytest.mark.parametrize("family", ["lstm", "gru-encoder", "lstm-luong", "gru-bahdanau"])
def test_recurrent_networks_that_read_padding_fail(family, monkeypatch):
    model = make_model(VOCABULARY, family=family)
    monkeypatch.setattr(Sequences, "of", lambda valid, starts, shape: None)
    assert not module.padded_is_unpadded(model).ok
    assert module.batched_is_single(model).ok


@pytest.mark.parametrize("family", ["lstm-luong", "gru-bahdanau"])
def test_attention_that_sees_padding_fails(family, monkeypatch):
    sound = TextAttention.memory
    monkeypatch.setattr(TextAttention, "memory", lambda self, states, valid: sound(self, states, None))
    assert not module.padded_is_unpadded(make_model(VOCABULARY, family=family)).ok


def test_cross_attention_that_sees_padding_fails(monkeypatch):
    sound = Attention.look
    monkeypatch.setattr(
        Attention, "look", lambda self, q, k, v, mask, causal: sound(self, q, k, v, None, causal)
    )
    model = make_model(VOCABULARY, family="bart")
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        block.attention.look = lambda *parts, block=block: sound(block.attention, *parts)
    assert not module.padded_is_unpadded(model).ok


@pytest.mark.parametrize("family", ["lstm", "gru-encoder"])
def test_recurrent_documents_that_see_each_other_fail(family, monkeypatch):
    monkeypatch.setattr(Sequences, "of", lambda valid, starts, shape: None)
    assert not module.packed_is_separate(make_model(VOCABULARY, family=family)).ok


@pytest.mark.parametrize("family", ["lstm", "lstm-luong", "gru-bahdanau"])
def test_a_state_that_is_forgotten_fails(family, monkeypatch):
    sound = Recurrent.decode

    def forgetful(self, ids, *, cache=None, **settings):
        if cache is not None:
            cache.states = self.decoder.zeros(len(ids), self.embed.weight)
        return sound(self, ids, cache=cache, **settings)

    monkeypatch.setattr(Recurrent, "decode", forgetful)
    assert not module.cached_is_uncached(make_model(VOCABULARY, family=family)).ok


@pytest.mark.parametrize(
    ("lost", "check"),
    [
        ("valid", module.padded_is_unpadded),
        ("starts", module.packed_is_separate),
        ("cache", module.cached_is_uncached),
    ],
)
def test_ngrams_that_see_too_much_or_too_little_fail(lost, check, monkeypatch):
    sound = NgramDecoder.decode
    monkeypatch.setattr(
        NgramDecoder, "decode", lambda self, ids, **settings: sound(self, ids, **{**settings, lost: None})
    )
    assert not check(make_model(VOCABULARY, family="ngram")).ok


@pytest.mark.parametrize("family", ["qwen3", "bart", "lstm", "lstm-luong", "gru-bahdanau", "ngram"])
def test_beams_that_keep_their_places_fail(family, monkeypatch):
    model = make_model(VOCABULARY, family=family)
    for kind in (Cache, RecurrentState, NgramState):
        sound = kind.reorder
        monkeypatch.setattr(kind, "reorder", lambda self, rows, sound=sound: sound(self, rows.sort().values))
    assert not module.reordered_is_fresh(model).ok
    assert module.cached_is_uncached(model).ok


@pytest.mark.parametrize("family", ["bart", "lstm-luong", "gru-bahdanau"])
def test_a_memory_that_stays_when_its_text_is_done_fails(family, monkeypatch):
    for name in ("langmill.models.cache", "langmill.models.recurrent"):
        monkeypatch.setattr(f"{name}.remaining_texts", lambda rows, before, texts: torch.arange(2))
    assert not module.reordered_is_fresh(make_model(VOCABULARY, family=family)).ok


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


@pytest.mark.parametrize(
    "family", [name for name in EVERY if "-" not in name and name not in ("lstm", "ngram")]
)
def test_ours_against_transformers(family, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    model = make_model(VOCABULARY, family=family)
    save_checkpoint(tmp_path, Checkpoint(model))
    assert module.ours_is_transformers(tmp_path, model).difference < 2e-5
    block = (model.decoder or model.encoder).blocks[1].attention
    block.query.weight.data[[0, 1]] = block.query.weight.data[[1, 0]]
    assert not module.ours_is_transformers(tmp_path, model).ok
    monkeypatch.setattr(module, "_transformers", lambda: None)
    assert module.ours_is_transformers(tmp_path, model).note == "transformers is not installed"


def test_what_transformers_has_not_is_left_out(tmp_path):
    pytest.importorskip("transformers")
    model = make_model(VOCABULARY, family="lstm-luong")
    save_checkpoint(tmp_path, Checkpoint(model))
    found = module.ours_is_transformers(tmp_path, model)
    assert (found.status, found.note) == ("skipped", "transformers has no langmill_recurrent")


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
