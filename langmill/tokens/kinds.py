"""The four kinds of tokenizer that can be trained: their pre-tokenisation, models and trainers. [tokens]

Sources: byte-level BPE from Radford et al. 2019 (GPT-2); byte fallback and Unigram from Kudo 2018 and
SentencePiece; WordPiece from Devlin et al. 2019 (BERT).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from langmill.tokens.pieces import WORD_START, byte_piece

LETTERS = r"[\p{L}\p{M}&&[^\p{Han}\p{Hiragana}\p{Katakana}ー]]"
DIGITS = r"[\p{N}&&[^\p{Han}]]"
SIGNS = r"[^\s\p{L}\p{M}\p{N}\p{Han}]"

BPE_PATTERN = "|".join(
    [
        r"['’](?i:s|t|d|m|re|ve|ll)(?![\p{L}\p{M}])",  # the end of it's, we'll
        r"\p{Han}+",
        r"[\p{Hiragana}\p{Katakana}ー]+",
        rf"[^\r\n\p{{L}}\p{{M}}\p{{N}}]?{LETTERS}+",  # a word with the space, bracket or underscore before it
        rf"{DIGITS}{{1,3}}",
        rf" ?{SIGNS}+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",  # indentation, all but the last space, which goes with the word
        r"\s+",
    ]
)
"""Where byte-level BPE may not merge across: after GPT-4's and Qwen's, with Han and kana runs on their own.

So no token mixes Latin letters with Chinese characters, numbers come in groups of at most three digits
and an indentation is one token.
"""

UNIGRAM_PATTERN = "|".join(
    [r" ?\p{Han}+", rf" ?{LETTERS}+", r" ?[\p{Hiragana}\p{Katakana}ー]+", rf" ?{DIGITS}", rf" ?{SIGNS}+"]
    + [r"[\r\n]", r"\s+(?!\S)", r"\s+"]
)
"""The same for Unigram, which like SentencePiece splits at scripts and digits and keeps a space in front."""

HAN_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2FA1F),
)
"""What BERT's normaliser splits into single characters (its `tokenize_chinese_chars`)."""

LONGEST_TOKEN_BYTES = 64
"""A longer token would be a ruler of dashes or a licence header."""


@dataclass(frozen=True)
class Plan:
    """What a training run was asked for."""

    vocabulary: int | None
    """Ids in all; None (char only) means as many as there are characters."""
    min_frequency: int
    """Rarer merges (char: characters) are not learned."""
    specials: tuple[str, ...]
    """Special tokens; they take the first ids, in this order."""
    cls_sep_unk: tuple[str | None, str | None, str | None]
    """The roles that WordPiece needs by name."""
    eos: str | None
    lowercase: bool
    """WordPiece: ignore case and accents."""
    progress: bool

    def added(self) -> list[AddedToken]:
        """Return the special tokens as the library wants them."""
        return [AddedToken(token, special=True, normalized=False) for token in self.specials]


def bpe(pieces: Iterator[str], plan: Plan) -> Backend:
    """Train byte-level BPE: every text can be spelt, and comes back exactly."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(BPE_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    assert plan.vocabulary is not None
    trainer = trainers.BpeTrainer(
        vocab_size=plan.vocabulary,
        min_frequency=plan.min_frequency,
        special_tokens=plan.added(),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST_TOKEN_BYTES,
        show_progress=plan.progress,
    )
    backend.train_from_iterator(pieces, trainer)
    add_layout(backend, plan)
    return backend


def add_layout(backend: Backend, plan: Plan) -> None:
    """Put BERT's special tokens around texts and pairs of them, where the tokenizer has them."""
    cls, sep, _ = plan.cls_sep_unk
    if cls is not None and sep is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(token, backend.token_to_id(token)) for token in (cls, sep)],
        )


def char(counts: Counter[str], plan: Plan) -> tuple[Backend, list[str]]:
    """Return a tokenizer of the counted characters, and the characters that were left out.

    Its ids are the special tokens, the 256 bytes, then characters from the most to the least frequent.
    It is a BPE without merges: characters outside the vocabulary become their UTF-8 bytes, losslessly.
    """
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    room = len(ranked) if plan.vocabulary is None else plan.vocabulary - 256 - len(plan.specials)
    kept = [character for character in ranked if counts[character] >= plan.min_frequency][:room]
    tokens = [*plan.specials, *map(byte_piece, range(256)), *kept]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(plan.added())
    add_layout(backend, plan)
    return backend, [character for character in ranked if character not in vocabulary]


def alphabet_of(counts: Counter[str], room: int, *, inner_forms: bool) -> list[str]:
    """Return the most frequent characters whose tokens fit into `room`, in code point order.

    White space is left aside. inner_forms: a letter takes two tokens, `e` and `##e`.

    >>> alphabet_of(Counter("aaab中中c "), 4, inner_forms=True)
    ['a', '中']
    """
    kept = []
    for character in sorted(counts, key=lambda character: (-counts[character], character)):
        if character.isspace():
            continue
        room -= 1 + len(inner([character])) if inner_forms else 1
        if room < 0:
            break
        kept.append(character)
    return sorted(kept)


def wordpiece_normalizer(*, lowercase: bool) -> normalizers.Normalizer:
    """Return BERT's clean-up: control characters out, Han split, accents and case dropped if asked."""
    return normalizers.BertNormalizer(lowercase=lowercase)


def wordpiece(pieces: Iterator[str], alphabet: Sequence[str], plan: Plan) -> Backend:
    """Train BERT's WordPiece on normalised text in which only `alphabet` occurs.

    The trainer numbers word-inner characters (`##e`) in the order of a hash table, which differs from
    run to run; giving them to it beforehand makes the result the same every time.
    """
    unk = plan.cls_sep_unk[2]
    assert plan.vocabulary is not None
    assert unk is not None
    backend = Backend(models.WordPiece(unk_token=unk))
    backend.normalizer = wordpiece_normalizer(lowercase=plan.lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=plan.vocabulary,
        min_frequency=plan.min_frequency,
        special_tokens=[*plan.specials, *alphabet, *inner(alphabet)],
        show_progress=plan.progress,
    )
    learner = Backend(models.WordPiece(unk_token=unk))
    learner.pre_tokenizer = backend.pre_tokenizer
    learner.train_from_iterator(pieces, trainer)
    backend.model = models.WordPiece(vocab=learner.get_vocab(), unk_token=unk)
    backend.add_special_tokens(plan.added())
    add_layout(backend, plan)
    return backend


def inner(alphabet: Sequence[str]) -> list[str]:
    """Return the word-inner forms of the characters that can stand inside a word.

    >>> inner(["a", "中"])
    ['##a']
    """
    return ["##" + character for character in alphabet if character.isalnum() and not is_split_han(character)]


def is_split_han(character: str) -> bool:
    """Tell whether BERT makes this character a word of its own."""
    return any(low <= ord(character) <= high for low, high in HAN_RANGES)


def unigram(pieces: Iterator[str], alphabet: Sequence[str], plan: Plan) -> Backend:
    """Train SentencePiece's Unigram with byte fallback, on text in which only `alphabet` and spaces occur.

    No space is put in front of a text and nothing is normalised, so text comes back exactly, except that
    `▁` itself reads as a space.
    """
    assert plan.vocabulary is not None
    unk = plan.cls_sep_unk[2]
    room = plan.vocabulary - 256 - len(plan.specials)
    learner, backend = Backend(models.Unigram()), Backend(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(UNIGRAM_PATTERN), "isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
        ]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=room + 1,
        special_tokens=[unk],
        unk_token=unk,
        initial_alphabet=list(alphabet),
        show_progress=plan.progress,
    )
    learner.pre_tokenizer = backend.pre_tokenizer
    learner.train_from_iterator(pieces, trainer)
    backend.model = unigram_model(learner, room, plan)
    backend.decoder = decoders.Sequence(
        [decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens(plan.added())
    if plan.eos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"$A {plan.eos}",
            pair=f"$A {plan.eos} $B {plan.eos}",
            special_tokens=[(plan.eos, backend.token_to_id(plan.eos))],
        )
    return backend


def unigram_model(learner: Backend, room: int, plan: Plan) -> models.Unigram:
    """Return the trained pieces behind special tokens and bytes, ordered by score.

    A byte scores so low that a text with `<0x0A>` written in it is not read as that byte.
    """
    unk = plan.cls_sep_unk[2]
    trained = json.loads(learner.to_str())["model"]["vocab"]
    scored = repeatable([(piece, score) for piece, score in trained if piece not in plan.specials])
    pieces = sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:room]
    lowest = pieces[-1][1] if pieces else 0.0
    table = [(token, 0.0) for token in plan.specials]
    table += [(byte_piece(value), round(10 * lowest - 1000.0, 5)) for value in range(256)]
    return models.Unigram(vocab=table + pieces, unk_id=plan.specials.index(unk or ""), byte_fallback=True)


def repeatable(scored: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return the scores of a Unigram without what differs from run to run.

    The trainer sums over threads, which changes the twelfth digit, and gives the characters it did not
    keep the lowest score plus a multiple of 0.0001, in the order of a hash table. They all get the lowest
    score here.

    >>> repeatable([("the", -3.12345678), ("x", -9.0), ("z", -8.9999), ("y", -8.9998), ("a", -8.99985)])
    [('the', -3.12346), ('x', -9.0), ('z', -9.0), ('y', -9.0), ('a', -8.99985)]
    """
    lowest = min((score for _, score in scored), default=0.0)
    out = []
    for piece, score in scored:
        step = (score - lowest) / 0.0001
        filler = len(piece) == 1 and abs(step - round(step)) < 1e-6 and step < len(scored)
        out.append((piece, round(lowest if filler else score, 5)))
    return out
