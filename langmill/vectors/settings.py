"""How word vectors are trained. [vectors]"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from langmill.core.config import Settings, option_name
from langmill.core.errors import ConfigError

Method = Literal["skipgram", "cbow", "fasttext", "glove"]
PREDICTING: tuple[Method, ...] = ("skipgram", "cbow", "fasttext")
FOLLOWED: dict[str, tuple[Method, ...]] = {
    **dict.fromkeys(("negative", "hs", "sample", "min_alpha"), PREDICTING),
    **dict.fromkeys(("predict", "shortest", "longest", "buckets"), ("fasttext",)),
    **dict.fromkeys(("x_max", "power", "memory_bytes"), ("glove",)),
}
"""Setting → the methods that follow it, where not all do."""


class VectorSettings(Settings):
    """What decides the vectors: with one thread, the same settings and text give the same bits."""

    method: Method = "skipgram"
    """skipgram and cbow: Word2Vec. fasttext: with pieces of words, for words that training never saw too.
    glove: from counts of words near one another."""
    dim: int = Field(100, ge=1, le=10_000)
    """Numbers a vector."""
    window: int = Field(5, ge=1, le=1000)
    """Words to each side that a word is trained with; Word2Vec and FastText draw 1 to this many each time."""
    negative: int = Field(5, ge=0, le=1000)
    """Random words that each prediction is told apart from; 0 with --hs."""
    hs: bool = False
    """Predict by a Huffman tree over the words (hierarchical softmax) in place of random words."""
    min_count: int = Field(5, ge=1)
    """Leave out words that occur less often."""
    sample: float = Field(1e-3, ge=0, le=1)
    """Skip words at random whose share of the text is above about this; 0 skips none.  (not glove)"""
    epochs: int | None = Field(None, ge=1)
    """How many times to go through the text, or through the counts of pairs.  [default: 5; glove: 25]"""
    alpha: float | None = Field(None, gt=0, le=10)
    """Learning rate at the start; it falls linearly to --min-alpha (glove: AdaGrad divides it instead).
    [default: 0.025; fasttext and glove: 0.05]"""
    min_alpha: float = Field(1e-4, ge=0)
    """Learning rate at the end."""
    threads: int = Field(0, ge=0, le=1024)
    """Threads; 0: as many as there are cores. Above one, two runs differ a little."""
    deterministic: bool = False
    """The same vectors every time: one thread."""
    seed: int = Field(1, ge=0, lt=2**32)
    """Decides every random choice."""
    predict: Literal["context", "word"] = "context"
    """fasttext: a word's pieces predict its neighbours (skip-gram), or the neighbours' pieces the word (CBOW)."""
    shortest: int = Field(3, ge=1, le=64)
    """fasttext: characters of the shortest pieces, with the marks < and > around a word."""
    longest: int = Field(6, ge=0, le=64)
    """fasttext: characters of the longest pieces; 0: no pieces."""
    buckets: int = Field(2_000_000, ge=1, le=2**31 - 1)
    """fasttext: pieces are hashed into so many vectors."""
    x_max: float = Field(10.0, gt=0)
    """glove: pairs that occur this often or more weigh the same; its paper has 100 for billions of words."""
    power: float = Field(0.75, gt=0, le=1)
    """glove: rarer pairs weigh (count / x_max) to this power."""
    memory_bytes: int = Field(2_000_000_000, ge=1_000_000)
    """glove: counts of pairs that outgrow this wait on disk."""

    @model_validator(mode="after")
    def _fit_together(self) -> VectorSettings:
        if not self.hs and not self.negative and self.method != "glove":
            raise ValueError("--negative 0 trains nothing; give --negative 5, or --hs")
        if self.longest and self.longest < self.shortest:
            raise ValueError(f"--longest {self.longest} is less than --shortest {self.shortest}")
        if self.min_alpha > self.learning_rate:
            raise ValueError(f"--min-alpha {self.min_alpha:g} is above --alpha {self.learning_rate:g}")
        return self

    def refuse_idle(self) -> None:
        """Raise ConfigError where something was set that would have no effect."""
        for name in VectorSettings.model_fields:
            if name in self.model_fields_set and self.method not in FOLLOWED.get(name, (self.method,)):
                raise ConfigError(
                    f"{option_name(name)} has no effect on --method {self.method}, only on"
                    f" {', '.join(FOLLOWED[name])}; leave it out"
                )
        if self.hs and self.negative and "negative" in self.model_fields_set:
            raise ConfigError(
                "--negative has no effect with --hs, which draws no random words; leave one out"
            )

    @property
    def has_pieces(self) -> bool:
        """Whether words have pieces, with vectors of their own."""
        return self.method == "fasttext" and self.longest > 0

    @property
    def passes(self) -> int:
        """`epochs`, or the method's usual number."""
        return self.epochs or (25 if self.method == "glove" else 5)

    @property
    def learning_rate(self) -> float:
        """`alpha`, or the method's usual one."""
        return self.alpha or (0.05 if self.method in ("fasttext", "glove") else 0.025)

    def rate_at(self, done: float) -> float:
        """Return the learning rate when this share of all epochs is done."""
        return self.learning_rate - (self.learning_rate - self.min_alpha) * done

    @property
    def workers(self) -> int:
        """How many threads work."""
        import os

        return 1 if self.deterministic else self.threads or os.cpu_count() or 1
