from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from engine.cpu.adapted import Adapted, AdaptedTogether
from engine.cpu.prepacking import Prepacked
from tests.engine.models.checked import assert_gradients

SCALE = 1.5


def adapted(out: int = 5, width: int = 4, rank: int = 2, seed: int = 0) -> tuple[Adapted, Tensor]:
    """A weight with its adapter, and the matrix that both amount to, in float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((out, width), (rank, width), (out, rank))
    weight, down, up = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return Adapted.of(weight, down, up, SCALE), weight + SCALE * up @ down


def test_the_product_is_that_of_the_weight_and_its_change() -> None:
    found, whole = adapted()
    x = torch.randn(3, 4, dtype=torch.float64)
    bias = torch.randn(5, dtype=torch.float64)
    torch.testing.assert_close(found.times(x), x @ whole.t())
    torch.testing.assert_close(found.times(x, bias=bias), x @ whole.t() + bias)


def test_the_gradient_of_the_input_is_added_to_another() -> None:
    found, whole = adapted()
    gradient, other = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(found.back(gradient), gradient @ whole)
    torch.testing.assert_close(found.back(gradient, other.clone()), other + gradient @ whole)


def test_the_gradients_of_both_factors_are_those_of_finite_differences() -> None:
    weight, x = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, down: Tensor, up: Tensor) -> Tensor:
            ctx.values = Adapted.of(weight, down, up, SCALE)  # type: ignore[attr-defined]
            return Adapted.of(weight, down, up, SCALE).times(x)

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
            values: Adapted = ctx.values  # type: ignore[attr-defined]
            return values.gradients(gradient, x)

    factors = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 4), (5, 2)))
    assert_gradients(cast(Callable[..., Tensor], Product.apply), *factors)


def test_weights_prepacked_as_one_keep_their_adapters() -> None:
    (first, one), (second, other) = adapted(5, seed=1), adapted(3, seed=2)
    plain = torch.randn(2, 4, dtype=torch.float64)
    x = torch.randn(6, 4, dtype=torch.float64)
    weights = Prepacked(first.weight, plain, second.weight)
    together = AdaptedTogether(weights, (5, 2, 3), (first, None, second))
    torch.testing.assert_close(together.times(x), x @ torch.cat([one, plain, other]).t())
