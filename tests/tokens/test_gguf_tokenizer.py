"""Tokenizers in GGUF files: the ids of Transformers' tokenizers of the same vocabulary."""

from __future__ import annotations

import functools
import io
import json
import re

import pytest

gguf = pytest.importorskip("gguf")

from tokenizers import AddedToken, models, pre_tokenizers, trainers  # noqa: E402
from tokenizers import Tokenizer as Backend  # noqa: E402

from langmill.core.errors import CheckpointError  # noqa: E402
from langmill.tokens import Tokenizer  # noqa: E402
from langmill.tokens.gguf import CUTS  # noqa: E402

SAMPLES = [
    "The quick brown foxes' day isn't over: they'LL jump again, we've heard.",
    "春眠不觉晓，处处闻啼鸟。 训练 model 需要2024年的数据",
    "def area(width, h2=3):\n\tif width < 0:\n        return None  # 12345\n\n\n    return width*h2\r\n",
    "👩‍👩‍👧 🇨🇳 ❤️ café naïve – „x“ … ½ ⅷ ٣",
    "1 12 123 1234567 3.14 007",
    "   leading,  inner   and trailing   ",
    "\n\n \t\n",
    "cafe\u0301 decomposed",
    "<|im_start|>user\nhello<|im_end|> and <tool> me",
    "",
]
WORDS = " ".join(SAMPLES[:8]) * 3
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def write(path, **facts):
    """Write a GGUF file without tensors whose facts begin with tokenizer., dots as __."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.context_length", 77)
    for name, value in facts.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string, list: writer.add_array}
        if value is not None:
            add[type(value)]("tokenizer." + name.replace("__", "."), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def bytes_vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """Train byte-level BPE on the samples without any cut, so that a wrong cut shows."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([WORDS, *WORDS.split(" "), *re.findall(r"\d+| \w+|\W+", WORDS)], trainer)
    tree = json.loads(backend.to_str())["model"]
    return sorted(tree["vocab"], key=tree["vocab"].get), [tuple(merge) for merge in tree["merges"]]


@pytest.fixture(scope="module")
def vocabulary():
    return bytes_vocabulary()


def bytes_facts(vocabulary, **more):
    tokens, merges = vocabulary
    tokens = [*tokens, "<tool>", "[PAD7]", "[PAD8]"]
    kinds = [CONTROL if token in SPECIAL else NORMAL for token in tokens[:-3]] + [USER, UNUSED, UNUSED]
    return {
        "ggml__model": "gpt2",
        "ggml__tokens": tokens,
        "ggml__merges": [" ".join(merge) for merge in merges],
        "ggml__token_type": kinds,
        "ggml__eos_token_id": 2,
        "ggml__bos_token_id": 1,
        **more,
    }


def theirs(vocabulary, pre: str):
    """Return Transformers' tokenizer, of the class that models with such a cut have, where it has one."""
    transformers = pytest.importorskip("transformers")
    tokens, merges = vocabulary
    numbered = {token: number for number, token in enumerate([*tokens, "<tool>"])}
    if pre == "qwen2":
        made = transformers.Qwen2Tokenizer(vocab=numbered, merges=merges)
    elif pre == "gpt-2":
        made = transformers.GPT2Tokenizer(vocab=numbered, merges=merges)
    else:  # its tokenizer.json as published, from memory
        made = published(numbered, merges, pre)
    made.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL], special_tokens=True
    )
    made.add_tokens([AddedToken("<tool>", normalized=False)])
    return made


def published(numbered, merges, pre: str):
    """Return what the tokenizer.json of SmolLM or Llama 3 says."""
    from transformers import PreTrainedTokenizerFast

    llama3 = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps = {
        "smollm": [{"type": "Digits", "individual_digits": True}, {**byte_level, "use_regex": True}],
        "llama-bpe": [
            {"type": "Split", "pattern": {"Regex": llama3}, "behavior": "Isolated", "invert": False},
            {**byte_level, "use_regex": False},
        ],
    }[pre]
    tree = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": {**byte_level, "use_regex": True},
        "model": {"type": "BPE", "vocab": numbered, "merges": merges, "ignore_merges": pre == "llama-bpe"},
    }
    return PreTrainedTokenizerFast(tokenizer_object=Backend.from_str(json.dumps(tree)))


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_ids_of_byte_level_tokenizers(vocabulary, tmp_path, pre):
    from transformers import AutoTokenizer

    ours = Tokenizer.load(write(tmp_path / "t.gguf", **bytes_facts(vocabulary, ggml__pre=pre)))
    reference = theirs(vocabulary, pre)
    for text in SAMPLES:
        ids = ours.encode(text)
        assert ids == reference(text, add_special_tokens=False)["input_ids"], text
        if pre != "qwen2":  # which composes
            assert ours.decode(ids, skip_special=False) == text
    assert ours.encode(SAMPLES[8])[0] == 1 and ours.is_special(1)
    tool = ours.backend.token_to_id("<tool>")
    assert tool in ours.encode(SAMPLES[8]) and not ours.is_special(tool)
    assert ours.vocabulary_size == tool + 1, "fillers are no tokens"
    assert ours.maximum_tokens == 77
    begins = [1] if pre == "llama-bpe" else []
    assert ours.encode("a", special=True) == [*begins, *ours.encode("a")]
    ours.save(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in SAMPLES:
        assert again(text)["input_ids"] == ours.encode(text, special=True), text
    assert (again.bos_token, again.eos_token) == ("<|im_start|>", "<|im_end|>")


def test_every_cut_differs_where_it_should(vocabulary, tmp_path):
    found = {}
    for pre in CUTS:
        opened = Tokenizer.load(write(tmp_path / "t.gguf", **bytes_facts(vocabulary, ggml__pre=pre)))
        found[pre] = [tuple(opened.encode(text)) for text in SAMPLES]
    assert len({id(cut) for cut in CUTS.values()}) == len({str(ids) for ids in found.values()}) == 4


def test_the_file_decides_what_stands_around_a_text(vocabulary, tmp_path):
    facts = bytes_facts(
        vocabulary, ggml__pre="llama-bpe", ggml__add_bos_token=False, ggml__add_eos_token=True
    )
    opened = Tokenizer.load(write(tmp_path / "t.gguf", **facts, chat_template="{{ messages }}"))
    assert opened.encode("a", special=True) == [*opened.encode("a"), 2]
    assert opened.chat_template == "{{ messages }}"


# ------------------------------------------------------------------------------------------------
# SentencePiece


@functools.cache
def pieces() -> tuple[list[str], list[float], list[int], bytes]:
    """Train SentencePiece as Llama 2's was: tokens, scores, kinds and its own model."""
    spm = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(SAMPLES[:3] * 4 + SAMPLES[4:6]),
        model_writer=model,
        model_type="bpe",
        vocab_size=440,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    opened = spm.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(opened.get_piece_size())
    kinds = [
        UNKNOWN
        if opened.is_unknown(i)
        else CONTROL
        if opened.is_control(i)
        else BYTE
        if opened.is_byte(i)
        else NORMAL
        for i in ids
    ]
    return [opened.id_to_piece(i) for i in ids], [opened.get_score(i) for i in ids], kinds, model.getvalue()


def piece_facts(**more):
    tokens, scores, kinds, _ = pieces()
    return {
        "ggml__model": "llama",
        "ggml__tokens": tokens,
        "ggml__scores": scores,
        "ggml__token_type": kinds,
        "ggml__bos_token_id": 1,
        "ggml__eos_token_id": 2,
        "ggml__unknown_token_id": 0,
        **more,
    }


@pytest.mark.parametrize("spaced", [True, False])
def test_ids_of_a_sentencepiece_tokenizer(tmp_path, spaced):
    transformers = pytest.importorskip("transformers")
    from transformers.convert_slow_tokenizer import generate_merges

    ours = Tokenizer.load(write(tmp_path / "t.gguf", **piece_facts(ggml__add_space_prefix=spaced)))
    tokens, scores, _, model = pieces()
    numbered = {token: number for number, token in enumerate(tokens)}
    merges = generate_merges(numbered, list(zip(tokens, scores)))
    reference = transformers.LlamaTokenizer(
        vocab=numbered, merges=merges, add_prefix_space=spaced, legacy=True
    )
    original = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=model)
    for text in SAMPLES:
        ids = ours.encode(text)
        if not (spaced and text.startswith(" ")):
            assert ids == reference(text, add_special_tokens=False)["input_ids"], text
        assert ours.decode(ids) == text
        if spaced:
            assert ids == original.encode(text), text
    assert ours.encode("a", special=True)[0] == 1
    assert ours.encode("</s>a")[:1] == [2]
    assert len(ours.encode("龘")) >= 3, "by its bytes"
    ours.save(tmp_path / "saved")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert all(again(text)["input_ids"] == ours.encode(text, special=True) for text in SAMPLES)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"ggml__model": "bert"}, "its tokenizer is a 'bert'; known: gpt2, llama"),
        ({"ggml__pre": "smolm"}, "tokenizer.ggml.pre 'smolm' is not known; known: gpt-2"),
        ({"ggml__pre": "smolm"}, "did you mean smollm?"),
        ({"ggml__tokens": ["a", "b", "a"], "ggml__token_type": None}, "its vocabulary has 1 tokens twice"),
        ({"ggml__merges": ["a b c"]}, "its tokenizer is damaged"),
        ({"ggml__merges": ["zzzz qqqq"]}, "its tokenizer is damaged"),
        ({"ggml__merges": None}, "its tokenizer is damaged ('merges')"),
        ({"ggml__eos_token_id": 99_999}, "its tokenizer is damaged"),
        ({"ggml__model": None}, "holds no tokenizer"),
    ],
)
def test_mistakes(vocabulary, tmp_path, facts, words):
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.load(write(tmp_path / "t.gguf", **{**bytes_facts(vocabulary), **facts}))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
