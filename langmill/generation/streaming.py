"""Tokens to text as they come. [generation]"""

from __future__ import annotations

from collections.abc import Callable, Sequence

CONTEXT_TOKENS = 8
"""Prompt tokens that decoding looks back on, for the spaces between tokens."""
HALF = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer gives for the bytes of an unfinished character."""


class TextStream:
    """The text of one generation, given out as soon as it is certain.

    Held back are bytes that do not yet make a character, and an end of the text that may turn out to
    be the beginning of a stop string.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int], *, stop: Sequence[str] = ()
    ) -> None:
        self.decode = decode
        self.stop = tuple(stop)
        self.ids = list(prompt[-CONTEXT_TOKENS:])
        self.begin, self.read = 0, len(self.ids)
        self.pending = ""
        self.text = ""
        """Everything given out so far."""
        self.stopped = False
        """A stop string was met; it and what follows it are not part of the text."""

    def push(self, token: int) -> str:
        """Take one more token; return the text that is now certain."""
        self.ids.append(token)
        return self._release(self._decoded(final=False), final=False)

    def finish(self) -> str:
        """Return what was held back: no more tokens come. An unfinished character becomes `�`."""
        return "" if self.stopped else self._release(self._decoded(final=True), final=True)

    def _decoded(self, *, final: bool) -> str:
        """Return the text of the tokens not read yet.

        Only tokens since `begin` are decoded again: those of the last reading, so that the tokenizer
        sees what the new ones follow, and the new ones.
        """
        old, new = self.decode(self.ids[self.begin : self.read]), self.decode(self.ids[self.begin :])
        if new.endswith(HALF) and not final:
            return ""
        same = next((i for i, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
        text = new[same:]
        if text:
            self.begin, self.read = self.read, len(self.ids)
        return text

    def _release(self, text: str, *, final: bool) -> str:
        self.pending += text
        found = [at for stop in self.stop if (at := self.pending.find(stop)) >= 0]
        self.stopped = bool(found)
        end = min(found) if found else len(self.pending) - (0 if final else self._held())
        out, self.pending = self.pending[:end], self.pending[end:]
        self.text += out
        return out

    def _held(self) -> int:
        """Return how many of the last characters may begin a stop string."""
        longest = max((len(stop) for stop in self.stop), default=0) - 1
        for count in range(min(longest, len(self.pending)), 0, -1):
            if any(stop.startswith(self.pending[-count:]) for stop in self.stop):
                return count
        return 0
