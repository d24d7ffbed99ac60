"""Scores of texts: what is counted, blocks, comparison, notes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from evaluation_samples import CHINESE, ENGLISH, make_model

import langmill
from langmill.checkpoint import Checkpoint, load_checkpoint
from langmill.core.errors import CheckpointError, DataError
from langmill.evaluation.language import (
    compare,
    document_start,
    evaluate_files,
    evaluate_texts,
    logprobs,
    need_tokenizer,
    token_extents,
)
from langmill.text.documents import ReadReport

KINDS = ["char", "bpe", "wordpiece", "unigram"]
DOCUMENTS = [ENGLISH, CHINESE, ENGLISH * 2, "times", CHINESE * 2, "", "言" + ENGLISH]


def even_model(vocabulary, **settings):
    """Return a model that finds all tokens equally likely."""
    model = make_model(vocabulary, **settings)
    model.output.weight.data.zero_()
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_figures_of_an_even_model_are_known(tokenizers, kind):
    tokenizer = tokenizers[kind]
    vocabulary = tokenizer.vocabulary_size
    score = evaluate_texts(even_model(vocabulary), tokenizer, DOCUMENTS)
    tokens = sum(len(tokenizer.encode(text)) for text in DOCUMENTS)
    length, letters = len("".join(DOCUMENTS).encode()), len("".join(DOCUMENTS))
    bits = tokens * math.log2(vocabulary)
    assert (score.tokens, score.bytes, score.characters, score.documents) == (tokens, length, letters, 7)
    assert score.bits_per_byte == pytest.approx(bits / length)
    assert score.bits_per_character == pytest.approx(bits / letters)
    assert score.perplexity == pytest.approx(vocabulary)
    assert score.interval.unit == "document"
    assert score.interval.low < score.bits_per_byte < score.interval.high
    assert [each.bytes for each in score.per_document] == [len(text.encode()) for text in DOCUMENTS]


def test_figures_do_not_depend_on_context_while_the_text_fits(characters):
    model = make_model(characters.vocabulary_size, context=200)
    scores = [
        evaluate_texts(model, characters, [ENGLISH, CHINESE], context=context, stride=stride)
        for context, stride in ((200, 100), (90, 90), (150, 1))
    ]
    for score in scores[1:]:
        assert score.bits_per_byte == pytest.approx(scores[0].bits_per_byte, abs=1e-6)
    short = evaluate_texts(model, characters, [ENGLISH, CHINESE], context=4)
    assert abs(short.bits_per_byte - scores[0].bits_per_byte) > 1e-3


def test_the_end_of_a_text_is_not_counted(characters):
    model = make_model(characters.vocabulary_size)
    assert evaluate_texts(model, characters, [ENGLISH]).tokens == len(characters.encode(ENGLISH))


def test_few_documents_are_resampled_in_blocks(characters, monkeypatch):
    model = make_model(characters.vocabulary_size)
    score = evaluate_texts(model, characters, [ENGLISH * 30, CHINESE * 30])
    assert score.interval.unit == "block"
    assert score.interval.low < score.bits_per_byte < score.interval.high
    assert score.interval_note.startswith("2 documents with text, fewer than 5")
    assert [int(lengths.sum()) for _, lengths in score.spans] == [each.bytes for each in score.per_document]
    short = evaluate_texts(model, characters, [ENGLISH])
    assert short.interval is None
    assert "too little text for blocks" in short.interval_note


def test_a_document_in_parts_keeps_its_context(characters, monkeypatch):
    model = make_model(characters.vocabulary_size)
    text = (ENGLISH + "\n" + CHINESE) * 3
    whole = evaluate_texts(model, characters, [text])
    at_once = logprobs(model, characters, text)
    monkeypatch.setattr("langmill.text.documents.PART_CHARACTERS", 40)
    parts = evaluate_texts(model, characters, [text])
    assert parts.per_document == whole.per_document
    assert np.array_equal(logprobs(model, characters, text), at_once)
    assert np.array_equal(parts.spans[0][1], whole.spans[0][1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [ENGLISH, CHINESE, "  a  b  ", "🦉x🇨🇳", "龘\u200b龘", "", "\n\t "])
def test_extents_add_up_to_the_text(tokenizers, kind, text):
    lengths, letters = token_extents(tokenizers[kind], text)
    tokens = len(tokenizers[kind].encode(text))
    assert len(lengths) == len(letters) == tokens
    if tokens:
        assert (lengths.sum(), letters.sum()) == (len(text.encode()), len(text))
        assert lengths.min() >= 0


def test_extents_by_hand(characters):
    # t and 言 have tokens of their own, the owl is spelt in its four bytes, which count with the first.
    lengths, letters = token_extents(characters, "t言🦉t")
    assert lengths.tolist() == [1, 3, 4, 0, 0, 0, 1]
    assert letters.tolist() == [1, 1, 1, 0, 0, 0, 1]


def test_a_lossy_tokenizer_counts_the_original_and_says_so(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    text = "The  Best of TIMES"
    score = evaluate_texts(make_model(tokenizer.vocabulary_size), tokenizer, [text] * 5)
    assert score.bytes == 5 * len(text)
    assert any("loses part of the text: 5 of 5 documents" in note for note in score.notes)
    assert any("no token that begins a document" in note for note in score.notes)


def test_an_exact_tokenizer_needs_no_note(characters, tokenizers):
    for tokenizer in (characters, tokenizers["bpe"]):
        model = make_model(tokenizer.vocabulary_size)
        assert evaluate_texts(model, tokenizer, [ENGLISH, CHINESE + "🦉"]).notes == ()


def test_document_start_is_bos_or_else_eos(characters, tokenizers):
    assert document_start(characters) == characters.eos_id == 0
    assert document_start(tokenizers["wordpiece"]) is None
    with_bos = type(characters)(characters.backend, replace(characters.specials, bos="t"))
    assert document_start(with_bos) == characters.encode("t")[0]


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_nothing_to_score_is_an_error(characters, texts):
    with pytest.raises(DataError, match="nothing to score"):
        evaluate_texts(make_model(characters.vocabulary_size), characters, texts)


def test_logprobs_are_what_the_score_adds_up(characters):
    model = make_model(characters.vocabulary_size)
    for text in (ENGLISH, CHINESE * 4):
        values = logprobs(model, characters, text)
        assert values.shape == (len(characters.encode(text)),)
        assert (values < 0).all()
        assert -values.sum() == pytest.approx(evaluate_texts(model, characters, [text]).per_document[0].nats)
    assert logprobs(model, characters, "").shape == (0,)


def test_logprobs_from_python(checkpoint_folder):
    folder = checkpoint_folder("loaded")
    model = langmill.load(folder)
    checkpoint = load_checkpoint(folder)
    assert np.array_equal(model.logprobs(CHINESE), logprobs(checkpoint.model, checkpoint.tokenizer, CHINESE))


def test_files_are_scored_by_document(checkpoint_folder, tmp_path):
    (tmp_path / "诗.txt").write_text(f"{CHINESE}\n<|endoftext|>\n{ENGLISH}\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "times"}\n', encoding="utf-8")
    checkpoint, report = load_checkpoint(checkpoint_folder("files")), ReadReport()
    score = evaluate_files(checkpoint, [tmp_path], read=report)
    assert score.documents == report.documents == 3
    assert score.bytes == report.bytes
    assert sorted(name.rsplit("/", 1)[1] for name in score.names) == ["b.jsonl:1", "诗.txt", "诗.txt:3"]
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(DataError, match=r"no text to score; .*1 empty"):
        evaluate_files(checkpoint, [tmp_path / "empty.txt"])
    with pytest.raises(DataError, match="nothing.txt"):
        evaluate_files(checkpoint, [tmp_path / "nothing.txt"])


def test_a_checkpoint_without_tokenizer_cannot_read(characters):
    with pytest.raises(CheckpointError, match=r"no tokenizer.json"):
        need_tokenizer(Checkpoint(make_model(characters.vocabulary_size)))


def test_the_same_model_twice_does_not_differ(characters):
    model = make_model(characters.vocabulary_size)
    for texts in (DOCUMENTS, [ENGLISH * 40]):
        score = evaluate_texts(model, characters, texts)
        found = compare(score, score)
        assert (found.difference, found.interval.low, found.interval.high, found.p_value) == (0, 0, 0, 1)


def test_a_sharper_model_wins_for_real(characters):
    vocabulary = characters.vocabulary_size
    even, odd = even_model(vocabulary), make_model(vocabulary)
    for texts in (DOCUMENTS * 3, [ENGLISH * 40, CHINESE * 40]):
        found = compare(evaluate_texts(even, characters, texts), evaluate_texts(odd, characters, texts))
        assert found.difference < 0
        assert found.interval.high < 0
        assert found.p_value < 0.05


def test_models_with_different_tokenizers_share_blocks_of_bytes(tokenizers):
    texts = [ENGLISH * 30 + "🦉" * 40, CHINESE * 40]
    scores = [
        evaluate_texts(make_model(tokenizers[kind].vocabulary_size), tokenizers[kind], texts)
        for kind in ("char", "bpe")
    ]
    found = compare(*scores)
    assert found.interval.unit == "block"
    # The blocks lose nothing: their difference is that of the whole texts.
    assert found.difference == pytest.approx(scores[0].bits_per_byte - scores[1].bits_per_byte)
    assert compare(scores[1], scores[0]).difference == pytest.approx(-found.difference)


def test_what_cannot_be_compared(characters):
    model = make_model(characters.vocabulary_size)
    score = evaluate_texts(model, characters, [ENGLISH])
    assert compare(score, score) is None
    with pytest.raises(DataError, match="same documents"):
        compare(score, evaluate_texts(model, characters, [CHINESE]))
