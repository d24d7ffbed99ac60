"""The examination of a checkpoint's folder."""

from __future__ import annotations

import math

import pytest
from evaluation_samples import EVERY as ARCHITECTURES
from evaluation_samples import RECURRENT, make_model

from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.core.errors import CheckpointError
from langmill.evaluation.checkup import check_checkpoint, finite, round_trip, vocabularies

EVERY = [
    "opens",
    "weights are finite",
    "vocabularies agree",
    "tokenizer round trip",
    "tokenizer = Transformers'",
    "batched = single",
    "padded = unpadded",
    "cached = uncached",
    "reordered = read afresh",
    "packed = separate",
    "fast decoding = plain",
    "saved and loaded = original",
    "ours = Transformers",
]


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_sound_checkpoint(checkpoint_folder, family):
    checks = list(check_checkpoint(checkpoint_folder("sound", family=family)))
    assert [check.name for check in checks] == EVERY
    assert all(check.ok for check in checks), checks
    if family == "ngram":
        assert checks[0].note.startswith("langmill_ngram, order 4: ")
        return
    recurrent = family in RECURRENT
    assert checks[0].note.startswith("langmill_recurrent, " if recurrent else f"{family}, ")
    inside = RECURRENT[family]["kind"] if recurrent else "2 heads"
    assert f"2 layers, width 16, {inside}, context 32" in checks[0].note


def test_a_damaged_file_is_a_finding(checkpoint_folder):
    folder = checkpoint_folder("damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    (check,) = check_checkpoint(folder)
    assert check.status == "FAILED"
    assert "model.safetensors" in check.note


def test_no_checkpoint_is_the_user_s_mistake(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        list(check_checkpoint(tmp_path / "nowhere"))


def test_without_a_tokenizer_the_model_is_checked(tmp_path):
    save_checkpoint(tmp_path, Checkpoint(make_model(30)))
    checks = {check.name: check for check in check_checkpoint(tmp_path)}
    assert checks["tokenizer"].status == "skipped"
    assert checks["cached = uncached"].ok


def test_vocabularies_that_do_not_fit(characters):
    size = characters.vocabulary_size
    assert vocabularies(characters, size).note == f"{size} tokens"
    assert vocabularies(characters, size + 6).note == f"{size} tokens, 6 embeddings unused"
    assert vocabularies(characters, size - 2).difference == 2


def test_round_trips_by_kind(tokenizers, characters):
    for kind in ("char", "bpe", "unigram"):
        assert round_trip(tokenizers[kind]).status == "ok"
    lossy = round_trip(tokenizers["wordpiece"])
    assert lossy.status == "skipped"
    assert "need not give a text back; changed: English, 中文" in lossy.note

    class Broken(type(characters)):
        def decode(self, ids, *, skip_special=True):
            return super().decode(ids, skip_special=skip_special).replace("，", ",")

    found = round_trip(Broken(characters.backend, characters.specials))
    assert (found.status, found.note) == ("FAILED", "changed: 中文")


def test_weights_that_are_not_finite_are_counted_and_named():
    model = make_model(30)
    model.decoder.blocks[1].feed_forward.up.weight.data[0, :3] = math.inf
    found = finite(model)
    assert (found.difference, found.note) == (3.0, "in decoder.blocks.1.feed_forward.up.weight")
