"""A device for each test: the processor, and a GPU if there is one.

So the tests themselves are tried everywhere, and what only a GPU can show is seen where one is: `make bench-gpu` runs
all of them there.
"""

import os
from collections.abc import Iterator

import pytest
import torch
from accelerate.state import AcceleratorState

from engine.process.world import World

ON_A_GPU = pytest.param("cuda", marks=pytest.mark.gpu)
# Read when CUDA's libraries start: without it some of their sums have no fixed order.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(params=["cpu", ON_A_GPU])
def device(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    cpu_world: World,  # noqa: ARG001  made before
) -> Iterator[torch.device]:
    """The device that a test is about; a world that is made meanwhile is on it."""
    if request.param == "cpu":
        yield torch.device("cpu")
        return
    require_gpus(1)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)  # the tests around these have it set
    AcceleratorState._reset_state(reset_partial_state=True)
    yield torch.device("cuda", 0)
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.cuda.empty_cache()


def require_gpus(count: int) -> None:
    """Skips a test, aloud, if this machine does not have them."""
    found = torch.cuda.device_count()
    if found < count:
        pytest.skip(f"NOT TESTED ON {count} GPU(S): torch finds {found} here")
