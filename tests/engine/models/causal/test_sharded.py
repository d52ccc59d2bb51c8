"""A divided model computes what the padded one does, each time with the whole of its weights."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from engine.models.causal.padded import PaddedCausal
from engine.models.causal.sharded import ShardedCausal
from engine.models.on_device import find_head
from tests.engine.models.causal.exact import drawn, random_rows

if TYPE_CHECKING:
    from engine.process.world import World


class Together:
    """Shards of one rank alone, which are together all the time."""

    def __init__(self) -> None:
        self.root: Any = self
        self.dropped = 0

    def __call__(self, compute: Callable[[], Any]) -> Any:
        return compute()

    def reshard(self) -> None:
        self.dropped += 1


@pytest.mark.parametrize("separable", [True, False])
def test_losses_are_those_of_the_padded_model(cpu_world: "World", separable: bool) -> None:
    net, rows = drawn("llama"), random_rows()
    shards: Any = Together()
    divided = ShardedCausal(net, shards, cpu_world, separable=separable, chunk=5, bf16=False)
    padded = PaddedCausal(net, find_head(net) if separable else None, 5, bf16=False)
    divided.begin_step()
    assert shards.dropped == 1
    assert divided.summed_loss(rows).item() == padded.summed_loss(rows).item()
    assert divided.row_losses(rows) == padded.row_losses(rows)
    assert divided.together
