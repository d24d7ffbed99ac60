"""Windows over documents: each token once, enough context, and nothing else matters."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from evaluation_samples import make_model
from hypothesis import given
from hypothesis import strategies as st

from langmill.core.errors import CheckpointError, ConfigError
from langmill.evaluation.windows import Reach, choose_reach, document_logprobs, windows
from langmill.models.config import StackConfig, TransformerConfig
from langmill.models.transformer import Transformer
from langmill.objectives.logprobs import token_logprobs

VOCABULARY = 37
START = 0


def drawn(*lengths, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(1, VOCABULARY, size=length).astype(np.int32) for length in lengths]


def brute_force(model, ids, *, reach=None, start=START):
    """Return each token's log-probability by one pass a token over exactly what its window shows of the past."""
    text = [start, *map(int, ids)]
    out = []
    for target in range(len(ids)):
        begin = 0
        if reach is not None:
            while begin + reach.context <= target:
                begin += reach.stride
        logits = model(torch.tensor([text[begin : target + 1]]))[0, -1].double()
        out.append(float(logits.log_softmax(-1)[text[target + 1]]))
    return np.array(out)


@given(st.integers(0, 60), st.integers(1, 12), st.data())
def test_every_target_is_counted_once_with_enough_before_it(targets, context, data):
    reach = Reach(context, data.draw(st.integers(1, context)))
    counted = []
    for begin, end, first in windows(targets, reach):
        assert begin <= first < end <= targets
        assert end - begin <= context
        if begin:
            assert first + 1 - begin >= context - reach.stride + 1
        counted += range(first, end)
    assert counted == list(range(targets))


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_a_text_that_fits_is_scored_in_one_window(family):
    model = make_model(VOCABULARY, family=family)
    for length in (1, 31, 32):
        (ids,) = drawn(length, seed=length)
        (found,) = document_logprobs(model, [ids], start=START, reach=choose_reach(model))
        np.testing.assert_allclose(found, brute_force(model, ids), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("reach", [Reach(8, 4), Reach(8, 1), Reach(7, 3), Reach(5, 5), Reach(1, 1)])
def test_a_long_text_is_scored_window_by_window(reach):
    model = make_model(VOCABULARY)
    (ids,) = drawn(30)
    (found,) = document_logprobs(model, [ids], start=START, reach=reach)
    np.testing.assert_allclose(found, brute_force(model, ids, reach=reach), atol=1e-5)


def test_neither_batches_nor_neighbours_matter():
    model, reach = make_model(VOCABULARY), Reach(8, 4)
    documents = drawn(3, 0, 50, 8, 1, 9, 20)
    alone = [document_logprobs(model, [ids], start=START, reach=reach)[0] for ids in documents]
    order = list(range(len(documents)))
    random.Random(1).shuffle(order)
    for batch_tokens in (1, 20, 8192):
        together = document_logprobs(
            model, [documents[i] for i in order], start=START, reach=reach, batch_tokens=batch_tokens
        )
        for place, i in enumerate(order):
            np.testing.assert_allclose(together[place], alone[i], atol=2e-6)


@torch.no_grad()
def test_without_a_start_the_first_token_is_drawn_evenly():
    model = make_model(VOCABULARY)
    ids, single, empty = drawn(12, 1, 0)
    found = document_logprobs(model, [ids, single, empty], start=None, reach=Reach(32, 16))
    np.testing.assert_allclose(found[0][1:], brute_force(model, ids[1:], start=int(ids[0])), atol=1e-5)
    assert found[0][0] == found[1][0] == -math.log(VOCABULARY)
    assert found[2].shape == (0,)


def test_dropout_is_off_and_the_mode_is_given_back():
    model = make_model(VOCABULARY, dropout=0.5)
    (ids,) = drawn(20)
    (still,) = document_logprobs(model, [ids], start=START, reach=Reach(8, 4))
    model.train()
    (found,) = document_logprobs(model, [ids], start=START, reach=Reach(8, 4))
    assert np.array_equal(found, still)
    assert model.training


def test_progress_ends_at_the_total():
    calls = []
    model = make_model(VOCABULARY)
    document_logprobs(
        model,
        drawn(20, 7),
        start=START,
        reach=Reach(8, 4),
        batch_tokens=8,
        report=lambda done, total: calls.append((done, total)),
    )
    assert calls[-1] == (27, 27)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_weights_that_are_no_numbers_are_an_error():
    model = make_model(VOCABULARY)
    model.decoder.blocks[1].feed_forward.up.weight.data[3, 2] = math.nan
    with pytest.raises(CheckpointError, match="not finite numbers.*langmill doctor"):
        document_logprobs(model, drawn(5), start=START, reach=Reach(8, 4))


def test_reach_by_default_and_as_asked():
    model = make_model(VOCABULARY, context=32)
    assert choose_reach(model) == Reach(32, 16)
    assert choose_reach(model, context=9) == Reach(9, 4)
    assert choose_reach(model, context=1) == Reach(1, 1)
    assert choose_reach(model, stride=32) == Reach(32, 32)
    assert choose_reach(make_model(VOCABULARY, context=4096)) == Reach(2048, 1024)
    assert choose_reach(make_model(VOCABULARY, context=4096), context=4096) == Reach(4096, 2048)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"context": 33}, r"--context 33 is not allowed; it must be 1 to 32"),
        ({"context": 0}, "--context 0"),
        ({"stride": 0}, r"--stride 0 is not allowed; it must be 1 to the context, 32"),
        ({"context": 8, "stride": 9}, "--stride 9"),
    ],
)
def test_reach_that_cannot_be(asked, message):
    with pytest.raises(ConfigError, match=message):
        choose_reach(make_model(VOCABULARY), **asked)


def test_an_encoder_has_no_next_token():
    stack = StackConfig(layers=1, width=8, heads=1, hidden=8, causal=False)
    with pytest.raises(ConfigError, match="next token"):
        choose_reach(Transformer(TransformerConfig(vocabulary=VOCABULARY, encoder=stack)))


def test_token_logprobs_are_a_softmax_in_any_chunks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    states, weight = (
        torch.randn(2, 50, 6, generator=generator),
        torch.randn(VOCABULARY, 6, generator=generator),
    )
    bias, targets = (
        torch.randn(VOCABULARY, generator=generator),
        torch.randint(VOCABULARY, (2, 50), generator=generator),
    )
    logits = states @ weight.T + bias
    expected = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(token_logprobs(states, weight, targets, bias=bias), expected)
    monkeypatch.setattr("langmill.objectives.logprobs.chunk_rows", lambda vocabulary: 7)
    torch.testing.assert_close(token_logprobs(states, weight, targets, bias=bias), expected)
