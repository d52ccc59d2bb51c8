"""Weights in the kind that matrix products are computed in, cast once a step and not once a micro-batch."""

import torch
from torch import Tensor, nn

from engine.network.products import Packed

STAYS = 16 << 20  # bytes of a weight that does not learn, up to which it stays packed from step to step


class Values:
    """Of each parameter, its value in `kind`: the parameter itself where it is of that kind already."""

    def __init__(self, kind: torch.dtype) -> None:
        self.kind = kind
        self._cast: dict[nn.Parameter, Tensor] = {}
        self._stale: set[nn.Parameter] = set()
        self._packed: dict[tuple[nn.Parameter, ...], Packed] = {}

    def __getitem__(self, parameter: nn.Parameter) -> Tensor:
        if parameter.dtype == self.kind:
            return parameter.detach()
        if parameter not in self._cast:
            self._cast[parameter] = parameter.detach().to(self.kind)
        elif parameter in self._stale:
            self._cast[parameter].copy_(parameter.detach())
        self._stale.discard(parameter)
        return self._cast[parameter]

    def packed(self, *parameters: nn.Parameter) -> Packed:
        """Their values one below the other, to multiply by until the weights may change.

        What was cast of those that learn is dropped: it would stand beside what is packed.
        """
        if parameters not in self._packed:
            self._packed[parameters] = Packed(*(self[parameter] for parameter in parameters))
            for parameter in parameters:
                if parameter.requires_grad:
                    self._cast.pop(parameter, None)
        return self._packed[parameters]

    def stays(self, parameter: nn.Parameter) -> bool:
        """Whether a weight, once packed, stays so: it does not learn, and is small enough to be there twice."""
        return not parameter.requires_grad and parameter.numel() * self.kind.itemsize <= STAYS

    def refresh(self) -> None:
        """Has what learns cast again, the next time it is asked for, and drops what is packed and does not stay."""
        self._stale = {parameter for parameter in self._cast if parameter.requires_grad}
        self._packed = {which: packed for which, packed in self._packed.items() if all(map(self.stays, which))}

    def forget(self) -> None:
        """Drops every cast; what is asked for again is cast again."""
        self._cast, self._stale, self._packed = {}, set(), {}
