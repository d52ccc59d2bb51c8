"""Weights that stay as they are, each with a change of low rank that learns.

y = x @ W.T + scale × (x @ A.T) @ B.T, with W (out, in), A (rank, in) and B (out, rank). W + scale × B @ A is never
formed, and x is kept once for the gradients of both products.
After Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.cpu.placement import cast
from engine.cpu.prepacking import Prepacked


@dataclass(eq=False)
class Adapter:
    """What learns of a weight: A and B, fp32, and their scale."""

    down: nn.Parameter
    up: nn.Parameter
    scale: float
    # While it is set, products are those of the merged weight (out, in) that it returns, made for each product.
    merged: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class Adapted:
    """A frozen weight and the values of its adapter, in the dtype of the products; `up` is scale × B."""

    weight: Tensor
    down: Tensor
    up: Tensor
    scale: float

    @classmethod
    def of(cls, weight: Tensor, down: Tensor, up: Tensor, scale: float) -> "Adapted":
        """From a weight in the dtype of the products, and A and B."""
        return cls(weight, cast(down, weight.dtype), cast(up, weight.dtype, scale), scale)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the products."""
        return self.weight.dtype

    def reduced(self, x: Tensor) -> Tensor:
        """x @ A.T, (rows, rank)."""
        return x @ self.down.t()

    def times(self, x: Tensor, reduced: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """The product with x, (rows, in)."""
        reduced = self.reduced(x) if reduced is None else reduced
        return functional.linear(x, self.weight, bias).addmm_(reduced, self.up.t())

    def back(self, gradient: Tensor, onto: Tensor | None = None) -> Tensor:
        """The gradient of x from that of the product, (rows, out); added to `onto` if it is given."""
        found = gradient @ self.weight if onto is None else onto.addmm_(gradient, self.weight)
        return found.addmm_(gradient @ self.up, self.down)

    def gradients(self, gradient: Tensor, x: Tensor, reduced: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The gradients of A and of B."""
        reduced = self.reduced(x) if reduced is None else reduced
        return (gradient @ self.up).t() @ x, (gradient.t() @ reduced).mul_(self.scale)


@dataclass(frozen=True)
class AdaptedTogether:
    """Frozen weights prepacked as one, (out, in) each, of which some have an adapter; for products only."""

    weight: Prepacked
    rows: Sequence[int]  # `out` of each
    adapters: Sequence[Adapted | None]

    def times(self, x: Tensor) -> Tensor:
        """The product with x, (rows, in)."""
        y = self.weight.times(x)
        for part, adapted in zip(y.split(list(self.rows), dim=1), self.adapters, strict=True):
            if adapted is not None:
                part.addmm_(adapted.reduced(x), adapted.up.t())
        return y
