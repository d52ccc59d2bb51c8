"""The norm of many values: summed in fp32, the squares of one large matrix lose up to a hundredth of their sum."""

import math
from collections.abc import Iterable

from torch import Tensor

from engine.cpu.kernels import FP32, kernels_for


def norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all values of some tensors, with a relative error up to 1e-6; copies none whole."""
    return math.sqrt(sum(map(_squares, tensors)))


def _squares(tensor: Tensor) -> float:
    values = tensor.detach().flatten()
    return kernels_for(values, FP32).squares(values)
