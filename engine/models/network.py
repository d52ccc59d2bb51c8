"""How a model is computed, for steps, evaluations and replies: the interface; methods with a body are defaults."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.contract.messages import Message
from engine.contract.texts import Phrase
from engine.data.batching import Measure, Size
from engine.data.token_store import Row, TokenStore
from engine.process.world import World

Choose = Callable[[Tensor], int]  # a token by its logits, (vocabulary,)
Tokens = Generator[int, None, None]
PADDED, END_TO_END = "padded", "end to end"  # how rows lie in a micro-batch


class Network(Protocol):
    """A model over rows of token ids; what is learned of a row are the tokens of its spans."""

    model: Any
    measure: Measure = Measure.PARTS  # what counts as the tokens of a micro-batch
    notices: tuple[Message, ...] = ()  # what must be reported of how it is computed
    layout: str = ""  # how rows lie, where a GPU has a choice: a resumed run keeps it
    together: bool = False  # whether all ranks must compute at the same time, each its own rows

    def begin_step(self) -> None:
        """Must be called before the first loss of each step: weights may have changed, and random numbers restart."""
        return

    def send(self, micro_batches: Sequence[Sequence[Row]], samples: Sequence[Sequence[int]], /) -> None:  # noqa: ARG002
        """Brings the rows of a step to the device that they are computed on, before their losses in this order.

        `samples` are the rows' numbers in the training file, as for `summed_loss`.
        """
        return

    def drop_frozen_fp32(self) -> None:
        """Keeps frozen weights only in the dtype that they are computed in; they can no longer be saved."""
        return

    def encodings_bytes(self, store: TokenStore, /) -> int | None:  # noqa: ARG002
        """The size on disk of an encoder's output for the rows of a file; None if it cannot be kept."""
        return None

    def keep_encodings(self, store: TokenStore, base: Path, world: World, /, *, writes: bool) -> bool:  # noqa: ARG002
        """Keeps an encoder's output on disk across epochs; False if that fails; every rank calls it.

        `base` is the prefix of the files' names until they are unlinked. Without `writes`, results are the same, but
        nothing is kept.
        """
        return False

    def scoring_budget(self, budget: int) -> int:
        """Tokens, padding included, that `row_losses` takes at once if a micro-batch has `budget` tokens."""
        return budget

    def padded(self, lengths: Sequence[tuple[int, int]]) -> int:
        """The number of tokens computed for a micro-batch of these lengths of prompts and labels."""
        return Size.of(lengths).tokens(self.measure)

    def summed_loss(self, rows: Sequence[Row], samples: Sequence[int] | None = None, /) -> Tensor:
        """Cross-entropy summed over the learned tokens of some rows, float64, with its graph.

        `samples` are the rows' numbers in the training file, by which kept encodings are found.
        """
        ...

    def row_losses(self, rows: Sequence[Row], /) -> list[float]:
        """The same for each row separately, without a graph."""
        ...

    def replies(self, prompts: Sequence[Tensor], longest: int) -> list[list[int]]:
        """Greedy replies to some prompts, each (tokens,) int64, as token ids."""
        ...

    def reply_tokens(self, prompt: Tensor, choose: Choose) -> Tokens:
        """A reply to one prompt, (tokens,) int64, token by token without end: the caller knows what ends it."""
        ...


@dataclass(frozen=True)
class Agreement:
    """How all ranks agree on the layout of rows on GPUs: as before a resume, else end to end if none has a reason."""

    before: str = ""  # the layout so far; empty for a new run
    everyone: Callable[[bool], bool] = bool  # whether something is so on all ranks

    def reason_to_pad(self, own: Callable[[], Phrase | None]) -> Phrase | None:
        """Why rows are padded, which all ranks ask together; `own` finds the reason of this one, if there is one."""
        if self.before == PADDED:
            return Phrase("padded.resumed")
        reason = own()
        return None if self.everyone(reason is None) else reason or Phrase("padded.other_gpus")


ALONE = Agreement()


def prompts_of(rows: Sequence[Row]) -> list[Tensor]:
    """What comes before the last span of each row, (tokens,) int64."""
    return [torch.from_numpy(row.prompt) for row in rows]


def labels_of(rows: Sequence[Row]) -> list[Tensor]:
    """The last span of each row, (tokens,) int64."""
    return [torch.from_numpy(row.label) for row in rows]


def ends_of(model: Any) -> list[int]:
    """The tokens that end a reply: those of the generation settings, else of the configuration."""
    own = model.generation_config.eos_token_id
    found = model.config.eos_token_id if own is None else own
    return list(found) if isinstance(found, list) else [] if found is None else [found]


def packs(device: torch.device) -> bool:
    """Whether models are packed on a device, if they can be.

    On devices other than the CPU, a loop over the rows' attention would be many small kernels, and padding is cheap.
    """
    return device.type == "cpu"
