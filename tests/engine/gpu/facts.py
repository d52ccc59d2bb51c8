"""What can be seen only once in a process: `facts.py DEVICE` prints it as JSON.

Whether the memory of a GPU is taken in segments that grow, and the reason that a run would end with after an index out
of range, after which a GPU does nothing more for the process.
"""

import json
import os
import sys

import torch

from engine.process.device_errors import kind_of


def main(device: torch.device) -> None:
    values = torch.zeros(1 << 20, device=device)
    expandable = None
    if device.type == "cuda":
        expandable = all(segment["is_expandable"] for segment in torch.cuda.memory_snapshot())
    try:
        kind = f"none: {float(values[torch.tensor([1 << 21]).to(device)].sum())}"
    except (RuntimeError, IndexError) as error:
        kind = kind_of(error)
    print(json.dumps({"expandable": expandable, "kind": kind}), flush=True)
    os._exit(0)  # what would be done in order needs the GPU


if __name__ == "__main__":
    main(torch.device(sys.argv[1]))
