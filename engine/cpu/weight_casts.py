"""Weights in the dtype of the matrix products, cast once per step and not once per micro-batch."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from engine.cpu.adapted import Adapted, AdaptedTogether, Adapter
from engine.cpu.prepacking import Factor, Prepacked

Adapters = Mapping[nn.Parameter, Adapter]  # of the weights that have one


class Values:
    """The value of each parameter in `kind`: the parameter itself if it already has that dtype."""

    def __init__(self, kind: torch.dtype, adapters: Adapters = MappingProxyType({})) -> None:
        self.kind, self._adapters = kind, adapters
        self._adapted: dict[nn.Parameter, Adapted] = {}
        self._cast: dict[nn.Parameter, Tensor] = {}
        self._stale: set[nn.Parameter] = set()
        self._prepacked: dict[tuple[nn.Parameter, ...], Prepacked] = {}

    def __getitem__(self, parameter: nn.Parameter) -> Tensor:
        if parameter.dtype == self.kind:
            return parameter.detach()
        if parameter not in self._cast:
            self._cast[parameter] = parameter.detach().to(self.kind)
        elif parameter in self._stale:
            self._cast[parameter].copy_(parameter.detach())
        self._stale.discard(parameter)
        return self._cast[parameter]

    def factor(self, parameter: nn.Parameter) -> Tensor | Adapted:
        """What inputs are multiplied by: the value of a weight, with its adapter if it has one."""
        adapter = self._adapters.get(parameter)
        if adapter is None:
            return self[parameter]
        if adapter.merged is not None:
            return adapter.merged().to(self.kind)
        if parameter not in self._adapted:
            self._adapted[parameter] = Adapted.of(self[parameter], adapter.down, adapter.up, adapter.scale)
        return self._adapted[parameter]

    def learning(self, parameter: nn.Parameter) -> tuple[nn.Parameter, ...]:
        """A weight and the parameters of its adapter, in the order of their gradients."""
        adapter = self._adapters.get(parameter)
        return (parameter,) if adapter is None else (parameter, adapter.down, adapter.up)

    def prepacked(self, *parameters: nn.Parameter) -> Prepacked:
        """Their values stacked vertically, to multiply by until `refresh`."""
        if parameters not in self._prepacked:
            self._prepacked[parameters] = Prepacked(*map(self.cast, parameters))
        return self._prepacked[parameters]

    def together(self, *weights: nn.Parameter) -> Factor:
        """The same with the adapters of those weights that have one."""
        if self._adapters.keys().isdisjoint(weights):
            return self.prepacked(*weights)
        parts = [self.factor(weight) for weight in weights]
        tensors = [part for part in parts if isinstance(part, Tensor)]
        if len(tensors) == len(parts):  # adapters are merged
            return Prepacked(*tensors)
        adapted = [part if isinstance(part, Adapted) else None for part in parts]
        return AdaptedTogether(self.prepacked(*weights), [len(weight) for weight in weights], adapted)

    def cast(self, parameter: nn.Parameter) -> Tensor:
        """A value, without caching a new cast of a trained weight: for one use, or where no step will ask for it.

        A cast that is already cached stays in place: freeing its memory would fragment what a step keeps.
        """
        if parameter.requires_grad and parameter.dtype != self.kind and parameter not in self._cast:
            return parameter.detach().to(self.kind)
        return self[parameter]

    def refresh(self) -> None:
        """Has trained weights cast again when they are next requested, and drops what is prepacked."""
        self._stale = {parameter for parameter in self._cast if parameter.requires_grad}
        self._prepacked, self._adapted = {}, {}

    def forget(self) -> None:
        """Drops every cast; each is made again when it is requested."""
        self._cast, self._stale = {}, set()
        self._prepacked, self._adapted = {}, {}
