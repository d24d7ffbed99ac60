"""The keys and values that a decoder keeps of its past. [models]"""

from __future__ import annotations

import torch
from torch import Tensor

from langmill.models.config import StackConfig


class Cache:
    """Preallocated keys and values for a batch that advances in step.

    Rows of different lengths are padded on the left, so that one slot number serves the whole
    batch; `valid` says which slots of each row hold a token.
    """

    def __init__(self, config: StackConfig, batch: int, slots: int, *, device=None, dtype=None) -> None:
        shape = (config.layers, batch, config.kv_heads, slots, config.head_width)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)  # (layers, B, K, slots, C)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.valid = torch.zeros(batch, slots, dtype=torch.bool, device=device)
        self.length = 0
        """Slots filled."""
        self.padded = False
        """Some slot below `length` holds no token."""
        self.memory: list[tuple[Tensor, Tensor]] = []
        """For each layer with cross-attention, the keys and values (M, K, S, C) of what the encoder read."""
        self.memory_mask: Tensor | None = None
        """(M, 1, 1, S), False where the encoder's text is padded; None: nowhere."""

    @property
    def slots(self) -> int:
        """How many tokens a row has room for."""
        return self.keys.shape[3]

    def advance(self, valid: Tensor | None, tokens: int) -> Tensor | None:
        """Note `tokens` new slots a row; return what is valid so far (B, S), or None if everything is.

        Raises ValueError when the new tokens do not fit.
        """
        end = self.length + tokens
        if end > self.slots:
            raise ValueError(f"the cache has {self.slots} slots; {end} are needed")
        self.valid[:, self.length : end] = True if valid is None else valid
        self.padded |= valid is not None
        self.length = end
        return self.valid[:, :end] if self.padded else None

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, K, T, C) in the newest slots and return everything stored so far, (B, K, S, C)."""
        begin = self.length - key.shape[2]
        self.keys[layer, :, :, begin : self.length] = key
        self.values[layer, :, :, begin : self.length] = value
        return self.keys[layer, :, :, : self.length], self.values[layer, :, :, : self.length]

    def repeat(self, times: int) -> None:
        """Put `times` copies of every row side by side; they share their row of `memory`."""
        self.keys, self.values = (x.repeat_interleave(times, 1) for x in (self.keys, self.values))
        self.valid = self.valid.repeat_interleave(times, 0)

    def reorder(self, rows: Tensor) -> None:
        """Keep rows[i] as row i, as beam search and finished sequences need.

        Rows that share an encoder's text stand side by side and share one row of `memory`; all of them
        stay or all go.
        """
        if self.memory:
            sharing = len(self.valid) // len(self.memory[0][0])
            texts = rows[::sharing] // sharing  # (M,)
            if len(texts) < len(self.memory[0][0]):
                self.memory = [(key[texts], value[texts]) for key, value in self.memory]
                self.memory_mask = None if self.memory_mask is None else self.memory_mask[texts]
        if len(rows) == len(self.valid):
            moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
            for store in (self.keys, self.values):  # only what is filled, and another row's, is copied
                store[:, moved, :, : self.length] = store[:, rows[moved], :, : self.length]
        else:
            self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.valid = self.valid[rows]
