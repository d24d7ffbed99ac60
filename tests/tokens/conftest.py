"""Small tokenizers of every kind, trained once. [tests]"""

from __future__ import annotations

import pytest
from token_samples import KINDS, train

from langmill.tokens import Tokenizer


@pytest.fixture(scope="session")
def trained() -> dict[str, Tokenizer]:
    """Return one tokenizer of each kind."""
    return {kind: train(kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def any_kind(request: pytest.FixtureRequest, trained: dict[str, Tokenizer]) -> Tokenizer:
    """Return each kind in turn."""
    return trained[request.param]


@pytest.fixture(params=["char", "bpe"])
def exact_kind(request: pytest.FixtureRequest, trained: dict[str, Tokenizer]) -> Tokenizer:
    """Return each kind that gives every text back exactly."""
    return trained[request.param]
