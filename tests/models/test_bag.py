"""Linear classifiers of n-grams: what they compute, from what, and what they refuse."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from bag_samples import LABELS, TEXTS, padded, read, targets
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from langmill.core.errors import ConfigError, DataError, MissingDependencyError
from langmill.models import bag_fit
from langmill.models.bag import BagClassifier, BagConfig
from langmill.models.bag_fit import RECIPES, fit_bag
from langmill.models.heads import HeadConfig

WORD = re.compile(r"[一-鿿]|[^\W一-鿿]+|[^\w\s]")
KINDS = tuple(RECIPES)


def vectorizer() -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, tokenizer=WORD.findall, token_pattern=None)


def fitted(kind: str, texts=TEXTS, wanted=None, labels=LABELS, **options) -> tuple[BagClassifier, list]:
    rows, alphabet = read(texts)
    wanted = targets() if wanted is None else wanted
    return fit_bag(kind, rows, wanted, labels, alphabet=alphabet, **options), rows


def test_by_hand():
    """Texts `a a b`, `a` and `c`: idf of `a` is ln(4/3) + 1, of the others ln(4/2) + 1."""
    model, rows = fitted("tfidf", ["a a b", "a", "c"], np.array([0, 0, 1]), ("x", "y"))
    bags = model.bags(rows)
    common, rare = np.log(4 / 3) + 1, np.log(2) + 1
    raw = np.array([(1 + np.log(2)) * common, rare, rare, rare])  # a, b, "a a", "a b"
    first = bags.values[: bags.starts[1]]
    np.testing.assert_allclose(np.sort(first), np.sort(raw / np.linalg.norm(raw)), rtol=1e-6)
    np.testing.assert_allclose(bags.values[bags.starts[1] :], [1, 1])
    dense = np.zeros(len(model.scale))
    dense[bags.features[: bags.starts[1]]] = first
    wanted = dense @ model.weight.numpy() + model.bias.numpy()
    np.testing.assert_allclose(model(*padded(rows)[:1], valid=padded(rows)[1])[0], wanted, atol=1e-6)


def test_means_are_shares_of_each_set():
    model, rows = fitted("fasttext")
    bags = model.bags(rows)
    words = bags.features < model.config.features[0]
    for text, (start, end) in enumerate(zip(bags.starts, bags.starts[1:])):
        for part in (words, ~words):
            assert np.isclose(bags.values[start:end][part[start:end]].sum(), 1), text


@pytest.mark.parametrize("labels", [2, 3])
def test_probabilities_are_those_of_scikit_learn(monkeypatch, labels):
    monkeypatch.setattr(bag_fit, "choose", lambda *_, **__: (3.0, 1.0, 0.0))
    wanted = targets() % labels
    model, rows = fitted("tfidf", wanted=wanted, labels=LABELS[:labels])
    theirs = make_pipeline(vectorizer(), LogisticRegression(C=3.0, max_iter=1000)).fit(TEXTS, wanted)
    ids, valid = padded(rows)
    ours = model(ids, valid=valid).softmax(-1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(TEXTS), atol=1e-5)
    assert not np.allclose(ours, 1 / labels, atol=0.05)


def test_several_labels_are_those_of_one_against_rest(monkeypatch):
    monkeypatch.setattr(bag_fit, "choose", lambda *_, **__: (3.0, 1.0, 0.0))
    wanted = np.random.default_rng(0).random((len(TEXTS), 3)) < 0.4
    model, rows = fitted("tfidf", wanted=wanted)
    assert model.config.head.multi_label
    single = LogisticRegression(C=3.0, solver="liblinear", dual=True, tol=1e-2, random_state=0)
    theirs = make_pipeline(vectorizer(), OneVsRestClassifier(single)).fit(TEXTS, wanted)
    ids, valid = padded(rows)
    np.testing.assert_allclose(model(ids, valid=valid).sigmoid(), theirs.predict_proba(TEXTS), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_company_do_not_matter(kind):
    model, rows = fitted(kind)
    ids, valid = padded(rows, extra=7, filler=3)
    together = model(ids, valid=valid)
    backwards = model(ids.flip(0), valid=valid.flip(0)).flip(0)
    alone = torch.cat([model(torch.from_numpy(row)[None]) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together, backwards, atol=1e-6, rtol=0)
    left = torch.from_numpy(np.pad(rows[0], (5, 0)))[None]
    torch.testing.assert_close(model(left, valid=torch.arange(left.shape[1])[None] >= 5), alone[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(kind):
    first, second = fitted(kind, seed=5)[0], fitted(kind, seed=5)[0]
    for (name, one), other in zip(first.named_parameters(), second.parameters()):
        assert torch.equal(one, other), name
    if kind == "fasttext":
        assert not torch.equal(first.weight, fitted(kind, seed=6)[0].weight)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_english_and_chinese(kind):
    model, rows = fitted(kind)
    ids, valid = padded(rows)
    assert (model(ids, valid=valid).argmax(-1).numpy() == targets()).mean() > 0.9
    unseen, _ = read(["What a GREAT movie", "房间 很脏", "the score was two to one"], learned=TEXTS)
    ids, valid = padded(unseen)
    assert model(ids, valid=valid).argmax(-1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_several_labels(kind):
    wanted = np.eye(3, dtype=bool)[targets()]
    wanted[::2, 2] = True
    model, rows = fitted(kind, wanted=wanted)
    ids, valid = padded(rows)
    held = model(ids, valid=valid).sigmoid().numpy() >= 0.5
    assert (held == wanted).mean() > 0.75 > (held == ~wanted).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_text_gets_the_bias(kind):
    model, _ = fitted(kind)
    none = model(torch.zeros(2, 4, dtype=torch.int64), valid=torch.zeros(2, 4, dtype=torch.bool))
    torch.testing.assert_close(none, model.bias.expand(2, 3))
    torch.testing.assert_close(model(torch.zeros(1, 0, dtype=torch.int64))[0], model.bias)
    assert model(torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 3)


def test_a_text_of_100_000_tokens():
    model, rows = fitted("nbsvm")
    long = np.tile(rows[0], 100_000 // len(rows[0]) + 1)[:100_000]
    assert model(torch.from_numpy(long)[None]).argmax() == targets()[0]


def test_a_label_without_rows_is_unlikely():
    wanted = targets() % 2
    for kind in KINDS:
        model, rows = fitted(kind, wanted=wanted)  # three labels, the last in no row
        ids, valid = padded(rows)
        chances = model(ids, valid=valid).softmax(-1)
        assert chances[:, 2].max() < 0.2 and torch.isfinite(chances).all(), kind


def test_rare_labels_and_few_rows_are_fitted():
    for kind in KINDS:
        model, rows = fitted(kind, ["good film", "bad film"], np.array([1, 0]), ("bad", "good"))
        ids, valid = padded(rows)
        assert model(ids, valid=valid).argmax(-1).tolist() == [1, 0], kind


@pytest.mark.parametrize("kind", KINDS)
def test_one_label_is_refused(kind):
    with pytest.raises(DataError, match=r"all rows have the label 'b'; there is nothing to tell apart"):
        fitted(kind, wanted=np.ones(len(TEXTS), dtype=int), labels=("a", "b"))
    with pytest.raises(DataError, match="there is no text"):
        fitted(kind, [], np.zeros(0, dtype=int))
    with pytest.raises(DataError, match="no row has a word in it"):
        fitted(kind, ["", " "], np.array([0, 1]), labels=("a", "b"))


def test_other_kinds_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"'tf-idf'; allowed: tfidf, nbsvm, fasttext; did you mean tfidf\?"):
        fitted("tf-idf")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="--model nbsvm needs scikit-learn; install it with"):
        fitted("nbsvm")


def test_configurations_that_make_no_sense_are_refused():
    head = HeadConfig(kind="text", labels=("a", "b"))
    good = BagConfig(
        recipe="tfidf", vocabulary=5, head=head, words=1, pieces=0, weighting="tfidf", features=(3, 0)
    )
    for change, message in (
        ({"words": 0}, "words 0"),
        ({"features": (3, -1)}, "must be at least 1, the others 0"),
        ({"weighting": "bm25"}, "'bm25' is not known; it must be one of tfidf, mean"),
        ({"head": HeadConfig(kind="tokens", labels=("a",))}, "labels of texts, not tokens"),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(good, **change)


def test_too_many_features_lose_the_rarest(monkeypatch):
    monkeypatch.setattr(bag_fit, "MOST_FEATURES", 20)
    model, rows = fitted("tfidf")
    assert 0 < model.config.features[0] <= 20
    found = np.concatenate([np.unique(model.bags([row]).features) for row in rows])
    assert np.bincount(found).min() > 1


def test_ngrams_of_one_text_are_looked_at():
    """Of characters with the spaces around them: ` ab ` has 3 + 2 + 1, ` xyz ` 4 + 3 + 2 + 1."""
    model, _ = fitted("nbsvm", ["ab", "xyz"], np.array([0, 1]), ("a", "b"))
    assert [len(keys) for keys in model.keys] == [2, 16]
