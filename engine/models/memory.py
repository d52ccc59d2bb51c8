"""What a run does with a model, as far as its memory depends on it; each family predicts the peaks from it."""

from collections.abc import Iterable
from dataclasses import dataclass

RUNTIME = 380_000_000  # bytes: Python with torch, accelerate, and transformers' tokenizers and configurations
MODELLING = 20_000_000  # of transformers' models


@dataclass(frozen=True)
class Batch:
    """A padded micro-batch: rows, and its longest prompt and label in tokens."""

    rows: int
    prompt: int
    label: int


@dataclass(frozen=True)
class MemoryPlan:
    """What a run does; `padded` and `packed` are the micro-batches that may need the most, file sizes are in bytes.

    A batch of `packed` stands for one of the same rows without padding: its lengths are root mean squares.
    """

    optimizer: str
    loss_chunk_tokens: int
    padded: tuple[Batch, ...]
    packed: tuple[Batch, ...]
    generation: Batch
    model_file_bytes: int
    bf16: bool = False
    on_gpu: bool = False


def batches(lists: Iterable[Iterable[int]]) -> tuple[Batch, ...]:
    """Micro-batches from lists of rows, prompt and label."""
    return tuple(Batch(*one) for one in lists)
