"""Weights in the kind that matrix products are computed in, cast once a step and not once a micro-batch."""

import torch
from torch import Tensor, nn

from engine.cpu.prepacking import Prepacked


class Values:
    """Of each parameter, its value in `kind`: the parameter itself where it is of that kind already."""

    def __init__(self, kind: torch.dtype) -> None:
        self.kind = kind
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

    def prepacked(self, *parameters: nn.Parameter) -> Prepacked:
        """Their values one below the other, to multiply by until `refresh`."""
        if parameters not in self._prepacked:
            self._prepacked[parameters] = Prepacked(*map(self._uncached, parameters))
        return self._prepacked[parameters]

    def _uncached(self, parameter: nn.Parameter) -> Tensor:
        """A value that is not kept where it has not been: where nothing trains, no step will ask for it.

        One that has been stays at its place: memory that is given back and taken again lies between what a step keeps.
        """
        if parameter.requires_grad and parameter.dtype != self.kind and parameter not in self._cast:
            return parameter.detach().to(self.kind)
        return self[parameter]

    def refresh(self) -> None:
        """Has what learns cast again, the next time it is asked for, and drops what is prepacked."""
        self._stale = {parameter for parameter in self._cast if parameter.requires_grad}
        self._prepacked = {}

    def forget(self) -> None:
        """Drops every cast; what is asked for again is cast again."""
        self._cast, self._stale, self._prepacked = {}, set(), {}
