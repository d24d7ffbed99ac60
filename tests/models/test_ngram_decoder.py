"""The n-gram model under the protocol: what it shares with the neural ones, and what it refuses."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch

from langmill.batches.batch import TokenBatch
from langmill.core.errors import CheckpointError, ConfigError
from langmill.models.families import choose_family, pair_weights, read_config, write_config
from langmill.models.initialise import allocate
from langmill.models.ngram import NgramModel
from langmill.models.ngram_decoder import NgramConfig, NgramDecoder, NgramState
from langmill.models.protocol import LanguageModel, PastState
from langmill.objectives.next_token import next_token

VOCABULARY, START = 11, 7


def counted(order: int = 4) -> NgramModel:
    draw = np.random.default_rng(5)
    documents = [draw.zipf(1.3, size=50).clip(1, VOCABULARY) - 1 for _ in range(8)]
    return NgramModel.train(documents, vocabulary=VOCABULARY, order=order, start=START)


def some_ids(rows: int = 2, tokens: int = 12) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(2))


def test_it_keeps_the_protocol():
    model = NgramDecoder.of(counted())
    assert isinstance(model, LanguageModel) and isinstance(model.new_cache(2, 9), PastState)
    assert model.output is None and model.config.decoder is model.config.output_stack
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("order", [1, 2, 4])
def test_scores_are_those_of_the_counted_model(order):
    table = counted(order)
    model = NgramDecoder.of(table)
    ids = some_ids()
    scores = model(ids)
    assert scores.shape == (2, 12, VOCABULARY) and scores.dtype == torch.float32
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(2, 12))
    for text in ids.tolist():
        # A row that begins with START is a document.
        wanted = torch.from_numpy(np.log(table.probabilities(np.array(text)))).float()
        torch.testing.assert_close(model(torch.tensor([[START, *text]]))[0, -1], wanted)
    states = model.decode(ids)
    assert states.dtype == torch.int64 and states.shape == (2, 12, order - 1)
    chosen = model.chosen_logprobs(states[:, :-1], ids[:, 1:])
    torch.testing.assert_close(chosen, scores[:, :-1].gather(2, ids[:, 1:, None])[..., 0])


def test_the_loss_of_packed_rows_is_that_of_their_targets():
    model = NgramDecoder.of(counted())
    rows = some_ids(2, 13)
    targets = rows[:, 1:].clone()
    targets[0, :3] = -100
    starts = torch.zeros(2, 12, dtype=torch.long)
    starts[1, 5:] = 5
    loss, count = next_token(model, TokenBatch(rows[:, :-1], targets, starts))
    assert int(count) == 21
    first = model(rows[:1, :-1])[0, 3:].gather(1, targets[0, 3:, None])
    second = [model(rows[1:, a:b])[0].gather(1, targets[1, a:b, None]) for a, b in ((0, 5), (5, 12))]
    torch.testing.assert_close(-loss, torch.cat([first, *second]).sum())


def test_rows_are_repeated_and_take_each_others_places():
    model = NgramDecoder.of(counted())
    ids = some_ids()
    cache = model.new_cache(2, 0)
    model.decode(ids, cache=cache)
    before = cache.numbers
    cache.repeat(2)
    assert torch.equal(cache.numbers, before[[0, 0, 1, 1]]) and cache.length == 12
    cache.reorder(torch.tensor([3, 0]))
    assert torch.equal(cache.numbers, before[[1, 0]])
    assert isinstance(cache, NgramState)


def test_its_config_round_trips():
    model = NgramDecoder.of(counted())
    family = choose_family(model.config)
    assert family.name == "langmill_ngram"
    theirs = write_config(family, model.config)
    assert theirs["ngrams"] == list(model.config.ngrams) and theirs["start_token_id"] == START
    assert read_config(family, theirs) == model.config
    assert set(pair_weights(family, allocate(model.config))) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("value", [None, "many", [VOCABULARY, -1], [VOCABULARY, 2.5], [VOCABULARY, True]])
def test_sizes_that_are_none(value):
    family = choose_family(NgramConfig(vocabulary=VOCABULARY, start=0, ngrams=(VOCABULARY,)))
    theirs = {"vocab_size": VOCABULARY, "start_token_id": 0, "ngrams": value}
    with pytest.raises(CheckpointError, match=f"ngrams {re.escape(repr(value))} is not allowed"):
        read_config(family, theirs)


def test_configs_that_make_no_sense():
    with pytest.raises(ConfigError, match=r"each of its 5 ids at order 1, not \(3,\)"):
        NgramConfig(vocabulary=5, start=0, ngrams=(3, 9))
    with pytest.raises(ConfigError, match="the start 6 is no id of a vocabulary of 5"):
        NgramConfig(vocabulary=5, start=6, ngrams=(5,))


@pytest.mark.parametrize(
    ("name", "index", "value", "order"),
    [
        ("keys", 1, 10**6, 2),
        ("keys", 2, -1, 3),
        ("keys", 0, 3, 1),
        ("counts", 3, 0, 4),
        ("counts", 0, -2, 1),
    ],
)
def test_damaged_counts_are_refused(name, index, value, order):
    model = NgramDecoder.of(counted())
    model.verify("here")
    getattr(model, name)[index][-1 if value > 0 else 0] = value
    with pytest.raises(CheckpointError, match=f"here: the counts of order {order} are damaged"):
        model.verify("here")


def test_a_cast_changes_the_discounts_and_no_count():
    model = NgramDecoder.of(counted())
    ids = some_ids()
    full = model(ids)
    rounded = copy.deepcopy(model).to(torch.bfloat16)
    assert rounded.counts[0].dtype == torch.int32 and rounded.discounts.dtype == torch.bfloat16
    found = rounded(ids)
    assert not torch.equal(found, full)
    torch.testing.assert_close(found, full, atol=0.05, rtol=0)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2, 12))
