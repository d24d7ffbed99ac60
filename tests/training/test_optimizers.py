"""Muon against a singular value decomposition and torch's own; AdamW against torch's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from langmill.core.products import cpu_products
from langmill.models.config import bert_encoder, default_decoder
from langmill.models.transformer import Transformer
from langmill.training.optimizers import NEWTON_SCHULZ, Muon, make_optimizer, optimizer_of, orthogonalise
from langmill.training.settings import OptimizerSettings

SHAPES = [(8, 8), (6, 20), (20, 6), (1, 9), (32, 128)]


def random_matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed + 100 * rows + columns))


def by_singular_values(matrix: Tensor, steps: int = 5) -> Tensor:
    """Apply the quintic to each singular value: what the iteration is, told independently."""
    a, b, c = NEWTON_SCHULZ
    left, values, right = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    for _ in range(steps):
        values = a * values + b * values**3 + c * values**5
    return left @ torch.diag(values) @ right


@pytest.mark.parametrize("shape", [(32, 32), (32, 96), (200, 64)])
def test_orthogonalise_bears_bfloat16(shape: tuple[int, int]) -> None:
    # Nearly of rank 4, as early gradients are: there a careless iteration blows up.
    generator = torch.Generator().manual_seed(3)
    low = torch.randn(shape[0], 4, generator=generator) @ torch.randn(4, shape[1], generator=generator)
    matrix = (low + 1e-4 * torch.randn(shape, generator=generator))[None]
    with cpu_products(torch.bfloat16):
        results = orthogonalise(matrix), orthogonalise(matrix.bfloat16())
    for result in results:
        values = torch.linalg.svdvals(result[0].float())
        assert values.max() < 1.4
        assert values[3] > 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalise_is_the_quintic_on_singular_values(shape: tuple[int, int]) -> None:
    matrix = random_matrix(*shape)
    found = orthogonalise(matrix[None])[0]
    torch.testing.assert_close(found.double(), by_singular_values(matrix), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_singular_values_come_near_one(shape: tuple[int, int], scale: float) -> None:
    matrix = random_matrix(*shape) * scale
    values = torch.linalg.svdvals(orthogonalise(matrix[None])[0])
    # A square Gaussian matrix has singular values near 0, which five steps do not bring up all the way.
    lowest = 0.3 if shape[0] == shape[1] else 0.65
    assert values.min() > lowest and values.max() < 1.25, values
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest = left @ right  # the orthogonal matrix nearest to it
    agreement = (orthogonalise(matrix[None])[0] * nearest).sum() / nearest.square().sum()
    assert 0.65 < agreement < 1.25


def test_several_matrices_do_not_mix() -> None:
    matrices = torch.stack([random_matrix(6, 20, seed) for seed in range(3)])
    together = orthogonalise(matrices)
    for matrix, found in zip(matrices, together):
        torch.testing.assert_close(found, orthogonalise(matrix[None])[0])


def test_a_zero_gradient_gives_no_update() -> None:
    assert not orthogonalise(torch.zeros(1, 4, 6)).any()


def steps_of(
    optimizer: Muon | torch.optim.Optimizer, parameters: list[Tensor], count: int = 6
) -> list[Tensor]:
    """Take some steps with gradients that a seed fixes; return the weights."""
    generator = torch.Generator().manual_seed(9)
    for _ in range(count):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    return [p.detach().clone() for p in parameters]


def two_copies(*shapes: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    values = [
        torch.randn(shape, generator=torch.Generator().manual_seed(index))
        for index, shape in enumerate(shapes)
    ]
    return [nn.Parameter(v.clone()) for v in values], [nn.Parameter(v.clone()) for v in values]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_torchs(weight_decay: float) -> None:
    ours, theirs = two_copies((5, 7), (11,), (3,))
    mine = Muon(
        [{"params": ours, "kind": "adamw", "lr": 3e-3, "betas": (0.8, 0.95), "weight_decay": weight_decay}]
    )
    right = torch.optim.AdamW(theirs, lr=3e-3, betas=(0.8, 0.95), weight_decay=weight_decay, fused=True)
    for one, other in zip(steps_of(mine, ours), steps_of(right, theirs)):
        assert torch.equal(one, other)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch 2.9 brought its own Muon")
@pytest.mark.parametrize("shape", [(16, 16), (12, 40), (40, 12)])
def test_muon_is_torchs_within_its_bfloat16(shape: tuple[int, int]) -> None:
    ours, theirs = two_copies(shape)
    before = ours[0].detach().clone()
    mine = Muon([{"params": ours, "lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}])
    right = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.1)
    (one,), (other,) = steps_of(mine, ours), steps_of(right, theirs)
    moved, error = (other - before).norm(), (one - other).norm()
    assert error < 0.03 * moved, (error, moved)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_the_first_step_of_muon_by_hand(shape: tuple[int, int]) -> None:
    (ours,), _ = two_copies(shape)
    before, gradient = ours.detach().clone(), random_matrix(*shape)
    ours.grad = gradient.clone()
    Muon([{"params": [ours], "lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}]).step()
    # Nesterov's mean of the first gradient points along it; its length is lost in the orthogonalisation.
    stretch = max(1.0, shape[0] / shape[1]) ** 0.5
    expected = before * (1 - 0.1 * 0.5) - 0.1 * stretch * by_singular_values(gradient).float()
    torch.testing.assert_close(ours.detach(), expected, rtol=1e-3, atol=1e-3)


def test_matrices_of_one_shape_and_its_transpose_share_a_batch() -> None:
    together, apart = two_copies((6, 10), (10, 6), (6, 10))
    steps_of(Muon([{"params": together, "lr": 0.1}]), together, count=3)
    generator = torch.Generator().manual_seed(9)
    gradients = [[torch.randn(p.shape, generator=generator) for p in apart] for _ in range(3)]
    for index, p in enumerate(apart):
        alone = Muon([{"params": [p], "lr": 0.1}])
        for step in gradients:
            p.grad = step[index].clone()
            alone.step()
    for one, other in zip(together, apart):
        torch.testing.assert_close(one, other)


def test_weights_without_a_gradient_stay() -> None:
    (frozen, moving), _ = two_copies((4, 4), (4, 4))
    before = frozen.detach().clone()
    moving.grad = torch.ones(4, 4)
    Muon([{"params": [frozen, moving], "lr": 0.1, "weight_decay": 0.5}]).step()
    assert torch.equal(frozen.detach(), before)


def group_of(optimizer: Muon, wanted: Callable[[Tensor], bool]) -> str:
    kinds = {group["kind"] for group in optimizer.param_groups for p in group["params"] if wanted(p)}
    assert len(kinds) == 1
    return kinds.pop()


def test_which_weights_go_where() -> None:
    config = default_decoder(50, layers=2, width=32, heads=2, kv_heads=0, hidden=0, context=16, dropout=0.0)
    model = Transformer(config)
    wanted = {"learning_rate": 0.003, "weight_decay": 0.1, "betas": (0.9, 0.95), "momentum": 0.95}
    optimizer = make_optimizer(model, kind="muon", matrix_learning_rate=0.02, **wanted)  # type: ignore[arg-type]
    assert group_of(optimizer, lambda p: p.ndim == 1) == "adamw"
    assert group_of(optimizer, lambda p: p is model.output.weight) == "adamw"
    assert group_of(optimizer, lambda p: p is model.output_embed.weight) == "adamw"
    assert group_of(optimizer, lambda p: p.ndim == 2 and 50 not in p.shape) == "muon"
    everything = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(everything) == sorted(id(p) for p in model.parameters())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.02, 0.003]
    plain = make_optimizer(model, kind="adamw", matrix_learning_rate=0.02, **wanted)  # type: ignore[arg-type]
    assert {(group["kind"], group["initial_lr"]) for group in plain.param_groups} == {("adamw", 0.003)}


def test_layer_decay_slows_lower_blocks() -> None:
    model = Transformer(bert_encoder(50, layers=3, width=8, heads=2))
    wanted = OptimizerSettings(kind="adamw", learning_rate=1.0, matrix_learning_rate=1.0, layer_decay=0.5)
    rates = {
        id(p): group["lr"] for group in optimizer_of(model, wanted).param_groups for p in group["params"]
    }
    found = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert found["encoder.blocks.2.attention.query.weight"] == found["output.bias"] == 1.0
    assert found["encoder.blocks.1.attention.query.bias"] == 0.5
    assert found["encoder.blocks.0.feed_forward.up.weight"] == 0.25
    assert found["encoder.embed.weight"] == found["encoder.input_norm.weight"] == 0.125
    alike = optimizer_of(model, wanted.model_copy(update={"layer_decay": 1.0}))
    assert {group["lr"] for group in alike.param_groups} == {1.0}
