"""Training: determinism, pre-tokenisation, streaming, limits, errors. [tests]"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import pytest
from token_samples import KINDS, TEXTS, train

from langmill.core.errors import ConfigError, DataError
from langmill.tokens import SpecialTokens, Tokenizer, TrainingReport, train_tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_gives_the_same_file(trained: dict[str, Tokenizer], kind: str) -> None:
    assert train(kind).backend.to_str() == trained[kind].backend.to_str()


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_rare_characters_do_not_change_from_run_to_run(kind: str) -> None:
    # Both trainers of the library number rare characters in the order of a hash table.
    texts = ["".join(chr(0x4E00 + 7 * number) for number in range(300)) + " the fox then the others\n"] * 3
    texts += ["".join(chr(0x3B1 + number % 24) for number in range(50)) + " the fox\n"]
    files = {
        train_tokenizer(texts, kind=kind, vocabulary=1000).backend.to_str()  # type: ignore[arg-type]
        for _ in range(4)
    }
    assert len(files) == 1


def split(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the pre-tokens of `text`."""
    parts = tokenizer.backend.pre_tokenizer.pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in parts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello world", ["Hello", " world"]),
        ("it's we'll 's", ["it", "'s", " we", "'ll", " '", "s"]),
        ("x = 12345", ["x", " =", " ", "123", "45"]),
        ("    return x", ["   ", " return", " x"]),
        ("a\n\n  b", ["a", "\n\n", " ", " b"]),
        ("f(x):\n", ["f", "(x", "):\n"]),
        ("self._name", ["self", "._", "name"]),
        ("中文abc混合", ["中文", "abc", "混合"]),
        ("春眠，不觉。", ["春眠", "，", "不觉", "。"]),
        ("2024年", ["202", "4", "年"]),
        ("日本語テスト", ["日本語", "テスト"]),
        ("naïve café", ["naïve", " café"]),
        ("a\r\nb", ["a", "\r\n", "b"]),
    ],
)
def test_pre_tokenisation_by_hand(trained: dict[str, Tokenizer], text: str, expected: list[str]) -> None:
    assert split(trained["bpe"], text) == expected


def scripts(text: str) -> set[str]:
    """Return which of Latin and Han occur in `text`."""
    names = {unicodedata.name(character, "").split()[0] for character in text if character.isalpha()}
    return names & {"LATIN", "CJK"}


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_latin_and_han_never_merge(kind: str) -> None:
    # Every neighbourhood is frequent enough to be merged, were it allowed.
    texts = ["中文abc中文，x 的x的 the的the\n", "学中文abcd，中文字abce other的 them\n"] * 50
    tokenizer = train_tokenizer(texts, kind=kind, vocabulary=400)  # type: ignore[arg-type]
    tokens = [tokenizer.piece(number).decode(errors="ignore") for number in range(tokenizer.vocabulary_size)]
    assert all(len(scripts(token)) <= 1 for token in tokens)
    if kind != "wordpiece":
        assert "中文" in tokens
        assert any(token.strip() in ("abc", "the") for token in tokens)


def test_indentation_is_one_token() -> None:
    tokenizer = train_tokenizer(["if x:\n        return y\n        return z\n"] * 20, vocabulary=300)
    assert [tokenizer.piece(number) for number in tokenizer.encode("\n        return")][1] == b" " * 7


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_take_the_first_ids(kind: str) -> None:
    tokenizer = train_tokenizer(
        TEXTS,
        kind=kind,  # type: ignore[arg-type]
        vocabulary=400,
        specials=SpecialTokens(eos="<e>", unk="<u>", pad="<p>"),
        extra_specials=["<|im_start|>", "<|im_end|>"],
    )
    first = {tokenizer.token(number) for number in range(3)}
    assert first == {"<e>", "<u>", "<p>"}
    assert [tokenizer.token(3), tokenizer.token(4)] == ["<|im_start|>", "<|im_end|>"]
    ids = tokenizer.encode("the<|im_start|>the")
    assert ids.count(3) == 1
    assert "im_start" not in tokenizer.decode(ids)
    assert tokenizer.eos_id is not None
    assert tokenizer.is_special(tokenizer.eos_id)
    assert not tokenizer.is_special(300)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_default_specials(trained: dict[str, Tokenizer], kind: str) -> None:
    expected = {
        "wordpiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        "unigram": ["<pad>", "</s>", "<unk>"],
    }[kind]
    assert [trained[kind].token(number) for number in range(len(expected))] == expected


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_vocabulary_is_never_larger_than_asked(kind: str) -> None:
    # More different characters than ids: the rarest have to go, and the report says how many.
    texts = ["".join(chr(0x4E00 + number) for number in range(600)) + " hello hello world\n"] * 3
    report = TrainingReport()
    tokenizer = train_tokenizer(texts, kind=kind, vocabulary=450, report=report)  # type: ignore[arg-type]
    assert tokenizer.vocabulary_size <= 450
    assert report.vocabulary == tokenizer.vocabulary_size
    if kind != "bpe":
        assert report.characters_left_out > 0
        assert any("got no token of their own" in line for line in report.notes)
    text = texts[0]
    assert (tokenizer.decode(tokenizer.encode(text)) == text) == (kind != "wordpiece")


def test_fewer_tokens_than_asked_are_reported() -> None:
    report = TrainingReport()
    tokenizer = train_tokenizer(["hello hello"], vocabulary=1000, report=report)
    assert tokenizer.vocabulary_size < 300
    assert f"gave {tokenizer.vocabulary_size} tokens, not 1000" in report.notes[0]


def test_characters_by_frequency_and_cap() -> None:
    report = TrainingReport()
    tokenizer = train_tokenizer(["ccc", "bbb", "aa中"], kind="char", vocabulary=2 + 256 + 2, report=report)
    assert [tokenizer.token(number) for number in (258, 259)] == ["b", "c"]
    assert (report.characters, report.characters_left_out, report.occurrences_left_out) == (4, 2, 3)
    assert "spelt in bytes" in report.notes[0]
    assert tokenizer.decode(tokenizer.encode("abc中")) == "abc中"


def test_min_frequency_of_characters() -> None:
    tokenizer = train_tokenizer(["aab"], kind="char", min_frequency=2)
    assert tokenizer.encode("ab") == [258, 2 + ord("b")]


def test_wordpiece_case() -> None:
    lower = train_tokenizer(["Café Hello hello"] * 5, kind="wordpiece", vocabulary=100)
    cased = train_tokenizer(["Café Hello hello"] * 5, kind="wordpiece", vocabulary=100, lowercase=False)
    assert lower.encode("HELLO café") == lower.encode("hello cafe")
    assert cased.encode("Hello") != cased.encode("hello")
    assert lower.decode(lower.encode("hello")) == "hello"


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_drawn_lazily_and_reading_stops_at_the_limit(kind: str) -> None:
    drawn = 0

    def endless() -> Iterator[str]:
        nonlocal drawn
        while True:
            drawn += 1
            yield TEXTS[drawn % 4]

    report = TrainingReport()
    train_tokenizer(endless(), kind=kind, vocabulary=400, maximum_bytes=20_000, report=report)  # type: ignore[arg-type]
    assert report.stopped_early
    assert 19_000 < report.bytes_used <= 20_000
    assert drawn < 1000
    assert "read no further" in report.notes[0]


def test_a_limit_is_spread_evenly_when_the_size_is_known() -> None:
    texts = [chr(ord("A") + place // 100) * 1000 for place in range(2600)]
    report = TrainingReport()
    tokenizer = train_tokenizer(
        texts, kind="char", maximum_bytes=130_000, total_bytes=2_600_000, report=report
    )
    assert 120_000 < report.bytes_used <= 130_000
    assert report.bytes_read == 2_600_000
    assert not report.stopped_early
    assert report.characters == 26
    assert "evenly spread" in report.notes[0]
    assert tokenizer.vocabulary_size == 2 + 256 + 26


def test_a_size_told_too_small_still_keeps_the_limit() -> None:
    report = TrainingReport()
    train_tokenizer(["x" * 1000] * 100, kind="char", maximum_bytes=10_000, total_bytes=20_000, report=report)
    assert report.bytes_used <= 10_000
    assert report.stopped_early
    assert "evenly spread and read no further" in report.notes[0]


def test_long_texts_are_cut_at_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"line {number} of a long text\n" for number in range(400))
    monkeypatch.setattr("langmill.tokens.train.PIECE_CHARACTERS", 1000)
    cut = train_tokenizer([text], vocabulary=300)
    monkeypatch.undo()
    assert cut.fingerprint() == train_tokenizer([text], vocabulary=300).fingerprint()


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_an_error(kind: str) -> None:
    for texts in ([], ["", ""]):
        with pytest.raises(DataError, match="no text to train"):
            train_tokenizer(texts, kind=kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_reader_passes_through(kind: str) -> None:
    def broken() -> Iterator[str]:
        yield "some text"
        raise DataError("rows.jsonl:2: not JSON")

    with pytest.raises(DataError, match="rows.jsonl:2"):
        train_tokenizer(broken(), kind=kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_half_surrogates_are_refused_with_their_place(kind: str) -> None:
    with pytest.raises(DataError, match=r"text 2: .*U\+DC00"):
        train_tokenizer(["good", "b\udc00d"], kind=kind)  # type: ignore[arg-type]


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"'bpee'; allowed: char, bpe.*did you mean bpe\?"):
        train_tokenizer(["x"], kind="bpee")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="2 special tokens and 256 bytes needs at least 258"):
        train_tokenizer(["x"], vocabulary=257)
    with pytest.raises(ConfigError, match="at least 259"):
        train_tokenizer(["x"], kind="char", vocabulary=258)
    with pytest.raises(ConfigError, match="needs an unk token for what it cannot spell"):
        train_tokenizer(["x"], kind="unigram", specials=SpecialTokens(eos="</s>"))
    with pytest.raises(ConfigError, match="white space"):
        train_tokenizer(["x"], extra_specials=["a b"])
    with pytest.raises(ConfigError, match="single character"):
        train_tokenizer(["x"], extra_specials=["a"])
    with pytest.raises(ConfigError, match="min_frequency is 0"):
        train_tokenizer(["x"], min_frequency=0)
    with pytest.raises(ConfigError, match="maximum_bytes is 0"):
        train_tokenizer(["x"], maximum_bytes=0)
