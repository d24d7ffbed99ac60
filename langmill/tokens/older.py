"""Tokenizers from before `tokenizer.json`: WordPiece lists, byte-level BPE in two files, SentencePiece. [tokens]

Every reader gives the ids that Transformers 5 gives for the same files, and names in `config` the special
tokens that its format implies. Only where a Unigram has pieces for bytes (mT5) are characters that it does not
know spelt in them, as SentencePiece does, instead of read as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from langmill.core.errors import CheckpointError
from langmill.tokens.files import content_of, one_line, read_object
from langmill.tokens.pieces import WORD_START
from langmill.tokens.sentence_pieces import CONTROL, UNIGRAM, USER_DEFINED, PieceModel, read_model

OWN_WAYS = (
    *("tokenizer_class", "add_prefix_space", "legacy", "sp_model_kwargs", "extra_ids", "vocab_file"),
    *(
        "do_lower_case",
        "strip_accents",
        "tokenize_chinese_chars",
        "separate_vocabs",
        "spm_precompiled_charsmap",
    ),
    *("source_lang", "target_lang", "trim_offsets", "do_basic_tokenize", "never_split", "merges_file"),
)
"""Entries of `tokenizer_config.json` that say how a class reads its files, and nothing to a `tokenizer.json`."""
UNNAMED = ("", "pretrained", "tokenizersbackend")
"""What is left of a tokenizer's class that says nothing about its format."""
CODE = re.compile(r">>.+<<")
"""How Marian's vocabulary names the language to translate into."""
RARE = 1000.0
"""By so much a piece that only the target's text has lies below those of the source's, for each character."""


def read_older(folder: Path, config: dict[str, Any]) -> tuple[Backend, Backend | None]:
    """Read what `folder` has instead of a `tokenizer.json`; of a pair of languages, source and target.

    Raises CheckpointError where there is nothing, it is damaged, or of a class whose rules are not known.
    """
    for names, classes, reader in FORMS:
        if all((folder / name).is_file() for name in names):
            known = class_of(folder, config)
            if known not in (*UNNAMED, *classes):
                raise CheckpointError(
                    f"{folder / names[0]}: a {known} tokenizer in this form is not supported (known: "
                    f"{', '.join(classes)}); convert it with Transformers: "
                    "AutoTokenizer.from_pretrained(…).save_pretrained(…)"
                )
            try:
                read = reader(folder, known, config)
            except CheckpointError:
                raise
            except Exception as error:  # the library raises no narrower class; nothing goes on after it
                raise CheckpointError(
                    f"{folder}: {' and '.join(names)} do not fit ({one_line(error)})"
                ) from error
            for name in OWN_WAYS:
                config.pop(name, None)
            return read if isinstance(read, tuple) else (read, None)
    raise CheckpointError(
        f"{folder}: no tokenizer there: tokenizer.json is missing (and so are the older forms: "
        f"{'; '.join(' + '.join(names) for names, _, _ in FORMS)}); train one with `langmill tokenizer train`"
    )


def has_older(folder: Path) -> bool:
    """Tell whether `folder` has a tokenizer in an older form."""
    return any(all((folder / name).is_file() for name in names) for names, _, _ in FORMS)


def class_of(folder: Path, config: Mapping[str, Any]) -> str:
    """Return whose rules hold, by the tokenizer's class or else the model's type: `bert`, `xlmroberta`, ``."""
    name = str(config.get("tokenizer_class") or "")
    if not name and (folder / "config.json").is_file():
        name = str(read_object(folder / "config.json").get("model_type") or "")
    return name.removesuffix("Fast").removesuffix("Tokenizer").lower().replace("-", "")


def imply(config: dict[str, Any], **tokens: str) -> None:
    """Name the special tokens of a format where the config names none."""
    for role, token in tokens.items():
        if config.get(f"{role}_token") is None:
            config[f"{role}_token"] = token


def spelt(config: Mapping[str, Any], role: str) -> str:
    """Return the token of a role, which the config spells as text or as an object."""
    token = content_of(config.get(f"{role}_token"))
    if token is None:
        raise CheckpointError(f"tokenizer_config.json: {role}_token is not a token")
    return token


def surround(backend: Backend, single: str, pair: str) -> None:
    """Put special tokens around texts, as a template says."""
    names = {word.partition(":")[0] for word in f"{single} {pair}".split() if not word.startswith("$")}
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in sorted(names)])
    found = [(name, backend.token_to_id(name)) for name in sorted(names)]
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=found)


# ------------------------------------------------------------------------------------------------
# WordPiece and byte-level BPE


def read_bert(folder: Path, kind: str, config: dict[str, Any]) -> Backend:
    """Read BERT's `vocab.txt`, a token a line (Devlin et al. 2019), by the rules that the config gives."""
    imply(config, unk="[UNK]", cls="[CLS]", sep="[SEP]", pad="[PAD]", mask="[MASK]")
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    vocabulary = {token: number for number, token in enumerate(lines)}
    unk, cls, sep = (spelt(config, role) for role in ("unk", "cls", "sep"))
    if lacking := [token for token in (unk, cls, sep) if token not in vocabulary]:
        raise CheckpointError(f"{folder / 'vocab.txt'}: has no {lacking[0]}; it is no BERT's vocabulary")
    backend = Backend(models.WordPiece(vocabulary, unk_token=unk))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    surround(backend, f"{cls} $A {sep}", f"{cls} $A {sep} $B:1 {sep}:1")
    return backend


def read_byte_level(folder: Path, kind: str, config: dict[str, Any]) -> Backend:
    """Read the `vocab.json` and `merges.txt` of GPT-2 (Radford et al. 2019), RoBERTa or BART."""
    vocabulary = read_object(folder / "vocab.json")
    model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    backend = Backend(model)
    prefix = bool(config.get("add_prefix_space", False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    if kind in ("roberta", "bart") or (kind in UNNAMED and "<mask>" in vocabulary):
        imply(config, bos="<s>", eos="</s>", cls="<s>", sep="</s>", unk="<unk>", pad="<pad>", mask="<mask>")
        sep, cls = spelt(config, "sep"), spelt(config, "cls")
        backend.post_processor = processors.RobertaProcessing(
            (sep, vocabulary[sep]), (cls, vocabulary[cls]), add_prefix_space=prefix
        )
    else:
        imply(config, eos="<|endoftext|>")
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend


# ------------------------------------------------------------------------------------------------
# SentencePiece


def unigram(model: PieceModel, vocabulary: list[tuple[str, float]], *, strip: bool = False) -> Backend:
    """Return a Unigram of `vocabulary`, (piece, log-probability) by id, with the model's rules for text.

    strip: leave out spaces at both ends and repeated ones as SentencePiece does; else any white space parts
    words, as Transformers has it for T5.
    """
    unknown = [piece for piece, _ in vocabulary].index(model.unknown)
    backend = Backend(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=model.byte_fallback))
    steps: list[Any] = [normalizers.Precompiled(model.characters)] if model.characters else []
    if strip:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
    words = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.pre_tokenizer = (
        words if strip else pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), words])
    )
    bytes_first = [decoders.ByteFallback()] if model.byte_fallback else []
    backend.decoder = decoders.Sequence([*bytes_first, decoders.Metaspace(prepend_scheme="always")])
    return backend


def add_symbols(backend: Backend, model: PieceModel) -> None:
    """Keep the model's control symbols, which are special, and its user's symbols whole in a text."""
    for piece, _, kind in model.pieces:
        if kind in (CONTROL, USER_DEFINED):
            token = AddedToken(piece, special=kind == CONTROL, normalized=False)
            (backend.add_special_tokens if kind == CONTROL else backend.add_tokens)([token])


def read_t5(folder: Path, kind: str, config: dict[str, Any]) -> Backend:
    """Read T5's `spiece.model`; the sentinels take the ids after it, the last of them first."""
    imply(config, eos="</s>", unk="<unk>", pad="<pad>")
    model = read_model(folder / "spiece.model", UNIGRAM)
    sentinels = [f"<extra_id_{number}>" for number in range(config.get("extra_ids", 100))]
    vocabulary = [(piece, score) for piece, score, _ in model.pieces]
    backend = unigram(model, vocabulary + [(name, 0.0) for name in reversed(sentinels)])
    add_symbols(backend, model)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in sentinels])
    eos = spelt(config, "eos")
    surround(backend, f"$A {eos}", f"$A {eos} $B {eos}")
    return backend


def read_xlm_roberta(folder: Path, kind: str, config: dict[str, Any]) -> Backend:
    """Read XLM-RoBERTa's `sentencepiece.bpe.model`, a Unigram whose ids begin with fairseq's four symbols."""
    imply(config, bos="<s>", eos="</s>", cls="<s>", sep="</s>", unk="<unk>", pad="<pad>", mask="<mask>")
    model = read_model(folder / "sentencepiece.bpe.model", UNIGRAM)
    pieces = [(piece, score) for piece, score, _ in model.pieces[3:]]
    first = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    backend = unigram(model, [*first, *pieces, ("<mask>", 0.0)])
    surround(backend, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    return backend


def read_llama(folder: Path, kind: str, config: dict[str, Any]) -> Backend:
    """Read Llama's `tokenizer.model`: SentencePiece's BPE, with bytes for what it cannot spell."""
    model = read_model(folder / "tokenizer.model")
    imply(config, bos="<s>", eos="</s>", unk=model.unknown)
    config.setdefault("add_bos_token", True)
    if model.kind == UNIGRAM:
        backend = unigram(model, [(piece, score) for piece, score, _ in model.pieces], strip=True)
        add_symbols(backend, model)
        return backend
    ids = {piece: number for number, (piece, _, _) in enumerate(model.pieces)}
    bpe = models.BPE(
        ids, model.merges(), unk_token=model.unknown, fuse_unk=True, byte_fallback=model.byte_fallback
    )
    backend = Backend(bpe)
    given = config.get("add_prefix_space")
    prefix = model.prefix if given is None else bool(given)
    # Before Llama's "legacy" flag was turned off, every part of a text between special tokens got a space.
    scheme = ("always" if config.get("legacy") else "first") if prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    steps = [decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps + ([decoders.Strip(content=" ", left=1)] if prefix else []))
    add_symbols(backend, model)
    return backend


def read_marian(folder: Path, kind: str, config: dict[str, Any]) -> tuple[Backend, Backend]:
    """Read Marian's two SentencePiece models, whose pieces share the ids of `vocab.json`.

    Source and target text are cut by different models, so there are two tokenizers of one vocabulary. In
    each the other model's pieces have ids, so that they decode, but so low a score that text is cut into them
    only where a character is known to the other model alone.

    Limits: Transformers reads a run of characters that the model at hand does not know as one unknown token,
    we read those of them that `vocab.json` has; a language code (`>>fra<<`) counts wherever it stands.
    """
    if config.get("separate_vocabs"):
        raise CheckpointError(f"{folder}: a vocabulary for each language is not supported; it must be one")
    imply(config, eos="</s>", unk="<unk>", pad="<pad>")
    ids = read_object(folder / "vocab.json")
    pieces = sorted(ids, key=lambda piece: ids[piece])
    if [ids[piece] for piece in pieces] != list(range(len(pieces))):
        raise CheckpointError(f"{folder / 'vocab.json'}: its ids must be 0, 1, 2 … without a gap")
    eos = spelt(config, "eos")
    codes = [AddedToken(piece, special=False, normalized=False) for piece in pieces if CODE.fullmatch(piece)]
    made = []
    for name in ("source.spm", "target.spm"):
        model = read_model(folder / name, UNIGRAM)
        own = {piece: score for piece, score, _ in model.pieces}
        low = {piece: -RARE * (len(piece) + (len(piece) > 1)) for piece in pieces}
        backend = unigram(model, [(piece, own.get(piece, low[piece])) for piece in pieces], strip=True)
        backend.add_tokens(codes)
        surround(backend, f"$A {eos}", f"$A $B {eos}")
        made.append(backend)
    return made[0], made[1]


Reader = Callable[[Path, str, dict[str, Any]], Backend | tuple[Backend, Backend]]
FORMS: tuple[tuple[tuple[str, ...], tuple[str, ...], Reader], ...] = (
    (("source.spm", "target.spm", "vocab.json"), ("marian",), read_marian),
    (("vocab.json", "merges.txt"), ("gpt2", "roberta", "bart"), read_byte_level),
    (("vocab.txt",), ("bert", "distilbert", "electra"), read_bert),
    (("spiece.model",), ("t5", "mt5", "umt5"), read_t5),
    (("sentencepiece.bpe.model",), ("xlmroberta",), read_xlm_roberta),
    (("tokenizer.model",), ("llama", "mistral"), read_llama),
)
"""The files of each form, the classes of tokenizer that have it, its reader."""
