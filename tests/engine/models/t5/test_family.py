"""T5 and mT5 are packed where that is possible and right, and else computed by transformers."""

import pytest
from torch import nn

from engine.models.on_device import find_head, network_of
from engine.models.seq2seq.padded import PaddedNetwork
from engine.models.t5.packed import PackedT5
from tests.engine.models.small import exact, gradients_of, random_rows, relative_error, small_t5, whole
from tests.engine.models.test_network import capped, chosen


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("family", ["t5", "mt5"])
@pytest.mark.parametrize("function", ["relu", "gated-gelu", "gated-silu"])
def test_a_t5_on_a_cpu_is_packed(family: str, function: str, bf16: bool) -> None:
    assert isinstance(chosen(small_t5(family, feed_forward_proj=function), bf16=bf16), PackedT5)


@pytest.mark.parametrize("function", ["gelu", "gated-tanh"])
def test_a_t5_with_another_activation_is_padded_and_right(function: str) -> None:
    net, rows = small_t5(feed_forward_proj=function), random_rows()
    network = chosen(net)
    assert isinstance(network, PaddedNetwork)
    assert network.row_losses(rows) == pytest.approx(exact(net, rows)[0], rel=1e-6)


def test_a_t5_whose_head_cannot_be_separated_is_padded_and_right() -> None:
    net, rows = capped(small_t5()), random_rows()
    network = chosen(net)
    assert isinstance(network, PaddedNetwork)
    losses, expected = exact(net, rows)
    loss = network.summed_loss(rows)
    assert loss.item() == pytest.approx(sum(losses), rel=1e-6)
    assert relative_error(whole(gradients_of(net, loss)), whole(expected)) <= 1e-5


def test_a_t5_whose_head_has_a_bias_is_padded_and_right() -> None:
    net, rows = small_t5(), random_rows()
    net.lm_head = nn.Linear(16, 40)
    network = chosen(net)
    assert isinstance(network, PaddedNetwork)
    assert network.row_losses(rows) == pytest.approx(exact(net, rows)[0], rel=1e-6)


def test_on_another_device_a_t5_is_padded() -> None:
    net = small_t5()
    head = find_head(net)
    assert isinstance(network_of(net.to("meta"), head, 7, bf16=False), PaddedNetwork)
