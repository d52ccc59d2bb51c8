"""A step of a model that is divided among ranks is the step that one rank would do, and each holds its share."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor

from engine.contract.config import RunConfig
from engine.models import freezing
from engine.models.on_device import find_head, network_of
from engine.training.step import StepRunner
from tests.engine.models import adapters
from tests.engine.models.causal.exact import apart
from tests.engine.on_ranks import prepared
from tests.engine.training.sharded import Launch, launched

if TYPE_CHECKING:
    from engine.process.world import World
    from tests.engine.conftest import TwoRanks

CASES = ("all", "lora", "gemma")
RANKS = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=RANKS)
def launch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    if request.param == 2:
        two: TwoRanks = request.getfixturevalue("two_ranks")
        return Launch(two.folder, list(two.found))
    steps = request.getfixturevalue("divided_steps")
    return launched(tmp_path_factory.mktemp("shards") / "ranks", request.param, steps)


def alone(world: "World", config: RunConfig) -> tuple[float, float, dict[str, Tensor]]:
    """Loss, norm and gradients of the same step on one rank."""
    _, net, store = prepared(config, "train_file")
    adapters.learning(net, config)
    freezing.set_training_mode(net)
    learning = freezing.trained_parameters(net)
    network = network_of(net, find_head(net), config.loss_chunk_tokens, bf16=False)
    budget, norm = config.micro_batch_tokens, config.max_grad_norm
    runner = StepRunner(network, store, world, list(learning.values()), budget, norm)
    result = runner.run(np.arange(config.gradient_accumulation_steps), stop_asked=False)
    gradients = {name: p.grad for name, p in learning.items() if p.grad is not None}
    return result.loss, result.grad_norm, gradients


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_one_rank(
    launch: Launch, divided_steps: dict[str, RunConfig], cpu_world: "World", case: str
) -> None:
    loss, norm, expected = alone(cpu_world, divided_steps[case])
    for rank in range(len(launch.found)):
        found = load_file(launch.folder / f"divided-{case}-{rank}.safetensors")
        numbers = found.pop("numbers").tolist()
        print(f"{case}: loss {abs(numbers[0] - loss) / loss:.1e}, gradient {apart(found, expected):.1e}")
        assert numbers[0] == pytest.approx(loss, rel=1e-6)
        assert numbers[1] == pytest.approx(norm, rel=1e-5)
        assert numbers[3] == 1.0  # some rank was asked to stop
        assert numbers[4] == numbers[0]  # the loss ahead, to the last bit
        assert apart(found, expected) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_each_rank_holds_its_share(launch: Launch, case: str) -> None:
    ranks = len(launch.found)
    held = [found["held"][case] for found in launch.found]
    print(case, held)
    for mine in held:
        slack = 200 * mine["parts"]  # rows of each weight are not cut
        assert mine["weights"] <= math.ceil(mine["of_weights"] / ranks) + slack
        assert mine["gradients"] <= math.ceil(mine["of_gradients"] / ranks) + slack
        assert mine["moments"] == 2 * mine["gradients"]
    assert sum(mine["weights"] for mine in held) == held[0]["of_weights"]
    assert sum(mine["gradients"] for mine in held) == held[0]["of_gradients"]
