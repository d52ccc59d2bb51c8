"""What the fixture `two_ranks` runs on both ranks of one launch: `two_ranks.py FOLDER`.

FOLDER/spec.json names the cases; each rank writes its gradients as FOLDER/<case>-<rank>.safetensors and the rest as
FOLDER/<rank>.json. Starting two processes takes far longer than what they do here, so that they do it all at once.
"""

import dataclasses
import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.contract import config as settings
from engine.contract.config import RunConfig
from engine.contract.rundir import RunDir
from engine.data.references import references, rows_replied
from engine.models import freezing
from engine.models.on_device import find_head, network_of
from engine.process import gradient_sums
from engine.process.attempt import execute, leave
from engine.process.gradient_sums import SumsAhead
from engine.process.world import World
from engine.training.evaluation import Evaluator
from engine.training.loop import train
from engine.training.step import StepRunner
from tests.engine.models import adapters
from tests.engine.on_ranks import prepared, source_of, stop_after
from tests.engine.training.sharded_ranks import met, one_step


def main(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    world = World()
    found: dict[str, Any] = {"size": world.size, "held": {}, "met": met(world)}
    for name, values in spec["gradients"].items():
        save_file(gradients(world, settings.from_json(values)), folder / f"{name}-{world.rank}.safetensors")
    for name, values in spec["divided"].items():
        divided, found["held"][name] = one_step(world, settings.from_json(values))
        save_file(divided, folder / f"divided-{name}-{world.rank}.safetensors")
    found["ahead"] = sums_ahead(world)
    found["scores"] = {rows: score(world, settings.from_json(values)) for rows, values in spec["scores"].items()}
    found["refused"] = execute(world, RunDir(Path(spec["refused"])), train)
    found["failed"] = execute(world, RunDir(Path(spec["failed"])), train)
    curve, stopped, resumed = (RunDir(Path(spec[name])) for name in ("curve", "stopped", "resumed"))
    found["curve"] = execute(world, curve, train, stop_after(spec["steps"], curve, world.rank))
    found["stopped"] = execute(world, stopped, train, stop_after(3, stopped, world.rank))
    if world.is_main:  # a copy, for this process holds the lock of the original until it ends
        shutil.copytree(stopped.read_record().config["output_dir"], resumed.read_record().config["output_dir"])
    world.wait()
    found["resumed"] = execute(world, resumed, train)  # the last: a run that finishes closes the process group
    (folder / f"{world.rank}.json").write_text(json.dumps(found))


def gradients(world: World, config: RunConfig) -> dict[str, torch.Tensor]:
    """Of one step over the first rows of the training file."""
    _, net, store = prepared(config, "train_file")
    adapters.learning(net, config)
    freezing.set_training_mode(net)
    learning = freezing.trained_parameters(net)
    budget, chunk, norm = config.micro_batch_tokens, config.loss_chunk_tokens, config.max_grad_norm
    network = network_of(net, find_head(net), chunk, bf16=False)
    runner = StepRunner(network, store, world, list(learning.values()), budget, norm)
    samples = np.arange(config.gradient_accumulation_steps)
    ahead = runner.loss_of(samples)
    result = runner.run(samples, stop_asked=world.rank == 1)
    found = [result.loss, result.grad_norm, result.label_tokens, result.stop_asked, ahead]
    numbers = torch.tensor(found, dtype=torch.float64)
    return {"numbers": numbers, **{name: p.grad for name, p in learning.items() if p.grad is not None}}


def sums_ahead(world: World) -> dict[str, Any]:
    """Gradients summed during the last backward pass, next to the same after it; rank 1 has more micro-batches."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, 6) for _ in range(5)]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    inputs = torch.randn(2, 1, 3, 6) if world.rank == 0 else torch.randn(3, 2, 2, 6)
    found, begun = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_sums, "BUCKET_ELEMENTS", 50)
        for ahead in (False, True):
            sums = SumsAhead(parameters, world.rank_status.waiting_for_others)
            for number, x in enumerate(inputs):
                used = layers if world.rank else layers[1:]
                y = torch.nn.Sequential(*used, used[-1])(x)  # the last is computed twice
                with sums.during() if ahead and number == len(inputs) - 1 else nullcontext():
                    y.square().sum().backward()
            begun = sums.begun
            if ahead:
                sums.end()
            else:
                world.sum_gradients(parameters)
            found.append([parameter.grad for parameter in parameters if parameter.grad is not None])
            for parameter in parameters:
                parameter.grad = None
        buckets = len(gradient_sums.buckets_of(parameters))
    same = all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    return {"same": same, "begun": begun, "buckets": buckets, "sums": [float(part.sum()) for part in found[1]]}


def score(world: World, config: RunConfig) -> dict[str, Any]:
    """Of the first rows of the validation file."""
    tokenizer, net, store = prepared(config, "validation_file")
    network = network_of(net, find_head(net), config.loss_chunk_tokens, bf16=False)
    wanted = references(source_of(config, "validation_file"), store, rows_replied(config, len(store)))
    evaluator = Evaluator(network, tokenizer, store, wanted, world, config, progress=lambda _name, _done, _total: None)
    return dataclasses.asdict(evaluator.run())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave(0)  # as a trainer does: at a usual exit, a thread of torch's may abort the process
