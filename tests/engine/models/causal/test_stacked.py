from typing import cast

import torch
from torch import nn

from engine.cpu.adapted import Adapter
from engine.cpu.prepacking import linear
from engine.models.causal.stacked import Projections


def linears(*, bias: bool = False) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(6, size, bias=bias) for size in (4, 2, 5)]


def weight(layer: nn.Linear) -> nn.Parameter:
    return cast(nn.Parameter, layer.weight)


def adapter_of(layer: nn.Linear, scale: float = 2.0) -> Adapter:
    down, up = (nn.Parameter(torch.randn(shape)) for shape in ((3, layer.in_features), (layer.out_features, 3)))
    return Adapter(down, up, scale)


def test_maps_of_one_input_are_one_product_with_their_biases_and_adapters() -> None:
    layers, x = linears(bias=True), torch.randn(7, 6)
    adapters = {weight(layer): adapter_of(layer) for layer in (layers[0], layers[2])}
    y, reduced = Projections(torch.float32, adapters).of(*layers).times(x)
    expected = [layer(x) for layer in layers]
    for place, layer in ((0, layers[0]), (2, layers[2])):
        one = adapters[weight(layer)]
        expected[place] = expected[place] + 2.0 * (x @ one.down.t()) @ one.up.t()
    torch.testing.assert_close(y, torch.cat(expected, dim=1).detach())
    assert reduced is not None
    assert reduced.shape == (7, 6)


def test_in_fp32_the_parameters_are_slices_of_the_stack() -> None:
    layers = linears()
    before = [layer.weight.detach().clone() for layer in layers]
    stack = Projections(torch.float32, {}).of(*layers).weight
    assert isinstance(stack, torch.Tensor)
    assert all(torch.equal(layer.weight, own) for layer, own in zip(layers, before, strict=True))
    with torch.no_grad():
        layers[1].weight.fill_(3.0)
    assert torch.equal(stack[4:6], torch.full((2, 6), 3.0))


def test_what_learns_is_cast_for_each_product_as_if_it_were_held() -> None:
    layers, x, gradient = linears(), torch.randn(2, 6).bfloat16(), torch.randn(2, 11).bfloat16()
    found = Projections(torch.bfloat16, {}).of(*layers)
    for value in (1.0, 3.0):
        with torch.no_grad():
            layers[2].weight.fill_(value)
        whole = torch.cat([layer.weight.detach() for layer in layers]).bfloat16()
        assert torch.equal(found.times(x)[0], x @ whole.t())
        assert torch.equal(found.input_gradient(gradient)[0], gradient @ whole)


def test_frozen_weights_give_both_directions_in_bf16_whether_large_or_not() -> None:
    layers = [layer.requires_grad_(False) for layer in linears()]
    projections, whole = Projections(torch.bfloat16, {}), torch.cat([layer.weight for layer in layers]).bfloat16()
    x, gradient = torch.randn(3, 6).bfloat16(), torch.randn(3, 11).bfloat16()
    for large in (False, True):
        found = projections.of(*layers, large=large)
        assert (found.back is not None) == large
        torch.testing.assert_close(linear(x, found.weight), x @ whole.t())
        torch.testing.assert_close(found.input_gradient(gradient)[0], gradient @ whole, rtol=2e-2, atol=2e-2)


def test_while_adapters_are_merged_products_are_of_the_merged_weight() -> None:
    layers, x = [layer.requires_grad_(False) for layer in linears()], torch.randn(7, 6)
    one = adapter_of(layers[0])
    found = Projections(torch.float32, {weight(layers[0]): one})
    apart = found.of(*layers).times(x)[0]
    one.merged = lambda: layers[0].weight + 2.0 * one.up.detach() @ one.down.detach()
    merged, reduced = found.of(*layers).times(x)
    assert reduced is None
    torch.testing.assert_close(merged, apart)
    one.merged = None
    assert torch.equal(found.of(*layers).times(x)[0], apart)
