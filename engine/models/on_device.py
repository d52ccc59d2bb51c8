"""A loaded model on its device: the head that it has, the precision it is computed in, and how it is computed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.contract.config import RunConfig
from engine.contract.messages import Message
from engine.models import freezing, loss
from engine.models.loss import Head
from engine.models.network import Agreement, Network, packs
from engine.models.precision import choose_precision
from engine.models.registry import family_of
from engine.process.world import World

if TYPE_CHECKING:
    from engine.models.sharding import Shards


@dataclass(frozen=True)
class OnDevice:
    """A model ready to be computed, in `precision` "bf16" or "fp32", and what must be reported of it."""

    network: Network
    precision: str
    fallback: Message | None  # bf16 was not possible
    head_missing: Message | None  # the head cannot be computed in chunks
    unchanged: dict[str, Tensor] = field(default_factory=dict)  # what does not learn as it was loaded, if it was cast


def on_device(
    model: Any, config: RunConfig, device: torch.device, everyone: Callable[[bool], bool] = bool, layout: str = ""
) -> OnDevice:
    """Moves a model to a device, to be computed there as the settings say, and alike by all ranks if `everyone`.

    `layout` is that of the rows so far, if the run is resumed.
    """
    precision, fallback = choose_precision(config.mixed_precision, device, everyone)
    bf16 = precision == "bf16"
    head, unchanged = _moved(model, device, bf16=bf16)
    missing = None if head else Message.of("head_not_separable", model=type(model).__name__)
    agreement = Agreement(layout, everyone)
    network = network_of(model, head, config.loss_chunk_tokens, bf16=bf16, agreement=agreement)
    return OnDevice(network, precision, fallback, missing, unchanged)


def _moved(model: Any, device: torch.device, *, bf16: bool) -> tuple[Head | None, dict[str, Tensor]]:
    """Moves a model to a device; returns its head, and what does not learn as it was loaded, if it was cast.

    Frozen weights are cast to bf16 on their way, so that a GPU never holds them wider.
    """
    held = family_of(model).held_in_bf16(model) if bf16 and not packs(device) else []
    wide = {id(parameter) for parameter in held if parameter.dtype != torch.bfloat16}
    if not wide:
        model.to(device)
        return find_head(model), {}
    separable = find_head(model) is not None  # in fp32, in which the two ways to its logits can be compared
    unchanged = freezing.frozen_tensors(model)
    model._apply(lambda tensor: tensor.to(torch.bfloat16 if id(tensor) in wide else tensor.dtype).to(device))
    return loss.declared_head(model) if separable else None, unchanged


def divided(model: Any, config: RunConfig, world: World) -> "tuple[OnDevice, Shards]":
    """Divides a model on the CPU, whose weights may be mapped from files, among all ranks, on their devices."""
    from engine.models.sharding import shard  # torch's FSDP2 is loaded only by runs that use it

    separable = find_head(model) is not None
    missing = None if separable else Message.of("head_not_separable", model=type(model).__name__)
    precision, fallback = choose_precision(config.mixed_precision, world.device, world.everyone)
    bf16, family = precision == "bf16", family_of(model)
    narrow = {id(weight) for weight in family.held_in_bf16(model)} if bf16 else frozenset[int]()
    shards = shard(model, world, bf16=bf16, narrow=narrow)
    chunk = config.loss_chunk_tokens
    network = family.sharded(model, shards, world, separable=separable, chunk=chunk, bf16=bf16)
    return OnDevice(network, precision, fallback, missing), shards


def find_head(model: Any) -> Head | None:
    """The head of a model, or None if logits are more than one linear map of its input."""
    return loss.find_head(model, family_of(model).head_inputs)


def network_of(model: Any, head: Head | None, chunk: int, *, bf16: bool, agreement: Agreement | None = None) -> Network:
    """How a model is computed on the device that it is on."""
    return family_of(model).network(model, head, chunk, bf16=bf16, agreement=agreement)
