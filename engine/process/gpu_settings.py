"""What CUDA and torch's allocator read from the environment when a GPU is first used."""

from collections.abc import MutableMapping

import torch

# Settings of torch's GPU allocator: the first name hides the older ones, so it is set only if none is.
ALLOCATOR_NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def settle(given: MutableMapping[str, str]) -> None:
    """Completes the environment `given`, before torch is asked for a GPU; what a person has set stays."""
    given.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as NVML numbers GPUs
    if torch.cuda.is_available() and not any(name in given for name in ALLOCATOR_NAMES):
        given[ALLOCATOR_NAMES[0]] = "expandable_segments:True"  # rows of many lengths fragment fixed segments
