"""The tokenizer inside a GGUF file. [tokens]

llama.cpp keeps a vocabulary and says by a name how text is cut before it is merged; here that name becomes
the steps of a `tokenizer.json`, as Transformers has them for the models from which the files were made.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from langmill.core.errors import CheckpointError, did_you_mean
from langmill.core.gguf import GgufHeader
from langmill.tokens.files import add_around, one_line
from langmill.tokens.pieces import WORD_START
from langmill.tokens.tokenizer import SpecialTokens, Tokenizer

logger = logging.getLogger("langmill")

CONTROL, USER_DEFINED, UNUSED = 3, 4, 5
"""The format's kinds of token that matter here."""

ROLE_KEYS = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "pad": "padding_token_id",
    "unk": "unknown_token_id",
    "mask": "mask_token_id",
    "cls": "cls_token_id",
    "sep": "seperator_token_id",  # the format's spelling
}
"""Our role to the fact, after `tokenizer.ggml.`, that names its token."""

GPT2_CUT = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def gpt4_cut(digits: str) -> pre_tokenizers.PreTokenizer:
    """Return the cut of GPT-4, Llama 3 and Qwen2, which differ in how many `digits` stay together."""
    pattern = "|".join(
        [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            rf"\p{{N}}{digits}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
    )
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), BYTES])


@dataclass(frozen=True)
class Cut:
    """How a text is cut into the pieces within which byte-level BPE merges."""

    steps: pre_tokenizers.PreTokenizer
    composed: bool = False
    """Text is brought into Unicode's composed form (NFC) first."""
    whole_words: bool = False
    """A piece that is a token is that token, whatever the merges say."""
    begins: bool = False
    """A text begins with the bos token, unless the file says otherwise."""


GPT2 = Cut(GPT2_CUT)
DIGITS_APART = Cut(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2_CUT]))
LLAMA3 = Cut(gpt4_cut("{1,3}"), whole_words=True, begins=True)
QWEN2 = Cut(gpt4_cut(""), composed=True)
CUTS = {
    **dict.fromkeys(("gpt-2", "default", "mpt", "olmo", "phi-2"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell"), DIGITS_APART),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), QWEN2),
}
"""By what `tokenizer.ggml.pre` says."""


def read_tokenizer(header: GgufHeader) -> Tokenizer | None:
    """Return the tokenizer that a GGUF file holds, None if it holds none.

    Raises CheckpointError for a kind or a cut that is not known, and for a vocabulary that is damaged.
    """
    facts = {
        name.removeprefix("tokenizer.ggml."): value
        for name, value in header.facts.items()
        if name.startswith("tokenizer.ggml.")
    }
    kind = facts.get("model", "none")
    if kind == "none":
        return None
    if kind not in KINDS:
        raise CheckpointError(
            f"{header.path}: its tokenizer is a {kind!r}; known: {', '.join(KINDS)}{did_you_mean(kind, KINDS)}"
        )
    try:
        tokens = kept_tokens(facts)
        backend, begins = KINDS[kind](facts, tokens)
        add_special(backend, tokens, facts.get("token_type") or ())
        specials = SpecialTokens(
            **{role: tokens[facts[key]] for role, key in ROLE_KEYS.items() if facts.get(key) is not None}
        )
        config: dict[str, Any] = {f"{role}_token": token for role, token in specials.named().items()}
        config["add_bos_token"] = bool(facts.get("add_bos_token", begins))
        config["add_eos_token"] = bool(facts.get("add_eos_token", False))
        add_around(backend, config)
    except CheckpointError as error:
        raise CheckpointError(f"{header.path}: {error}") from error
    except Exception as error:  # the library raises no narrower class; nothing goes on after it
        raise CheckpointError(f"{header.path}: its tokenizer is damaged ({one_line(error)})") from error
    architecture = header.facts.get("general.architecture")
    return Tokenizer(
        backend,
        specials,
        chat_template=header.facts.get("tokenizer.chat_template"),
        maximum_tokens=header.facts.get(f"{architecture}.context_length"),
        config=config,
    )


def kept_tokens(facts: dict[str, Any]) -> list[str]:
    """Return the tokens in the order of their ids, less the fillers with which a vocabulary is padded."""
    tokens, kinds = list(facts["tokens"]), facts.get("token_type") or ()
    while tokens and len(kinds) >= len(tokens) and kinds[len(tokens) - 1] == UNUSED:
        tokens.pop()
    if len(set(tokens)) < len(tokens):
        raise CheckpointError(f"its vocabulary has {len(tokens) - len(set(tokens))} tokens twice")
    return tokens


def add_special(backend: Backend, tokens: list[str], kinds: Sequence[int]) -> None:
    """Declare the tokens that text is searched for before anything else: those of control, and the user's."""
    added = [
        AddedToken(token, special=kind == CONTROL, normalized=False)
        for token, kind in zip(tokens, kinds)
        if kind in (CONTROL, USER_DEFINED)
    ]
    backend.add_tokens(added)


def byte_level(facts: dict[str, Any], tokens: list[str]) -> tuple[Backend, bool]:
    """Return GPT-2's kind of tokenizer, and whether its texts begin with bos by default."""
    name = facts.get("pre", "default")
    if name == "default":
        logger.warning("the GGUF file does not say how its tokenizer cuts text; it is taken to be as GPT-2's")
    if name not in CUTS:
        raise CheckpointError(
            f"tokenizer.ggml.pre {name!r} is not known; known: {', '.join(CUTS)}{did_you_mean(name, CUTS)}"
        )
    cut = CUTS[name]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in facts["merges"]]
    backend = Backend(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut.whole_words))
    if cut.composed:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = cut.steps
    backend.decoder = decoders.ByteLevel()
    return backend, cut.begins


def sentencepiece(facts: dict[str, Any], tokens: list[str]) -> tuple[Backend, bool]:
    """Return Llama 2's kind of tokenizer, as its published tokenizer.json is; its texts begin with bos by default.

    A space goes before every stretch of text, one that begins with a space too, as SentencePiece and
    llama.cpp do it; Transformers' own class leaves the latter alone.
    """
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = merges_of(tokens, facts["scores"], vocabulary)
    unknown = tokens[facts.get("unknown_token_id", 0)]
    backend = Backend(
        models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    spaced = bool(facts.get("add_space_prefix", True))
    marked = normalizers.Replace(" ", WORD_START)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(WORD_START), marked]) if spaced else marked
    steps = [decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(content=" ", left=1)] if spaced else steps)
    return backend, True


def merges_of(tokens: list[str], scores: list[float], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return the merges that scores amount to: two pieces make a third, the one of the highest score first.

    Of equal scores longer left halves come first, then longer right halves, as Transformers orders them.

    >>> tokens = ["a", "b", "ab", "aba"]
    >>> merges_of(tokens, [0, 0, -1, -2], {token: number for number, token in enumerate(tokens)})
    [('a', 'b'), ('ab', 'a')]
    """
    found = [
        (scores[vocabulary[token]], token[:place], token[place:])
        for token in tokens
        for place in range(1, len(token))
        if token[:place] in vocabulary and token[place:] in vocabulary
    ]
    found.sort(key=lambda merge: (-merge[0], -len(merge[1]), -len(merge[2])))
    return [(left, right) for _, left, right in found]


KINDS = {"gpt2": byte_level, "llama": sentencepiece}
"""By what `tokenizer.ggml.model` says."""
