from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engine.cpu.dropout import RandomBits, Rate
from engine.cpu.ragged import AttentionPattern, Rows
from engine.models.t5.layers import (
    ACTIVATIONS,
    LayerSetting,
    cross_attention,
    feed_forward,
    self_attention,
)
from tests.engine.models.checked import assert_gradients, reseeded

MODEL, INNER, HEADS, EPSILON = 3, 4, 2, 1e-3
QUERIES, KEYS = Rows((1, 3)), Rows((2, 1))
RATES = [(0.0, 0.0), (0.4, 0.0), (0.3, 0.4)]
LAYERS = ["self", "cross", "plain", *ACTIVATIONS]
NAMES = {
    "attention": ("scale", "query", "key", "value", "out"),
    "plain": ("scale", "into", "out"),
    "gated": ("scale", "gate", "into", "out"),
}
# transformers' own definitions, written out.
FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": lambda a: 0.5 * a * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (a + 0.044715 * a**3))),
    "gelu": lambda a: 0.5 * a * (1 + torch.erf(a / 2**0.5)),
    "silu": lambda a: a / (1 + torch.exp(-a)),
    "relu": lambda a: a.clamp_min(0),
}


@dataclass(frozen=True)
class Layer:
    """A layer by name, with its dropout: a function of x, of what else it looks at, and of its weights."""

    name: str
    rates: tuple[float, float] = (0.0, 0.0)

    @property
    def weights(self) -> tuple[str, ...]:
        """What the weights are called."""
        return NAMES["attention" if self.name in ("self", "cross") else "plain" if self.name == "plain" else "gated"]

    def inputs(self, learning: Sequence[str]) -> list[Tensor]:
        """Random ones in float64: x, then bias or encoder's output if there is one, then the weights."""
        torch.manual_seed(1)
        shapes = {"x": (QUERIES.tokens, MODEL), "scale": (MODEL,), "out": (MODEL, INNER)}
        shapes["bias"] = (HEADS, QUERIES.longest, QUERIES.longest)
        shapes["encoded"] = (KEYS.tokens, MODEL)
        found = [(name, torch.randn(shapes.get(name, (INNER, MODEL)), dtype=torch.float64)) for name in self.names]
        return [values.requires_grad_(name in learning) for name, values in found]

    @property
    def names(self) -> tuple[str, ...]:
        """What the inputs are called."""
        extra = {"self": ("bias",), "cross": ("encoded",)}.get(self.name, ())
        return ("x", *extra, *self.weights)

    def setting(self, source: RandomBits) -> LayerSetting:
        """The layer's settings."""
        inner, outer = (Rate.of(rate) for rate in self.rates)
        pattern = AttentionPattern(QUERIES, QUERIES if self.name == "self" else KEYS, HEADS)
        return LayerSetting(inner, outer, EPSILON, source, pattern, self.name)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The layer's output, always with the same dropout."""
        values = [weight.detach() for weight in inputs[-len(self.weights) :]]
        return self.run(inputs, self.setting(reseeded(RandomBits())), values)

    def run(self, inputs: Sequence[Tensor], setting: LayerSetting, values: Sequence[Tensor]) -> Tensor:
        """The layer's output, its weights computed with as `values`."""
        parameters = inputs[-len(self.weights) :]
        if self.name == "self":
            return self_attention(inputs[0], inputs[1], setting, values, parameters)
        if self.name == "cross":
            return cross_attention(inputs[0], inputs[1], setting, values, parameters)
        return feed_forward(inputs[0], setting, values, parameters)


def plain_norm(x: Tensor, scale: Tensor) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + EPSILON).sqrt() * scale


def plain_attention(
    queries: Tensor, keys: Tensor, weights: Sequence[Tensor], pattern: AttentionPattern, bias: Tensor
) -> Tensor:
    query, key, value, out = weights
    parts = []
    for at, of in pattern.pairs():
        q, k, v = (
            functional.linear(x, weight).unflatten(1, (HEADS, -1)).transpose(0, 1)
            for x, weight in ((queries[at], query), (keys[of], key), (keys[of], value))
        )
        scores = q @ k.mT + bias[:, : q.shape[1], : k.shape[1]]
        parts.append((scores.softmax(dim=-1) @ v).transpose(0, 1).flatten(1) @ out.T)
    return torch.cat(parts)


def plain(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """The layer by the formula, without dropout."""
    x, weights = inputs[0], inputs[-len(layer.weights) :]
    n = plain_norm(x, weights[0])
    pattern = layer.setting(RandomBits()).pattern
    assert pattern is not None
    if layer.name == "self":
        return x + plain_attention(n, n, weights[1:], pattern, inputs[1])
    if layer.name == "cross":
        nothing = torch.zeros(HEADS, QUERIES.longest, KEYS.longest, dtype=torch.float64)
        return x + plain_attention(n, inputs[1], weights[1:], pattern, nothing)
    if layer.name == "plain":
        return x + (n @ weights[1].T).clamp_min(0) @ weights[2].T
    return x + (FORMULAS[layer.name](n @ weights[1].T) * (n @ weights[2].T)) @ weights[3].T


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_matches_its_formula(name: str) -> None:
    layer = Layer(name)
    inputs = layer.inputs([])
    torch.testing.assert_close(layer(*inputs), plain(layer, inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_finite_differences(name: str, rates: tuple[float, float]) -> None:
    layer = Layer(name, rates)
    assert_gradients(layer, *layer.inputs(layer.names))


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_right_whichever_single_input_learns(name: str) -> None:
    layer = Layer(name, (0.3, 0.4))
    for learning in layer.names:
        assert_gradients(layer, *layer.inputs([learning]))


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_right_whichever_single_input_is_frozen(name: str) -> None:
    layer = Layer(name, (0.3, 0.4))
    whole = gradients(layer, layer.names)
    for left_out in layer.names:
        found = gradients(layer, [name for name in layer.names if name != left_out])
        assert found.keys() == whole.keys() - {left_out}
        assert all(torch.equal(found[name], whole[name]) for name in found)


def gradients(layer: Layer, learning: Sequence[str]) -> dict[str, Tensor]:
    """By name, of those inputs that got one."""
    inputs = layer.inputs(learning)
    layer(*inputs).square().sum().backward()
    named = zip(layer.names, inputs, strict=True)
    return {name: values.grad for name, values in named if values.grad is not None}


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_are_not_modified(name: str) -> None:
    layer = Layer(name, (0.3, 0.4))
    inputs = layer.inputs(layer.names)
    before = [values.detach().clone() for values in inputs]
    layer(*inputs).sum().backward()
    assert all(torch.equal(values, old) for values, old in zip(inputs, before, strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_leaves_the_mean_of_the_layers_output(name: str) -> None:
    """Over many draws, within five standard errors of each element, of which there is a dozen."""
    layer = Layer(name, (0.3, 0.4))
    inputs = layer.inputs([])
    values, source = inputs[-len(layer.weights) :], reseeded(RandomBits())
    found = torch.stack([layer.run(inputs, layer.setting(source), values) for _ in range(400)])
    error = (found.mean(dim=0) - plain(layer, inputs)).abs()
    assert bool((error <= 5 * found.std(dim=0) / len(found) ** 0.5 + 1e-12).all())
    assert float(found.std(dim=0).max()) > 0.1  # dropout was on


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_and_gradients_match_transformers(activation: str) -> None:
    activate, derive = ACTIVATIONS[activation]
    at = torch.linspace(-6, 6, 100, dtype=torch.float64, requires_grad=True)  # an even number: 0 is not among them
    expected = FORMULAS[activation](at)
    gradient = torch.randn_like(expected)
    torch.testing.assert_close(activate(at.detach()), expected, rtol=1e-12, atol=1e-12)
    (wanted,) = torch.autograd.grad(expected, [at], gradient)
    torch.testing.assert_close(derive(gradient, at.detach()), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_have_the_dtype_of_the_parameters(name: str, kind: torch.dtype) -> None:
    layer = Layer(name)
    inputs = [values.float().requires_grad_() for values in layer.inputs([])]
    if name == "cross":  # the encoder's output comes in the kind of the matrix products
        inputs[1] = inputs[1].detach().to(kind).requires_grad_()
    values = [weight.detach().to(kind) for weight in inputs[-len(layer.weights) :]]
    out = layer.run(inputs, layer.setting(RandomBits()), values)
    out.sum().backward()
    assert out.dtype == torch.float32
    assert [part.grad.dtype for part in inputs if part.grad is not None] == [part.dtype for part in inputs]
