"""Ranks on GPUs: NCCL with the GPU of each rank, and models divided among them."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

from engine.contract.config import RunConfig
from engine.process.world import World
from tests.engine.gpu.conftest import require_gpus
from tests.engine.models.causal.exact import apart
from tests.engine.training.sharded import Launch, launched
from tests.engine.training.test_sharded_step import BF16, alone, require_step_in_bf16

if TYPE_CHECKING:
    from tests.engine.conftest import TwoRanks

CASES = ("all", "lora", "gemma")


@pytest.mark.parametrize(
    ("device", "ranks"),
    [("cpu", 2), *(pytest.param("cuda", ranks, marks=pytest.mark.gpu) for ranks in (1, 2))],
)
def test_a_divided_model_has_the_step_of_one_rank(
    request: pytest.FixtureRequest,
    divided_steps: dict[str, RunConfig],
    cpu_world: World,
    tmp_path: Path,
    device: str,
    ranks: int,
) -> None:
    """One rank on one GPU too: NCCL, FSDP2, and the steps of both are then what is tried."""
    if device == "cpu":
        two: TwoRanks = request.getfixturevalue("two_ranks")
        launch = Launch(two.folder, list(two.found))
    else:
        require_gpus(ranks)
        launch = launched(tmp_path / "ranks", ranks, divided_steps, device=device)
    for rank, found in enumerate(launch.found):
        place = "cpu:0" if device == "cpu" else f"cuda:{rank}"
        backend = "gloo" if device == "cpu" else "nccl"
        assert found["met"] == {"backend": backend, "device": place, "sum": [float(sum(range(1, ranks + 1)))] * 3}
    for case in CASES:
        loss, norm, expected = alone(cpu_world, divided_steps[case])
        for rank in range(ranks):
            tensors = load_file(launch.folder / f"divided-{case}-{rank}.safetensors")
            numbers = tensors.pop("numbers").tolist()
            assert numbers[0] == pytest.approx(loss, rel=1e-5)
            assert numbers[1] == pytest.approx(norm, rel=1e-4)
            assert apart(tensors, expected) <= 1e-4
            assert numbers[3] == float(ranks > 1)  # whether rank 1 was asked to stop
    for case in BF16:
        require_step_in_bf16(launch, divided_steps[case], cpu_world, case)
