import copy

import pytest
import torch

from engine.models.causal.learned import counts_of
from engine.models.causal.padded import PaddedCausal
from engine.models.loss import keeping_token_losses
from engine.models.on_device import find_head
from tests.engine.models.causal.exact import apart, drawn, exact, gradients_of, network, random_rows

PADDED = {"gemma2": {"head_dim": 8, "sliding_window": 6}, "bloom": {}, "mamba": {}, "gpt_oss": {"num_local_experts": 4}}


@pytest.mark.parametrize("model_type", ["llama", "gpt2", *PADDED])
def test_loss_and_gradient_equal_those_row_by_row_in_float64(model_type: str) -> None:
    net, rows = drawn(model_type, **PADDED.get(model_type, {})), random_rows()
    losses, expected = exact(net, rows)
    found = PaddedCausal(net, find_head(net), 5, bf16=False)
    with keeping_token_losses() as kept:
        loss = found.summed_loss(rows)
    alone = torch.cat(kept).double().split(counts_of(rows))
    assert [float(part.sum()) for part in alone] == pytest.approx(losses, rel=1e-5)
    assert loss.item() == pytest.approx(sum(losses), rel=1e-6)
    assert apart(gradients_of(net, loss), expected) <= 1e-5
    assert found.row_losses(rows) == pytest.approx(losses, rel=1e-5)


def test_padding_is_counted_by_whole_rows() -> None:
    assert PaddedCausal(drawn("llama"), None, 5, bf16=False).padded([(3, 4), (10, 2)]) == 24


def test_both_ways_give_the_same_losses() -> None:
    net, rows = drawn("qwen3"), random_rows()
    padded = PaddedCausal(copy.deepcopy(net), None, 5, bf16=False)
    torch.testing.assert_close(network(net).row_losses(rows), padded.row_losses(rows))
