"""Text as it becomes certain."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models

from langmill.generation.streaming import TextStream


def push_bytes(stream: TextStream, text: str) -> list[str]:
    return [stream.push(byte) for byte in text.encode()]


def test_a_chinese_character_comes_when_it_is_whole(codec) -> None:
    stream = TextStream(codec.decode, list("问：".encode()))
    assert push_bytes(stream, "a中b文") == ["a", "", "", "中", "b", "", "", "文"]
    assert stream.finish() == ""
    assert stream.text == "a中b文"


def test_a_character_that_stays_half_is_shown_at_the_end(codec) -> None:
    stream = TextStream(codec.decode, [65])
    assert [stream.push(byte) for byte in "文".encode()[:2]] == ["", ""]
    assert stream.finish() == "\N{REPLACEMENT CHARACTER}"


def test_a_prompt_may_end_in_half_a_character(codec) -> None:
    stream = TextStream(codec.decode, list("中".encode()[:2]))
    assert stream.push("中".encode()[2]) == "中"


def test_invalid_bytes_do_not_hold_back_for_ever(codec) -> None:
    stream = TextStream(codec.decode, [65])
    assert stream.push(0xFF) == ""
    assert stream.push(ord("b")) == "\N{REPLACEMENT CHARACTER}b"


def test_stop_string_across_tokens(codec) -> None:
    stream = TextStream(codec.decode, [65], stop=("\n\n", "END"))
    assert push_bytes(stream, "x\nyEN!E") == ["x", "", "\ny", "", "", "EN!", ""]
    assert not stream.stopped
    assert push_bytes(stream, "ND") == ["", ""]
    assert stream.stopped
    assert stream.text == "x\nyEN!"
    assert stream.finish() == ""


def test_the_earliest_stop_string_counts() -> None:
    words = {0: "one STOP two HALT", 1: ""}
    stream = TextStream(lambda ids: "".join(words[i] for i in ids), [1], stop=("HALT", "STOP"))
    assert stream.push(0) == "one "
    assert stream.stopped


def test_what_only_looked_like_a_stop_string_is_given_at_the_end(codec) -> None:
    stream = TextStream(codec.decode, [65], stop=("结束",))
    assert push_bytes(stream, "好结") == ["", "", "好", "", "", ""]
    assert stream.finish() == "结"
    assert stream.text == "好结"


def test_stop_string_of_half_characters(codec) -> None:
    stream = TextStream(codec.decode, [65], stop=("。",))
    push_bytes(stream, "完。再")
    assert stream.text == "完"


def test_spaces_depend_on_what_comes_before() -> None:
    backend = Tokenizer(models.WordLevel({"▁hello": 0, "▁world": 1, "<s>": 2}, unk_token="<s>"))
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<s>"])
    assert backend.decode([1]) == "world"  # alone, a word loses its space
    stream = TextStream(backend.decode, [0])
    assert stream.push(1) == " world"
    assert stream.push(2) == ""
    assert stream.push(0) == " hello"


def test_pieces_join_to_the_whole_text(codec) -> None:
    text = "Zwölf Boxkämpfer — 敏捷的狐狸 🦊 跳过懒狗"
    stream = TextStream(codec.decode, [65, 66], stop=("never",))
    assert "".join(push_bytes(stream, text)) + stream.finish() == text
