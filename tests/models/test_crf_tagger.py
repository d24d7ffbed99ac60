"""A tagger of n-grams: what it looks at, the likelihood and its gradient, and what fitting gives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from langmill.core.errors import ConfigError, DataError
from langmill.models.crf import CrfConfig, CrfTagger
from langmill.models.crf_features import TEMPLATES, Units, read_template, template_keys, units_of
from langmill.models.crf_fit import chain_gradient, choose_keys, fit_crf
from langmill.models.heads import HeadConfig
from langmill.objectives.crf import chain_loss, restricted
from langmill.tasks.taggers import letters_of
from langmill.tasks.tags import TagSet, pieces, places_of
from langmill.tokens.tokenizer import Tokenizer
from langmill.tokens.train import train_tokenizer

TEXTS = ["Ada met Bob", "ada met 北京", "O'Brien saw Ada 2024", "x"]
HEAD = HeadConfig(kind="tokens", labels=("O", "B-人 🙂", "I-人 🙂"), scheme="BIO", crf=True)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, kind="char")


def units(tokenizer: Tokenizer, *texts: str) -> Units:
    return units_of([np.array(tokenizer.encode(text), np.int64) for text in texts], letters_of(tokenizer))


@pytest.mark.parametrize(
    "text",
    ["", " ", "O'Brien met 北京2024", "  a\u0301b \u0301c -\u0301d\n", "上海上🙂é한국 x2", "Ǆa カタ"],
)
def test_units_are_what_is_tagged(tokenizer: Tokenizer, text: str) -> None:
    found, tokens = units(tokenizer, text), tokenizer.encode_offsets(text)
    assert [tokens[at][1] for at in found.begins] == [begin for begin, _ in pieces(text)]
    assert found.begins.tolist() == places_of(text, tokenizer).tokens.tolist()
    assert len(found.owners) == len(tokens)


def test_a_text_is_seen_alike_beside_others(tokenizer: Tokenizer) -> None:
    templates = [read_template(template) for template in TEMPLATES]
    together = template_keys(units(tokenizer, *TEXTS, "", TEXTS[1]), templates)
    alone = [template_keys(units(tokenizer, text), templates) for text in (*TEXTS, TEXTS[1])]
    assert (together == np.concatenate(alone)).all()


def test_features_tell_what_they_are_named_for(tokenizer: Tokenizer) -> None:
    def of(template: str, *texts: str) -> list[int]:
        return [int(key) for key in template_keys(units(tokenizer, *texts), [read_template(template)])[:, 0]]

    upper, met, bob, lower, *_ = of("lower@0", "Ada met Bob", "ada met Oslo")
    assert upper == lower and len({upper, met, bob}) == 3
    assert of("word@0", "Ada")[0] != of("word@0", "ada")[0]
    assert of("shape@0", "Ada met")[0] == of("shape@0", "Bob")[0] != of("shape@0", "Bobby")[0]
    assert of("short@0", "Bobby X2")[0] == of("short@0", "Ada")[0] != of("short@0", "aDa")[0]
    assert of("prefix2@0", "Bobby boa bo")[:2] == of("prefix2@0", "bold BONE") and of("prefix2@0", "bo") == [
        0
    ]
    assert of("suffix2@0", "Bobby")[0] == of("suffix2@0", "xby")[0] != of("suffix2@0", "xyb")[0]
    assert of("lower@1", "x ada")[0] == of("lower@1", "y Ada")[0] and of("lower@-1", "x")[0] != 0
    spaced, glued = of("space@0", "a -")[1], of("space@0", "a-")[1]
    assert spaced != glued and of("left@0", "a b c d e")[3] == of("left@0", "a b c d e")[4]
    assert of("right@0", "a b")[1] == of("right@0", "a")[0] != of("right@0", "a b")[0]


@pytest.mark.parametrize("template", ["lower", "lower@4", "colour@0", "lower@0  lower@1", ""])
def test_a_wrong_template_is_told(template: str) -> None:
    with pytest.raises(ConfigError, match="it must be attributes such as lower@-1"):
        CrfConfig(vocabulary=3, head=HEAD, templates=(template,), features=1)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_likelihood_and_gradient_are_exact(count: int) -> None:
    draw = np.random.default_rng(count)
    labels = 3
    scores, transitions = draw.normal(0, 2, (count, labels)), draw.normal(0, 2, (labels + 1, labels + 1))
    allowed = np.ones_like(transitions, dtype=bool)
    allowed[0, 2] = allowed[labels, 2] = False
    tags = np.array([0, 1, 2, 2, 0][:count])

    def total(chain: tuple[int, ...]) -> float:
        path = (labels, *chain, labels)
        if not all(allowed[step] for step in itertools.pairwise(path)):
            return -np.inf
        return scores[range(count), chain].sum() + sum(transitions[step] for step in itertools.pairwise(path))

    chains = list(itertools.product(range(labels), repeat=count))
    log_sums = np.array([total(chain) for chain in chains])
    log_sum = np.logaddexp.reduce(log_sums)
    slopes, steps = scores.copy(), np.zeros_like(transitions)
    factors = np.where(allowed, np.exp(transitions), 0)
    loss = chain_gradient(slopes, tags, factors, np.empty_like(slopes), steps)
    assert loss == pytest.approx(log_sum - total(tuple(tags)))
    marginals = np.zeros_like(scores)
    for chain, chance in zip(chains, np.exp(log_sums - log_sum)):
        marginals[range(count), chain] += chance
    marginals[range(count), tags] -= 1
    assert slopes == pytest.approx(marginals)
    emissions, between = (torch.tensor(each, requires_grad=True) for each in (scores, transitions))
    wanted, _ = chain_loss(
        emissions[None], torch.tensor(tags)[None], restricted(between, torch.tensor(allowed))
    )
    wanted.backward()
    assert loss == pytest.approx(wanted.item())
    assert emissions.grad is not None and between.grad is not None
    assert slopes == pytest.approx(emissions.grad.numpy()) and steps == pytest.approx(between.grad.numpy())


def fitted(tokenizer: Tokenizer, seed: int = 0) -> CrfTagger:
    rows, targets = [], []
    for text in TEXTS * 8:
        ids = np.array(tokenizer.encode(text), np.int64)
        target = np.full(len(ids), -100)
        for begin, end in pieces(text):
            target[begin] = (
                1 if text[begin:end].lower() in ("ada", "bob", "北") else 2 if text[begin] == "京" else 0
            )
        rows.append(ids)
        targets.append(target)
    allowed = TagSet.of(HEAD).allowed.numpy()
    return fit_crf(rows, targets, HEAD, letters=letters_of(tokenizer), allowed=allowed, seed=seed)


def test_fitted_twice_to_the_same_bits(tokenizer: Tokenizer) -> None:
    one, same, other = fitted(tokenizer), fitted(tokenizer), fitted(tokenizer, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters()))
    assert not torch.equal(one.weight, other.weight)


def test_scores_stand_at_all_of_a_unit(tokenizer: Tokenizer) -> None:
    model = fitted(tokenizer)
    ids = torch.tensor([tokenizer.encode("Ada met")])
    scores = model(ids)[0]
    assert scores.shape == (7, 3) and (scores[3] == 0).all()
    assert (scores[:3] == scores[0]).all() and (scores[4:] == scores[4]).all()
    assert (scores[0].argmax(), scores[4].argmax()) == (1, 0)
    padded = torch.cat([ids, ids[:, :2]], 1)
    valid = torch.arange(9)[None] < 7
    assert torch.equal(model(padded, valid=valid)[0, :7], scores)
    assert (model(padded, valid=valid)[0, 7:] == 0).all()
    assert model(ids[:, :0]).shape == (1, 0, 3)


def test_where_features_are_too_many_the_rarest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.array([[9, 5, 0], [9, 5, 7], [9, 3, 0]], np.uint64)
    assert choose_keys(keys, 2).tolist() == [3, 5, 7, 9]
    monkeypatch.setattr("langmill.models.crf_fit.MOST_WEIGHTS", 6)
    assert choose_keys(keys, 2).tolist() == [5, 9]


def test_nothing_to_learn_from(tokenizer: Tokenizer) -> None:
    allowed = TagSet.of(HEAD).allowed.numpy()
    for rows in ([], [np.array(tokenizer.encode("x x"), np.int64)]):
        with pytest.raises(DataError, match="no row has a tag"):
            fit_crf(
                rows,
                [np.full(len(row), -100) for row in rows],
                HEAD,
                letters=letters_of(tokenizer),
                allowed=allowed,
            )
