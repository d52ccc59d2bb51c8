"""What the tests of divided models run on every rank of a launch: `sharded_ranks.py FOLDER`.

FOLDER/spec.json names the cases; each rank writes its gradients as FOLDER/divided-<case>-<rank>.safetensors and the
rest as FOLDER/<rank>.json.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.contract import config as settings
from engine.contract.config import RunConfig
from engine.contract.rundir import RunDir
from engine.models import freezing, sharding
from engine.models.on_device import divided
from engine.models.sharding import Shards
from engine.process.attempt import execute, leave
from engine.process.job import Job
from engine.process.world import World
from engine.training import optim, trial
from engine.training.loop import train
from engine.training.setup import Prepared, prepare
from engine.training.sharded_step import ShardedRunner
from engine.training.step import backward
from tests.engine.models import adapters
from tests.engine.on_ranks import prepared, stop_after

ROOM = 256  # padded tokens
FLOAT = 4  # bytes


def main(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    world = World()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"held": {}, "codes": {}, "met": met(world)}
    for name, values in spec.get("gradients", {}).items():
        gradients, held = one_step(world, settings.from_json(values))
        save_file(gradients, folder / f"divided-{name}-{world.rank}.safetensors")
        found["held"][name] = held
    for name, (run, last) in spec.get("runs", {}).items():  # one that finishes closes the process group
        run_dir = RunDir(Path(run))
        if where := spec["short"]:
            short = short_of_memory(where, ROOM if world.rank == 1 else 1 << 30)
            with patch("engine.training.trial.prepare", short):
                found["codes"][name] = execute(world, run_dir, trial.rehearse)
            continue
        listener = stop_after(last, run_dir, world.rank) if last else None
        with able_to_compute_in_bf16():
            found["codes"][name] = execute(world, run_dir, train, listener)
    (folder / f"{world.rank}.json").write_text(json.dumps(found))


@contextmanager
def able_to_compute_in_bf16() -> Iterator[None]:
    """As a GPU is: torch computes in it on every processor, if slowly, and only who asks for fp32 gets that."""
    with patch("engine.models.precision.multiplies_bf16", lambda: True):
        yield


class Sent:
    """Counts the bytes that go around a ring in the exchanges of a divided model, before the ranks share them out."""

    def __init__(self) -> None:
        self.bytes = 0

    def counted(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """An exchange that is counted."""

        def exchange(output: Tensor, given: Tensor, *more: Any, **named: Any) -> Any:
            self.bytes += max(output.nbytes, given.nbytes)
            return work(output, given, *more, **named)

        return exchange


def met(world: World) -> dict[str, Any]:
    """How the ranks meet, and a sum over all of them."""
    values = torch.full((3,), world.rank + 1.0, device=world.device)
    torch.distributed.all_reduce(values)
    place = f"{world.device.type}:{world.device.index or 0}"
    return {"backend": torch.distributed.get_backend(), "device": place, "sum": values.tolist()}


def short_of_memory(where: str, room: int) -> Callable[[Job], Prepared]:
    """A preparation of models whose second layer has memory for this many padded tokens, forward or backward."""

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def hook(_module: torch.nn.Module, _given: Any, found: Tensor) -> None:
        if found.requires_grad and found.shape[0] * found.shape[1] > room:
            fail() if where == "forward" else found.register_hook(fail)

    def prepared_short(job: Job) -> Prepared:
        ready = prepare(job)
        ready.model.model.layers[1].mlp.register_forward_hook(hook)
        return ready

    return prepared_short


def one_step(world: World, config: RunConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The gradients of one step over the first rows of the training file, and what this rank held for it."""
    _, net, store = prepared(config, "train_file")
    adapters.learning(net, config)
    whole = sum(parameter.numel() for parameter in net.parameters())
    learning = sum(parameter.numel() for parameter in freezing.trained_parameters(net).values())
    sent, gather, scatter = Sent(), sharding.GATHER, sharding.SCATTER
    counting = patch.multiple(sharding, GATHER=sent.counted(gather), SCATTER=sent.counted(scatter))
    with able_to_compute_in_bf16(), counting:
        ready, shards = divided(net, config, world)
    ready.network.drop_frozen_fp32()  # as a run does once it has written them
    freezing.set_training_mode(net)
    parameters = list(shards.mine.values())
    budget, norm = config.micro_batch_tokens, config.max_grad_norm
    runner = ShardedRunner(ready.network, store, world, parameters, budget, norm, shards=shards)
    samples = np.arange(config.gradient_accumulation_steps)
    ahead = runner.loss_of(samples)
    result = runner.run(samples, stop_asked=world.rank == 1)
    gradients = {name: gathered(shards, name, mine.grad) for name, mine in shards.mine.items()}
    optimizer = optim.make_optimizer(config, parameters)
    optimizer.step()
    numbers = [result.loss, result.grad_norm, result.label_tokens, result.stop_asked, ahead]
    shards.begin_pass()
    sent.bytes = 0
    backward(runner.micro_batch_loss([0], 1))
    shards.drop_gradients()
    held = {
        "sent": sent.bytes,
        "said": shards.gathered + FLOAT * learning,
        "weights": shards.held(),
        "frozen": [about(parameter) for parameter in net.parameters() if not parameter.requires_grad],
        "gradients": sum(parameter.grad.numel() for parameter in parameters if parameter.grad is not None),
        "moments": sum(state[key].numel() for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")),
        "of_weights": whole,
        "of_gradients": learning,
        "parts": sum(parameter.numel() > 0 for parameter in net.parameters()),
    }
    return {"numbers": torch.tensor(numbers, dtype=torch.float64), **gradients}, held


def about(parameter: Any) -> list[str]:
    """The dtype that a divided weight says that it has, and that of what this rank holds of it."""
    return [str(parameter.dtype), str(parameter.to_local().dtype)]


def gathered(shards: Shards, name: str, mine: Tensor | None) -> Tensor:
    assert mine is not None
    return shards.divided_like(name, mine.clone()).full_tensor()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave(0)  # as a trainer does: at a usual exit, a thread of torch's may abort the process
