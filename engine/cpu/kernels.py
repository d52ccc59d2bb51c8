"""The parts of a training step between its products with weights, where one torch call per operation costs too much.

Each function exists twice with the same signature: in `compiled.py`, which calls the C code, and in `reference.py`,
in torch. The choice between them is made here, call by call, and nowhere else.
"""

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.cpu import compiled, native, placement, reference
from engine.cpu.dropout import Draw, RandomBits, Rate
from engine.cpu.ragged import AttentionPattern, CausalPattern
from engine.cpu.reference import Matrix

FLOATS = (torch.float32, torch.bfloat16)
FP32 = (torch.float32,)


class Kernels(Protocol):
    """The functions; the tokens of all rows lie end to end, (tokens, width)."""

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
        """The attention output of every query, (tokens, heads × width), and the softmax, one per row or one for all.

        `query`, `key` and `value` are (tokens, heads × width), `bias` is (heads, longest query, longest key) or None.
        The softmax has the dtype of the inputs, negative where dropout removed a weight. What dropout keeps is not
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
        """Gradients of query, key and value; that of the bias is added to `bias_gradient`, if given.

        `gradient` is that of the output of `attend`, already multiplied by `rate.scale`, and `kept` is its softmax.
        Raises MemoryError.
        """

    def causal(self, query: Tensor, key: Tensor, value: Tensor, pattern: CausalPattern) -> tuple[Tensor, Tensor]:
        """The output of causal attention, (tokens, heads × width), and the logarithms of its sums, (tokens, heads).

        `query` is (tokens, heads × width), `key` and `value` are (tokens, groups × width); all may be parts of wider
        tensors. Raises MemoryError.
        """

    def causal_backward(
        self,
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        sums: Tensor,
        pattern: CausalPattern,
        to: Sequence[Tensor],
    ) -> None:
        """Writes the gradients of query, key and value, which lie as those do, into `to`.

        `gradient` is that of `out`, which `causal` returned with `sums`. Raises MemoryError.
        """

    def causal_step(
        self, given: Tensor, keys: Tensor, values: Tensor, counts: npt.NDArray[np.int64], pattern: CausalPattern
    ) -> Tensor:
        """Attention of one query of each row over the first `counts` of its keys, (rows, heads × width).

        `given` is a query, a key and a value of each row side by side, (rows, (heads + 2 × groups) × width); key and
        value are first stored as the last of the row's `counts`. `keys` and `values` are (rows, groups, room, width).
        The rows of `pattern` are not used. Raises MemoryError.
        """

    def rotate(self, values: Tensor, angles: Tensor, heads: int, *, back: bool = False) -> None:
        """Turns each pair of values of every head by the angle of its token, in place; the other way if `back`.

        `values` are (tokens, heads × width), and may be part of a wider tensor. `angles` are (tokens, 2 × pairs), the
        cosines and then the sines; value j of a head is paired with value j + pairs, the rest stay.
        After Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).
        """

    def swiglu(self, both: Tensor) -> Tensor:
        """silu(gate) × up, (tokens, width), of `both`, (tokens, 2 × width), the gate first."""

    def swiglu_backward(self, both: Tensor, gradient: Tensor) -> None:
        """Replaces gate and up by their gradients, and `gradient`, that of the product, by the product."""

    def attend_step(
        self,
        given: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        counts: npt.NDArray[np.int64],
        heads: int,
    ) -> Tensor:
        """Attention of one query of each row over the first `counts` of its keys, (rows, heads × width).

        `given` are the queries, (rows, heads × width); with a key and a value after each, (rows, 3 × heads × width),
        these are first stored as the last of the row's `counts`. `keys` and `values` are (rows, room, heads × width),
        and `bias` is (heads, tokens) or None. Raises MemoryError.
        """

    def normed(self, x: Tensor, scale: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        """x divided by its root mean square, the same times `scale`, and the inverse of that root, (tokens, 1).

        The first two have the dtype of `scale`.
        """

    def normed_backward(
        self, gradient: Tensor, plain: Tensor, inverse: Tensor, scale: Tensor, bypass: Tensor, *, scale_learns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of x and of the norm's scale, from that of norm(x) × scale; `plain` is the first of `normed`.

        That of x includes `bypass`, the gradient that bypasses the layer.
        """

    def residual(self, x: Tensor, y: Tensor, draw: Draw | None, factor: float) -> Tensor:
        """x + `factor` × what dropout keeps of y; y may be overwritten."""

    def kept(self, x: Tensor, draw: Draw | None, factor: float, kind: torch.dtype) -> Tensor:
        """`factor` × what dropout keeps of x, in dtype `kind`; the same maps the result's gradient to that of x."""

    def relu_dropped(self, hidden: Tensor, draw: Draw | None) -> Tensor:
        """What dropout keeps of relu(hidden), in place and not scaled."""

    def losses(self, logits: Tensor, labels: Tensor, *, gradient: bool) -> Tensor:
        """Cross-entropy of each token, in fp32 or wider and, if asked, its gradient by the logits, which replaces them.

        `logits` are (tokens, vocabulary), `labels` (tokens,). Raises IndexError if a label has no logit.
        """

    def largest(self, logits: Tensor) -> Tensor:
        """The index of the first of each row's greatest logits, int64; arbitrary if one is NaN."""

    def add_(self, total: Tensor, part: Tensor) -> None:
        """Adds values in bf16 to a total in fp32."""

    def squares(self, values: Tensor) -> float:
        """The sum of the squares of values, with a relative error of at most 1e-6."""

    def adafactor(self, matrices: Sequence[Matrix]) -> list[bool]:
        """Updates matrices and their second moments; False for one left unchanged because its moment would be clamped.

        Gradients may be overwritten. Raises MemoryError.
        """


def kernels_for(values: Tensor, kinds: tuple[torch.dtype, ...] = FLOATS) -> Kernels:
    """The compiled functions if values of this dtype are in memory that they can reach, else torch's."""
    fits = values.dtype in kinds and placement.on_host(values) and native.library() is not None
    return cast(Kernels, compiled if fits else reference)
