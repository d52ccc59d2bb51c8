"""What a step, an evaluation and a reply ask of a model, and which of the two ways of computing it fits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.data.token_store import TokenStore
from engine.models.loss import Head
from engine.models.t5.packed import PackedT5, supported
from engine.process.world import World


class Network(Protocol):
    """A model over rows of token ids: prompts and labels are lists of (tokens,) int64, end token included."""

    model: Any

    def begin_step(self) -> None:
        """To be called before the first loss of each step: weights may have changed, and random numbers begin anew."""

    def drop_frozen_fp32(self) -> None:
        """Keeps weights that do not learn in the kind they are computed in alone; they cannot be saved any more."""

    def encodings_bytes(self, store: TokenStore, /) -> int | None:
        """What keeping an encoder's output for the rows of a file would take on disk; None where it cannot be."""

    def keep_encodings(self, store: TokenStore, base: Path, world: World, /, *, writes: bool) -> bool:
        """Has an encoder's output kept on disk across epochs; False where that fails; every rank calls it.

        `base` is how the files' names begin until they lose them. Without `writes` all is computed as if it were kept.
        """

    def scoring_budget(self, budget: int) -> int:
        """Tokens, padding included, that `row_losses` takes at once where a micro-batch is of so many."""

    def padded(self, lengths: Sequence[tuple[int, int]]) -> int:
        """Tokens computed for a micro-batch of these lengths of prompts and labels."""

    def summed_loss(
        self, prompts: Sequence[Tensor], labels: Sequence[Tensor], samples: Sequence[int] | None = None, /
    ) -> Tensor:
        """Cross-entropy summed over the label tokens of some rows, float64, with its graph.

        `samples` are their numbers in the training file, by which kept encodings are found.
        """

    def row_losses(self, prompts: Sequence[Tensor], labels: Sequence[Tensor]) -> list[float]:
        """The same for each row by itself, without a graph."""

    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        """Greedy replies to some prompts, as token ids."""


def packs(device: torch.device) -> bool:
    """Whether models are packed on a device, where they can be.

    On others than the CPU a loop over the rows' attention would be many small kernels, and padding is cheap.
    """
    return device.type == "cpu"


def network_of(model: Any, head: Head | None, chunk: int, *, bf16: bool) -> Network:
    """The way to compute `model`: packed where it is a T5 and its device packs, else padded, by transformers."""
    if head is not None and packs(next(model.parameters()).device) and supported(model):
        return PackedT5(model, torch.bfloat16 if bf16 else torch.float32, chunk)
    from engine.models.seq2seq.padded import PaddedNetwork  # with transformers' models, which the other does without

    return PaddedNetwork(model, head, chunk, autocast=bf16)
