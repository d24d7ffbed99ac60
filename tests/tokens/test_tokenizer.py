"""The tokenizer: ids, bytes, round trips, files, errors. [tests]"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from token_samples import TEXTS

from langmill.core.errors import CheckpointError, DataError
from langmill.tokens import SpecialTokens, Tokenizer, train_tokenizer

HARD = [
    "",
    " ",
    "\r\n\r\n \n\t",
    "Hello  world,\n\n    def f(x):\n\treturn x\r\n",
    "中文English混合，２０２４年。",
    "😀👩‍👩‍👧‍👦 é é \x00\x1b\x7f\x85\u2028\ufeff",
    "<0x41><0x0A> ▁ ## Ġ Ċ",
    "\U0010ffff\u3400\u2e80〇々",
    "کتاب हिन्दी ไทย 한국어 ひらがなカタカナー",
]
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.sampled_from([*HARD, "的", "a", " ", "\n", "don't", "123"])).map("".join),
)


@pytest.mark.parametrize("text", HARD)
def test_hard_texts_come_back_exactly(exact_kind: Tokenizer, text: str) -> None:
    assert exact_kind.decode(exact_kind.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
@example("<|pad|")
def test_every_text_comes_back_exactly(trained: dict[str, Tokenizer], text: str) -> None:
    for kind in ("char", "bpe"):
        ids = trained[kind].encode(text)
        assert trained[kind].decode(ids, skip_special=False) == text
        assert b"".join(map(trained[kind].piece, ids)) == text.encode()


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_fast_character_table_agrees_with_the_backend(trained: dict[str, Tokenizer], text: str) -> None:
    char = trained["char"]
    assert char.encode(text) == char.backend.encode(text).ids


@settings(max_examples=200, deadline=None)
@given(text=TEXT.filter(lambda text: "▁" not in text))
def test_unigram_gives_text_without_its_own_mark_back(trained: dict[str, Tokenizer], text: str) -> None:
    unigram = trained["unigram"]
    ids = unigram.encode(text)
    assert unigram.decode(ids) == text
    assert b"".join(map(unigram.piece, ids)) == text.encode()


def test_character_ids_by_hand() -> None:
    tokenizer = train_tokenizer(["aab", "a中"], kind="char")
    # 0 and 1 are special, 2 to 257 the bytes, then a (3 times), b and 中 (once each, by code point).
    assert tokenizer.vocabulary_size == 261
    assert tokenizer.encode("ab中") == [258, 259, 260]
    assert tokenizer.encode("é") == [2 + 0xC3, 2 + 0xA9]
    assert tokenizer.encode("b<|endoftext|>a") == [259, 0, 258]
    assert tokenizer.decode([259, 0, 258]) == "ba"
    assert tokenizer.decode([259, 0, 258], skip_special=False) == "b<|endoftext|>a"
    assert tokenizer.token(12) == "<0x0A>"
    assert tokenizer.piece(12) == b"\n"
    assert (tokenizer.eos_id, tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id) == (0, 1, None, None)


def test_byte_level_pieces_are_exact(trained: dict[str, Tokenizer]) -> None:
    bpe = trained["bpe"]
    ids = bpe.encode("鬱")
    assert len(ids) == 3
    assert [bpe.piece(number) for number in ids] == [b"\xe9", b"\xac", b"\xb1"]
    assert bpe.piece(0) == b"<|endoftext|>"
    assert sorted(bpe.piece(number) for number in range(2, 258)) == [bytes([value]) for value in range(256)]


def test_offsets_are_characters(any_kind: Tokenizer) -> None:
    text = "the 春眠 fox"
    found = any_kind.encode_offsets(text)
    assert [number for number, _, _ in found] == any_kind.encode(text)
    assert "".join(text[start:end] for _, start, end in found).replace(" ", "") == "the春眠fox"


def test_batch_is_single(any_kind: Tokenizer) -> None:
    texts = ["", "the fox", "春眠不觉晓", "a<|endoftext|>b", "[CLS] x"]
    for special in (False, True):
        expected = [any_kind.encode(text, special=special) for text in texts]
        assert any_kind.encode_batch(texts, special=special) == expected
    assert any_kind.encode_batch([]) == []


def test_large_batches_are_cut_into_groups(
    trained: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langmill.tokens.tokenizer.BATCH_CHARACTERS", 10)
    texts = ["the fox", "", "春眠不觉晓", "dog", "x" * 30, "y"]
    assert trained["bpe"].encode_batch(texts) == [trained["bpe"].encode(text) for text in texts]


def test_special_adds_what_stands_around_a_text(trained: dict[str, Tokenizer]) -> None:
    wordpiece, unigram, bpe = trained["wordpiece"], trained["unigram"], trained["bpe"]
    inner = wordpiece.encode("the fox")
    assert wordpiece.encode("the fox", special=True) == [wordpiece.cls_id, *inner, wordpiece.sep_id]
    assert unigram.encode("the fox", special=True) == [*unigram.encode("the fox"), unigram.eos_id]
    assert bpe.encode("the fox", special=True) == bpe.encode("the fox")


def test_kind_is_told(any_kind: Tokenizer, trained: dict[str, Tokenizer]) -> None:
    assert trained[any_kind.kind] is any_kind


def test_save_and_load(any_kind: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    any_kind.save(folder)
    for path in (folder, folder / "tokenizer.json"):
        again = Tokenizer.load(path)
        assert again.fingerprint() == any_kind.fingerprint()
        assert again.specials == any_kind.specials
        assert again.kind == any_kind.kind
        assert again.encode("the 春眠 鬱 fox\n") == any_kind.encode("the 春眠 鬱 fox\n")
    again.save(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_chat_template_and_limit_are_kept(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["ab"], kind="char", maximum_tokens=77)
    tokenizer.chat_template = "{{ messages }} 你好"
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.chat_template == "{{ messages }} 你好"
    assert again.maximum_tokens == 77
    again.chat_template = None
    again.save(tmp_path)
    assert not (tmp_path / "chat_template.jinja").exists()


def test_older_layouts_are_read(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["ab"], kind="char")
    tokenizer.save(tmp_path)
    config = {
        "model_max_length": 10**30,
        "chat_template": [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}],
        "bos_token": {"content": "<s>", "lstrip": False},
        "added_tokens_decoder": {"261": {"content": "<tool>", "special": False, "normalized": False}},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    again = Tokenizer.load(tmp_path)
    assert again.specials == SpecialTokens(bos="<s>", eos="<|endoftext|>")
    assert again.maximum_tokens is None
    assert again.chat_template == "D"
    # Declared but not in tokenizer.json: they take the next ids.
    assert again.encode("a<tool><s>") == [258, 260, 261]
    assert again.decode([258, 260, 261]) == "a<tool>"
    again.save(tmp_path)
    assert not (tmp_path / "special_tokens_map.json").exists()
    assert Tokenizer.load(tmp_path).specials == again.specials


def test_add_bos_token_is_obeyed(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["ab"], kind="char", specials=SpecialTokens(bos="<s>", eos="</s>"))
    tokenizer.config = {"add_bos_token": True, "add_eos_token": True}
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode("a", special=True) == [again.bos_id, *again.encode("a"), again.eos_id]


def test_unknown_config_entries_are_kept(tmp_path: Path) -> None:
    train_tokenizer(["ab"], kind="char").save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config |= {"padding_side": "left", "tokenizer_class": "GPT2Tokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    Tokenizer.load(tmp_path).save(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "tokenizer_config.json").read_text()) == config


def test_gpt2_files_open(tmp_path: Path) -> None:
    vocabulary = {"t": 0, "h": 1, "e": 2, "Ġ": 3, "th": 4, "the": 5, "Ġthe": 6, "<|endoftext|>": 7}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e\nĠ the\n")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("the the<|endoftext|>") == [5, 6, 7]
    assert tokenizer.eos_id == 7
    assert tokenizer.decode([5, 6, 7]) == "the the"
    (tmp_path / "merges.txt").write_text("#version: 0.2\nx y\n")
    with pytest.raises(CheckpointError, match="do not fit.*out of vocabulary"):
        Tokenizer.load(tmp_path)


def test_truncation_of_a_published_file_is_switched_off(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["ab"], kind="char")
    tokenizer.backend.enable_truncation(2)
    tokenizer.backend.enable_padding(length=8)
    (tmp_path / "tokenizer.json").write_text(tokenizer.backend.to_str())
    assert len(Tokenizer.load(tmp_path).encode_offsets("abab")) == 4


def damage(text: str) -> dict[str, str]:
    """Return damaged variants of a tokenizer.json."""
    tree = json.loads(text)
    return {
        "cut": text[: len(text) // 2],
        "empty": "",
        "list": "[]",
        "other": json.dumps({"model_type": "qwen3"}),
        "model": json.dumps(tree | {"model": {"type": "Nonsense"}}),
        "merges": json.dumps(tree | {"model": tree["model"] | {"merges": ["q z"]}}),
        "decoder": json.dumps(tree | {"decoder": {"type": 7}}),
    }


@pytest.mark.parametrize("how", ["cut", "empty", "list", "other", "model", "merges", "decoder"])
def test_damaged_files_say_so_in_one_line(trained: dict[str, Tokenizer], tmp_path: Path, how: str) -> None:
    trained["bpe"].save(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(damage(file.read_text())[how])
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.load(tmp_path)
    assert "tokenizer.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such tokenizer"):
        Tokenizer.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="tokenizer.json is missing"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"added_tokens_decoder": {"x": 1}}', '{"eos_token": {"a": 1}}']
)
def test_damaged_config_says_so(trained: dict[str, Tokenizer], tmp_path: Path, content: str) -> None:
    trained["bpe"].save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(CheckpointError, match="tokenizer_config.json"):
        Tokenizer.load(tmp_path)


def test_half_surrogates_are_refused(any_kind: Tokenizer) -> None:
    for call in (any_kind.encode, any_kind.encode_offsets, lambda text: any_kind.encode_batch(["a", text])):
        with pytest.raises(DataError, match=r"U\+D800.*character 2"):
            call("ab\ud800")


def test_what_is_not_text_is_refused(any_kind: Tokenizer) -> None:
    for call in (any_kind.encode, any_kind.encode_offsets, lambda text: any_kind.encode_batch(["a", text])):
        with pytest.raises(DataError, match="not bytes"):
            call(b"ab")  # type: ignore[arg-type]


def test_ids_out_of_range(any_kind: Tokenizer) -> None:
    size = any_kind.vocabulary_size
    for number in (-1, size):
        with pytest.raises(DataError, match=f"from 0 to {size - 1}"):
            any_kind.token(number)
    # A model's padded vocabulary may give such ids; they decode to nothing, as in Transformers.
    assert any_kind.decode([size + 5]) == ""


LAYOUT = SpecialTokens(pad="<pad>", unk="<unk>", cls="<cls>", sep="<sep>")


@pytest.mark.parametrize("kind", ["char", "bpe", "wordpiece"])
def test_pairs_stand_in_berts_layout(kind: str) -> None:
    tokenizer = train_tokenizer(TEXTS, kind=kind, vocabulary=400, specials=LAYOUT)  # type: ignore[arg-type]
    first, second = tokenizer.encode("the fox"), tokenizer.encode("花落 dog")
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    assert tokenizer.encode("the fox", special=True) == [cls, *first, sep]
    pair = tokenizer.encode_pair("the fox", "花落 dog")
    assert pair.ids == [cls, *first, sep, *second, sep]
    assert pair.segments == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert pair.second == len(first) + 2 and pair.cut == (0, 0)
    assert tokenizer.encode_pair("fox", "").second == len(tokenizer.encode_pair("fox", "").ids)


def test_the_longer_of_a_pair_is_cut_first(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, kind="wordpiece", vocabulary=400, specials=LAYOUT)
    tokenizer.save(tmp_path)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = ("fox dog", "the quick brown fox jumps over the lazy dog", "花落知多少")
    for first in texts:
        for second in texts:
            for maximum in range(3, 30):
                pair = tokenizer.encode_pair(first, second, maximum=maximum)
                whole = len(tokenizer.encode(first)) + len(tokenizer.encode(second)) + 3
                assert sum(pair.cut) == max(0, whole - maximum)
                wanted = theirs(first, second, truncation="longest_first", max_length=maximum)
                assert (pair.ids, pair.segments) == (wanted.input_ids, wanted.token_type_ids)
    with pytest.raises(DataError, match="3 special tokens, more than the 2 allowed"):
        tokenizer.encode_pair("a", "b", maximum=2)
    with pytest.raises(DataError, match="not bytes"):
        tokenizer.encode_pair("a", b"b")  # type: ignore[arg-type]


def test_a_tokenizer_without_a_layout_joins_pairs() -> None:
    tokenizer = train_tokenizer(["ab"], kind="char")
    pair = tokenizer.encode_pair("ab", "b")
    assert (pair.ids, pair.segments) == (tokenizer.encode("abb"), [0, 0, 0])


@pytest.mark.parametrize("kind", ["char", "bpe", "wordpiece", "unigram"])
def test_what_stands_around_a_pair(trained: dict[str, Tokenizer], kind: str) -> None:
    frame = trained[kind].around_pair
    pair = trained[kind].encode_pair("the fox", "dog")
    first, second = (trained[kind].encode(text) for text in ("the fox", "dog"))
    parts = [frame.before, first, frame.between, second, frame.behind]
    if kind in ("wordpiece", "unigram"):
        assert [number for part in parts for number in part] == pair.ids
        kinds = [kind for kind, part in zip(frame.segments, parts) for _ in part]
        assert kinds == pair.segments
    else:  # no layout of its own
        end = [trained[kind].eos_id]
        assert (frame.before, frame.between, frame.behind, frame.segments) == ([], end, end, [0] * 5)
