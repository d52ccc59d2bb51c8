"""What of a training step is neither a product with weights nor worth a call of torch for each of its parts.

Each function stands twice, with one signature: in `compiled.py`, which calls the code in C, and in `reference.py`, by
torch. Which of them computes is chosen here, call by call, and nowhere else.
"""

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.cpu import compiled, reference
from engine.cpu.dropout import Draw, RandomBits, Rate
from engine.cpu.ragged import AttentionPattern
from engine.cpu.reference import Matrix

FLOATS = (torch.float32, torch.bfloat16)
FP32 = (torch.float32,)


class Kernels(Protocol):
    """The functions; tokens of rows lie end to end, (tokens, width)."""

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        pattern: AttentionPattern,
        rate: Rate,
        source: RandomBits,
    ) -> tuple[Tensor, list[Tensor]]:
        """What every query sees, (tokens, heads × width), and the softmax of each row, or of all rows end to end.

        `query`, `key` and `value` are (tokens, heads × width), `bias` is (heads, longest query, longest key) or None.
        The softmax is in the kind of the inputs, negative where dropout took a weight away. What dropout keeps is not
        scaled up here: the caller multiplies by `rate.scale`. Raises MemoryError.
        """

    def attend_backward(
        self,
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kept: list[Tensor],
        pattern: AttentionPattern,
        bias_gradient: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value; that of the bias is added to `bias_gradient`, if there is one.

        `gradient` is that of what `attend` gave, already multiplied by `rate.scale`, and `kept` is its softmax. Raises
        MemoryError.
        """

    def attend_step(
        self,
        given: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        counts: npt.NDArray[np.int64],
        heads: int,
    ) -> Tensor:
        """What one query of each row sees of the first `counts` of its keys, (rows, heads × width).

        `given` are the queries, (rows, heads × width); with a key and a value after each, (rows, 3 × heads × width),
        these become the last of the row's `counts` first. `keys` and `values` are (rows, room, heads × width), and
        `bias` is (heads, tokens) or None. Raises MemoryError.
        """

    def normed(self, x: Tensor, scale: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        """x divided by its root mean square, the same times `scale`, and the inverse of that root, (tokens, 1).

        The first two are in the kind of `scale`.
        """

    def normed_backward(
        self, gradient: Tensor, plain: Tensor, inverse: Tensor, scale: Tensor, beside: Tensor, *, scale_learns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of x and of the norm's scale, from that of norm(x) × scale; `plain` is what `normed` gave.

        That of x has `beside` added to it, the gradient that goes past the layer.
        """

    def residual(self, x: Tensor, y: Tensor, draw: Draw | None, factor: float) -> Tensor:
        """x + `factor` × what dropout keeps of y, which may be overwritten."""

    def kept(self, x: Tensor, draw: Draw | None, factor: float, kind: torch.dtype) -> Tensor:
        """`factor` × what dropout keeps of x, in `kind`; the gradient of x is the same of that of the result."""

    def relu_dropped(self, hidden: Tensor, draw: Draw | None) -> Tensor:
        """What dropout keeps of relu(hidden), in its place and not scaled."""

    def losses(self, logits: Tensor, labels: Tensor, *, gradient: bool) -> Tensor:
        """Cross-entropy of each token, at least in fp32, and if asked its gradient by the logits, in their place.

        `logits` are (tokens, vocabulary), `labels` (tokens,). Raises IndexError where a label is no logit's number.
        """

    def largest(self, logits: Tensor) -> Tensor:
        """The number of the first of each row's greatest logits, int64; any where one is not a number."""

    def add_(self, total: Tensor, part: Tensor) -> None:
        """Adds values in bf16 to a total in fp32."""

    def squares(self, values: Tensor) -> float:
        """The sum of the squares of values, to 1e-6 of it at worst."""

    def adafactor(self, matrices: Sequence[Matrix]) -> list[bool]:
        """Updates matrices and their second moments; False where one is left as it was: its moment would be clamped.

        Gradients may be overwritten. Raises MemoryError.
        """


def kernels_for(values: Tensor, kinds: tuple[torch.dtype, ...] = FLOATS) -> Kernels:
    """The compiled functions where values of this kind lie in memory that they reach, else torch's."""
    fits = values.dtype in kinds and values.device.type == "cpu" and compiled.library() is not None
    return cast(Kernels, compiled if fits else reference)
