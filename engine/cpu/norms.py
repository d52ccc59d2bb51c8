"""The norm of many values: added up in fp32, the squares of one large matrix lose up to a hundredth of it."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from engine.cpu import kernels

SHORT = 256  # values whose squares fp32 adds up to 3e-7 at worst, on vectors of 8 or 16


def norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all values of some tensors together, to 1e-6 of it at worst; none of them is copied whole.

    Compiled code adds all of it up in double. torch, to be as fast, takes norms of short pieces in fp32, and the norm
    of these in double.
    """
    return math.sqrt(sum(map(_squares, tensors)))


def _squares(tensor: Tensor) -> float:
    values = tensor.detach().flatten()
    if values.dtype == torch.float32 and kernels.serve(values):
        return kernels.squares(values)
    whole = len(values) // SHORT * SHORT
    pieces = (values[:whole].view(-1, SHORT), values[whole:].view(1, -1))
    return sum(float(torch.linalg.vector_norm(piece, dim=1).double().square().sum()) for piece in pieces)
