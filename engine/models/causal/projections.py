"""Linear maps that multiply the same input, as one product, with their adapters.

y = x @ W.T + bias + scale × (x @ A.T) @ B.T, with the W of several maps one below the other. So are their A; their B
are the blocks of a matrix that is zero elsewhere: a product of 48 columns costs little more than one of 16.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.cpu.adapted import Adapter
from engine.cpu.kernels import kernels_for
from engine.cpu.prepacking import Prepacked, Weight, linear


@dataclass(frozen=True)
class Learned:
    """Weights that learn, (out, in) each, one below the other; cast for each product, and not held in `kind`.

    Held, those of SmolLM2-135M would be 212 MB at the peak. Casting them twice for 1,024 tokens takes 2 % of a step.
    """

    weights: tuple[nn.Parameter, ...]
    kind: torch.dtype

    def cast(self) -> Tensor:
        """Their values now."""
        found = torch.empty(sum(map(len, self.weights)), self.weights[0].shape[1], dtype=self.kind)
        return torch.cat([weight.detach() for weight in self.weights], out=found)

    def times(self, x: Tensor) -> Tensor:
        """x @ weight.T, for x of (rows, in)."""
        return linear(x, self.cast())


@dataclass(frozen=True)
class Low:
    """Adapters in the dtype of the products: A (ranks, in), scale × B (out, ranks), and where each B lies in that."""

    down: Tensor
    up: Tensor
    blocks: tuple[tuple[slice, slice], ...]
    adapters: tuple[Adapter, ...]


@dataclass(frozen=True)
class Projection:
    """Maps side by side: `weight` is (out, in), and `back`, if it is given, its transpose, prepacked.

    `rows` are those that each of `weights` has in `weight`; `biases` are as many as those, or none.
    """

    weight: Weight | Learned
    back: Prepacked | None
    bias: Tensor | None
    low: Low | None
    rows: tuple[slice, ...]
    biases: tuple[nn.Parameter, ...]
    weights: tuple[nn.Parameter, ...]

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """All that may learn."""
        adapters = () if self.low is None else self.low.adapters
        return (*self.weights, *self.biases, *(each for one in adapters for each in (one.down, one.up)))

    def times(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The product, (tokens, out), and x @ A.T, (tokens, ranks)."""
        y = linear(x, self.weight)
        if self.bias is not None:
            y += self.bias
        if self.low is None:
            return y, None
        reduced = x @ self.low.down.t()
        return y.addmm_(reduced, self.low.up.t()), reduced

    def input_gradient(self, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradients of x and of x @ A.T, from that of the product."""
        d_x = self._back(gradient)
        if self.low is None:
            return d_x, None
        d_reduced = gradient @ self.low.up
        return d_x.addmm_(d_reduced, self.low.down), d_reduced

    def _back(self, gradient: Tensor) -> Tensor:
        if self.back is not None:
            return self.back.times(gradient)
        if isinstance(self.weight, Tensor):
            return gradient @ self.weight
        if isinstance(self.weight, Learned):
            return gradient @ self.weight.cast()
        first, *others = self.weights  # whose values are not held as one, but next to what is prepacked of them
        found = gradient[:, self.rows[0]] @ first.detach().to(gradient.dtype)
        for weight, rows in zip(others, self.rows[1:], strict=True):
            found.addmm_(gradient[:, rows], weight.detach().to(gradient.dtype))
        return found

    def gradients(
        self, gradient: Tensor, d_reduced: Tensor | None, x: Tensor, reduced: Tensor | None, needs: Sequence[bool]
    ) -> list[Tensor | None]:
        """The gradients of those parameters that `needs` names."""
        pairs = zip(needs, self.weights, self.rows, strict=False)
        found = [accumulated(weight, gradient[:, rows].t() @ x) if need else None for need, weight, rows in pairs]
        pairs = zip(needs[len(self.weights) :], self.biases, self.rows, strict=False)
        found += [
            accumulated(bias, gradient[:, rows].sum(dim=0, dtype=torch.float32)) if need else None
            for need, bias, rows in pairs
        ]
        if self.low is None or reduced is None or d_reduced is None:
            return found
        d_down, d_up = d_reduced.t() @ x, gradient.t() @ reduced
        for (rows, ranks), adapter in zip(self.low.blocks, self.low.adapters, strict=True):
            found.append(accumulated(adapter.down, d_down[ranks]))
            found.append(accumulated(adapter.up, d_up[rows, ranks].contiguous().mul_(adapter.scale)))
        return found


def accumulated(parameter: nn.Parameter, found: Tensor) -> Tensor | None:
    """A gradient for autograd, or None after it was added to that of an earlier micro-batch.

    Autograd would first copy it to the parameter's dtype.
    """
    total = parameter.grad
    if found.dtype == torch.bfloat16 and total is not None and total.dtype == torch.float32:
        kernels_for(found).add_(total, found)
        return None
    return found.to(parameter.dtype)
