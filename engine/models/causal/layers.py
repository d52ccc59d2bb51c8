"""The two layers of a model of Llama's kind over rows laid end to end, each with an explicit backward pass.

Every layer computes x + inner(norm(x)), where x is the residual stream in fp32 and `inner` runs in the dtype of the
values passed in (bf16 or fp32). Written this way, a layer keeps only what its backward pass cannot do without, most
of it in that dtype, and no more of its attention than a number per query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.cpu.kernels import FP32, kernels_for
from engine.cpu.ragged import CausalPattern
from engine.models.causal.projections import Projection


@dataclass(frozen=True)
class Norm:
    """A norm's scale in the dtype of the products, and its epsilon."""

    scale: Tensor
    epsilon: float


@dataclass(frozen=True)
class Positions:
    """The rows, and the angles of their tokens: (tokens, 2 × pairs) fp32, cosines and then sines."""

    pattern: CausalPattern
    angles: Tensor
    norms: tuple[Norm, ...] = ()  # of the heads of queries and of those of keys, before they turn

    @property
    def turned(self) -> int:
        """The number of heads that rotate: of queries and keys."""
        return self.pattern.heads + self.pattern.groups

    def parts(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, which lie side by side."""
        width = values.shape[1] // (self.turned + self.pattern.groups)
        queries, turned = self.pattern.heads * width, self.turned * width
        return values[:, :queries], values[:, queries:turned], values[:, turned:]

    def normed(self, values: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Norms queries and keys in place; what the backward pass needs of each."""
        kept = []
        for part, norm in zip(self.parts(values), self.norms, strict=False):
            x = part.reshape(-1, len(norm.scale)).to(torch.promote_types(part.dtype, torch.float32))
            plain, n, inverse = kernels_for(norm.scale).normed(x, norm.scale, norm.epsilon)
            part.copy_(n.view(part.shape))
            kept.append((plain, inverse))
        return kept

    def normed_backward(
        self, gradient: Tensor, kept: Sequence[tuple[Tensor, Tensor]], needs: Sequence[bool]
    ) -> list[Tensor | None]:
        """Replaces the gradient of what `normed` made by that of what it took; returns those of the scales."""
        found = []
        for part, norm, (plain, inverse), need in zip(self.parts(gradient), self.norms, kept, needs, strict=False):
            g, nothing = part.reshape(plain.shape), torch.zeros_like(plain, dtype=inverse.dtype)
            kernels = kernels_for(plain)
            d_x, d_scale = kernels.normed_backward(g, plain, inverse, norm.scale, nothing, scale_learns=need)
            part.copy_(d_x.view(part.shape))
            found.append(d_scale)
        return found

    def rotate(self, values: Tensor, *, back: bool = False) -> None:
        """Turns queries and keys by their positions, in place."""
        heads = self.turned
        width = values.shape[1] // (heads + self.pattern.groups)
        kernels_for(values).rotate(values[:, : heads * width], self.angles, heads, back=back)


def _split(needs: Sequence[bool], projections: Sequence[Projection]) -> list[Sequence[bool]]:
    """What is needed of each projection's parameters."""
    found, at = [], 0
    for projection in projections:
        count = len(projection.parameters)
        found.append(needs[at : at + count])
        at += count
    return found


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Norm, into: Projection, out: Projection, positions: Positions, *_: Tensor
    ) -> Tensor:
        plain, n, inverse = kernels_for(norm.scale).normed(x, norm.scale, norm.epsilon)
        values, reduced = into.times(n)
        del n
        heads = positions.normed(values)
        positions.rotate(values)
        seen, sums = kernels_for(values).causal(*positions.parts(values), positions.pattern)
        y, reduced_out = out.times(seen)
        ctx.saved = (plain, inverse, values, heads, reduced, seen, sums, reduced_out)
        ctx.setting = (norm, into, out, positions)
        return kernels_for(y).residual(x, y, None, 1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plain, inverse, values, heads, reduced, seen, sums, reduced_out = ctx.saved
        ctx.saved = None
        norm, into, out, positions = ctx.setting
        scale_learns, *needs = ctx.needs_input_grad[5:]
        of_heads, needs = needs[: len(heads)], needs[len(heads) :]
        of_into, of_out = _split(needs, (into, out))
        g = kernels_for(gradient, FP32).kept(gradient, None, 1.0, plain.dtype)
        d_seen, d_reduced = out.input_gradient(g)
        d_out = out.gradients(g, d_reduced, seen, reduced_out, of_out)
        d_values = torch.empty_like(values)
        q, k, v = positions.parts(values)
        kernels_for(values).causal_backward(d_seen, q, k, v, seen, sums, positions.pattern, positions.parts(d_values))
        positions.rotate(d_values, back=True)
        d_heads = positions.normed_backward(d_values, heads, of_heads)
        d_n, d_reduced = into.input_gradient(d_values)
        d_into = into.gradients(d_values, d_reduced, plain * norm.scale, reduced, of_into)
        d_x, d_scale = kernels_for(plain).normed_backward(
            d_n, plain, inverse, norm.scale, gradient, scale_learns=scale_learns
        )
        return d_x, None, None, None, None, d_scale, *d_heads, *d_into, *d_out


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Norm, into: Projection, out: Projection, *_: Tensor) -> Tensor:
        plain, n, inverse = kernels_for(norm.scale).normed(x, norm.scale, norm.epsilon)
        both, reduced = into.times(n)
        del n
        y, reduced_out = out.times(kernels_for(both).swiglu(both))
        ctx.saved = (plain, inverse, both, reduced, reduced_out)
        ctx.setting = (norm, into, out)
        return kernels_for(y).residual(x, y, None, 1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plain, inverse, both, reduced, reduced_out = ctx.saved
        ctx.saved = None
        norm, into, out = ctx.setting
        scale_learns, *needs = ctx.needs_input_grad[4:]
        of_into, of_out = _split(needs, (into, out))
        g = kernels_for(gradient, FP32).kept(gradient, None, 1.0, plain.dtype)
        hidden, d_reduced = out.input_gradient(g)
        # Gate and up become their gradients, and what was the gradient of the product becomes the product.
        kernels_for(both).swiglu_backward(both, hidden)
        d_out = out.gradients(g, d_reduced, hidden, reduced_out, of_out)
        del hidden
        d_n, d_reduced = into.input_gradient(both)
        d_into = into.gradients(both, d_reduced, plain * norm.scale, reduced, of_into)
        d_x, d_scale = kernels_for(plain).normed_backward(
            d_n, plain, inverse, norm.scale, gradient, scale_learns=scale_learns
        )
        return d_x, None, None, None, d_scale, *d_into, *d_out


class _Last(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, norm: Norm, _: Tensor) -> Tensor:
        plain, n, inverse = kernels_for(norm.scale).normed(x[places], norm.scale, norm.epsilon)
        ctx.saved = (plain, inverse, norm, places, x.shape)
        return n

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plain, inverse, norm, places, shape = ctx.saved
        ctx.saved = None
        nothing = torch.zeros_like(plain, dtype=inverse.dtype)
        d_x, d_scale = kernels_for(plain).normed_backward(
            gradient, plain, inverse, norm.scale, nothing, scale_learns=ctx.needs_input_grad[3]
        )
        found = d_x.new_zeros(shape)
        found[places] = d_x
        return found, None, None, d_scale


def last(x: Tensor, places: Tensor, norm: Norm, scale: Tensor) -> Tensor:
    """The norm of the residual stream at some places, none of them twice, in the dtype of the products."""
    return _applied(_Last, x, places, norm, scale)


def attention(
    x: Tensor, norm: Norm, into: Projection, out: Projection, positions: Positions, scales: Sequence[Tensor]
) -> Tensor:
    """x + attention; x is (tokens, width) fp32, and `into` makes queries, keys and values.

    `scales` are the parameters of the norm, and of the norms of heads.
    """
    return _applied(_Attention, x, norm, into, out, positions, *scales, *into.parameters, *out.parameters)


def feed_forward(x: Tensor, norm: Norm, into: Projection, out: Projection, scale: Tensor) -> Tensor:
    """x + feed-forward; `into` makes gate and up, `scale` is the norm's parameter."""
    return _applied(_FeedForward, x, norm, into, out, scale, *into.parameters, *out.parameters)


def _applied(function: Any, *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)
    return result
