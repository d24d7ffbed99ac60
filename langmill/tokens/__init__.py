"""Tokenizers: characters, byte-level BPE, WordPiece and Unigram, kept as `tokenizer.json`. [tokens]

`train_tokenizer` makes one from texts, `Tokenizer.load` opens one from a folder, `inspect_text` and
`compare_tokenizers` measure them.
"""

from langmill.tokens.inspect import Inspection, compare_tokenizers, inspect_text
from langmill.tokens.tokenizer import SpecialTokens, Tokenizer
from langmill.tokens.train import TrainingReport, train_tokenizer

__all__ = [
    "Inspection",
    "SpecialTokens",
    "Tokenizer",
    "TrainingReport",
    "compare_tokenizers",
    "inspect_text",
    "train_tokenizer",
]
