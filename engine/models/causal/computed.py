"""What computing a causal model has in common, whether its rows are end to end or padded.

Only learned tokens have logits. In bf16, products run under autocast: what learns is fp32 and cast for each
micro-batch, what is frozen is held in bf16 alone.
"""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from engine.cpu.kernels import kernels_for
from engine.data.token_store import Row
from engine.models.causal.learned import counts_of, kept_columns, targets_of
from engine.models.causal.streaming import Stream
from engine.models.loss import Head, summed_loss, summed_loss_of_logits, token_losses
from engine.models.network import Choose, Network, Tokens

Given = tuple[dict[str, Any], Tensor]  # a model's inputs, and the places in them that predict learned tokens


class CausalNetwork(Network):
    """A causal model; how rows are given to it, and how it replies, is left to those that derive from this."""

    def __init__(self, model: Any, head: Head | None, chunk: int, *, bf16: bool) -> None:
        self.model, self._head, self._chunk, self._bf16 = model, head, chunk, bf16
        self._device = next(model.parameters()).device
        self._stream: Stream | None = None
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        # The token that pads is often one that rows have, such as the end of an answer: as any other, it learns.
        model.get_input_embeddings().padding_idx = None

    def drop_frozen_fp32(self) -> None:
        """Keeps frozen weights only in the dtype that they are computed in; they can no longer be saved."""
        if self._bf16:
            for parameter in held_in_bf16(self.model):
                parameter.data = parameter.data.bfloat16()

    def summed_loss(self, rows: Sequence[Row], _samples: Sequence[int] | None = None) -> Tensor:
        """Cross-entropy summed over the learned tokens of some rows, float64, with its graph."""
        given, targets = self._batch(rows)
        with self._computing(rows):
            if self._head is None:
                return summed_loss_of_logits(self._logits(given), targets)
            return summed_loss(self._hidden(self._head, given), self._head, targets, self._chunk)

    @torch.no_grad()
    def row_losses(self, rows: Sequence[Row]) -> list[float]:
        """The same for each row separately, without a graph."""
        given, targets = self._batch(rows)
        with self._computing(rows):
            if self._head is None:
                logits = self._logits(given)
                losses = kernels_for(logits).losses(logits, targets, gradient=False)
            else:
                losses = token_losses(self._hidden(self._head, given), self._head, targets, self._chunk)
        return [float(part.double().sum()) for part in losses.cpu().split(counts_of(rows))]

    @torch.no_grad()
    def reply_tokens(self, prompt: Tensor, choose: Choose) -> Tokens:
        """A reply to one prompt token by token; what it shares with the prompt before is not computed again."""
        if self._stream is None:
            self._stream = Stream(self.model, keeps=self._keeps)
        yield from self._stream.tokens(prompt.tolist(), choose, self._in_its_kind())

    def _given(self, rows: Sequence[Row]) -> Given:
        """The model's inputs for some rows, and the places, in all rows of these, that predict learned tokens."""
        raise NotImplementedError

    def _batch(self, rows: Sequence[Row]) -> tuple[Given, Tensor]:
        """The same, and the learned tokens, (N,)."""
        return self._given(rows), targets_of(rows)

    def _computing(self, rows: Sequence[Row]) -> AbstractContextManager[Any]:  # noqa: ARG002
        """What the model is run within for some rows."""
        return self._in_its_kind()

    def _in_its_kind(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16)

    def _hidden(self, head: Head, given: Given, /) -> Tensor:
        """The output head's input at the places of learned tokens, (N, d_model)."""
        inputs, places = given
        return head.hidden(self.model, inputs).flatten(0, 1)[places]

    def _logits(self, given: Given) -> Tensor:
        """The logits of learned tokens, (N, V) fp32, of a model whose head is more than one linear map."""
        inputs, places = given
        if self._keeps and "logits_to_keep" not in inputs:
            kept, places = kept_columns(places, inputs["input_ids"].shape[1])
            inputs = {**inputs, "logits_to_keep": kept}
        logits: Tensor = self.model(**{"use_cache": False, **inputs}).logits
        return logits.flatten(0, 1)[places].float()


def hold(model: Any, *, bf16: bool) -> None:
    """Makes fp32 what learns, and everything unless it is computed in bf16; the rest stays as it was loaded."""
    for parameter in model.parameters():
        if parameter.requires_grad or not bf16:
            parameter.data = parameter.data.float()
    if bf16 and model.get_input_embeddings().weight.requires_grad:
        for parameter in _vectors(model):
            parameter.data = parameter.data.float()


def held_in_bf16(model: Any) -> list[nn.Parameter]:
    """The frozen weights whose fp32 values are not needed: all but those that a model keeps in fp32 or that must be it.

    If the embeddings learn, activations between layers are fp32, and torch's norms have no bf16 weights for such.
    """
    fp32 = model.get_input_embeddings().weight.requires_grad
    kept = {id(parameter) for parameter in _vectors(model)} if fp32 else set()
    names = {*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ())}
    return [
        parameter
        for name, parameter in model.named_parameters()
        if not (parameter.requires_grad or id(parameter) in kept or not names.isdisjoint(name.split(".")))
    ]


def _vectors(model: Any) -> list[Any]:
    return [parameter for parameter in model.parameters() if parameter.dim() < 2 and not parameter.requires_grad]
