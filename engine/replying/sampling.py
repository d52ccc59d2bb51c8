"""The choice of the next token of a reply."""

import torch
from torch import Tensor

from engine.contract.conversing import Sampling


class Chooser:
    """Chooses tokens as `sampling` says; the same seed gives the same choices."""

    def __init__(self, sampling: Sampling) -> None:
        self._temperature, self._top_p = sampling.temperature, sampling.top_p
        self._random = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, logits: Tensor) -> int:
        """A token by its logits, (vocabulary,)."""
        if not self._temperature:
            return int(logits.argmax())
        scaled = logits.double().cpu()
        chances = torch.softmax((scaled - scaled.max()) / self._temperature, dim=0)
        if self._top_p < 1:
            chances = self._likeliest(chances)
        return int(torch.multinomial(chances, 1, generator=self._random))

    def _likeliest(self, chances: Tensor) -> Tensor:
        """The chances of the fewest tokens that sum up to `top_p`, the likeliest at least; 0 for all others."""
        ordered, order = chances.sort(descending=True, stable=True)
        ordered[(ordered.cumsum(0) - ordered >= self._top_p) & (torch.arange(len(ordered)) > 0)] = 0
        return torch.zeros_like(chances).scatter(0, order, ordered)
