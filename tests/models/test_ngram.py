"""The n-gram model: probabilities by hand, against a plain dictionary version, always summing to 1."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langmill.core.errors import ConfigError, DataError
from langmill.models import ngram
from langmill.models.ngram import NgramModel, default_order

START = "start"


def ids(*values):
    return np.array(values, dtype=np.int64)


def plain_probability(documents, vocabulary, order, context, word):
    """Modified Kneser-Ney written out slowly with dictionaries, straight from the formulas."""
    occurrences = Counter()
    for document in documents:
        symbols = (START, *document)
        for end in range(1, len(symbols)):
            for length in range(1, order + 1):
                if end - length + 1 >= 0:
                    occurrences[symbols[end - length + 1 : end + 1]] += 1
    lefts = defaultdict(set)
    for gram in occurrences:
        lefts[gram[1:]].add(gram[0])

    def adjusted(gram):
        return occurrences[gram] if len(gram) == order or gram[0] == START else len(lefts[gram])

    def discounts(length):
        n = Counter(adjusted(gram) for gram in occurrences if len(gram) == length)
        if min(n[1], n[2], n[3], n[4]) > 0:
            y = n[1] / (n[1] + 2 * n[2])
            d = [0, 1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
            if all(0 < d[count] <= count for count in (1, 2, 3)):
                return d
        return [0, 0.5, 1.0, 1.5]

    def probability(history):
        length = len(history) + 1
        lower = probability(history[1:]) if history else 1 / vocabulary
        counts = {v: adjusted((*history, v)) for v in range(vocabulary) if (*history, v) in occurrences}
        total, d = sum(counts.values()), discounts(length)
        if not total:
            return lower
        own = counts.get(word, 0) - d[min(3, counts.get(word, 0))]
        return own / total + sum(d[min(3, count)] for count in counts.values()) / total * lower

    history = (START, *context)[-(order - 1) :] if order > 1 else ()
    return probability(tuple(history))


def test_bigram_by_hand():
    # One document a b a b over {a, b, c}: too few n-grams to estimate discounts, so 0.5, 1, 1.5.
    # Left contexts: a has 2 (the start, b), b has 1 (a), c none; gamma = (1 + 0.5) / 3 = 1/2, so
    # p1(a) = (2 - 1)/3 + 1/6 = 1/2, p1(b) = 0.5/3 + 1/6 = 1/3, p1(c) = 1/6.
    model = NgramModel.train([ids(0, 1, 0, 1)], vocabulary=3, order=2)
    after_a = [0.5 * 1 / 2, (2 - 1) / 2 + 0.5 * 1 / 3, 0.5 * 1 / 6]
    after_b = [0.5 + 0.5 * 1 / 2, 0.5 * 1 / 3, 0.5 * 1 / 6]
    np.testing.assert_allclose(model.probabilities(ids(0)), after_a, rtol=1e-14)
    np.testing.assert_allclose(model.probabilities(ids(0, 1)), after_b, rtol=1e-14)
    np.testing.assert_allclose(
        model.probabilities(ids()), after_b, rtol=1e-14
    )  # the start, as b, precedes one a
    np.testing.assert_allclose(model.probabilities(ids(2)), [1 / 2, 1 / 3, 1 / 6], rtol=1e-14)  # c never seen
    expected = [after_b[0], after_a[1], after_b[2], 1 / 3]
    np.testing.assert_allclose(model.logprobs(ids(0, 1, 2, 1)), np.log(expected), rtol=1e-14)


def test_beginnings_keep_their_own_count():
    # Documents a b, a b, a c. Only (start, a) has no left context: it counts 3, where (a, b) counts 1.
    # One left context for each of a, b, c: p1 = 0.5/3 + 1.5/3 * 1/3 = 1/3.
    model = NgramModel.train([ids(0, 1), ids(0, 1), ids(0, 2)], vocabulary=3, order=3)
    first = (3 - 1.5) / 3 + 1.5 / 3 * 1 / 3
    b_after_a = (1 - 0.5) / 2 + (0.5 + 0.5) / 2 * 1 / 3
    second = (2 - 1) / 3 + (1 + 0.5) / 3 * b_after_a
    np.testing.assert_allclose(np.exp(model.logprobs(ids(0, 1))), [first, second], rtol=1e-14)


def test_discounts_by_hand():
    # 8 ids once, 3 twice, 2 three times, 1 four times, 1 never: Y = 8/14.
    document = [*range(8), *[8, 9, 10] * 2, *[11, 12] * 3, *[13] * 4]
    model = NgramModel.train([np.array(document)], vocabulary=15, order=1)
    np.testing.assert_allclose(model.levels[0].discounts, [0, 4 / 7, 6 / 7, 13 / 7], rtol=1e-14)
    gamma = (8 * 4 / 7 + 3 * 6 / 7 + 3 * 13 / 7) / 24
    got = model.probabilities(ids())
    assert got[14] == pytest.approx(gamma / 15, rel=1e-14)
    assert got[0] == pytest.approx((1 - 4 / 7) / 24 + gamma / 15, rel=1e-14)
    assert got[13] == pytest.approx((4 - 13 / 7) / 24 + gamma / 15, rel=1e-14)


documents_of_four = st.lists(st.lists(st.integers(0, 2), max_size=30), min_size=1, max_size=6).filter(any)


@settings(max_examples=60, deadline=None)
@given(documents=documents_of_four, order=st.integers(1, 5), query=st.lists(st.integers(0, 3), max_size=8))
def test_equals_the_plain_version_and_sums_to_one(documents, order, query):
    model = NgramModel.train([np.array(d, dtype=np.int64) for d in documents], vocabulary=4, order=order)
    got = np.exp(model.logprobs(np.array(query, dtype=np.int64)))
    for place, word in enumerate(query):
        plain = plain_probability(documents, 4, order, query[:place], word)
        assert got[place] == pytest.approx(plain, rel=1e-12)
        everything = model.probabilities(np.array(query[:place], dtype=np.int64))
        assert everything[word] == pytest.approx(got[place], rel=1e-12)
        assert everything.sum() == pytest.approx(1, abs=1e-12)
        assert everything.min() > 0


def test_estimated_discounts_equal_the_plain_version_too():
    generator = np.random.default_rng(3)
    documents = [generator.zipf(1.5, size=40).clip(1, 9) - 1 for _ in range(12)]
    model = NgramModel.train(documents, vocabulary=10, order=3)
    assert not np.array_equal(model.levels[1].discounts[1:], ngram.FALLBACK_DISCOUNTS)
    query = np.concatenate([documents[0][:6], ids(9, 0, 0)])
    lists = [document.tolist() for document in documents]
    plain = [plain_probability(lists, 10, 3, query[:i].tolist(), int(query[i])) for i in range(len(query))]
    np.testing.assert_allclose(np.exp(model.logprobs(query)), plain, rtol=1e-12)


@pytest.mark.parametrize(
    "text", ["the cat sat on the mat; the cat ate. " * 9, "春眠不觉晓，处处闻啼鸟。" * 9]
)
def test_bytes_of_any_language_sum_to_one(text):
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    model = NgramModel.train([data], vocabulary=256)
    for length in (0, 1, 5, 40, len(data)):
        assert model.probabilities(data[:length]).sum() == pytest.approx(1, abs=1e-12)
    assert model.probabilities(ids(255, 254, 253)).sum() == pytest.approx(1, abs=1e-12)
    bits = -model.logprobs(data).mean() / math.log(2)
    assert bits < 1.5  # it has seen this text, where 8 is knowing nothing


def test_documents_do_not_reach_into_each_other():
    apart = NgramModel.train([ids(0, 1), ids(2, 3)], vocabulary=5, order=2)
    joined = NgramModel.train([ids(0, 1, 2, 3)], vocabulary=5, order=2)
    assert joined.probabilities(ids(0, 1))[2] > apart.probabilities(ids(0, 1))[2]
    assert apart.probabilities(ids())[2] == apart.probabilities(ids())[0]


def test_many_at_once_equal_one_by_one_in_windows_of_any_size(monkeypatch):
    generator = np.random.default_rng(0)
    documents = [generator.integers(0, 6, size=n) for n in (50, 0, 1, 7, 33, 0)]
    model = NgramModel.train(documents, vocabulary=7, order=4)
    alone = [model.logprobs(document) for document in documents]
    assert [len(each) for each in alone] == [50, 0, 1, 7, 33, 0]
    for window in (1, 2, 10, 1000):
        monkeypatch.setattr(ngram, "_WINDOW", window)
        for one, other in zip(alone, model.logprobs_each(documents)):
            np.testing.assert_array_equal(one, other)


def test_same_documents_give_the_same_model():
    generator = np.random.default_rng(8)
    documents = [generator.integers(0, 50, size=200) for _ in range(5)]
    one, other = (NgramModel.train(iter(documents), vocabulary=60, order=3) for _ in range(2))
    for a, b in zip(one.levels, other.levels):
        np.testing.assert_array_equal(a.keys, b.keys)
        np.testing.assert_array_equal(a.counts, b.counts)
        np.testing.assert_array_equal(a.backoff, b.backoff)
    assert one.ngrams == other.ngrams


@settings(max_examples=40, deadline=None)
@given(documents=documents_of_four, order=st.integers(1, 5), query=st.lists(st.integers(0, 4), max_size=8))
def test_a_start_of_the_vocabulary_ends_documents_too(documents, order, query):
    """With the start 4, as shards have it, all is as where every document ends with a 4 of its own."""
    arrays = [np.array(d, dtype=np.int64) for d in documents]
    with_start = NgramModel.train([*arrays, ids()], vocabulary=5, order=order, start=4)
    with_end = NgramModel.train([np.append(d, 4) for d in arrays], vocabulary=5, order=order)
    for document in (*arrays, np.array([q for q in query if q < 4], dtype=np.int64)):
        ended = np.append(document, 4)
        np.testing.assert_allclose(with_start.logprobs(ended), with_end.logprobs(ended), rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    documents=documents_of_four,
    order=st.integers(1, 5),
    query=st.lists(st.integers(0, 4), min_size=2, max_size=9),
    cut=st.integers(1, 8),
)
def test_states_say_all_of_the_past(documents, order, query, cut):
    arrays = [np.array(d, dtype=np.int64) for d in documents]
    model = NgramModel.train(arrays, vocabulary=5, order=order, start=4)
    text = np.array([4, *query], dtype=np.int64)
    states = model.states(text[None, :-1])  # (1, T, D)
    np.testing.assert_allclose(model.chosen(states[0], text[1:]), model.logprobs(text[1:]), rtol=1e-12)
    rows = model.rows(states[0])
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(
        np.log(rows[np.arange(len(query)), query]), model.logprobs(text[1:]), rtol=1e-12
    )
    cut = min(cut, len(query) - 1)
    first = model.states(text[None, :cut])
    np.testing.assert_array_equal(model.states(text[None, cut:-1], past=first[:, -1]), states[:, cut:])


def test_nothing_is_seen_beyond_a_fresh_place_or_padding():
    model = NgramModel.train([ids(0, 1, 2, 0, 1, 2, 0, 1)], vocabulary=4, order=4, start=3)
    alone = model.states(ids(1, 2)[None])
    fresh = np.array([[False, True, False]])
    np.testing.assert_array_equal(model.states(ids(0, 1, 2)[None], fresh=fresh)[:, 1:], alone)
    np.testing.assert_array_equal(model.states(ids(-1, 1, 2)[None])[:, 1:], alone)
    assert model.states(ids(-1)[None]).tolist() == [[[-1, -1, -1]]]
    assert not np.array_equal(model.states(ids(0, 1, 2)[None])[:, 1:], alone)


def test_ngrams_counts_different_ones():
    model = NgramModel.train([ids(0, 1, 0, 1)], vocabulary=3, order=2)
    assert model.ngrams == 3 + 3  # every id of the vocabulary; start a, a b, b a


def test_order_longer_than_every_document_and_large_ids():
    large = 200_000
    model = NgramModel.train([ids(large - 1, 0)], vocabulary=large, order=9)
    everything = model.probabilities(ids(large - 1))
    assert everything.sum() == pytest.approx(1, abs=1e-9)
    assert everything.argmax() == 0
    assert np.isfinite(model.logprobs(ids(5, 6, large - 1, 0))).all()


def test_longer_contexts_help_where_text_repeats():
    period = np.array([0, 0, 0, 1] * 50)
    bits = [-NgramModel.train([period], vocabulary=2, order=n).logprobs(period).mean() for n in (1, 2, 3, 4)]
    assert bits == sorted(bits, reverse=True)


def test_empty_documents():
    model = NgramModel.train([ids(), ids(1, 1), ids()], vocabulary=2, order=3)
    assert model.logprobs(ids()).shape == (0,)
    assert model.logprobs_each([]) == []


def test_default_orders():
    assert [default_order(v) for v in (65, 256, 512, 513, 50_000)] == [8, 8, 8, 5, 5]
    assert NgramModel.train([ids(1)], vocabulary=256).order == 8


def test_errors_name_the_fault():
    with pytest.raises(DataError, match="every document is empty"):
        NgramModel.train([ids()], vocabulary=4)
    with pytest.raises(DataError, match="every document is empty"):
        NgramModel.train([], vocabulary=4)
    with pytest.raises(DataError, match="document 2: id 4 is outside the vocabulary, 0 to 3"):
        NgramModel.train([ids(3), ids(0, 4)], vocabulary=4)
    with pytest.raises(ConfigError, match="at least 1, given 0 and 4"):
        NgramModel.train([ids(1)], vocabulary=4, order=0)
    model = NgramModel.train([ids(1)], vocabulary=4, order=2)
    with pytest.raises(DataError, match="id -1 is outside"):
        model.logprobs(ids(-1))
    with pytest.raises(DataError, match="expected one row of ids, given float64"):
        model.logprobs(np.array([0.5]))
