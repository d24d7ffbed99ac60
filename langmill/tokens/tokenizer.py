"""The tokenizer: text to ids and back, by the `tokenizers` library, saved as Transformers does. [tokens]"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from langmill.core.errors import DataError
from langmill.core.files import digest
from langmill.tokens.pieces import BYTE_PIECE, CharacterTable, PieceReader, surrogate_error

BATCH_CHARACTERS = 4_000_000
"""`encode_batch` hands the backend about this much text at once: results take 100 bytes a token."""


@dataclass(frozen=True)
class SpecialTokens:
    """The tokens with a part to play; None where a tokenizer has none."""

    bos: str | None = None
    """Begins a text."""
    eos: str | None = None
    """Ends a text, and stands between the documents of a corpus."""
    pad: str | None = None
    """Fills short rows of a batch."""
    unk: str | None = None
    """Stands for what the vocabulary cannot spell."""
    mask: str | None = None
    """Stands for what a masked language model has to guess."""
    cls: str | None = None
    """Begins the input of a BERT; its state stands for the whole."""
    sep: str | None = None
    """Ends a segment of a BERT's input."""

    def named(self) -> dict[str, str]:
        """Return role -> token for the roles that are filled.

        >>> SpecialTokens(eos="</s>").named()
        {'eos': '</s>'}
        """
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {role: token for role, token in pairs if token is not None}


@dataclass(frozen=True)
class PairEncoding:
    """Two texts as one row of tokens."""

    ids: list[int]
    segments: list[int]
    """For each token 0 or 1, the segment that it counts to; all 0 for models that have but one kind."""
    second: int
    """Where the second text begins."""
    cut: tuple[int, int]
    """Tokens left out at the end of the first text and of the second."""


@dataclass(frozen=True)
class PairFrame:
    """What stands before, between and behind two texts in a row, as ids."""

    before: list[int]
    between: list[int]
    behind: list[int]
    segments: list[int]
    """Of the five parts: before, the first text, between, the second text, behind."""


class Tokenizer:
    """Text to token ids and back.

    Like Transformers, it reads a special token that is written out in the text (`<|endoftext|>`) as
    that token. For byte-level BPE and characters
    `decode(encode(text), skip_special=False) == text` for every text.

    backend: the `tokenizers.Tokenizer` that does the work.
    specials: which tokens play which part.
    chat_template: the Jinja template that turns messages into text, or None.
    maximum_tokens: the longest input its model was made for, or None when that is not known.
    config: further entries of `tokenizer_config.json`, kept as they are.
    target: of the same vocabulary, for the texts that a model learns to write, where those are cut by other
        rules than what it reads (Marian's two languages); by default itself.
    """

    def __init__(
        self,
        backend: Backend,
        specials: SpecialTokens | None = None,
        *,
        chat_template: str | None = None,
        maximum_tokens: int | None = None,
        config: Mapping[str, Any] | None = None,
        target: Tokenizer | None = None,
    ) -> None:
        # Some published files ask for padding or truncation, which would cut texts without a word.
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.specials = specials or SpecialTokens()
        self.chat_template = chat_template
        self.maximum_tokens = maximum_tokens
        self.config = dict(config or {})
        self.target = target or self

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, {self.vocabulary_size} tokens, {self.specials.named()})"

    def __len__(self) -> int:
        return self.vocabulary_size

    @functools.cached_property
    def kind(self) -> str:
        """What it is: char, bpe, wordpiece, unigram or wordlevel."""
        if self._characters is not None:
            return "char"
        return type(self.backend.model).__name__.lower()

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are, added tokens included."""
        size: int = self.backend.get_vocab_size(with_added_tokens=True)
        return size

    @property
    def bos_id(self) -> int | None:
        """The id that begins a text."""
        return self._id(self.specials.bos)

    @property
    def eos_id(self) -> int | None:
        """The id that ends a text and separates documents."""
        return self._id(self.specials.eos)

    @property
    def pad_id(self) -> int | None:
        """The id that fills short rows."""
        return self._id(self.specials.pad)

    @property
    def unk_id(self) -> int | None:
        """The id of what the vocabulary cannot spell."""
        return self._id(self.specials.unk)

    @property
    def mask_id(self) -> int | None:
        """The id of a masked position."""
        return self._id(self.specials.mask)

    @property
    def cls_id(self) -> int | None:
        """The id that begins a BERT's input."""
        return self._id(self.specials.cls)

    @property
    def sep_id(self) -> int | None:
        """The id that ends a segment."""
        return self._id(self.specials.sep)

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self.backend.token_to_id(token)

    @functools.cached_property
    def _characters(self) -> CharacterTable | None:
        return CharacterTable.of(self.backend)

    @functools.cached_property
    def _pieces(self) -> PieceReader:
        return PieceReader(self.backend)

    @functools.cached_property
    def around(self) -> tuple[list[int], list[int]]:
        """What is put before and behind a single text, as ids."""
        whole = self.backend.encode("a")
        inner = [place for place, part in enumerate(whole.sequence_ids) if part == 0]
        begin, end = (inner[0], inner[-1] + 1) if inner else (len(whole.ids), len(whole.ids))
        return whole.ids[:begin], whole.ids[end:]

    @functools.cached_property
    def around_pair(self) -> PairFrame:
        """What is put around two texts; of a tokenizer without a layout for them its end token between and behind."""
        whole = self.backend.encode("a", "a")
        first, second = (
            [place for place, part in enumerate(whole.sequence_ids) if part == text] for text in (0, 1)
        )
        cuts = [0, first[0], first[-1] + 1, second[0], second[-1] + 1, len(whole.ids)]
        parts = [slice(*ends) for ends in pairwise(cuts)]
        before, _, between, _, behind = (whole.ids[part] for part in parts)
        if not between and self.eos_id is not None:
            return PairFrame(before, [self.eos_id], behind or [self.eos_id], [0] * 5)
        kinds = [whole.type_ids[part] for part in parts]
        return PairFrame(before, between, behind, [kind[0] if kind else 0 for kind in kinds])

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of `text`.

        special: also add what the tokenizer puts around a text (`[CLS] … [SEP]`, `… </s>`), if anything.
        """
        plain = isinstance(text, str) and not (special and self.backend.post_processor)
        if plain and self._characters is not None:
            fast = self._characters.encode(text)
            if fast is not None:
                return list(fast.tolist())
        return self._backend_ids([text], special)[0]

    def encode_pair(self, first: str, second: str, *, maximum: int = 0) -> PairEncoding:
        """Return two texts in the tokenizer's layout for pairs, such as `[CLS] first [SEP] second [SEP]`.

        maximum: tokens in all; where there are more, the longer text is cut until both are equally long,
        then both are, as Transformers' "longest_first" does. 0: nothing is cut.
        Raises DataError where `maximum` has no room for the special tokens.
        """
        self._check_texts([first, second])
        one, two = (self.backend.encode(text, add_special_tokens=False) for text in (first, second))
        before = len(one.ids), len(two.ids)
        if maximum:
            room = maximum - self.backend.num_special_tokens_to_add(True)
            if room < 0:
                raise DataError(
                    f"a pair takes {maximum - room} special tokens, more than the {maximum} allowed"
                )
            for part, size in zip((one, two), shares(*before, room)):
                part.truncate(size)
        whole = self.backend.post_process(one, two, add_special_tokens=True)
        begin = [*whole.sequence_ids, 1].index(1)
        cut = before[0] - len(one.ids), before[1] - len(two.ids)
        return PairEncoding(whole.ids, whole.type_ids, begin, cut)

    def encode_batch(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Return the ids of each text, as `encode` would, using all cores."""
        if self._characters is not None:
            return [self.encode(text, special=special) for text in texts]
        out: list[list[int]] = []
        group: list[str] = []
        size = 0
        for text in texts:
            group.append(text)
            size += len(text)
            if size >= BATCH_CHARACTERS:
                out += self._backend_ids(group, special)
                group, size = [], 0
        return out + self._backend_ids(group, special)

    def _backend_ids(self, texts: list[str], special: bool) -> list[list[int]]:
        # The fast variant skips offsets and gives the same ids.
        try:
            return [
                encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=special)
            ]
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from error
        except TypeError:
            self._check_texts(texts)
            raise

    def _check_texts(self, texts: Sequence[str]) -> None:
        """Raise the error that says what is wrong with one of `texts`; the backend says only "TypeError"."""
        for text in texts:
            if not isinstance(text, str):
                raise DataError(f"a tokenizer reads text (str), not {type(text).__name__}") from None
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise surrogate_error(error) from error

    def encode_offsets(self, text: str) -> list[tuple[int, int, int]]:
        """Return `(id, start, end)` of each token: `text[start:end]` is what it covers, in characters.

        The tokens that share the bytes of one character all cover that character.
        """
        try:
            encoding = self.backend.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            self._check_texts([text])
            raise
        return [(number, start, end) for number, (start, end) in zip(encoding.ids, encoding.offsets)]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Return the text of `ids`.

        Bytes that are not valid UTF-8 become `�`; ids without a token (a model's padded vocabulary)
        give nothing, as in Transformers.
        """
        text: str = self.backend.decode([int(number) for number in ids], skip_special_tokens=skip_special)
        return text

    def token(self, number: int) -> str:
        """Return how the vocabulary spells token `number` (`Ġthe`, `##ing`, `<0x0A>`)."""
        token = self.backend.id_to_token(number) if number >= 0 else None
        if token is None:
            raise DataError(f"{number} is not the id of a token; ids go from 0 to {self.vocabulary_size - 1}")
        return token

    def piece(self, number: int) -> bytes:
        """Return the bytes that token `number` stands for.

        Exact for byte-level BPE, characters and byte fallback; elsewhere the token without its marks.
        """
        return self._pieces.read(number, self.token(number))

    def is_byte(self, number: int) -> bool:
        """Tell whether token `number` is a byte-fallback piece (`<0x0A>`)."""
        return self._pieces.byte_fallback and BYTE_PIECE.fullmatch(self.token(number)) is not None

    def is_special(self, number: int) -> bool:
        """Tell whether token `number` is a special token, which `decode` leaves out."""
        added = self.backend.get_added_tokens_decoder().get(number)
        return added is not None and added.special

    def fingerprint(self) -> str:
        """Return a digest of `tokenizer.json`: equal exactly when text gives equal ids and text back."""
        return digest(self.backend.to_str())

    def save(self, folder: Path | str) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and, if there is one, `chat_template.jinja`.

        `transformers.AutoTokenizer.from_pretrained(folder)` opens them to the same ids and text. Each file
        is whole or not there; other files of `folder` stay, except older formats' copies of the special
        tokens and of the chat template, which would contradict these.
        """
        from langmill.tokens.files import save_files

        save_files(self, Path(folder))

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Open the tokenizer of a folder (or a `tokenizer.json` itself, with what lies beside it).

        Folders from before that file open too: those of BERT, GPT-2, RoBERTa, BART, T5, XLM-RoBERTa, Llama,
        Mistral and Marian; and so does a GGUF file. Raises a CheckpointError that names the file when there is
        none or it is damaged.
        """
        from langmill.tokens.files import load_files

        return load_files(Path(path))


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Return what is kept of two lengths that together may have `room`: the shorter stays while it has half.

    >>> [shares(3, 9, 10), shares(9, 3, 10), shares(9, 9, 11), shares(2, 3, 10)]
    [(3, 7), (7, 3), (5, 6), (2, 3)]
    """
    if first > second:
        return shares(second, first, room)[::-1]
    kept = min(first, room // 2)
    return kept, min(second, room - kept)
