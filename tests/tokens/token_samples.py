"""Texts for small tokenizers, and how these are trained. [tests]"""

from __future__ import annotations

from langmill.tokens import Tokenizer, train_tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog; it's the dog's day.\n",
    "def area(width, height):\n    if width < 0:\n        return None\n    return width * height\n",
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n",
    "训练语言模型 training language models 需要 2024 年的数据。\n",
] * 20
KINDS = ("char", "bpe", "wordpiece", "unigram")


def train(kind: str) -> Tokenizer:
    """Train a small tokenizer on `TEXTS`."""
    return train_tokenizer(TEXTS, kind=kind, vocabulary=None if kind == "char" else 500)  # type: ignore[arg-type]
