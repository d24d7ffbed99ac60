"""Tokenizers and checkpoints, made once."""

from __future__ import annotations

import pytest
from evaluation_samples import CHINESE, ENGLISH, make_model

from langmill.checkpoint import Checkpoint, save_checkpoint
from langmill.tokens import Tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Tokenizer]:
    """Return a tokenizer of each kind."""
    texts = [ENGLISH * 3 + CHINESE * 3, CHINESE + ENGLISH]
    sizes = {"char": None, "bpe": 400, "wordpiece": 200, "unigram": 400}
    return {kind: train_tokenizer(texts, kind=kind, vocabulary=size) for kind, size in sizes.items()}


@pytest.fixture(scope="session")
def characters(tokenizers) -> Tokenizer:
    """Return the character tokenizer."""
    return tokenizers["char"]


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory, characters):
    """Return a function from a name, and a seed, to a folder with a tiny checkpoint."""

    def make(name: str, *, seed: int = 0, family: str = "qwen3"):
        folder = tmp_path_factory.mktemp(name)
        model = make_model(characters.vocabulary_size, family=family, seed=seed)
        save_checkpoint(folder, Checkpoint(model, characters))
        return folder

    return make
