"""An n-gram model under the protocol of the Transformer: counts in the place of weights. [models]

Shape letters: B rows, T tokens, N states, D = order - 1 numbers of n-grams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from langmill.core.errors import CheckpointError, ConfigError
from langmill.models.ngram import NgramModel
from langmill.models.protocol import Layerless


@dataclass(frozen=True, kw_only=True)
class NgramConfig(Layerless):
    """What an n-gram model is made of."""

    vocabulary: int
    start: int
    """The id that stands before every document; `vocabulary`: no id has that use."""
    ngrams: tuple[int, ...]
    """How many different n-grams of each order are kept, from 1 upwards."""

    def __post_init__(self) -> None:
        if self.vocabulary < 1 or not self.ngrams or self.ngrams[0] != self.vocabulary:
            raise ConfigError(
                f"an n-gram model counts each of its {self.vocabulary} ids at order 1, not {self.ngrams[:1]}"
            )
        if not 0 <= self.start <= self.vocabulary:
            raise ConfigError(f"the start {self.start} is no id of a vocabulary of {self.vocabulary}")

    @property
    def order(self) -> int:
        """The ids of the longest n-gram."""
        return len(self.ngrams)

    @property
    def decoder(self) -> NgramConfig:
        """What the decoder is made of."""
        return self


class NgramState:
    """The n-grams that end with what each row has read so far, (B, D)."""

    def __init__(self, numbers: Tensor, slots: int) -> None:
        self.numbers = numbers
        self.length = 0
        """Tokens read, the same for every row; shorter rows are padded on the left."""
        self.slots = slots
        """Tokens that were announced; no memory depends on them."""

    def repeat(self, times: int) -> None:
        """Put `times` copies of every row side by side."""
        self.numbers = self.numbers.repeat_interleave(times, 0)

    def reorder(self, rows: Tensor) -> None:
        """Keep rows[i] as row i."""
        self.numbers = self.numbers[rows]


def whole_numbers(sizes: Iterable[int], dtype: torch.dtype) -> nn.ParameterList:
    """Return parameters of whole numbers, not yet filled."""
    return nn.ParameterList(nn.Parameter(torch.empty(n, dtype=dtype), requires_grad=False) for n in sizes)


class NgramDecoder(nn.Module):
    """Keys, counts and discounts as parameters that no gradient changes, and what follows from them.

    Its states are integers, which numpy looks up: on the CPU, wherever the parameters lie.
    """

    output = None
    """No layer scores its states: `score` and `chosen_logprobs` do."""
    encoder = None

    def __init__(self, config: NgramConfig) -> None:
        super().__init__()
        self.config = config
        self.discounts = nn.Parameter(torch.empty(config.order, 3), requires_grad=False)
        self.keys = whole_numbers(config.ngrams, torch.int64)
        self.counts = whole_numbers(config.ngrams, torch.int32)
        self._table: NgramModel | None = None

    @classmethod
    def of(cls, table: NgramModel) -> NgramDecoder:
        """Return a counted model under the protocol; its discounts are rounded to float32."""
        sizes = tuple(len(level.keys) - 1 for level in table.levels)
        model = cls(NgramConfig(vocabulary=table.vocabulary, start=table.start, ngrams=sizes))
        for keys, counts, level in zip(model.keys, model.counts, table.levels):
            keys.copy_(torch.from_numpy(level.keys[:-1]))
            counts.copy_(torch.from_numpy(level.counts[:-1]))
        model.discounts.copy_(torch.from_numpy(np.stack([level.discounts[1:] for level in table.levels])))
        return model.eval()

    def counted(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the keys and counts of every order."""
        return [(keys.cpu().numpy(), counts.cpu().numpy()) for keys, counts in zip(self.keys, self.counts)]

    def verify(self, source: str) -> None:
        """Raise CheckpointError, naming `source`, where the parameters are not those of an n-gram model."""
        contexts = 1
        for order, (keys, counts) in enumerate(self.counted(), 1):
            within = not len(keys) or (keys[0] >= 0 and keys[-1] < contexts * self.config.vocabulary)
            if not (within and (np.diff(keys) > 0).all() and (counts >= (order > 1)).all()):
                raise CheckpointError(
                    f"{source}: the counts of order {order} are damaged; copy or save it again"
                )
            contexts = self.config.vocabulary + 1 if order == 1 else len(keys)

    @property
    def table(self) -> NgramModel:
        """The smoothed model of the parameters as they were when it was first asked for."""
        if self._table is None:
            self._table = NgramModel.smooth(
                self.counted(),
                vocabulary=self.config.vocabulary,
                start=self.config.start,
                discounts=self.discounts.cpu().double().numpy(),
            )
        return self._table

    def _apply(self, fn: Any, recurse: bool = True) -> NgramDecoder:
        self._table = None  # other parameters than it was made of
        return super()._apply(fn, recurse)

    def decode(
        self,
        ids: Tensor,
        *,
        valid: Tensor | None = None,
        starts: Tensor | None = None,
        cache: NgramState | None = None,
    ) -> Tensor:
        """Return states (B, T, D) for token ids (B, T), int64; see `protocol.LanguageModel`."""
        assert starts is None or (valid is None and cache is None), (
            "packed rows are neither padded nor cached"
        )
        read = ids if valid is None else ids.masked_fill(~valid, -1)
        fresh = None
        if starts is not None:
            fresh = (starts == torch.arange(ids.shape[1], device=ids.device)).cpu().numpy()
        past = None if cache is None else cache.numbers.cpu().numpy()
        states = torch.from_numpy(self.table.states(read.cpu().numpy(), past=past, fresh=fresh)).to(
            ids.device
        )
        if cache is not None:
            cache.numbers = states[:, -1]
            cache.length += ids.shape[1]
        return states

    def before_output(self, states: Tensor) -> Tensor:
        """Return the states."""
        return states

    def score(self, states: Tensor) -> Tensor:
        """Return the log-probabilities (..., V), float32, of what follows states (..., D)."""
        rows = self.table.rows(states.flatten(0, -2).cpu().numpy())
        logs = torch.from_numpy(np.log(rows, out=rows)).float()
        return logs.view(*states.shape[:-1], -1).to(states.device)

    def chosen_logprobs(self, states: Tensor, ids: Tensor) -> Tensor:
        """Return the log-probability (...) of each of ids (...) after states (..., D), float32."""
        flat = self.table.chosen(states.flatten(0, -2).cpu().numpy(), ids.flatten().cpu().numpy())
        return torch.from_numpy(flat).float().view(ids.shape).to(ids.device)

    def new_cache(self, batch: int, slots: int) -> NgramState:
        """Return the state before the first token of `batch` rows."""
        none = torch.full((batch, self.config.order - 1), -1, device=self.discounts.device)
        return NgramState(none, slots)

    def forward(self, ids: Tensor, *, valid: Tensor | None = None, starts: Tensor | None = None) -> Tensor:
        """Return log-probabilities (B, T, V)."""
        return self.score(self.decode(ids, valid=valid, starts=starts))
