"""A rank that sums gradients of a given size over all ranks several times; rank 0 prints the seconds of each sum."""

import json
import sys
import time

import torch
from torch import nn

from engine.process.world import World

if __name__ == "__main__":
    world = World()
    times = []
    for _ in range(int(sys.argv[2]) + 1):
        parameter = nn.Parameter(torch.zeros(int(sys.argv[1])))
        parameter.grad = torch.ones_like(parameter)
        world.wait()
        begun = time.monotonic()
        world.sum_gradients([parameter])
        times.append(time.monotonic() - begun)
        assert parameter.grad[0] == world.size
    if world.is_main:
        print(json.dumps(times[1:]))  # the first one also makes the connections
    world.end()
