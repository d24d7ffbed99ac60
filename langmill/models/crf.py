"""A tagger of n-grams: a linear-chain conditional random field over sparse features (Lafferty et al. 2001). [models]

A tag's score is a sum of the weights that it has for a unit's features (see `crf_features`), and how well one tag follows
another is learned too; what chains of tags they make probable is said in `objectives.crf`.

Shape letters: B texts, T tokens, P units, K templates, F known features, L labels, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from langmill.core.errors import CheckpointError, ConfigError
from langmill.models.bag import look_up
from langmill.models.crf_features import (
    SIGN,
    Letters,
    Template,
    Units,
    read_template,
    template_keys,
    units_of,
)
from langmill.models.heads import HeadConfig
from langmill.models.protocol import Layerless


@dataclass(frozen=True, kw_only=True)
class CrfConfig(Layerless):
    """What a tagger of n-grams is made of."""

    vocabulary: int
    head: HeadConfig
    """Its tags."""
    templates: tuple[str, ...]
    """What it looks at; see `crf_features.TEMPLATES`."""
    features: int
    """How many different features it knows."""

    def __post_init__(self) -> None:
        if self.head.kind != "tokens" or not self.head.crf:
            raise ConfigError(
                "a tagger of n-grams scores chains of tags; its head is one for tokens with a CRF"
            )
        if self.vocabulary < 1 or self.features < 0 or not self.templates:
            raise ConfigError(
                f"vocabulary {self.vocabulary} and features {self.features} are sizes; vocabulary must be at least 1,"
                " features 0, and there must be a template"
            )
        for template in self.templates:
            read_template(template)


class CrfTagger(nn.Module):
    """Keys and weights of features as parameters, fitted by `crf_fit.fit_crf` and changed by no gradient.

    Texts are read and looked up on the CPU, wherever the parameters lie.
    """

    def __init__(self, config: CrfConfig) -> None:
        super().__init__()
        self.config = config
        labels = len(config.head.labels)

        def empty(*shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=False)

        self.weight = empty(config.features, labels)
        self.transitions = empty(labels + 1, labels + 1)  # see objectives.crf
        self.keys = empty(config.features, dtype=torch.int64)
        self.folded = empty(config.vocabulary, dtype=torch.int64)
        self.kinds = empty(config.vocabulary, dtype=torch.int64)

    @property
    def letters(self) -> Letters:
        """What the ids are."""
        return Letters(self.folded.cpu().numpy(), self.kinds.cpu().numpy())

    @property
    def templates(self) -> list[Template]:
        """What it looks at."""
        return [read_template(template) for template in self.config.templates]

    def verify(self, source: str) -> None:
        """Raise CheckpointError, naming `source`, where the parameters are not those of such a model."""
        folded, kinds = self.folded.cpu(), self.kinds.cpu()
        within = ((folded >= 0) & (folded < self.config.vocabulary) & (kinds >= 0) & (kinds <= SIGN)).all()
        keys = self.keys.cpu().numpy().view(np.uint64)
        if not (within and (keys[1:] > keys[:-1]).all()):
            raise CheckpointError(f"{source}: the keys of its features are damaged; copy or save it again")

    def forward(self, ids: Tensor, *, valid: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Return scores (B, T, L) of token ids (B, T): all tokens of a unit have its scores, spaces have 0.

        valid: (B, T), False at padding. segments: not used.
        """
        read = ids.cpu().numpy()
        kept = np.ones(read.shape, dtype=bool) if valid is None else valid.cpu().numpy()
        units = units_of([row[keep] for row, keep in zip(read, kept)], self.letters)
        scores = functional.pad(self.score(units), (0, 0, 0, 1))  # the last are those of spaces
        found = scores.new_zeros(*read.shape, scores.shape[1])
        found[torch.from_numpy(kept)] = scores[torch.from_numpy(units.owners)]
        return found

    def score(self, units: Units) -> Tensor:
        """Return the scores (P, L) of units."""
        known = self.keys.cpu().numpy().view(np.uint64)
        numbers = look_up(template_keys(units, self.templates), known)
        there = numbers >= 0
        starts = np.append(0, np.cumsum(there.sum(1)))
        device = self.weight.device
        return functional.embedding_bag(
            torch.from_numpy(numbers[there]).to(device),
            self.weight,
            torch.from_numpy(starts).to(device),
            mode="sum",
            include_last_offset=True,
        )
