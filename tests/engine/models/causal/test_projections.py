from typing import cast

import torch
from torch import nn

from engine.cpu.adapted import Adapter
from engine.models.causal.projections import Projection, accumulated
from engine.models.causal.stacked import Projections


def test_gradients_equal_autograds() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, size) for size in (4, 2, 5)]
    adapters = {
        cast(nn.Parameter, layer.weight): Adapter(
            nn.Parameter(torch.randn(3, 6)), nn.Parameter(torch.randn(layer.out_features, 3)), scale=0.5
        )
        for layer in layers[1:]
    }
    x, gradient = torch.randn(7, 6, requires_grad=True), torch.randn(7, 11)
    outputs = []
    for layer in layers:
        low = adapters.get(cast(nn.Parameter, layer.weight))
        outputs.append(layer(x) if low is None else layer(x) + 0.5 * (x @ low.down.t()) @ low.up.t())
    projection = Projections(torch.float32, adapters).of(*layers)
    expected = torch.autograd.grad(torch.cat(outputs, dim=1), [x, *projection.parameters], gradient)
    entered = x.detach()
    _, reduced = projection.times(entered)
    d_x, d_reduced = projection.input_gradient(gradient)
    needs = [True] * len(projection.parameters)
    found = projection.gradients(gradient, d_reduced, entered, reduced, needs)
    for one, other in zip([d_x, *found], expected, strict=True):
        torch.testing.assert_close(one, other)


def test_what_does_not_learn_has_no_gradient() -> None:
    layer = nn.Linear(3, 2)
    projection: Projection = Projections(torch.float32, {}).of(layer)
    found = projection.gradients(torch.ones(4, 2), None, torch.ones(4, 3), None, [False, True])
    assert found[0] is None
    assert torch.equal(torch.full((2,), 4.0), found[1])  # type: ignore[arg-type]


def test_a_gradient_in_bf16_is_added_at_once_to_an_earlier_one() -> None:
    parameter = nn.Parameter(torch.zeros(20, 3))
    parameter.grad = torch.ones(20, 3)
    assert accumulated(parameter, torch.full((20, 3), 2.0, dtype=torch.bfloat16)) is None
    assert torch.equal(parameter.grad, torch.full((20, 3), 3.0))
    parameter.grad = None
    found = accumulated(parameter, torch.ones(20, 3, dtype=torch.bfloat16))
    assert found is not None
    assert found.dtype == torch.float32
