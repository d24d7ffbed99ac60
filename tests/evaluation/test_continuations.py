"""Scores of continuations: those of a plain forward pass, however requests are read together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from evaluation_samples import ENGLISH, make_model

from langmill.core.errors import CheckpointError, ConfigError, DataError
from langmill.evaluation import continuations
from langmill.evaluation.continuations import encode_continuations, score_continuations
from langmill.models.transformer import Transformer

VOCABULARY, CONTEXT = 50, 64


def requests(*, shared: int = 9, contexts: int = 10, labels: int = 3, seed: int = 0):
    """Return contexts of several lengths with one beginning, several continuations each, some beginning alike."""
    draw = np.random.default_rng(seed)

    def some(low: int, high: int) -> list[int]:
        return draw.integers(1, VOCABULARY, int(draw.integers(low, high))).tolist()

    beginning = some(shared, shared + 1)
    found = []
    for _ in range(contexts):
        context = beginning + some(1, 12)
        stem = some(0, 2)
        found += [(context, stem + some(1, 4)) for _ in range(labels)]
    return found


def directly(model, context, continuation):
    """Return what one forward pass over the whole says: log-probability, and whether each token is the likeliest."""
    with torch.no_grad():
        logs = torch.log_softmax(
            model.score(model.decode(torch.tensor([[*context, *continuation]])))[0].float(), -1
        )
    rows = logs[len(context) - 1 : -1]
    picked = rows.gather(1, torch.tensor(continuation)[:, None])
    return float(picked.sum()), rows.argmax(1).tolist() == list(continuation)


def check(model, asked):
    found = score_continuations(model, asked)
    for (context, continuation), each in zip(asked, found, strict=True):
        logprob, greedy = directly(model, context, continuation)
        assert each.logprob == pytest.approx(logprob, abs=1e-4)
        assert (each.greedy, each.tokens, each.cut) == (greedy, len(continuation), 0)
    return found


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "lstm", "ngram"])
@pytest.mark.parametrize("shared", [0, 9])
def test_scores_are_those_of_a_plain_forward_pass(family, shared):
    check(make_model(VOCABULARY, family=family, context=CONTEXT), requests(shared=shared))


def test_a_window_of_attention_counts_no_padding():
    whole = make_model(VOCABULARY, context=CONTEXT)
    narrow = dataclasses.replace(whole.config, decoder=dataclasses.replace(whole.config.decoder, window=6))
    model = Transformer(narrow).eval()
    model.load_state_dict(whole.state_dict())
    found = check(model, requests())
    assert found != score_continuations(whole, requests())


def test_likeliest_tokens_are_greedy():
    model = make_model(VOCABULARY, context=CONTEXT)
    context = [3, 1, 4]
    best = []
    for _ in range(3):
        with torch.no_grad():
            best.append(int(model.score(model.decode(torch.tensor([context + best])))[0, -1].argmax()))
    other = [*best[:2], (best[2] + 1) % VOCABULARY]
    first, second = score_continuations(model, [(context, best), (context, other)])
    assert first.greedy and not second.greedy
    assert first.logprob > second.logprob


@pytest.mark.parametrize("places", [1, 60, 100_000])
def test_batches_change_nothing(monkeypatch, places):
    model, asked = make_model(VOCABULARY, context=CONTEXT), requests()
    alone = [score_continuations(model, [each])[0] for each in asked]
    monkeypatch.setitem(continuations.CACHE_TOKENS, "cpu", places)
    together = score_continuations(model, asked)
    assert [each.logprob for each in together] == pytest.approx([each.logprob for each in alone], abs=1e-4)
    assert [each.greedy for each in together] == [each.greedy for each in alone]


def test_what_requests_share_is_read_once(monkeypatch):
    model = make_model(VOCABULARY, context=CONTEXT)
    read = []
    decode = model.decode

    def counted(ids, **settings):
        read.append(ids.numel())
        return decode(ids, **settings)

    monkeypatch.setattr(model, "decode", counted)
    beginning = list(range(1, 11))
    asked = [(beginning + [20 + n, 30, 31 + n], label) for n in range(4) for label in ([5], [6, 7], [8, 9])]
    score_continuations(model, asked)
    # The beginning, 3 tokens of each context, and but the first token of the labels that have two.
    assert read == [10, 4 * 3, 8]
    told = []
    score_continuations(model, asked, report=lambda done, total: told.append((done, total)))
    assert told == [(12, 12)]


def test_long_continuations_of_a_short_context_are_read_apart():
    model = make_model(VOCABULARY, context=CONTEXT)
    check(model, [([1], [2 + n % 40 for n in range(length)]) for length in (30, 4, 63, 17, 1)])


def test_a_long_context_loses_its_beginning():
    model = make_model(VOCABULARY, context=CONTEXT)
    draw = np.random.default_rng(1)
    context = draw.integers(1, VOCABULARY, 80).tolist()
    asked = [(context, [7, 8]), *requests()]
    first, *others = score_continuations(model, asked)
    assert first.cut == 80 + 2 - (CONTEXT + 1)
    assert first.logprob == pytest.approx(directly(model, context[first.cut :], [7, 8])[0], abs=1e-4)
    assert [each.logprob for each in others] == pytest.approx(
        [each.logprob for each in score_continuations(model, asked[1:])], abs=1e-4
    )
    with pytest.raises(DataError, match="a continuation of 65 tokens is too long: the model reads 64"):
        score_continuations(model, [([1, 2], [3] * 65)])


def test_models_that_cannot_be_asked():
    with pytest.raises(ConfigError, match="does not predict a text's next token"):
        score_continuations(make_model(VOCABULARY, family="bert"), [([1], [2])])
    model = make_model(VOCABULARY).train()
    with torch.no_grad():
        model.output.weight.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="scores that are not finite"):
        score_continuations(model, [([1], [2])])
    assert model.training


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_white_space_between_belongs_to_the_continuation(tokenizers, kind):
    tokenizer = tokenizers[kind]
    (plain, moved) = encode_continuations(tokenizer, [("It was", " the best"), ("It was \n", "the best")])
    assert plain == (tokenizer.encode("It was"), tokenizer.encode("It was the best")[len(plain[0]) :])
    assert tokenizer.decode(moved[0]) == "It was"
    assert tokenizer.decode(moved[1]) == " \nthe best"


def test_tokens_over_the_boundary_are_the_continuations(tokenizers):
    tokenizer = tokenizers["bpe"]
    whole = tokenizer.encode(ENGLISH)
    cuts = [cut for cut in range(1, len(ENGLISH)) if not ENGLISH[cut - 1].isspace()]
    for cut, (context, continuation) in zip(
        cuts, encode_continuations(tokenizer, [(ENGLISH[:cut], ENGLISH[cut:]) for cut in cuts]), strict=True
    ):
        assert context == tokenizer.encode(ENGLISH[:cut])
        assert continuation == (whole[len(context) :] or whole[-1:])


def test_an_empty_context_is_where_a_document_begins(characters):
    ((context, continuation),) = encode_continuations(characters, [("", "It")])
    assert (context, continuation) == ([characters.eos_id], characters.encode("It"))
    with pytest.raises(DataError, match="nothing to score after 'It': the continuation is empty"):
        encode_continuations(characters, [("It", "")])
