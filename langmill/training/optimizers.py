"""Muon for matrices, AdamW for the rest, as one optimiser. [training]"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from langmill.core.products import rounds_products
from langmill.models.adapters import LOW_RANK
from langmill.models.initialise import rate_shares
from langmill.training.settings import OptimizerSettings

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic that drives singular values towards 1 (Jordan et al. 2024, Muon)."""


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Return matrices (n, rows, columns) with their singular values brought near 1.

    Newton-Schulz iteration X ← aX + b(XXᵀ)X + c(XXᵀ)²X (Jordan et al. 2024), after which singular
    values lie in about [0.7, 1.2], those that were near 0 below.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    coarse = x.dtype == torch.bfloat16 or (x.device.type == "cpu" and rounds_products())
    x = _iterate(x, steps) if coarse else _iterate_gram(x, steps)
    return x if wide else x.mT


def _iterate(x: Tensor, steps: int) -> Tensor:
    """The iteration as it is written, which bears bfloat16: a rounding error meets the same squeeze as X."""
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.mT  # (n, d, d)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_gram(x: Tensor, steps: int) -> Tensor:
    """The same through the small Gram matrix alone, G ← PGP with P = aI + bG + cG², in float32 only.

    The factors P are gathered and applied once, which for matrices wider than square saves most of the
    work. Errors in G are not squeezed: in bfloat16 the largest singular value reaches the hundreds.
    """
    a, b, c = NEWTON_SCHULZ
    gram = x @ x.mT  # (n, d, d)
    product: Tensor | None = None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else factor @ product
        if step + 1 < steps:
            gram = factor @ gram @ factor
    assert product is not None
    return product @ x


class Muon:
    """Momentum orthogonalised (matrices), and AdamW for groups that say `kind="adamw"`.

    A matrix W of (rows, columns) moves by lr · max(1, rows / columns)^½ · orthogonalise(momentum)
    (Jordan et al. 2024), so a step has the same spectral size whatever the gradient's scale. Groups:
    lr, weight_decay (decoupled: W ← W(1 - lr · weight_decay)); "muon": momentum, steps;
    "adamw": betas, eps (Loshchilov and Hutter 2019).
    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        # Not a torch.optim.Optimizer: that class imports the compiler when it is made, which takes
        # longer than a short run trains, and nothing of it is needed here.
        defaults = {"kind": "muon", "lr": 0.02, "weight_decay": 0.0, "momentum": 0.95, "steps": 5}
        self.param_groups = [{**defaults, "betas": (0.9, 0.95), "eps": 1e-8, **group} for group in groups]
        # Made before the first step, so that what a step frees is a whole for the next one to take: made
        # between, they would lie scattered in it.
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        for group in self.param_groups:
            names = ("momentum",) if group["kind"] == "muon" else ("mean", "square")
            for p in group["params"]:
                self.state[p] = {name: torch.zeros_like(p) for name in names}
                if group["kind"] == "adamw":
                    self.state[p]["step"] = torch.zeros((), dtype=torch.float32, device=p.device)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Apply one update from the gradients."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters and group["kind"] == "muon":
                self._muon(group, parameters)
            elif parameters:
                self._adamw(group, parameters)

    def _states(self, parameters: Iterable[Tensor], name: str) -> list[Tensor]:
        return [self.state[p][name] for p in parameters]

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffers = self._states(parameters, "momentum")
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        torch._foreach_lerp_(gradients, buffers, group["momentum"])  # Nesterov's look ahead
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        same: dict[tuple, list[int]] = defaultdict(list)
        for index, p in enumerate(parameters):
            # A matrix and its transpose are orthogonalised in one batch.
            same[(min(p.shape), max(p.shape), p.device, p.dtype)].append(index)
        for indices in same.values():
            flat = [
                gradients[i] if parameters[i].shape[0] <= parameters[i].shape[1] else gradients[i].mT
                for i in indices
            ]
            stacked = torch.stack(flat)
            stacked = stacked.bfloat16() if stacked.is_cuda else stacked
            for i, update in zip(indices, orthogonalise(stacked, group["steps"])):
                p = parameters[i]
                rows, columns = p.shape
                update = update if rows <= columns else update.mT
                p.add_(update.to(p.dtype), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        steps = self._states(parameters, "step")
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            parameters,
            gradients,
            self._states(parameters, "mean"),
            self._states(parameters, "square"),
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def is_matrix(name: str, parameter: Tensor, model: nn.Module) -> bool:
    """Whether Muon should move this weight: a matrix that is neither an embedding nor the output layer (nor a CRF's).

    Nor an adapter's factor. A step of Muon has a fixed spectral size because that is how far it moves the layer's
    outputs; what moves them here is the product of two factors, one of which begins at zero. In a trial either
    optimiser came to the same loss (docs/log.md), and AdamW's rates are those that people know for adapters.
    """
    module = model.get_submodule(name.rpartition(".")[0])
    other = isinstance(module, nn.Embedding) or name.startswith(("output.", "transitions")) or is_factor(name)
    return parameter.ndim == 2 and not other


def is_factor(name: str) -> bool:
    """Whether a weight is one of the two factors of an adapter."""
    return name.rpartition(".")[2] in LOW_RANK


BLOCK = re.compile(r"(?:blocks|layers)\.(\d+)\.")


def depth_shares(model: nn.Module, decay: float) -> dict[str, float]:
    """Return the share of the learning rate that each weight below the head moves by: decay^(blocks above it).

    Lower layers know what holds for all text and move less (Howard and Ruder 2018, arXiv:1801.06146, section 3.2;
    Clark et al. 2020, arXiv:2003.10555, section 3.3). Embeddings lie below the first block; what stands in no block
    and behind them (a final norm, a head) moves as told. decay 1: no shares.
    """
    names = [name for name, _ in model.named_parameters()]
    blocks = {name: int(match[1]) for name in names if (match := BLOCK.search(name))}
    if decay == 1 or not blocks:
        return {}
    count = 1 + max(blocks.values())
    depth = {name: count - 1 - number for name, number in blocks.items()}
    under = ("embed.", "positions.", "segments.", "input_norm.")
    depth |= {name: count for name in names if name not in blocks and any(part in name for part in under)}
    return {name: decay**above for name, above in depth.items()}


def make_optimizer(
    model: nn.Module,
    *,
    kind: str,
    learning_rate: float,
    matrix_learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    momentum: float,
    layer_decay: float = 1.0,
) -> Muon:
    """Return an optimiser over the trainable weights of `model`.

    kind: "muon" (matrices by Muon at `matrix_learning_rate`, the rest by AdamW at `learning_rate`)
    or "adamw" (everything by AdamW at `learning_rate`), matrices in `rate_shares` at that share of it. weight_decay falls on matrices only, never
    on norms and biases; embeddings are spared too. layer_decay: see `depth_shares`.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    shares, depths = rate_shares(model), depth_shares(model, layer_decay)
    adamw = {"kind": "adamw", "betas": betas, "lr": learning_rate}
    muon: dict[str, Any] = {"kind": "muon", "lr": matrix_learning_rate, "momentum": momentum}
    first = adamw if kind == "adamw" else muon
    grouped: dict[tuple[int, float], list[nn.Parameter]] = defaultdict(list)
    for name, p in named:
        matrix = is_matrix(name, p, model)
        share = depths.get(name, 1.0) * (shares.get(name, 1.0) if matrix else 1.0)
        grouped[0 if matrix else 1 if is_factor(name) else 2, share].append(p)
    forms: tuple[dict[str, Any], ...] = (
        {**first, "weight_decay": weight_decay},
        {**adamw, "weight_decay": weight_decay},
        adamw,
    )
    groups = [
        {**forms[form], "lr": share * forms[form]["lr"], "params": some}
        for (form, share), some in sorted(grouped.items(), key=lambda item: item[0][0])
    ]
    for group in groups:
        group["initial_lr"] = group["lr"]
    return Muon(groups)


def optimizer_of(model: nn.Module, wanted: OptimizerSettings) -> Muon:
    """Return the optimiser that settings ask for, their open rates filled in."""
    return make_optimizer(
        model,
        kind=wanted.kind,
        learning_rate=wanted.learning_rate,
        matrix_learning_rate=wanted.matrix_learning_rate,
        weight_decay=wanted.weight_decay,
        betas=(wanted.beta1, wanted.beta2),
        momentum=wanted.momentum,
        layer_decay=wanted.layer_decay,
    )
