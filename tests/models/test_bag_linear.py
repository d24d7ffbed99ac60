"""What fits the weights: ratios, folds, temperatures and the choice of C."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from langmill.models.bag_fasttext import fit_vectors
from langmill.models.bag_linear import (
    SMOOTHING,
    STRENGTHS,
    USUAL,
    best_temperature,
    choose,
    fit_each,
    fold_texts,
    log_count_ratios,
    log_loss,
)


def drawn(texts=240, labels=3, seed=0):
    """Return texts of 30 features of which those of its label are likelier, and their labels (B, L)."""
    draw = np.random.default_rng(seed)
    label = np.arange(texts) % labels
    likely = 0.1 + 0.25 * (np.arange(30) % labels == label[:, None])
    x = (draw.random((texts, 30)) < likely) * draw.uniform(0.5, 1, (texts, 30))
    return csr_array(x), np.eye(labels, dtype=bool)[label]


def test_log_count_ratios_by_hand():
    x = csr_array(np.array([[2.0, 0, 1], [1, 0, 0], [0, 4, 1]]))
    found = log_count_ratios(x, np.array([True, True, False]))
    inside, outside = np.array([3, 0, 1]) + SMOOTHING, np.array([0, 4, 1]) + SMOOTHING
    np.testing.assert_allclose(found, np.log((inside / inside.sum()) / (outside / outside.sum())))
    assert found[0] > 1 > -1 > found[1]


def test_folds_are_even_and_rare_labels_stay():
    members = np.eye(3, dtype=bool)[[0] * 9 + [1] * 6 + [2] * 2]
    fold = fold_texts(members, several=False, folds=3, seed=4)
    assert np.bincount(fold[:9]).tolist() == [3, 3, 3] and np.bincount(fold[9:15]).tolist() == [2, 2, 2]
    assert (fold[15:] == -1).all()
    assert not np.array_equal(fold, fold_texts(members, several=False, folds=3, seed=5))
    several = fold_texts(members, several=True, folds=3, seed=4)
    assert sorted(np.bincount(several).tolist()) == [5, 6, 6]


def test_log_loss_by_hand():
    logits, members = np.log([[1.0, 3], [4, 1]]), np.array([[True, False], [True, False]])
    assert log_loss(logits, members, several=False) == pytest.approx(-np.log([1 / 4, 4 / 5]).mean())
    each = np.log([1 / 2, 1 - 3 / 4, 4 / 5, 1 - 1 / 2])
    assert log_loss(logits, members, several=True) == pytest.approx(-each.sum() / 2)


@pytest.mark.parametrize("several", [False, True])
def test_the_temperature_is_found(several):
    """Labels drawn from a model's own probabilities, its logits then halved: doubling them is best."""
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 2, (4000, 3))
    if several:
        members = draw.random(logits.shape) < 1 / (1 + np.exp(-logits))
    else:
        members = np.eye(3, dtype=bool)[(logits + draw.gumbel(size=logits.shape)).argmax(1)]
    loss, factor = best_temperature(logits / 2, members, several=several)
    assert factor == pytest.approx(2, rel=0.11)
    assert loss < log_loss(logits / 2, members, several=several)


@pytest.mark.parametrize("ratios", [False, True])
def test_two_labels_mirror_each_other(ratios):
    x, members = drawn(labels=2)
    weight, bias = fit_each(x, members, 3.0, several=False, ratios=ratios, seed=0)
    np.testing.assert_array_equal(weight[:, 0], -weight[:, 1])
    assert bias[0] == -bias[1]
    assert ((x @ weight + bias).argmax(1) == members.argmax(1)).mean() > 0.8
    assert fit_each(x, members, 3.0, several=True, ratios=ratios, seed=0)[0].shape == (30, 2)


def test_ratios_pull_to_naive_bayes():
    """Where C is small, one regression stays at nothing, the other keeps to the sign of the ratios."""
    x, members = drawn()
    weight, _ = fit_each(x, members, 0.01, several=False, ratios=True, seed=0)
    for label, member in enumerate(members.T):
        assert np.corrcoef(weight[:, label], log_count_ratios(x, member))[0, 1] > 0.9


def test_labels_that_all_or_none_have():
    x, members = drawn()
    members = np.stack([members[:, 0], np.zeros(240, bool), np.ones(240, bool)], 1)
    weight, bias = fit_each(x, members, 3.0, several=True, ratios=True, seed=0)
    assert not weight[:, 1:].any() and weight[:, 0].any()
    assert bias[1] == pytest.approx(np.log(0.5 / 240.5)) and bias[2] == -bias[1]


def test_what_is_chosen_predicts_best():
    """Labels that have nothing to do with the texts want the least C and timid logits."""
    x, members = drawn()
    c, factor = choose(x, members, several=False, ratios=False, seed=0)
    assert c in STRENGTHS and 0.3 < factor < 3
    noise = np.eye(3, dtype=bool)[np.random.default_rng(2).integers(0, 3, 240)]
    assert choose(x, noise, several=False, ratios=False, seed=0) == (STRENGTHS[0], pytest.approx(0.2))
    assert choose(x[:4], members[:4], several=False, ratios=False, seed=0) == (USUAL, 1.0)


def test_vectors_learn_and_keep_the_best_epoch():
    x, members = drawn(texts=600)
    x = csr_array(x / x.sum(1)[:, None].clip(1))
    weight, bias = fit_vectors(x, members, several=False, seed=0)
    again, _ = fit_vectors(x, members, several=False, seed=0)
    other, _ = fit_vectors(x, members, several=False, seed=1)
    assert np.array_equal(weight, again) and not np.allclose(weight, other)
    fresh, truth = drawn(texts=300, seed=9)
    fresh = csr_array(fresh / fresh.sum(1)[:, None].clip(1))
    logits = fresh @ weight + bias
    assert (logits.argmax(1) == truth.argmax(1)).mean() > 0.8
    assert log_loss(logits, truth, several=False) < 0.7 < np.log(3)
