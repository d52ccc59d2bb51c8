"""The three kinds of T5's layers over rows laid end to end, each with an explicit backward pass.

Every layer computes x + dropout(inner(norm(x))), where x is the residual stream in fp32 and `inner` runs in the kind
of the weights passed in (bf16 or fp32). Written this way, a layer keeps only what its backward pass cannot
do without, most of it in that dtype, and repeats no elementwise operation.

A layer takes each weight twice: the parameter, so that autograd knows whose gradient it is, and its value in the dtype
to compute in. Without a backward pass the values may be `Prepacked`, those that multiply the same input as one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.cpu.dropout import Draw, RandomBits, Rate, drop_
from engine.cpu.kernels import FP32, kernels_for
from engine.cpu.prepacking import linear
from engine.cpu.ragged import AttentionPattern

Weights = Sequence[Any]  # of Tensor or Prepacked


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
        need_bias, (need_scale, need_q, need_k, need_v, need_out) = ctx.needs_input_grad[1], ctx.needs_input_grad[4:]
        parameters = ctx.parameters
        g = kernels_for(gradient, FP32).kept(gradient, draw, setting.factor, query.dtype)
        d_out = weight_gradient(need_out, g, seen, parameters[4])
        d_bias = gradient.new_zeros(ctx.bias_shape) if need_bias else None
        d_q, d_k, d_v = kernels_for(q).attend_backward(g @ out, q, k, v, weights, setting.pattern, d_bias)
        n = plain * scale
        d_query = weight_gradient(need_q, d_q, n, parameters[1])
        d_key = weight_gradient(need_k, d_k, n, parameters[2])
        d_value = weight_gradient(need_v, d_v, n, parameters[3])
        d_n = torch.mm(d_q, query)
        d_n.addmm_(d_k, key).addmm_(d_v, value)
        d_x, d_scale = kernels_for(plain).normed_backward(d_n, plain, inverse, scale, gradient, scale_learns=need_scale)
        return d_x, d_bias, None, None, d_scale, d_query, d_key, d_value, d_out


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
        need_e, (need_scale, need_q, need_k, need_v, need_out) = ctx.needs_input_grad[1], ctx.needs_input_grad[4:]
        parameters = ctx.parameters
        g = kernels_for(gradient, FP32).kept(gradient, draw, setting.factor, query.dtype)
        d_out = weight_gradient(need_out, g, seen, parameters[4])
        d_q, d_k, d_v = kernels_for(q).attend_backward(g @ out, q, k, v, weights, setting.pattern, None)
        d_query = weight_gradient(need_q, d_q, plain * scale, parameters[1])
        d_key = weight_gradient(need_k, d_k, e, parameters[2])
        d_value = weight_gradient(need_v, d_v, e, parameters[3])
        d_e = torch.mm(d_k, key).addmm_(d_v, value) if need_e else None
        d_n = torch.mm(d_q, query)
        d_x, d_scale = kernels_for(plain).normed_backward(d_n, plain, inverse, scale, gradient, scale_learns=need_scale)
        return d_x, d_e, None, None, d_scale, d_query, d_key, d_value, d_out


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
        need_scale, need_into, need_out = ctx.needs_input_grad[3:]
        g = kernels_for(gradient, FP32).kept(gradient, draw, setting.factor, into.dtype)
        d_out = weight_gradient(need_out, g, hidden, ctx.parameters[2])
        # Where relu or dropout set `hidden` to zero, no gradient passes.
        d_hidden = torch.ops.aten.threshold_backward(g @ out, hidden, 0)
        del hidden
        d_into = weight_gradient(need_into, d_hidden, plain * scale, ctx.parameters[1])
        d_n = d_hidden @ into
        d_x, d_scale = kernels_for(plain).normed_backward(d_n, plain, inverse, scale, gradient, scale_learns=need_scale)
        return d_x, None, None, d_scale, d_into, d_out


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
        need_scale, need_gate, need_into, need_out = ctx.needs_input_grad[3:]
        activate, derive = ACTIVATIONS[setting.activation]
        g = kernels_for(gradient, FP32).kept(gradient, draw, setting.factor, into.dtype)
        d_out = weight_gradient(need_out, g, hidden, ctx.parameters[3])
        del hidden
        d_hidden = drop_(g @ out, hidden_draw)
        d_straight = activate(gated).mul_(d_hidden)
        d_gated = derive(d_hidden.mul_(straight), gated)
        n = plain * scale
        d_gate = weight_gradient(need_gate, d_gated, n, ctx.parameters[1])
        d_into = weight_gradient(need_into, d_straight, n, ctx.parameters[2])
        d_n = torch.mm(d_gated, gate).addmm_(d_straight, into)
        d_x, d_scale = kernels_for(plain).normed_backward(d_n, plain, inverse, scale, gradient, scale_learns=need_scale)
        return d_x, None, None, d_scale, d_gate, d_into, d_out


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
