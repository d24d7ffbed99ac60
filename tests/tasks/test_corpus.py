"""From files to a tokenizer and shards: made once, made again when anything changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from small_runs import write_text

from langmill.core.errors import ConfigError, DataError
from langmill.tasks.corpus import Corpus, choose_vocabulary, open_corpus, open_tokenizer, texts
from langmill.text.documents import Document
from langmill.tokens.tokenizer import Tokenizer
from langmill.training.settings import DataSettings, TrainSettings


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


def corpus_of(path: Path, *, seed: int = 0, held_out: tuple[str, ...] = (), **data: object) -> Corpus:
    return Corpus((str(path),), held_out, DataSettings(**data), seed=seed)  # type: ignore[arg-type]


def char_tokenizer(path: Path) -> Tokenizer:
    return open_tokenizer(corpus_of(path), TrainSettings(tokenizer="char"))


def test_shards_hold_the_text_and_are_reused(text: Path) -> None:
    tokenizer = char_tokenizer(text)
    shards = open_corpus(corpus_of(text), tokenizer)
    assert not shards.reused
    whole = tokenizer.decode(shards.train.tokens.tolist()) + tokenizer.decode(shards.held_out.tokens.tolist())
    assert whole == text.read_text(encoding="utf-8")
    again = open_corpus(corpus_of(text), tokenizer)
    assert again.reused and isinstance(again.train.tokens, np.memmap)
    assert again.content == shards.content


@pytest.mark.parametrize("change", ["text", "time", "seed", "settings", "held out", "tokenizer"])
def test_any_change_makes_them_anew(text: Path, tmp_path: Path, change: str) -> None:
    tokenizer = char_tokenizer(text)
    before = open_corpus(corpus_of(text), tokenizer)
    corpus = corpus_of(text)
    if change == "text":
        write_text(text, seed=1)
        corpus = corpus_of(text)
    elif change == "time":
        os.utime(text, ns=(time.time_ns(), time.time_ns() + 1))
        corpus = corpus_of(text)
    elif change == "seed":
        corpus = corpus_of(text, seed=1)
    elif change == "settings":
        corpus = corpus_of(text, boundary="line")
    elif change == "held out":
        corpus = corpus_of(text, held_out=(str(write_text(tmp_path / "other.txt", seed=2)),))
    else:
        tokenizer = open_tokenizer(corpus, TrainSettings(tokenizer="bpe", vocabulary=300))
    after = open_corpus(corpus, tokenizer)
    assert not after.reused
    assert (after.content == before.content) == (change in ("time", "seed")), (
        "tails do not depend on the seed"
    )


def test_the_expected_content_is_compared(text: Path) -> None:
    tokenizer = char_tokenizer(text)
    content = open_corpus(corpus_of(text), tokenizer).content
    assert open_corpus(corpus_of(text), tokenizer, expected=content).reused
    write_text(text, seed=1)
    with pytest.raises(DataError, match="the text has changed since this run began"):
        open_corpus(corpus_of(text), tokenizer, expected=content)


def test_what_a_killed_build_left_is_removed(text: Path, own_cache: Path) -> None:
    left, at_work = own_cache / "shards" / ".partial-left", own_cache / "shards" / ".partial-at-work"
    for folder in (left, at_work):
        folder.mkdir(parents=True)
    hour_ago = time.time() - 3600
    os.utime(left, (hour_ago, hour_ago))
    open_corpus(corpus_of(text), char_tokenizer(text))
    assert not left.exists() and at_work.exists()


def test_held_out_files_stay_out_of_training(text: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("全部 held out", encoding="utf-8")
    tokenizer = char_tokenizer(text)
    shards = open_corpus(corpus_of(text, held_out=(str(other),)), tokenizer)
    assert tokenizer.decode(shards.train.tokens.tolist()) == text.read_text(encoding="utf-8")
    assert "held out" in tokenizer.decode(shards.held_out.tokens.tolist())
    assert shards.split == f"evaluated on {other}"


def test_the_tokenizer_learns_from_training_text_only(text: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("Ω", encoding="utf-8")
    corpus = corpus_of(text, held_out=(str(other),))
    tokenizer = open_tokenizer(corpus, TrainSettings(tokenizer="char"))
    assert "Ω" not in tokenizer.backend.get_vocab()
    assert "磨" in tokenizer.backend.get_vocab()


def test_a_trained_tokenizer_is_kept_and_a_damaged_one_replaced(text: Path, own_cache: Path) -> None:
    settings = TrainSettings(tokenizer="bpe", vocabulary=300)
    first = open_tokenizer(corpus_of(text), settings).fingerprint()
    (kept,) = (own_cache / "tokenizers").iterdir()
    changed = (kept / "tokenizer.json").stat().st_mtime_ns
    assert open_tokenizer(corpus_of(text), settings).fingerprint() == first
    assert (kept / "tokenizer.json").stat().st_mtime_ns == changed, "it was trained again"
    (kept / "tokenizer.json").write_text('{"model": ')
    assert open_tokenizer(corpus_of(text), settings).fingerprint() == first
    assert Tokenizer.load(kept).fingerprint() == first


def test_a_tokenizer_by_its_path(text: Path, tmp_path: Path) -> None:
    tokenizer = char_tokenizer(text)
    tokenizer.save(tmp_path / "mine")
    loaded = open_tokenizer(corpus_of(text), TrainSettings(tokenizer=str(tmp_path / "mine")))
    assert loaded.fingerprint() == tokenizer.fingerprint()
    with pytest.raises(ConfigError, match=r"--tokenizer bqe: neither a kind .*; did you mean bpe\?"):
        open_tokenizer(corpus_of(text), TrainSettings(tokenizer="bqe"))


def test_the_vocabulary_grows_with_the_text_and_its_characters(text: Path, tmp_path: Path) -> None:
    small = choose_vocabulary(corpus_of(text))
    chinese = tmp_path / "chinese.txt"
    chinese.write_text(
        "".join(chr(0x4E00 + i % 3000) + "\n" * (i % 50 == 0) for i in range(9000)), encoding="utf-8"
    )
    large = choose_vocabulary(corpus_of(chinese))
    assert 512 <= small < 6000 <= large <= 1 << 16
    assert small.bit_count() == large.bit_count() == 1, "powers of two"


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_no_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"empty\.txt: no text to train on; 1 file"):
        open_tokenizer(corpus_of(tmp_path / "empty.txt"), TrainSettings(tokenizer="char"))


def test_an_unreadable_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.txt").write_bytes(b"fine\nnot \xff fine\n")
    with pytest.raises(DataError, match=r"broken\.txt:2"):
        open_tokenizer(corpus_of(tmp_path / "broken.txt"), TrainSettings(tokenizer="char"))


def test_rows_that_are_left_out_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f'{{"text": "a line of text {i}"}}' for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows, '{"txt": 1}', "{"]))
    corpus = corpus_of(tmp_path / "rows.jsonl", on_bad_row="skip")
    assert corpus.split.documents == 30
    assert capsys.readouterr().err.count("langmill: warning: 1 left out:") == 2


def test_parts_are_joined() -> None:
    parts = [Document("a", "x", 0, False), Document("b", "x", 1, True), Document("c", "y")]
    assert list(texts(parts)) == ["ab", "c"]
