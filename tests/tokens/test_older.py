"""Tokenizers from before `tokenizer.json` give the ids that Transformers gives for the same files. [tests]"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from token_samples import TEXTS

from langmill.core.errors import CheckpointError
from langmill.tokens import SpecialTokens, Tokenizer, train_tokenizer

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")

MORE = [
    "Café naïve façade Ångström; l'été à Zürich.\n",
    "The fox, the dog and 1,234 crates of 3.5 kg: ½ full! 😀 ok.\n",
] * 10
SAMPLES = [
    "The quick brown fox jumps over the lazy dog.",
    "春眠不觉晓，处处闻啼鸟。训练 language 模型",
    "Café naïve ﬁne Ｆｕｌｌ １２３ Ångström",
    "😀👩‍👧 2024-11-05 3.14 1,234",
    "  two  spaces,\ttab\nline \r\n end  ",
    "def f(x_1):\n    return x_1 ** 2  # 注释",
    "a</s>b <s>c<pad> [MASK] d<mask> <extra_id_0> e",
    "",
    "ß鬱 鬱",
]


def train_pieces(
    folder: Path, name: str, kind: str, texts: list[str] = TEXTS + MORE, **settings: Any
) -> None:
    """Train a SentencePiece model into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text("".join(texts), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "trained"),
        model_type=kind,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        **settings,
    )
    (folder / "trained.model").rename(folder / name)
    for left in ("trained.vocab", "text.txt"):
        (folder / left).unlink()


def write_json(folder: Path, name: str, tree: Any) -> None:
    (folder / name).write_text(json.dumps(tree), encoding="utf-8")


def bert(folder: Path, **config: Any) -> None:
    cased = config.get("do_lower_case", True) is False
    tokenizer = train_tokenizer(TEXTS + MORE, kind="wordpiece", vocabulary=400, lowercase=not cased)
    names = sorted(tokenizer.backend.get_vocab().items(), key=lambda pair: pair[1])
    (folder / "vocab.txt").write_text("".join(f"{name}\n" for name, _ in names), encoding="utf-8")
    write_json(folder, "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **config})


def roberta(folder: Path, name: str) -> None:
    specials = SpecialTokens(bos="<s>", pad="<pad>", eos="</s>", unk="<unk>", mask="<mask>")
    tree = json.loads(train_tokenizer(TEXTS + MORE, vocabulary=450, specials=specials).backend.to_str())[
        "model"
    ]
    write_json(folder, "vocab.json", tree["vocab"])
    lines = [" ".join(pair) for pair in tree["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")
    write_json(folder, "tokenizer_config.json", {"tokenizer_class": name, "model_max_length": 77})


def t5(folder: Path) -> None:
    special = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    train_pieces(folder, "spiece.model", "unigram", vocab_size=300, **special)
    write_json(folder, "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"})


def llama(folder: Path, legacy: bool = False, **config: Any) -> None:
    train_pieces(
        folder,
        "tokenizer.model",
        "bpe",
        vocab_size=600,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        user_defined_symbols=["<tool>"],
    )
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": legacy, "add_bos_token": True, **config}
    write_json(folder, "tokenizer_config.json", config)


def xlm_roberta(folder: Path) -> None:
    train_pieces(folder, "sentencepiece.bpe.model", "unigram", vocab_size=300)
    write_json(folder, "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})


def marian(folder: Path) -> None:
    chinese = [text for text in TEXTS if ord(text[0]) > 255] + ["狐狸, 2024!\n"] * 5
    english = [text for text in TEXTS if text not in chinese] + MORE
    train_pieces(folder, "source.spm", "unigram", english, vocab_size=200)
    train_pieces(folder, "target.spm", "unigram", chinese, vocab_size=80)
    pieces = ["</s>", "<unk>", ">>zho<<"]
    for name in ("source.spm", "target.spm"):
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
        pieces += [model.id_to_piece(number) for number in range(3, model.get_piece_size())]
    pieces = [*dict.fromkeys(pieces), "<pad>"]
    write_json(folder, "vocab.json", {piece: number for number, piece in enumerate(pieces)})
    write_json(folder, "tokenizer_config.json", {"tokenizer_class": "MarianTokenizer", "source_lang": "en"})


FORMS = {
    "bert": bert,
    "bert-cased": lambda folder: bert(folder, do_lower_case=False),
    "bert-accents": lambda folder: bert(folder, strip_accents=False, tokenize_chinese_chars=False),
    "roberta": lambda folder: roberta(folder, "RobertaTokenizer"),
    "bart": lambda folder: roberta(folder, "BartTokenizer"),
    "gpt2": lambda folder: roberta(folder, "GPT2Tokenizer"),
    "t5": t5,
    "llama": llama,
    "llama-legacy": lambda folder: llama(folder, legacy=True),
    "xlm-roberta": xlm_roberta,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in (*FORMS, "marian")}
    for name, make in {**FORMS, "marian": marian}.items():
        make(made[name])
    return made


def compare(ours: Tokenizer, theirs: Any, samples: list[str] = SAMPLES) -> None:
    """Check ids, of pairs too, and text."""
    for text in samples:
        for special in (False, True):
            ids = ours.encode(text, special=special)
            assert ids == theirs(text, add_special_tokens=special).input_ids, text
            assert ours.decode(ids).strip() == theirs.decode(ids, skip_special_tokens=True).strip()
    if theirs.is_fast:
        pair = theirs("The fox", "the 觉 dog", return_token_type_ids=True)
        ours_pair = ours.encode_pair("The fox", "the 觉 dog")
        assert (ours_pair.ids, ours_pair.segments) == (pair.input_ids, pair.token_type_ids)
    assert ours.vocabulary_size == len(theirs)


@pytest.mark.parametrize("name", FORMS)
def test_ids_are_those_of_transformers(folders: dict[str, Path], tmp_path: Path, name: str) -> None:
    ours = Tokenizer.load(folders[name])
    theirs = transformers.AutoTokenizer.from_pretrained(folders[name])
    compare(ours, theirs)
    roles = ("eos", "pad", "unk") if name == "gpt2" else ("bos", "eos", "pad", "unk", "mask", "cls", "sep")
    for role in roles:
        if name != "gpt2" or role == "eos":
            assert getattr(ours, f"{role}_id") == getattr(theirs, f"{role}_token_id"), role
    ours.save(tmp_path)
    compare(ours, transformers.AutoTokenizer.from_pretrained(tmp_path))
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint() == ours.fingerprint()
    assert again.specials == ours.specials


def test_marian_has_a_tokenizer_for_each_language(folders: dict[str, Path], tmp_path: Path) -> None:
    ours = Tokenizer.load(folders["marian"])
    with pytest.warns(UserWarning, match="sacremoses"):
        theirs = transformers.AutoTokenizer.from_pretrained(folders["marian"])
    samples = [text for text in SAMPLES if "春" not in text and "鬱" not in text and "注" not in text]
    compare(ours, theirs, [*samples, ">>zho<< The fox", "the 觉 fox"])
    for text in ("春眠不觉晓，处处闻啼鸟。", "训练 模型", "  狐狸,  2024!\n"):
        ids = ours.target.encode(text, special=True)
        assert ids == theirs(text_target=text).input_ids, text
        assert ours.target.decode(ids) == ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.target.target is ours.target
    ours.save(tmp_path)
    compare(ours, transformers.AutoTokenizer.from_pretrained(tmp_path))
    again = Tokenizer.load(tmp_path)
    assert again.target.fingerprint() == ours.target.fingerprint() != ours.fingerprint()
    train_tokenizer(["ab"], kind="char").save(tmp_path)
    assert not (tmp_path / "target_tokenizer.json").exists()


def test_pieces_are_read_as_sentencepiece_reads_them(folders: dict[str, Path]) -> None:
    from langmill.tokens.sentence_pieces import BPE, BYTE, CONTROL, UNIGRAM, USER_DEFINED, read_model

    for name, file, kind in (("t5", "spiece.model", UNIGRAM), ("llama", "tokenizer.model", BPE)):
        model = read_model(folders[name] / file)
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(folders[name] / file))
        assert (model.kind, model.unknown, model.byte_fallback) == (kind, "<unk>", name == "llama")
        assert len(model.pieces) == theirs.get_piece_size()
        for number, (piece, score, of) in enumerate(model.pieces):
            assert (piece, np.float32(score)) == (theirs.id_to_piece(number), theirs.get_score(number))
            assert (of == CONTROL, of == BYTE) == (theirs.is_control(number), theirs.is_byte(number))
        assert bool(model.characters) == (name == "t5")
    assert ("<tool>", USER_DEFINED) in {(piece, of) for piece, _, of in model.pieces}


def test_bytes_spell_what_a_unigram_does_not_know(tmp_path: Path) -> None:
    train_pieces(
        tmp_path,
        "spiece.model",
        "unigram",
        vocab_size=560,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    ours = Tokenizer.load(tmp_path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    for text in ("The fox", "鬱 ß fox", "春眠🙃"):
        ids = ours.encode(text)
        assert ids == theirs.encode(text)
        assert ours.decode(ids) == text


def test_what_cannot_be_read_says_so(folders: dict[str, Path], tmp_path: Path) -> None:
    def refused(name: str, match: str, **files: bytes | None) -> None:
        folder = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folders[name], folder)
        for file, content in files.items():
            (folder / file.replace("_", ".")).write_bytes(content or b"")
        with pytest.raises(CheckpointError, match=match) as caught:
            Tokenizer.load(folder)
        assert "\n" not in str(caught.value)

    whole = (folders["t5"] / "spiece.model").read_bytes()
    refused("t5", "spiece.model: not a SentencePiece model, or cut short", spiece_model=whole[:-9])
    refused("t5", "spiece.model: not a SentencePiece model", spiece_model=b"")
    refused("t5", "spiece.model: not a SentencePiece model", spiece_model=b"IQ== 0\nIg== 1\n")
    bpe = (folders["llama"] / "tokenizer.model").read_bytes()
    refused("t5", "of kind 2, not Unigram", spiece_model=bpe)
    refused("bert", "has no \\[UNK\\]; it is no BERT's vocabulary", vocab_txt=b"a\nb\n")
    refused("roberta", "do not fit", merges_txt=b"#version: 0.2\nqq zz\n")
    refused("marian", "ids must be 0, 1, 2", vocab_json=b'{"</s>": 0, "<unk>": 2}')
    write_json(folders["bert"], "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(CheckpointError, match="a bertjapanese tokenizer in this form is not supported"):
        Tokenizer.load(folders["bert"])


def test_declared_tokens_count(tmp_path: Path) -> None:
    """How a special token takes the space around it is the config's to say, and so is what more there is."""

    def token(content: str, **flags: bool) -> dict[str, Any]:
        names = ("lstrip", "rstrip", "single_word", "normalized")
        plain = dict.fromkeys(names, False) | {"content": content, "special": True}
        return {**plain, "__type": "AddedToken", **flags}

    declared = {"2": token("</s>", rstrip=True), "601": token("[TOOL]", special=False)}
    llama(tmp_path / "llama", added_tokens_decoder=declared, add_eos_token=True)
    roberta(tmp_path, "RobertaTokenizer")
    config = {"tokenizer_class": "RobertaTokenizer", "mask_token": token("<mask>", lstrip=True)}
    write_json(tmp_path, "tokenizer_config.json", config)
    for folder in (tmp_path, tmp_path / "llama"):
        ours, theirs = Tokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder)
        compare(ours, theirs, [*SAMPLES, "the  <mask>  fox </s>  a [TOOL] b"])
        ours.save(folder / "ours")
        compare(ours, transformers.AutoTokenizer.from_pretrained(folder / "ours"))


def test_a_models_type_names_the_rules(tmp_path: Path) -> None:
    llama(tmp_path)
    write_json(tmp_path, "tokenizer_config.json", {})
    write_json(tmp_path, "config.json", {"model_type": "gemma"})
    with pytest.raises(CheckpointError, match="a gemma tokenizer"):
        Tokenizer.load(tmp_path)
    write_json(tmp_path, "config.json", {"model_type": "mistral"})
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("a", special=True)[0] == tokenizer.bos_id == 1
