"""Shards on disk: what they hold, when they are reused, when they are made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from langmill.batches.shards import Shards, build_shards, open_shards
from langmill.core.errors import DataError
from langmill.text.documents import Document
from langmill.tokens.tokenizer import Tokenizer
from langmill.tokens.train import train_tokenizer

KEY = {"sources": "s", "tokenizer": "t"}
TEXTS = [("abc", False), ("磨坊", False), ("held 磨", True), ("", False), ("c", False)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["abcdehl 磨坊"], kind="char")


def documents(texts: list[tuple[str, bool]] = TEXTS) -> Iterator[tuple[Document, bool]]:
    return ((Document(text, "x"), held_out) for text, held_out in texts)


def build(folder: Path, tokenizer: Tokenizer, **more: object) -> Shards:
    return build_shards(folder, documents(), tokenizer=tokenizer, key=KEY, split="one in five", **more)  # type: ignore[arg-type]


def test_each_document_opens_with_end_of_text(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shards = build(tmp_path / "s", tokenizer)
    eos = tokenizer.eos_id
    expected: list[int] = []
    begins = []
    for text in ("abc", "磨坊", "", "c"):
        begins.append(len(expected))
        expected += [eos, *tokenizer.encode(text)]  # type: ignore[list-item]
    assert shards.train.tokens.tolist() == expected
    assert shards.train.documents.tolist() == begins
    assert shards.held_out.tokens.tolist() == [eos, *tokenizer.encode("held 磨")]
    assert shards.train.tokens.dtype == np.uint16
    assert (shards.train.characters, shards.train.bytes) == (6, 10)
    assert shards.bytes_per_token == 10 / len(expected)
    assert (shards.split, shards.reused) == ("one in five", False)


def test_parts_of_a_document_are_one_document(tmp_path: Path, tokenizer: Tokenizer) -> None:
    parts = [
        (Document("ab", "x", part=0, last=False), False),
        (Document("de", "x", part=1, last=True), False),
        (Document("c", "y"), False),
    ]
    shards = build_shards(tmp_path / "s", iter(parts), tokenizer=tokenizer, key=KEY, split="")
    assert shards.train.documents.tolist() == [0, 5]
    assert tokenizer.decode(shards.train.tokens[1:5].tolist()) == "abde"


def test_a_large_vocabulary_takes_four_bytes(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = build(tmp_path / "s", tokenizer)
    monkeypatch.setattr(Tokenizer, "vocabulary_size", property(lambda self: (1 << 16) + 1))
    large = build(tmp_path / "l", tokenizer)
    assert large.train.tokens.dtype == np.uint32
    assert large.train.tokens.tolist() == small.train.tokens.tolist()


def test_reused_while_the_key_is_the_same(tmp_path: Path, tokenizer: Tokenizer) -> None:
    built = build(tmp_path / "s", tokenizer)
    opened = open_shards(tmp_path / "s", KEY)
    assert opened is not None and opened.reused
    assert isinstance(opened.train.tokens, np.memmap)
    assert opened.train.tokens.tolist() == built.train.tokens.tolist()
    assert opened.content == built.content
    assert open_shards(tmp_path / "s", {**KEY, "sources": "other"}) is None
    assert open_shards(tmp_path / "nowhere", KEY) is None


def test_the_content_digest_tells_texts_apart(tmp_path: Path, tokenizer: Tokenizer) -> None:
    one = build(tmp_path / "one", tokenizer)
    other = build_shards(
        tmp_path / "two", documents([("abd", False), *TEXTS[1:]]), tokenizer=tokenizer, key=KEY, split=""
    )
    same = build(tmp_path / "three", tokenizer)
    assert one.content == same.content != other.content


@pytest.mark.parametrize(
    "damage",
    [
        "cut tokens",
        "odd length",
        "no documents",
        "short documents",
        "broken manifest",
        "old version",
        "no manifest",
    ],
)
def test_damaged_shards_are_not_opened_but_replaced(
    tmp_path: Path, tokenizer: Tokenizer, damage: str
) -> None:
    folder = tmp_path / "s"
    tokens = build(folder, tokenizer).train.tokens.tolist()
    target = folder / {"cut tokens": "train.tokens", "odd length": "train.tokens"}.get(
        damage, "train.documents"
    )
    if damage == "cut tokens":
        target.write_bytes(target.read_bytes()[:-2])
    elif damage == "odd length":
        target.write_bytes(target.read_bytes()[:-1])
    elif damage == "no documents":
        target.unlink()
    elif damage == "short documents":
        target.write_bytes(target.read_bytes()[:-8])
    elif damage == "broken manifest":
        (folder / "manifest.json").write_text('{"version": 2, "key"')
    elif damage == "old version":
        path = folder / "manifest.json"
        path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    else:
        (folder / "manifest.json").unlink()
    assert open_shards(folder, KEY) is None
    assert build(folder, tokenizer).train.tokens.tolist() == tokens
    assert open_shards(folder, KEY) is not None


def test_a_build_that_is_stopped_leaves_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    def stopped() -> Iterator[tuple[Document, bool]]:
        yield Document("abc", "x"), False
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_shards(tmp_path / "s", stopped(), tokenizer=tokenizer, key=KEY, split="")
    assert list(tmp_path.iterdir()) == []


def test_no_text_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="holds no text to train on"):
        build_shards(tmp_path / "s", iter(()), tokenizer=tokenizer, key=KEY, split="")
    assert list(tmp_path.iterdir()) == []
