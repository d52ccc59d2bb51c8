"""The projections of a model, by the parameters that they are made of: stacked and prepacked once, not per use.

In bf16, frozen weights are prepacked and kept; those that learn are cast at each use. In fp32 the parameters
themselves become slices of one tensor, so that nothing is held twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from engine.cpu.prepacking import Prepacked, Weight
from engine.cpu.weight_casts import Adapters
from engine.models.causal.projections import Learned, Low, Projection


@dataclass
class _Held:
    """A projection without its adapters."""

    projection: Projection
    frozen: bool  # in bf16: then `projection.weight` is prepacked
    back: Prepacked | None = None  # the transpose


class Projections:
    """Linear maps of one input, in `kind`."""

    def __init__(self, kind: torch.dtype, adapters: Adapters) -> None:
        self._kind, self._adapters = kind, adapters
        self._held: dict[nn.Parameter, _Held] = {}
        self._low: dict[nn.Parameter, Low] = {}
        self._prepacked: dict[nn.Parameter, Projection] = {}

    def of(self, *linears: Any, prepacked: bool = False, large: bool = False) -> Projection:
        """The projection that some linear layers make together; all of them have a bias, or none.

        With `prepacked` there is no backward pass, and there are many products before a weight changes. If it is
        `large`, the tokens of a backward pass are worth the memory of a second prepacked copy of frozen weights.
        """
        first = linears[0].weight
        merged = self._merged(linears)
        if merged is not None:
            return Projection(merged, None, self._bias(linears), None, (), (), ())
        if prepacked and first in self._prepacked:
            return self._prepacked[first]
        if first not in self._held:
            self._held[first] = self._hold(linears)
        held = self._held[first]
        if large and held.frozen and held.back is None:
            held.back = Prepacked(torch.cat([linear.weight.detach() for linear in linears]).to(self._kind).t())
        back = held.back if large else None
        found = replace(held.projection, back=back, bias=self._bias(linears), low=self._adapted(linears))
        if prepacked:
            weight = found.weight.cast() if isinstance(found.weight, Learned) else found.weight
            weight = weight if isinstance(weight, Prepacked) else Prepacked(weight)
            found = self._prepacked[first] = replace(found, weight=weight)
        return found

    def _merged(self, linears: Sequence[Any]) -> Tensor | None:
        """The merged weights, stacked, while adapters are merged; made for each product, without a gradient."""
        adapters = [self._adapters.get(linear.weight) for linear in linears]
        if not any(adapter is not None and adapter.merged is not None for adapter in adapters):
            return None
        weights = [
            linear.weight.detach() if adapter is None or adapter.merged is None else adapter.merged()
            for linear, adapter in zip(linears, adapters, strict=True)
        ]
        return torch.cat([weight.to(self._kind) for weight in weights])

    def refresh(self) -> None:
        """Has adapters cast again when they are next requested, and drops what was prepacked for scoring."""
        self._low, self._prepacked = {}, {}

    def _hold(self, linears: Sequence[Any]) -> _Held:
        weights = tuple(linear.weight for linear in linears)
        biases = tuple(linear.bias for linear in linears if linear.bias is not None)
        rows = _slices([len(weight) for weight in weights])
        learns = any(weight.requires_grad for weight in weights)
        frozen = not learns and self._kind == torch.bfloat16
        if not frozen and any(weight.dtype != self._kind for weight in weights):
            return _Held(Projection(Learned(weights, self._kind), None, None, None, rows, biases, weights), frozen)
        stacked = torch.cat([weight.detach() for weight in weights]) if len(weights) > 1 else weights[0].detach()
        weight: Weight = stacked
        if frozen:
            weight = Prepacked(stacked.to(self._kind))
        else:
            for parameter, part in zip(weights, rows, strict=True):
                parameter.data = stacked[part]
        return _Held(Projection(weight, None, None, None, rows, biases, weights), frozen)

    def _bias(self, linears: Sequence[Any]) -> Tensor | None:
        biases = [linear.bias.detach().to(self._kind) for linear in linears if linear.bias is not None]
        return torch.cat(biases) if biases else None

    def _adapted(self, linears: Sequence[Any]) -> Low | None:
        first = linears[0].weight
        if first not in self._low:
            found = self._lowered([linear.weight for linear in linears])
            if found is None:
                return None
            self._low[first] = found
        return self._low[first]

    def _lowered(self, weights: Sequence[nn.Parameter]) -> Low | None:
        rows = _slices([self._adapters[w].up.shape[0] if w in self._adapters else len(w) for w in weights])
        found = [(part, self._adapters[w]) for part, w in zip(rows, weights, strict=True) if w in self._adapters]
        if not found:
            return None
        adapters = tuple(adapter for _, adapter in found)
        ranks = _slices([len(adapter.down) for adapter in adapters])
        down = torch.cat([adapter.down.detach() for adapter in adapters]).to(self._kind)
        up = torch.zeros(rows[-1].stop, ranks[-1].stop, dtype=self._kind)
        blocks = tuple((part, rank) for (part, _), rank in zip(found, ranks, strict=True))
        for block, adapter in zip(blocks, adapters, strict=True):
            up[block].copy_(adapter.up.detach() * adapter.scale)
        return Low(down, up, blocks, adapters)


def _slices(sizes: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True))
