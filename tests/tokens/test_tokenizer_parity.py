"""What langmill saves opens in Transformers to the same ids and the same text. [tests]"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from langmill.tokens import SpecialTokens, Tokenizer, train_tokenizer

transformers = pytest.importorskip("transformers")

SAMPLES = [
    "the quick  brown fox,  it's 2024 .",
    "春眠不觉晓 训练 language 模型。\r\n",
    "\n    return width\n\t鬱😀\x00 <0x41> ▁x ##y",
    " leading and trailing ",
    "a<|endoftext|>b<|pad|> c",
    "the [SEP] fox [MASK]. </s> <unk> <pad>",
    "",
]


def parity(ours: Tokenizer, theirs: object) -> None:
    """Check ids, text and roles on `SAMPLES`."""
    for text in SAMPLES:
        for special in (False, True):
            ids = ours.encode(text, special=special)
            assert theirs(text, add_special_tokens=special).input_ids == ids  # type: ignore[operator]
            for skip in (False, True):
                assert theirs.decode(ids, skip_special_tokens=skip) == ours.decode(ids, skip_special=skip)  # type: ignore[attr-defined]
    assert len(theirs) == ours.vocabulary_size  # type: ignore[arg-type]
    for role in ("bos", "eos", "pad", "unk", "mask", "cls", "sep"):
        assert getattr(theirs, f"{role}_token_id") == getattr(ours, f"{role}_id")


def test_all_kinds_open_in_transformers(any_kind: Tokenizer, tmp_path: Path) -> None:
    any_kind.save(tmp_path)
    parity(any_kind, transformers.AutoTokenizer.from_pretrained(tmp_path))
    parity(any_kind, transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path))


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "llama", "mistral", "bert", "roberta", "t5", "bart"])
def test_a_model_config_beside_it_changes_nothing(
    trained: dict[str, Tokenizer], tmp_path: Path, family: str
) -> None:
    """Transformers 5 rebuilds some families' tokenizers by their own rules; ours must be left alone."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    for kind in ("char", "bpe"):
        trained[kind].save(tmp_path)
        parity(trained[kind], transformers.AutoTokenizer.from_pretrained(tmp_path))


def test_random_text(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    generator = random.Random(0)
    alphabet = "the fox春眠\n  \t0123,。'#_(😀é\u200d\u0301▁"
    for kind, ours in trained.items():
        ours.save(tmp_path / kind)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
        for _ in range(100):
            text = "".join(generator.choices(alphabet, k=30))
            ids = ours.encode(text)
            assert theirs(text, add_special_tokens=False).input_ids == ids
            assert theirs.decode(ids) == ours.decode(ids, skip_special=False)


def test_what_transformers_saves_opens_here(any_kind: Tokenizer, tmp_path: Path) -> None:
    any_kind.save(tmp_path / "ours")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again = Tokenizer.load(tmp_path / "theirs")
    assert again.specials == any_kind.specials
    parity(again, theirs)


def test_added_tokens_of_transformers_open_here(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    trained["bpe"].save(tmp_path / "ours")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    theirs.add_special_tokens({"bos_token": "<s>"})
    theirs.add_tokens(["<tool>"])
    theirs.chat_template = "{{ bos_token }}{{ messages }}"
    theirs.save_pretrained(tmp_path / "theirs")
    again = Tokenizer.load(tmp_path / "theirs")
    assert again.chat_template == theirs.chat_template
    assert again.bos_id == theirs.bos_token_id
    assert again.encode("a<tool><s>b") == theirs("a<tool><s>b").input_ids
    parity(again, theirs)


def test_decoders_are_not_given_token_types(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    for kind, expected in (("bpe", False), ("char", False), ("wordpiece", True)):
        trained[kind].save(tmp_path / kind)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
        assert ("token_type_ids" in theirs("the fox")) == expected


def test_template_and_limit_reach_transformers(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["ab"], kind="char", maximum_tokens=77)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}"
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 77
    messages = [{"role": "user", "content": "你好"}]
    assert theirs.apply_chat_template(messages, tokenize=False) == "你好<|endoftext|>"


def test_extra_and_role_specials_reach_transformers(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(
        ["the fox"],
        specials=SpecialTokens(bos="<s>", eos="</s>", pad="<pad>"),
        extra_specials=["<|im_start|>", "<|im_end|>"],
        vocabulary=300,
    )
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "<s><|im_start|>the fox<|im_end|></s>"
    assert theirs(text).input_ids == tokenizer.encode(text)
    assert theirs.decode(tokenizer.encode(text), skip_special_tokens=True) == "the fox"
    parity(tokenizer, theirs)
