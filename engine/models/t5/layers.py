"""The three kinds of T5's layers over rows laid end to end, each with an explicit backward pass.

Every layer computes x + dropout(inner(norm(x))), where x is the residual stream in fp32 and `inner` runs in the kind
of the weights passed in (bf16 or fp32). Written this way, a layer keeps only what its backward pass cannot
do without, most of it in that dtype, and repeats no elementwise operation.

A layer takes each weight twice: the parameter, so that autograd knows whose gradient it is, and its value in the dtype
to compute in. A weight with an adapter has an `Adapted` value, and the adapter's two parameters follow it. Without a
backward pass the values may be prepacked, those that multiply the same input as one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.cpu.adapted import Adapted
from engine.cpu.dropout import Draw, RandomBits, Rate, drop_
from engine.cpu.kernels import FP32, kernels_for
from engine.cpu.prepacking import linear
from engine.cpu.ragged import AttentionPattern

Weights = Sequence[Any]  # of Tensor, Adapted or what is prepacked
Gradients = tuple[Tensor | None, ...]  # of a weight, or of a weight and the parameters of its adapter


@dataclass(frozen=True)
class LayerSetting:
    """A layer's settings other than its weights: dropout inside and at its end, and the norm's epsilon."""

    inner: Rate
    outer: Rate
    epsilon: float
    source: RandomBits
    pattern: AttentionPattern | None = None
    activation: str = "relu"

    @property
    def factor(self) -> float:
        """The combined scale of both dropouts, applied once."""
        return self.inner.scale * self.outer.scale


# --- shared by the layers


def residual(x: Tensor, y: Tensor, setting: LayerSetting) -> tuple[Tensor, Draw | None]:
    """x + what dropout keeps of y, scaled for this dropout and the one inside, and its bits; y is overwritten."""
    draw = setting.source.draw(setting.outer, y.shape)
    return kernels_for(y).residual(x, y, draw, setting.factor), draw


def relu_dropped(hidden: Tensor, setting: LayerSetting) -> Tensor:
    """What dropout keeps of relu(hidden), in place and not scaled."""
    draw = setting.source.draw(setting.inner, hidden.shape)
    return kernels_for(hidden).relu_dropped(hidden, draw)


def projected(x: Tensor, weights: Weights, parts: int) -> Sequence[Tensor]:
    """The products of x with each of `parts` weights, (out, in) of one shape, which may be prepacked as one."""
    if len(weights) == parts:
        return [linear(x, weight) for weight in weights]
    return linear(x, *weights).chunk(parts, dim=1)


def weight_gradient(needed: bool, gradient: Tensor, entered: Tensor, parameter: Tensor) -> Tensor | None:
    """The weight gradient of a linear map, from its output's gradient and its input, if it is needed.

    If an earlier micro-batch left a gradient, this is added to it at once and autograd gets None: autograd would first
    copy it to the parameter's dtype.
    """
    if not needed:
        return None
    found = gradient.t() @ entered
    total = parameter.grad
    if found.dtype == torch.bfloat16 and total is not None and total.dtype == torch.float32:
        kernels_for(found).add_(total, found)
        return None
    return found.to(parameter.dtype)


def back(gradient: Tensor, weight: Tensor | Adapted, onto: Tensor | None = None) -> Tensor:
    """The gradient of a product's input, added to `onto` if that is given."""
    if isinstance(weight, Adapted):
        return weight.back(gradient, onto)
    return torch.mm(gradient, weight) if onto is None else onto.addmm_(gradient, weight)


class Learning:
    """Which gradients a backward pass has to return for a layer's weights."""

    def __init__(self, values: Weights, parameters: Weights, needed: Sequence[bool]) -> None:
        self._values, self._parameters, self._needed = values, parameters, needed
        counts = [3 if isinstance(value, Adapted) else 1 for value in values]
        self._starts = [sum(counts[:place]) for place in range(len(counts))]

    @property
    def scale(self) -> bool:
        """Whether that of the norm's scale is needed."""
        return self._needed[0]

    def gradients(self, place: int, gradient: Tensor, entered: Tensor) -> Gradients:
        """Those of the weight at `place`, from the gradient of its product and what it multiplied."""
        value, start = self._values[place], self._starts[place]
        if not isinstance(value, Adapted):
            return (weight_gradient(self._needed[start], gradient, entered, self._parameters[start]),)
        down, up = value.gradients(gradient, entered)
        return None, down.to(self._parameters[start + 1].dtype), up.to(self._parameters[start + 2].dtype)


# --- the ends of a stack


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, draw: Draw, factor: float) -> Tensor:
        ctx.draw, ctx.factor = draw, factor
        return kernels_for(x, FP32).kept(x, draw, factor, x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return kernels_for(gradient, FP32).kept(gradient, ctx.draw, ctx.factor, gradient.dtype), None, None


class _Last(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, epsilon: float, draw: Draw | None, factor: float, kind: torch.dtype
    ) -> Tensor:
        plain, n, inverse = kernels_for(scale).normed(x, scale, epsilon)
        ctx.saved = (plain, inverse, scale, draw, factor)
        return kernels_for(n, FP32).kept(n, draw, factor, kind)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plain, inverse, scale, draw, factor = ctx.saved
        ctx.saved = None
        g = gradient.to(plain.dtype)
        g = kernels_for(g, FP32).kept(g, draw, factor, plain.dtype)
        bypass = torch.zeros_like(plain)
        d_x, d_scale = kernels_for(plain).normed_backward(
            g, plain, inverse, scale, bypass, scale_learns=ctx.needs_input_grad[1]
        )
        return d_x, d_scale, None, None, None, None


# --- self-attention


class _SelfAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor, setting: LayerSetting, values: Weights, *parameters: Tensor
    ) -> Tensor:
        scale, *inner, out = values
        plain, n, inverse = kernels_for(scale).normed(x, scale, setting.epsilon)
        q, k, v = projected(n, inner, 3)
        assert setting.pattern is not None
        seen, weights = kernels_for(q).attend(q, k, v, bias, setting.pattern, setting.inner, setting.source)
        y = linear(seen, out)
        after, draw = residual(x, y, setting)
        ctx.saved = (setting, values, plain, inverse, q, k, v, seen, weights, draw)
        ctx.parameters = parameters
        ctx.bias_shape = bias.shape
        return after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        setting, values, plain, inverse, q, k, v, seen, weights, draw = ctx.saved
        ctx.saved = None
        scale, query, key, value, out = values
        learning = Learning(values, ctx.parameters, ctx.needs_input_grad[4:])
        g = kernels_for(gradient, FP32).kept(gradient, draw, setting.factor, query.dtype)
        d_out = learning.gradients(4, g, seen)
        d_bias = gradient.new_zeros(ctx.bias_shape) if ctx.needs_input_grad[1] else None
        d_q, d_k, d_v = kernels_for(q).attend_backward(back(g, out), q, k, v, weights, setting.pattern, d_bias)
        n = plain * scale
        d_inner = (*learning.gradients(1, d_q, n), *learning.gradients(2, d_k, n), *learning.gradients(3, d_v, n))
        d_n = back(d_v, value, back(d_k, key, back(d_q, query)))
        d_x, d_scale = kernels_for(plain).normed_backward(
            d_n, plain, inverse, scale, gradient, scale_learns=learning.scale
        )
        return d_x, d_bias, None, None, d_scale, *d_inner, *d_out


# --- attention to the encoder's output


class _CrossAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, e: Tensor, setting: LayerSetting, values: Weights, *parameters: Tensor) -> Tensor:
        scale, query, *inner, out = values
        plain, n, inverse = kernels_for(scale).normed(x, scale, setting.epsilon)
        q = linear(n, query)
        k, v = projected(e, inner, 2)
        assert setting.pattern is not None
        seen, weights = kernels_for(q).attend(q, k, v, None, setting.pattern, setting.inner, setting.source)
        y = linear(seen, out)
        after, draw = residual(x, y, setting)
        ctx.saved = (setting, values, plain, inverse, e, q, k, v, seen, weights, draw)
        ctx.parameters = parameters
        return after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        setting, values, plain, inverse, e, q, k, v, seen, weights, draw = ctx.saved
        ctx.saved = None
        scale, query, key, value, out = values
        learning = Learning(values, ctx.parameters, ctx.needs_input_grad[4:])
        g = kernels_for(gradient, FP32).kept(gradient, draw, setting.factor, query.dtype)
        d_out = learning.gradients(4, g, seen)
        d_q, d_k, d_v = kernels_for(q).attend_backward(back(g, out), q, k, v, weights, setting.pattern, None)
        d_query = learning.gradients(1, d_q, plain * scale)
        d_inner = (*d_query, *learning.gradients(2, d_k, e), *learning.gradients(3, d_v, e))
        d_e = back(d_v, value, back(d_k, key)) if ctx.needs_input_grad[1] else None
        d_x, d_scale = kernels_for(plain).normed_backward(
            back(d_q, query), plain, inverse, scale, gradient, scale_learns=learning.scale
        )
        return d_x, d_e, None, None, d_scale, *d_inner, *d_out


# --- feed-forward, plain and gated


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, setting: LayerSetting, values: Weights, *parameters: Tensor) -> Tensor:
        scale, into, out = values
        plain, n, inverse = kernels_for(scale).normed(x, scale, setting.epsilon)
        hidden = relu_dropped(linear(n, into), setting)
        y = linear(hidden, out)
        after, draw = residual(x, y, setting)
        ctx.saved = (setting, values, plain, inverse, hidden, draw)
        ctx.parameters = parameters
        return after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        setting, values, plain, inverse, hidden, draw = ctx.saved
        ctx.saved = None
        scale, into, out = values
        learning = Learning(values, ctx.parameters, ctx.needs_input_grad[3:])
        g = kernels_for(gradient, FP32).kept(gradient, draw, setting.factor, into.dtype)
        d_out = learning.gradients(2, g, hidden)
        # Where relu or dropout set `hidden` to zero, no gradient passes.
        d_hidden = torch.ops.aten.threshold_backward(back(g, out), hidden, 0)
        del hidden
        d_into = learning.gradients(1, d_hidden, plain * scale)
        d_x, d_scale = kernels_for(plain).normed_backward(
            back(d_hidden, into), plain, inverse, scale, gradient, scale_learns=learning.scale
        )
        return d_x, None, None, d_scale, *d_into, *d_out


class _GatedFeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, setting: LayerSetting, values: Weights, *parameters: Tensor) -> Tensor:
        scale, gate, into, out = values
        plain, n, inverse = kernels_for(scale).normed(x, scale, setting.epsilon)
        gated, straight = linear(n, gate), linear(n, into)
        hidden = ACTIVATIONS[setting.activation][0](gated).mul_(straight)
        hidden_draw = setting.source.draw(setting.inner, hidden.shape)
        y = linear(drop_(hidden, hidden_draw), out)
        after, draw = residual(x, y, setting)
        ctx.saved = (setting, values, plain, inverse, gated, straight, hidden, hidden_draw, draw)
        ctx.parameters = parameters
        return after

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        setting, values, plain, inverse, gated, straight, hidden, hidden_draw, draw = ctx.saved
        ctx.saved = None
        scale, gate, into, out = values
        learning = Learning(values, ctx.parameters, ctx.needs_input_grad[3:])
        activate, derive = ACTIVATIONS[setting.activation]
        g = kernels_for(gradient, FP32).kept(gradient, draw, setting.factor, into.dtype)
        d_out = learning.gradients(3, g, hidden)
        del hidden
        d_hidden = drop_(back(g, out), hidden_draw)
        d_straight = activate(gated).mul_(d_hidden)
        d_gated = derive(d_hidden.mul_(straight), gated)
        n = plain * scale
        d_inner = (*learning.gradients(1, d_gated, n), *learning.gradients(2, d_straight, n))
        d_n = back(d_straight, into, back(d_gated, gate))
        d_x, d_scale = kernels_for(plain).normed_backward(
            d_n, plain, inverse, scale, gradient, scale_learns=learning.scale
        )
        return d_x, None, None, d_scale, *d_inner, *d_out


# For a gated feed-forward, by transformers' names: the function, and the gradient of its input.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "gelu_new": (
        lambda a: functional.gelu(a, approximate="tanh"),
        lambda g, a: torch.ops.aten.gelu_backward(g, a, approximate="tanh"),
    ),
    "gelu": (functional.gelu, lambda g, a: torch.ops.aten.gelu_backward(g, a)),
    "silu": (functional.silu, lambda g, a: torch.ops.aten.silu_backward(g, a)),
    "relu": (functional.relu, lambda g, a: torch.ops.aten.threshold_backward(g, a, 0)),
}


def dropout(x: Tensor, rate: Rate, source: RandomBits) -> Tensor:
    """What dropout keeps of x, scaled."""
    draw = source.draw(rate, x.shape)
    return x if draw is None else _applied(_Dropout, x, draw, rate.scale)


def last(
    x: Tensor, scale: Tensor, epsilon: float, rate: Rate, source: RandomBits, factor: float, kind: torch.dtype
) -> Tensor:
    """`factor` × dropout(norm(x)), in `kind`; the norm is computed in x's dtype, and `scale` is its parameter."""
    draw = source.draw(rate, x.shape)
    return _applied(_Last, x, scale.to(x.dtype), epsilon, draw, factor * rate.scale, kind)


def self_attention(x: Tensor, bias: Tensor, setting: LayerSetting, values: Weights, parameters: Weights) -> Tensor:
    """x + self-attention; x is (tokens, d_model), weights are the norm's scale, query, key, value, output."""
    return _applied(_SelfAttention, x, bias, setting, values, *parameters)


def cross_attention(x: Tensor, encoded: Tensor, setting: LayerSetting, values: Weights, parameters: Weights) -> Tensor:
    """x + attention to the encoder's output; weights as in `self_attention`."""
    return _applied(_CrossAttention, x, encoded, setting, values, *parameters)


def feed_forward(x: Tensor, setting: LayerSetting, values: Weights, parameters: Weights) -> Tensor:
    """x + feed-forward; weights are the norm's scale, [gate,] in, out: with a gate it is T5 1.1's."""
    return _applied(_GatedFeedForward if len(values) == 4 else _FeedForward, x, setting, values, *parameters)


def _applied(function: Any, *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)
    return result
