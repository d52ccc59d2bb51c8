"""Weights in the dtype of the matrix products, cast once per step and not once per micro-batch."""

import torch
from torch import Tensor, nn

from engine.cpu.prepacking import Prepacked


class Values:
    """The value of each parameter in `kind`: the parameter itself if it already has that dtype."""

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
        """Their values stacked vertically, to multiply by until `refresh`."""
        if parameters not in self._prepacked:
            self._prepacked[parameters] = Prepacked(*map(self._uncached, parameters))
        return self._prepacked[parameters]

    def _uncached(self, parameter: nn.Parameter) -> Tensor:
        """A value, without caching a new cast of a trained weight: where nothing trains, no step will ask for it.

        A cast that is already cached stays in place: freeing its memory would fragment what a step keeps.
        """
        if parameter.requires_grad and parameter.dtype != self.kind and parameter not in self._cast:
            return parameter.detach().to(self.kind)
        return self[parameter]

    def refresh(self) -> None:
        """Has trained weights cast again when they are next requested, and drops what is prepacked."""
        self._stale = {parameter for parameter in self._cast if parameter.requires_grad}
        self._prepacked = {}

    def forget(self) -> None:
        """Drops every cast; each is made again when it is requested."""
        self._cast, self._stale, self._prepacked = {}, set(), {}
