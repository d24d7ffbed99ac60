"""Texts as lists of words, in any script. [text]"""

from __future__ import annotations

from langmill.text.segmentation import words


def tokenise(text: str, *, lowercase: bool = True, signs: bool = False) -> list[str]:
    """Return the words of a text in order.

    lowercase: ignore case. signs: keep punctuation as words of their own.

    >>> tokenise("Don't go, Ahab!")
    ["don't", 'go', 'ahab']
    """
    if lowercase:
        text = text.lower()
    found = (text[begin:end] for begin, end in words(text))
    return [word for word in found if (word[0].isalnum() or signs) and not word.isspace()]
