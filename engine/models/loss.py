"""Cross-entropy that never holds all logits: the output head is applied a chunk of label tokens at a time.

The head's input at the label tokens is (N, d_model), its weight (V, d_model). The gradient of the summed loss is
softmax(logits) - one_hot(label), so it is formed with each chunk while its logits are in memory, and the logits are
dropped: N × V floats never exist, only chunk × V.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.cpu.kernels import kernels_for
from engine.cpu.placement import cast as cast_of
from engine.cpu.prepacking import Prepacked, Weight

HEAD_ROWS = 2048  # of the head's weight in one matrix product
PRODUCT_ROWS = 4096  # of its gradient in one
LARGE = 200.0  # a logit that every cap cuts

_kept: ContextVar[list[Tensor] | None] = ContextVar("kept", default=None)


@contextmanager
def keeping_token_losses() -> Iterator[list[Tensor]]:
    """Keeps the cross-entropy of each label token of every loss that is summed within, in the order of the tokens.

    Each entry is some tokens' losses, (n,) float32. They are a by-product: sums and gradients have the same bits.
    """
    found: list[Tensor] = []
    token = _kept.set(found)
    try:
        yield found
    finally:
        _kept.reset(token)


def _sum_of(losses: Tensor) -> Tensor:
    """The sum of some tokens' losses, float64; and kept within `keeping_token_losses`."""
    kept = _kept.get()
    if kept is not None:
        kept.append(losses.detach())
    return losses.double().sum()


class _HeadReachedError(Exception):
    """Carries the input of the output head out of the model's forward pass."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


@dataclass(frozen=True)
class Head:
    """The output head of a model: logits = hidden @ weight.T + bias."""

    module: nn.Module
    weight: Tensor
    biases: tuple[Tensor, ...]  # flat; the head adds each of them
    value: Tensor | None = None  # the weight in the dtype of the head's products, if that is another
    prepacked: Prepacked | None = None  # the same, for its logits

    @property
    def bias(self) -> Tensor | None:
        """The sum of the biases as they are now, or None."""
        return torch.stack(self.biases).sum(dim=0) if self.biases else None

    def hidden(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """The head's input, (rows, label length, d_model): runs the model up to its head and no further."""

        def stop(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            raise _HeadReachedError(args[0])

        hook = self.module.register_forward_pre_hook(stop)
        try:
            model(**{"use_cache": False, **inputs})
        except _HeadReachedError as reached:
            return reached.hidden
        finally:
            hook.remove()
        raise RuntimeError("the model never called its output head")


def declared_head(model: Any) -> Head | None:
    """The head as the modules hold it now, if logits are one linear map of its input; None if it is not a linear layer.

    A model without a forward pass of its own declares that they are (`plain_head`).
    """
    module = model.get_output_embeddings()
    if getattr(model, "plain_head", False):
        return Head(module, module.weight, ())
    if not isinstance(module, nn.Linear):
        return None
    parts = [part for part in (module.bias, getattr(model, "final_logits_bias", None)) if part is not None]
    return Head(module, module.weight, tuple(part.flatten() for part in parts))


def find_head(model: Any, inputs_of: Callable[[Tensor], dict[str, Tensor]]) -> Head | None:
    """The head of `model`, or None if logits are more than one linear map of its input.

    Determined by trial: the logits of a few tokens, computed both ways, must agree, even where they are so large that
    a cap would show; `inputs_of` makes the arguments of its forward pass of them. A model with bf16 weights is run
    under autocast. That of a model without a forward pass of its own is taken as declared.
    """
    head = declared_head(model)
    if head is None or getattr(model, "plain_head", False):
        return head
    module: Any = head.module
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), in_its_kind(model):
            ids = torch.arange(4, 10, device=module.weight.device).remainder(module.weight.shape[0])[None]
            inputs = inputs_of(ids)
            hidden = head.hidden(model, inputs)
            logits = functional.linear(hidden, head.weight, head.bias)
            for factor in (1.0, LARGE / max(float(logits.abs().max()), 1e-3)):
                whole = _from(module, hidden * factor, lambda: model(**inputs, use_cache=False).logits)
                ours = functional.linear(hidden * factor, head.weight, head.bias)
                if not torch.allclose(whole, ours, rtol=1e-4, atol=1e-4 * max(1.0, float(ours.abs().max()))):
                    return None
        return head
    except (RuntimeError, IndexError):
        return None
    finally:
        model.train(was_training)


def in_its_kind(model: nn.Module) -> torch.autocast:
    """What a model that was just loaded can be run within: autocast, if some of its weights are bf16."""
    kinds = {(parameter.device.type, parameter.dtype) for parameter in model.parameters()}
    device = next(iter(kinds), ("cpu", torch.float32))[0]
    return torch.autocast(device, torch.bfloat16, enabled=(device, torch.bfloat16) in kinds)


def _from(module: nn.Module, hidden: Tensor, run: Callable[[], Tensor]) -> Tensor:
    """What `run` returns if the module's input is `hidden`."""
    hook = module.register_forward_pre_hook(lambda _, __: (hidden,))
    try:
        return run()
    finally:
        hook.remove()


def logits_of(hidden: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """The logits of the output head, (N, V), without a graph.

    On a CPU MKL multiplies by such a wide weight a quarter slower than by parts of it, in fp32: 256 tokens of 768 by
    29,298 rows take 89 ms whole and 68 ms in parts. In bf16, by oneDNN, the whole is faster.
    """
    if isinstance(weight, Prepacked):
        logits = weight.times(hidden)
        return logits if bias is None else logits.add_(bias)
    kind = hidden.device.type
    if kind != "cpu" or torch.is_autocast_enabled(kind) or hidden.element_size() < 4:
        return functional.linear(hidden, weight, bias)
    logits = hidden.new_empty(len(hidden), len(weight))
    for start in range(0, len(weight), HEAD_ROWS):
        part = slice(start, start + HEAD_ROWS)
        torch.mm(hidden, weight[part].t(), out=logits[:, part])
    return logits if bias is None else logits.add_(bias)


def _add_product(total: Tensor, grad: Tensor, hidden: Tensor) -> None:
    """Adds grad.T @ hidden, (V, d_model), to fp32, some rows at a time: whole, 49,152 × 576 of bf16 take 170 MB."""
    for start in range(0, len(total), PRODUCT_ROWS):
        rows = slice(start, start + PRODUCT_ROWS)
        found = grad[:, rows].T @ hidden
        if found.dtype == torch.bfloat16:
            kernels_for(found).add_(total[rows], found)
        else:
            total[rows] += found


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        chunk: int,
        value: Tensor,
        prepacked: Prepacked | None,
    ) -> Tensor:
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if need_bias and bias is not None else None
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, len(labels), chunk):
            part = slice(start, start + chunk)
            grad = logits_of(hidden[part], prepacked or value, bias)
            total += _sum_of(kernels_for(grad).losses(grad, labels[part], gradient=True))
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0, dtype=torch.float32)
            if grad_hidden is not None:
                torch.mm(grad, value, out=grad_hidden[part])
            if grad_weight is not None:
                _add_product(grad_weight, grad, hidden[part])
            del grad  # before the next chunk's logits exist
        ctx.grads = (grad_hidden, grad_weight, grad_bias)
        ctx.kinds = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grads, ctx.grads = ctx.grads, None  # a gradient that the graph still held would be copied, not taken over
        scaled = [
            None if grad is None else grad.mul_(grad_output.to(grad.dtype)).to(kind)
            for grad, kind in zip(grads, ctx.kinds, strict=True)
        ]
        del grads
        return (*scaled, None, None, None, None)


def summed_loss(hidden: Tensor, head: Head, labels: Tensor, chunk: int) -> Tensor:
    """Cross-entropy summed over label tokens, float64.

    `hidden` is (N, d_model), `labels` (N,); at most `chunk` × V logits are held. Under autocast the head's matrix
    products run in its dtype. The gradient is kept from the forward pass and may be requested only once.
    """
    kind = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else None
    with torch.autocast(hidden.device.type, enabled=False):
        bias, value = head.bias, head.value
        if kind is not None:
            bias, hidden = None if bias is None else bias.to(kind), hidden.to(kind)
        if value is None:
            value = head.weight.detach() if kind is None else cast_of(head.weight, kind)
        apply = cast(Callable[..., Tensor], _SummedLoss.apply)
        return apply(hidden, head.weight, bias, labels, chunk, value, head.prepacked)


class _LossOfLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        ctx.grad = logits.clone()
        return _sum_of(kernels_for(ctx.grad).losses(ctx.grad, labels, gradient=True))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        return ctx.grad.mul_(grad_output.to(ctx.grad.dtype)), None


def summed_loss_of_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """The same from whole logits, (N, V), for a model whose head is more than one linear map."""
    apply = cast(Callable[..., Tensor], _LossOfLogits.apply)
    return apply(logits, labels)


@torch.no_grad()
def token_losses(hidden: Tensor, head: Head, labels: Tensor, chunk: int) -> Tensor:
    """Cross-entropy of each label token, (N,) float32, without a gradient; shapes as in `summed_loss`."""
    weight: Weight = head.weight if head.value is None else head.value
    weight = weight if head.prepacked is None else head.prepacked
    losses = []
    for start in range(0, len(labels), chunk):
        part = slice(start, start + chunk)
        logits = logits_of(hidden[part], weight, head.bias)
        losses.append(kernels_for(logits).losses(logits, labels[part], gradient=False))
    return torch.cat(losses)
