"""Encoders and encoder-decoders: scores and files equal to those of Transformers, in both directions."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from langmill.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from langmill.core.errors import CheckpointError
from langmill.models.families import FAMILIES
from tests.checkpoint.conftest import ENCODER_DECODERS, ENCODERS, VOCABULARY
from tests.checkpoint.test_parity import greatest_difference, swap, token_ids

TOLERANCE = 1e-5
GATED_T5 = 5e-5


def tolerance(case: str) -> float:
    return GATED_T5 if "gated" in case else TOLERANCE


def right_padding() -> torch.Tensor:
    valid = torch.ones(3, 11, dtype=torch.bool)
    valid[1, 7:] = False
    valid[2, 3:] = False
    return valid


def source_ids(case: str) -> torch.Tensor:
    """Ids without the padding token, whose positions RoBERTa counts by its id."""
    return token_ids().clamp(min=5)


@torch.no_grad()
def their_scores(model, **inputs) -> torch.Tensor:
    out = model(**inputs)
    return out.logits if hasattr(out, "logits") else out.last_hidden_state


def our_scores(model, ids, **settings) -> torch.Tensor:
    if model.config.has_output:
        return model(ids, **settings)
    return model.encode(ids, **settings)


@pytest.mark.parametrize("case", ENCODERS)
@torch.no_grad()
def test_encoder_plain_and_padded(make_reference, case):
    reference = make_reference(case)
    ids, valid = source_ids(case), right_padding()
    model = load_checkpoint(reference.folder).model
    assert (
        greatest_difference(our_scores(model, ids), their_scores(reference.model, input_ids=ids)) <= TOLERANCE
    )
    padded = ids.masked_fill(~valid, reference.model.config.pad_token_id)
    theirs = their_scores(reference.model, input_ids=padded, attention_mask=valid.long())
    assert greatest_difference(our_scores(model, ids, valid=valid)[valid], theirs[valid]) <= TOLERANCE


def test_a_bare_encoder_gives_no_scores(make_reference):
    model = load_checkpoint(make_reference("bert-bare").folder).model
    with pytest.raises(CheckpointError, match="gives states, not scores: it has no output layer"):
        model(source_ids("bert"))


@pytest.mark.parametrize("case", ["bert", "bert-bare"])
@torch.no_grad()
def test_segments(make_reference, case):
    reference = make_reference(case)
    ids = source_ids(case)
    segments = (torch.arange(11) > 5).long().expand(3, 11)
    ours = our_scores(load_checkpoint(reference.folder).model, ids, segments=segments)
    theirs = their_scores(reference.model, input_ids=ids, token_type_ids=segments)
    assert greatest_difference(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize("case", ENCODER_DECODERS)
@torch.no_grad()
def test_encoder_decoder_plain_and_padded(make_reference, case):
    reference = make_reference(case)
    source, target, valid = source_ids(case), token_ids(3, 6), right_padding()
    model = load_checkpoint(reference.folder).model
    theirs = their_scores(reference.model, input_ids=source, decoder_input_ids=target)
    assert greatest_difference(model(source, decoder_ids=target), theirs) <= tolerance(case)
    theirs = their_scores(
        reference.model, input_ids=source, attention_mask=valid.long(), decoder_input_ids=target
    )
    assert greatest_difference(model(source, valid=valid, decoder_ids=target), theirs) <= tolerance(case)


@pytest.mark.parametrize("case", ENCODER_DECODERS)
@torch.no_grad()
def test_cached_decoding_in_pieces(make_reference, case):
    """Two rows look at each text, side by side; the cache holds the text once."""
    reference = make_reference(case)
    source, valid = source_ids(case), right_padding()
    target = token_ids(6, 6)
    model = load_checkpoint(reference.folder).model
    memory = model.encode(source, valid=valid)
    cache = model.new_cache(6, 8, memory=memory, memory_valid=valid)
    pieces = [model.decode(target[:, a:b], cache=cache) for a, b in ((0, 1), (1, 2), (2, 4), (4, 6))]
    theirs = their_scores(
        reference.model,
        input_ids=source.repeat_interleave(2, 0),
        attention_mask=valid.long().repeat_interleave(2, 0),
        decoder_input_ids=target,
    )
    assert greatest_difference(model.score(torch.cat(pieces, 1)), theirs) <= tolerance(case)


def opened(folder, reference):
    model, report = type(reference.model).from_pretrained(folder, output_loading_info=True)
    missing = {name for name in report["missing_keys"] if "pooler" not in name}  # a head that we have not
    assert not (missing or report["unexpected_keys"] or report["mismatched_keys"])
    return model.eval()


@pytest.mark.parametrize("case", [*ENCODERS, *ENCODER_DECODERS])
@pytest.mark.parametrize("fresh", [False, True], ids=["config kept", "config written anew"])
@torch.no_grad()
def test_saved_and_opened_by_transformers(tmp_path, make_reference, case, fresh):
    reference = make_reference(case)
    loaded = load_checkpoint(reference.folder)
    config = {} if fresh else loaded.config
    save_checkpoint(tmp_path, Checkpoint(loaded.model, family=loaded.family, config=config))
    inputs = {"input_ids": source_ids(case)}
    if case in ENCODER_DECODERS:
        inputs["decoder_input_ids"] = token_ids(3, 6)
    theirs = opened(tmp_path, reference)
    assert torch.equal(their_scores(theirs, **inputs), their_scores(reference.model, **inputs))
    written, stored = (load_file(folder / "model.safetensors") for folder in (tmp_path, reference.folder))
    for name, tensor in written.items():
        assert torch.equal(tensor, stored[name if name in stored else name.split(".", 1)[1]])


@pytest.mark.parametrize("case", [*ENCODERS, *ENCODER_DECODERS])
def test_round_trip_of_config(make_reference, case):
    reference = make_reference(case)
    loaded = load_checkpoint(reference.folder)
    again = Checkpoint(loaded.model)  # the family chosen by what the model is
    assert again.family == loaded.family
    assert json.loads((reference.folder / "config.json").read_text())["model_type"] == again.family


@torch.no_grad()
def test_published_t5_has_its_own_output_layer(tmp_path, make_reference):
    """T5 v1.1 as published: untied, stored beside the embedding, states not scaled."""
    from safetensors.torch import save_file

    reference = make_reference("t5-gated")
    tensors = load_file(reference.folder / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn(VOCABULARY, 32, generator=torch.Generator().manual_seed(3))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs = json.loads((reference.folder / "config.json").read_text())
    theirs.pop("scale_decoder_outputs", None)
    (tmp_path / "config.json").write_text(json.dumps({**theirs, "tie_word_embeddings": False}))
    model = load_checkpoint(tmp_path).model
    assert not model.config.tie_output and model.config.output_scale == 1
    source, target = source_ids("t5"), token_ids(3, 6)
    memory = model.encode(source)
    states = model.decode(target, memory=memory)
    assert torch.allclose(model.score(states), states @ tensors["lm_head.weight"].T, atol=1e-6)


SWAPS = [
    *((case, *pair) for case in (*ENCODERS, *ENCODER_DECODERS) for pair in (
        ("attention.key", "attention.value"),
        ("attention_norm.*", "feed_forward_norm.*"),
    )),
    ("bert", "encoder.input_norm.*", "transform_norm.*"),
    ("eurobert", "feed_forward.gate.*", "feed_forward.up.*"),
    *((case, *pair) for case in ENCODER_DECODERS for pair in (
        ("cross.key", "cross.value"),
        ("decoder.blocks.{}.cross_norm.*", "decoder.blocks.{}.attention_norm.*"),
    )),
    ("t5", "encoder.relative.table.weight", "decoder.relative.table.weight"),
    ("t5-gated", "feed_forward.gate.weight", "feed_forward.up.weight"),
    ("bart", "encoder.positions.weight", "decoder.positions.weight"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "a", "b"), SWAPS)
@torch.no_grad()
def test_parity_fails_on_swapped_rows(monkeypatch, make_reference, case, a, b):
    reference = make_reference(case)
    name = json.loads((reference.folder / "config.json").read_text())["model_type"]
    ends = [(f"{one}{end}", f"{other}{end}") for one, other in ((a, b),) for end in ("", ".weight", ".*")]
    rows = FAMILIES[name]
    for one, other in ends:
        if any(each.endswith(one) for row in rows.rows for each in row.ours):
            rows = swap(rows, one, other)
    assert rows is not FAMILIES[name]
    sound = load_checkpoint(reference.folder).model
    monkeypatch.setitem(FAMILIES, name, rows)
    swapped = load_checkpoint(reference.folder).model
    ids = source_ids(case)
    settings = {"decoder_ids": token_ids(3, 6)} if case in ENCODER_DECODERS else {}
    assert (
        greatest_difference(our_scores(sound, ids, **settings), our_scores(swapped, ids, **settings)) > 1e-3
    )
