"""Adapters merged into the weights that they change: W + scale × B @ A, computed in fp32 and rounded once.

One layer at a time is merged, when it is written or computed with, so memory never holds a second model.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

import torch
from torch import Tensor

from engine.contract.scores import MergeLosses
from engine.data import batching
from engine.data.token_store import TokenStore
from engine.models import lora
from engine.models.lora import AdaptedLayer, Adapters
from engine.models.network import Network
from engine.training.tensorfile import Deferred, Stored, write_raw

ROWS, TOKENS = 32, 2048  # of the validation file, at most, that merged weights are compared on


@dataclass(frozen=True)
class Narrowed:
    """A tensor that is written in a dtype which holds each of its values."""

    tensor: Tensor
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    def copy(self, target: IO[bytes]) -> None:
        """Writes its bytes to a file; raises OSError."""
        write_raw(self.tensor.detach().to(self.dtype), target)


@dataclass(frozen=True)
class Merged:
    """The weight of an adapted layer with its change, from the weight as it was loaded."""

    weight: Tensor | Deferred
    layer: AdaptedLayer
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.weight.shape)

    def read(self) -> Tensor:
        """The tensor, on the CPU; raises OSError."""
        weight = self.weight.read() if isinstance(self.weight, Stored) else self.weight
        assert isinstance(weight, Tensor)
        return (weight.detach().cpu().float() + self.layer.change().cpu()).to(self.dtype)

    def copy(self, target: IO[bytes]) -> None:
        """Writes its bytes to a file; raises OSError."""
        write_raw(self.read(), target)


def narrowed(tensors: Mapping[str, Tensor], kind: torch.dtype) -> dict[str, Tensor | Deferred]:
    """Weights that were read from a file of another dtype than fp32, in that dtype, if it is still exact."""
    return {name: Narrowed(tensor, kind) if _fits(tensor, kind) else tensor for name, tensor in tensors.items()}


def _fits(tensor: Tensor, kind: torch.dtype) -> bool:
    wider = tensor.is_floating_point() and tensor.element_size() > kind.itemsize
    return wider and torch.equal(tensor.to(kind).to(tensor.dtype), tensor)


def merged(weights: Mapping[str, Tensor | Deferred], adapters: Adapters) -> dict[str, Tensor | Deferred]:
    """The weights of a model as they were loaded, with its adapters merged into them in the dtype of its base."""
    ours = {f"{name}.weight": layer for name, layer in adapters.layers.items()}
    return {
        name: Merged(weight, ours[name], adapters.kind) if name in ours else weight for name, weight in weights.items()
    }


@contextlib.contextmanager
def computing_merged(
    weights: Mapping[str, Tensor | Deferred], adapters: Adapters, values: Adapters | None = None
) -> Iterator[None]:
    """Lets the model compute with merged weights, as someone who loads them will.

    `values` are the adapters' if `adapters` are divided among the ranks.
    """
    whole = merged(weights, values or adapters)
    try:
        for name, layer in adapters.layers.items():
            layer.adapter.merged = _matrix(whole[f"{name}.weight"], layer)
        yield
    finally:
        for layer in adapters.layers.values():
            layer.adapter.merged = None


def _matrix(weight: Tensor | Deferred, layer: AdaptedLayer) -> Callable[[], Tensor]:
    assert isinstance(weight, Merged)
    return lambda: weight.read().t() if layer.transposed else weight.read()


def merge_losses(
    network: Network, store: TokenStore, budget: int, weights: Mapping[str, Tensor | Deferred], adapters: Adapters
) -> MergeLosses:
    """What merging changes, on the first rows of a file; `budget` is `micro_batch_tokens`.

    All ranks must call it together if the network is divided among them.
    """
    values = lora.whole(adapters) if network.together else None
    lengths = store.lengths(range(min(ROWS, len(store))))
    rows = max(1, int((lengths.total.cumsum() <= TOKENS).sum()))
    lengths = store.lengths(range(rows))
    batches = batching.pack(range(rows), lengths, network.scoring_budget(budget))
    network.model.eval()
    network.begin_step()

    def mean() -> float:
        losses = (loss for batch in batches for loss in network.row_losses(store.rows_at(batch)))
        return sum(losses) / int(lengths.label.sum())

    alone = mean()
    with computing_merged(weights, adapters, values):
        return MergeLosses(rows, alone, mean())
