"""Measurements of a tokenizer on a text, by hand. [tests]"""

from __future__ import annotations

import pytest

from langmill.core.errors import DataError
from langmill.tokens import SpecialTokens, Tokenizer, compare_tokenizers, inspect_text, train_tokenizer
from langmill.tokens.inspect import Difference, Piece, pieces_of
from langmill.tokens.show import coloured, percent, visible


def test_character_tokenizer_by_hand() -> None:
    tokenizer = train_tokenizer(["ab 中"], kind="char")
    found = inspect_text(tokenizer, "ab 中é!")
    # é and ! are not in the vocabulary: two bytes and one.
    assert (found.characters, found.bytes, found.tokens) == (6, 9, 7)
    assert found.bytes_per_token == pytest.approx(9 / 7)
    assert found.characters_per_token == pytest.approx(6 / 7)
    assert (found.covered, found.byte_tokens, found.unknown_tokens) == (4, 3, 0)
    assert found.coverage == pytest.approx(4 / 6)
    assert found.difference is None
    counts = {script: (share.units, share.tokens) for script, share in found.fertility.items()}
    assert counts == {"latin": (2, 4), "han": (1, 1), "signs": (1, 1), "space": (1, 1)}
    assert found.fertility["latin"].tokens_per_unit == 2.0


def test_byte_level_by_hand() -> None:
    tokenizer = train_tokenizer(["the the the 中文中文"] * 9, vocabulary=266)
    found = inspect_text(tokenizer, "the the 鬱")
    shown = pieces_of(tokenizer, "the the 鬱")
    assert [piece.data for piece in shown] == [b"the", b" the", b" ", b"\xe9", b"\xac", b"\xb1"]
    assert [(piece.start, piece.end) for piece in shown] == [(0, 3), (3, 7), (7, 8), (8, 9), (8, 9), (8, 9)]
    assert (found.covered, found.byte_tokens) == (8, 3)
    assert found.fertility["latin"].tokens_per_unit == 1.0
    assert found.fertility["han"].tokens_per_unit == 3.0


def test_tokens_are_all_attributed(any_kind: Tokenizer) -> None:
    text = "the fox, 春眠不觉晓。\n  2024 кот ひら 한글 עברית 😀 ـ\n"
    found = inspect_text(any_kind, text)
    assert sum(share.tokens for share in found.fertility.values()) == found.tokens
    assert found.tokens == len(any_kind.encode(text))
    assert 0 < found.covered < found.characters


def test_unknown_and_lossy(trained: dict[str, Tokenizer]) -> None:
    found = inspect_text(trained["wordpiece"], "the 鬱 Fox")
    assert found.unknown_tokens == 1
    assert found.covered == len("the 鬱 Fox") - 1
    assert found.difference == Difference(4, "鬱 Fox", "[UNK] fox")


def test_long_texts_are_measured_in_parts(trained: dict[str, Tokenizer]) -> None:
    line = "the fox 春眠不觉晓\n"
    once, often = inspect_text(trained["bpe"], line), inspect_text(trained["bpe"], line * 9000)
    assert often.tokens == 9000 * once.tokens
    assert often.covered == 9000 * once.covered
    assert often.fertility["han"].tokens_per_unit == once.fertility["han"].tokens_per_unit
    late = inspect_text(trained["wordpiece"], "x" + "\n" * 100_000)
    assert late.difference is not None


def test_empty_text(any_kind: Tokenizer) -> None:
    found = inspect_text(any_kind, "")
    assert (found.tokens, found.bytes_per_token, found.coverage, found.difference) == (0, None, None, None)


def test_compare(trained: dict[str, Tokenizer]) -> None:
    rows = compare_tokenizers(trained, "the fox 春眠")
    assert [row.name for row in rows] == list(trained)
    by_name = {row.name: row for row in rows}
    assert by_name["char"].inspection.tokens == 10
    assert by_name["bpe"].inspection.tokens < 10
    assert by_name["char"].fertility("latin") == 3.0
    assert by_name["char"].fertility("hangul") is None
    assert all(row.megabytes_per_second > 0 for row in rows)
    with pytest.raises(DataError, match="not empty"):
        compare_tokenizers(trained, "")


def test_pieces_are_shown_with_signs_and_hex() -> None:
    data = ["中".encode(), b" the", b"\n", b"\xe4\xb8", b"\xad", "a\u0301\t\u3000\x1b".encode()]
    assert [visible(each) for each in data] == ["中", "·the", "⏎", "E4 B8", "AD", "a\u0301⇥□\\x1b"]
    assert visible(b"a\xff\xfeb\x80") == "aFF FEb80"
    pieces = [Piece(0, "", each, 0, 0) for each in data[:4]]
    text = coloured(pieces, separator="|")
    assert text.plain == "中|·the|⏎\nE4 B8"
    assert len({span.style for span in text.spans[:4]}) == 4


def test_percent_never_rounds_up_to_all() -> None:
    assert percent(0.999999) == "99.99 %"


def test_special_tokens_of_other_kinds_are_not_invented() -> None:
    tokenizer = train_tokenizer(["ab"], kind="char", specials=SpecialTokens(eos="<e>"))
    assert inspect_text(tokenizer, "ab<e>").tokens == 3
