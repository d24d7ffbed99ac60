"""Small recurrent models whose every weight is drawn, and what they read."""

from __future__ import annotations

import torch

from langmill.models.initialise import initialise_recurrent
from langmill.models.recurrent import Recurrent, RecurrentConfig

VOCABULARY = 31


def drawn(kind: str, *, noise: float, **changes) -> Recurrent:
    """Return a model in evaluation mode, noise of this deviation added to how its weights begin."""
    config = {"vocabulary": VOCABULARY, "kind": kind, "width": 16, "hidden": 24, **changes}
    model = Recurrent(RecurrentConfig(**config)).eval()
    generator = torch.Generator().manual_seed(0)
    initialise_recurrent(model, generator)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * noise)
    return model


def token_ids(rows: int = 3, tokens: int = 10, *, seed: int = 1) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))
