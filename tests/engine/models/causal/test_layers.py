"""What layers keep for their backward pass; what they compute is held against transformers' in `test_llama`."""

from typing import Any

import torch
from torch import Tensor

from engine.models.causal import layers
from engine.models.causal.layers import Norm
from tests.engine.models.causal.exact import drawn, network, random_rows


def test_a_row_keeps_no_square_of_its_length() -> None:
    length = 600
    found = network(drawn("llama", max_position_embeddings=length), bf16=True)
    loss: Any = found.summed_loss(random_rows([(length, ((length - 10, length),))]))
    kept, nodes = [], [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        kept += [part.numel() for part in getattr(node, "saved", ()) if isinstance(part, Tensor)]
        nodes += [before for before, _ in node.next_functions if before is not None]
    assert len(kept) > 10
    assert max(kept) < length**2 / 4


def test_the_last_norm_has_a_gradient_at_its_places_alone() -> None:
    x = torch.randn(9, 8, requires_grad=True)
    scale = torch.nn.Parameter(torch.rand(8))
    places = torch.tensor([7, 2])
    found = layers.last(x, places, Norm(scale.detach(), 1e-5), scale)
    expected = torch.nn.functional.rms_norm(x[places], (8,), scale, 1e-5)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn(2, 8)
    of_found, of_expected = (torch.autograd.grad(each, (x, scale), gradient) for each in (found, expected))
    for one, other in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(one, other)
