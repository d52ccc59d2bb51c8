"""A step of a model that is divided among ranks is the step that one rank would do, and each holds its share."""

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.contract.config import RunConfig
from engine.data.batching import Measure
from engine.data.token_store import Row
from engine.models import freezing
from engine.models.causal.padded import PaddedCausal
from engine.models.on_device import find_head, network_of
from engine.process.heartbeat import RankStatus
from engine.training.sharded_step import ShardedRunner
from engine.training.step import StepRunner
from engine.training.step_losses import StepLosses
from tests.engine.models import adapters
from tests.engine.models.causal.exact import apart, random_rows
from tests.engine.on_ranks import prepared
from tests.engine.training.sharded import Launch, launched
from tests.engine.training.test_causal_step import Held

if TYPE_CHECKING:
    from engine.process.world import World
    from tests.engine.conftest import TwoRanks

CASES = ("all", "lora", "gemma")
BF16 = ("all_bf16", "lora_bf16", "norms_bf16")  # the last one with torch's layer norms
UNIT = 2**-8  # of bf16: the relative distance of its numbers
RANKS = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=RANKS)
def launch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    if request.param == 2:
        two: TwoRanks = request.getfixturevalue("two_ranks")
        return Launch(two.folder, list(two.found))
    steps = request.getfixturevalue("divided_steps")
    return launched(tmp_path_factory.mktemp("shards") / "ranks", request.param, steps)


def alone(world: "World", config: RunConfig, *, bf16: bool = False) -> tuple[float, float, dict[str, Tensor]]:
    """Loss, norm and gradients of the same step on one rank; in bf16 on padded rows, as a GPU computes it."""
    _, net, store = prepared(config, "train_file")
    adapters.learning(net, config)
    freezing.set_training_mode(net)
    learning = freezing.trained_parameters(net)
    head, chunk = find_head(net), config.loss_chunk_tokens
    network = PaddedCausal(net, head, chunk, bf16=True) if bf16 else network_of(net, head, chunk, bf16=False)
    if bf16:
        network.drop_frozen_fp32()
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


@pytest.mark.parametrize("case", BF16)
def test_in_bf16_a_step_is_as_close_to_fp32_as_that_of_one_rank(
    launch: Launch, divided_steps: dict[str, RunConfig], cpu_world: "World", case: str
) -> None:
    require_step_in_bf16(launch, divided_steps[case], cpu_world, case)


def require_step_in_bf16(launch: Launch, config: RunConfig, world: "World", case: str) -> None:
    """Both round at other places, as rows are cut otherwise: it may be as far from fp32 as one rank is, twice at most.

    Much closer it is only if it was not computed in bf16.
    """
    loss, norm, expected = alone(world, config)
    _, _, rounded = alone(world, config, bf16=True)
    off = apart(rounded, expected)
    for rank in range(len(launch.found)):
        found = load_file(launch.folder / f"divided-{case}-{rank}.safetensors")
        numbers = found.pop("numbers").tolist()
        print(
            f"{case}: loss {abs(numbers[0] - loss) / loss:.1e}, gradient {apart(found, expected):.1e}, alone {off:.1e}"
        )
        assert numbers[0] == pytest.approx(loss, rel=UNIT)
        assert numbers[1] == pytest.approx(norm, rel=2 * off)
        assert numbers[4] == numbers[0]  # the loss ahead, to the last bit
        assert UNIT / 16 < apart(found, expected) < 2 * off


def test_frozen_weights_are_held_in_bf16_and_say_so(launch: Launch) -> None:
    for found in launch.found:
        frozen = found["held"]["lora_bf16"]["frozen"]
        assert len(frozen) > 10
        assert all(kinds == ["torch.bfloat16"] * 2 for kinds in frozen), frozen
        assert all(kinds == ["torch.float32"] * 2 for kinds in found["held"]["lora"]["frozen"])


@pytest.mark.parametrize("case", CASES + BF16)
def test_a_micro_batch_sends_what_is_said_of_it(launch: Launch, case: str) -> None:
    """Up to shares of weights that cannot be equal, which are filled up."""
    for found in launch.found:
        held = found["held"][case]
        assert held["said"] <= held["sent"] < 1.1 * held["said"]


def test_all_rows_of_a_step_are_sent_to_a_gpu_at_once() -> None:
    """On both ranks; the one that has fewer micro-batches computes a row again."""
    rows = random_rows([(length, ((1, length),)) for length in (19, 18, 4, 3, 2)])
    sent = [sent_at_once(rank, rows) for rank in (0, 1)]
    assert sent[0] == sent[1] > 1


def sent_at_once(rank: int, rows: list[Row]) -> int:
    """How many micro-batches a rank sends, all of which are computed in this order."""
    sent, computed = list[list[Row]](), list[list[Row]]()

    def summed_loss(some: list[Row], _samples: list[int]) -> Tensor:
        computed.append(some)
        return torch.zeros((), dtype=torch.float64, requires_grad=True)

    def send(micro_batches: list[list[Row]], samples: list[list[int]]) -> None:
        assert not sent
        assert len(samples) == len(micro_batches)
        sent.extend(micro_batches)

    network: Any = SimpleNamespace(send=send, summed_loss=summed_loss, measure=Measure.ROWS)
    store: Any = Held(rows)
    world: Any = SimpleNamespace(size=2, rank=rank, rank_status=RankStatus())
    on_gpu = [nn.Parameter(torch.empty(1, device="meta"))]
    runner = ShardedRunner(network, store, world, on_gpu, 20, 1.0, shards=SimpleNamespace())  # type: ignore[arg-type]
    runner._compute(runner._share(np.arange(len(rows))), StepLosses(), None)
    assert [id(some) for some in computed] == [id(some) for some in sent]
    return len(sent)


@pytest.mark.parametrize("case", CASES + BF16)
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
