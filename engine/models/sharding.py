"""A model divided among all ranks by torch's FSDP2: each holds its share of weights, gradients and optimizer state.

The weights of a layer are put together while it computes and dropped again, in the backward pass too; those outside the
layers while a loss or a reply is computed. The gradients of what learns are summed over the ranks into their shares.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from engine.cpu.heap import return_blocks_of
from engine.models.freezing import frozen_tensors, trained_parameters
from engine.process.gradient_sums import Waiting
from engine.process.world import World

T = TypeVar("T")
# Before torch 2.13 they had other names, and a pass that was given up could not be caught up with.
GATHER: Callable[..., Any] = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
SCATTER: Callable[..., Any] = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
CATCHES_UP = hasattr(FSDPModule, "reset_iter_state")
DROPPED = 1 << 20  # bytes of a block from which the heap of a CPU must not keep it: the layers that were dropped


class Root(nn.Module):
    """What is computed with the weights outside the layers put together."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], T]) -> T:
        """What `compute` returns; it may run the model as often as it likes."""
        return compute()


@dataclass
class Exchanges:
    """The exchanges of weights and gradients of a pass, forward and backward: how many are done, and which are skipped.

    Every pass has the same ones in the same order, whatever its rows are.
    """

    done: int = 0
    skipped: int = 0  # of the next ones

    def is_due(self) -> bool:
        """Whether the next exchange is to be done, and counts it."""
        if self.skipped:
            self.skipped -= 1
            return False
        self.done += 1
        return True


class Exchange:
    """An exchange as FSDP2 calls it, wrapped as `waiting` for others; one that is skipped leaves zeros."""

    def __init__(self, exchanges: Exchanges, work: Callable[..., Any], waiting: Waiting) -> None:
        self._exchanges, self._work, self._waiting = exchanges, work, waiting

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory for it, as FSDP2 takes it if it is left to itself."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, *more: Any, **named: Any) -> Any:
        """Does it, or skips it."""
        if self._exchanges.is_due():
            with self._waiting():
                return self._work(output_tensor, input_tensor, *more, group=group, **named)
        output_tensor.zero_()
        return None


@dataclass(frozen=True)
class Shards:
    """This rank's share of a model: what learns, by name, as torch's FSDP2 holds it, and as plain tensors.

    Both are the same memory. An optimizer that treats every value alone works on the plain ones.
    """

    root: Any
    divided: Mapping[str, nn.Parameter]
    mine: dict[str, nn.Parameter]
    mesh: DeviceMesh
    unchanged: dict[str, Tensor]  # what does not learn, as it was loaded, on rank 0; emptied when it is written
    gathered: int  # bytes of the weights that are put together in a micro-batch, forward and backward
    exchanges: Exchanges
    world: World

    def take_gradients(self) -> None:
        """Hands the gradients, summed over all ranks, to the plain tensors; a missing one counts as zero."""
        for name, parameter in self.mine.items():
            found = self.divided[name].grad
            parameter.grad = torch.zeros_like(parameter) if found is None else _local(found)
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Drops the gradients that were not handed over."""
        for parameter in self.divided.values():
            parameter.grad = None

    def begin_pass(self) -> None:
        """Begins a pass that this rank may give up, on all ranks together, from shares alone."""
        self.root.reshard()
        self.exchanges.done = 0

    @property
    def catches_up(self) -> bool:
        """Whether a pass that was given up can be caught up with."""
        return CATCHES_UP

    def catch_up(self, compute: Callable[[], None]) -> None:
        """Does the exchanges that the others still wait for in a pass that this rank gave up, by another, small pass.

        On all ranks the gradients are nobody's afterwards.
        """
        if self.exchanges.done:
            self.root.reset_iter_state()
        self.exchanges.skipped = self.exchanges.done
        compute()

    def divided_like(self, name: str, local: Tensor) -> DTensor:
        """This rank's share of a tensor that is divided as the parameter of a name is."""
        like: Any = self.divided[name]
        return DTensor.from_local(local, self.mesh, [Shard(0)], run_check=False, shape=like.shape, stride=like.stride())

    def share_of(self, whole: Tensor) -> Tensor:
        """This rank's share of a whole tensor that is to be divided as parameters are."""
        parts = whole.chunk(self.mesh.size())
        rank = self.mesh.get_local_rank()
        return parts[rank] if rank < len(parts) else whole[:0]

    def held(self) -> int:
        """The number of weights that this rank holds, with those that do not learn."""
        self.root.reshard()
        return sum(_local(parameter).numel() for parameter in self.root.parameters())


def shard(model: Any, world: World, *, bf16: bool, narrow: Set[int] = frozenset()) -> Shards:
    """Divides a model among all ranks, layer by layer, so that none ever holds more than its share and a layer.

    Weights may still be mapped from files. They are held in fp32, but in bf16 those whose identities `narrow` has: the
    weights themselves would not be freed. With `bf16` the layers are put together in bf16, and their gradients are
    summed in fp32.
    """
    if world.device.type == "cpu":
        return_blocks_of(DROPPED)
    unchanged = frozen_tensors(model) if world.is_main else {}
    mesh = init_device_mesh(world.device.type, (world.size,))
    kind = _kind_of_layers(model, world.device) if bf16 else None
    of_layers = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=torch.float32, cast_forward_inputs=False)
    layers, root = list(layers_of(model)), Root(model)
    for layer in layers:
        _settle(layer, narrow)
        fully_shard(layer, mesh=mesh, mp_policy=of_layers)
    _settle(root, narrow)
    fully_shard(root, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))
    exchanges = _exchanged(root, world)
    learning = trained_parameters(model)
    mine = {name: nn.Parameter(_local(parameter.detach())) for name, parameter in learning.items()}
    gathered = _gathered(root, layers, kind)
    return Shards(root, learning, mine, mesh, unchanged, gathered, exchanges, world)


def layers_of(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model, which are divided one by one: the entries of its outermost lists of modules.

    One that shares a weight with another part of the model is none of them.
    """
    uses = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    for name, layer in model.named_modules():
        inside, _, _ = name.rpartition(".")
        outermost = inside in lists and not any(inside.startswith(f"{other}.") for other in lists)
        own = Counter(id(p) for module in layer.modules() for p in module.parameters(recurse=False))
        if outermost and own and all(count == uses[key] for key, count in own.items()):
            yield layer


def _kind_of_layers(model: Any, device: torch.device) -> torch.dtype | None:
    """The dtype that the layers of a model in bf16 are put together in; None: as held, and autocast casts them.

    So it is if a model keeps parts in fp32; and on a processor, if torch's layer norms get activations in fp32, for
    which they take no weights in bf16 there.
    """
    kept = model._keep_in_fp32_modules or model._keep_in_fp32_modules_strict
    wide = device.type == "cpu" and model.get_input_embeddings().weight.requires_grad
    normed = wide and any(isinstance(module, nn.LayerNorm | nn.GroupNorm) for module in model.modules())
    return None if kept or normed else torch.bfloat16


def _settle(part: nn.Module, narrow: Set[int]) -> None:
    """Gives the weights of a part the dtype that they are held in; those that are divided already have theirs.

    FSDP2 reads it from them: a cast of what is divided would change the dtype that it reads, and not what it holds.
    """
    for parameter in part.parameters():
        if not isinstance(parameter, DTensor):
            kind = torch.bfloat16 if id(parameter) in narrow else torch.float32
            parameter.data = parameter.data.to(kind).contiguous()


def _exchanged(root: Any, world: World) -> Exchanges:
    """Has all parts of a model do their exchanges in our way; the count of these."""
    exchanges, waiting = Exchanges(), world.rank_status.waiting_for_others
    gather: Any = Exchange(exchanges, GATHER, waiting)
    scatter: Any = Exchange(exchanges, SCATTER, waiting)
    for part in root.modules():
        if isinstance(part, FSDPModule):
            part.set_custom_all_gather(gather)
            part.set_custom_reduce_scatter(scatter)
            part.set_gradient_divide_factor(1.0)  # a loss is divided by the tokens of all ranks already
            part.set_force_sum_reduction_for_comms(True)
    return exchanges


def _gathered(root: nn.Module, layers: Sequence[nn.Module], kind: torch.dtype | None) -> int:
    """Bytes of the weights that are put together in a micro-batch: of layers twice, of what is outside them once."""
    within = {parameter for layer in layers for parameter in layer.parameters()}
    twice = sum(parameter.numel() * (kind or parameter.dtype).itemsize for parameter in within)
    once = sum(
        parameter.numel() * parameter.dtype.itemsize for parameter in root.parameters() if parameter not in within
    )
    return 2 * twice + once


def _local(tensor: Any) -> Tensor:
    found: Tensor = tensor.to_local()
    return found
