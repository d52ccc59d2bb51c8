"""LoRA: linear layers whose weights stay as they are, each with a change of low rank that learns.

An adapted layer takes the place of its layer, whose parameters keep their names; `lora_A` (rank, in) and `lora_B`
(out, rank) are added, fp32. A is drawn as peft draws it, B is zero, so the model is at first the one it was.
"""

import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.contract.config import RunConfig
from engine.contract.messages import InputError, Message
from engine.contract.texts import short_count
from engine.cpu.adapted import Adapted, Adapter
from engine.models.counting import adapted, scale_of
from engine.models.freezing import Frozen, Parts, freeze, parameters_of

DOWN, UP = "lora_A", "lora_B"


class _Product(torch.autograd.Function):
    """x @ W.T + scale × (x @ A.T) @ B.T + bias, (rows, out); x is kept once, and no copy of W."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        adapted = Adapted.of(weight, down, up, scale)
        reduced = adapted.reduced(x)
        ctx.save_for_backward(x, reduced, weight, adapted.down, adapted.up)
        ctx.scale, ctx.kind = scale, down.dtype
        return adapted.times(x, reduced, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, reduced, weight, down, up = ctx.saved_tensors
        adapted = Adapted(weight, down, up, ctx.scale)
        d_down, d_up = adapted.gradients(gradient, x, reduced)
        d_x = adapted.back(gradient) if ctx.needs_input_grad[0] else None
        return d_x, None, None, d_down.to(ctx.kind), d_up.to(ctx.kind), None


def adapted_product(x: Tensor, weight: Tensor, bias: Tensor | None, adapter: Adapter) -> Tensor:
    """The output of an adapted layer for x (…, in), in autocast's dtype if that is on, else in x's; W is (out, in)."""
    device = x.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    rows = x.to(kind).reshape(-1, x.shape[-1])
    bias = None if bias is None else bias.detach().to(kind)
    with torch.autocast(device, enabled=False):
        if adapter.merged is None:
            product = cast(Callable[..., Tensor], _Product.apply)
            y = product(rows, weight.detach().to(kind), bias, adapter.down, adapter.up, adapter.scale)
        else:
            y = functional.linear(rows, adapter.merged().to(rows), bias)
    return y.view(*x.shape[:-1], -1)


class AdaptedLayer(nn.Module):
    """What adapted layers share."""

    transposed = False  # whether the weight is (in, out)
    weight: Any
    bias: Any
    lora_A: nn.Parameter
    lora_B: nn.Parameter

    def __init__(self, layer: Any, down: Tensor, scale: float) -> None:
        """Takes the place of `layer`, with its parameters; `down` is A."""
        nn.Module.__init__(self)
        self.register_parameter("weight", layer.weight)
        self.register_parameter("bias", layer.bias)
        self.lora_A = nn.Parameter(down)
        self.lora_B = nn.Parameter(down.new_zeros(len(self.matrix), len(down)))
        self.adapter = Adapter(self.lora_A, self.lora_B, scale)
        self.train(layer.training)

    @property
    def matrix(self) -> Tensor:
        """The frozen weight, (out, in)."""
        found: Tensor = self.weight.t() if self.transposed else self.weight
        return found

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, (…, out)."""
        # Where a model is divided among ranks, the module holds other tensors while it computes than it was made with.
        adapter = replace(self.adapter, down=self.lora_A, up=self.lora_B)
        return adapted_product(x, self.matrix, self.bias, adapter)

    def whole(self) -> Self:
        """A layer with the whole of A and B, of which each rank has a share; all ranks must call it together."""
        found = copy.copy(self)
        parts = {name: nn.Parameter(_gathered(self._parameters[name]), requires_grad=False) for name in (DOWN, UP)}
        found._parameters = {**self._parameters, **parts}
        return found

    def change(self) -> Tensor:
        """What merging adds to the weight: scale × B @ A in the weight's own layout, fp32."""
        found = (self.lora_B.detach() * self.adapter.scale) @ self.lora_A.detach()
        return found.t() if self.transposed else found


def _gathered(tensor: Any) -> Tensor:
    found: Tensor = tensor.detach().full_tensor()
    return found


class AdaptedLinear(AdaptedLayer, nn.Linear):
    """A linear layer."""

    def __init__(self, layer: Any, down: Tensor, scale: float) -> None:
        super().__init__(layer, down, scale)
        self.out_features, self.in_features = layer.weight.shape


class AdaptedConv1D(AdaptedLayer):
    """transformers' Conv1D, as in GPT-2: a linear layer whose weight is (in, out)."""

    transposed = True


def _class_for(layer: nn.Module) -> type[AdaptedLayer] | None:
    """The class that takes a layer's place; None if it is something other than one matrix product."""
    kind = type(layer)
    if isinstance(layer, nn.Linear) and kind.forward is nn.Linear.forward:
        return AdaptedLinear
    if (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D"):  # without importing it
        return AdaptedConv1D
    return None


@dataclass(frozen=True)
class Adapters:
    """The adapters of a model by the names of their layers."""

    layers: Mapping[str, AdaptedLayer]
    rank: int
    alpha: float
    scaling: str
    kind: torch.dtype = torch.float32  # of the model's files, and of what is merged

    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns, by name."""
        return {f"{name}.{part}": getattr(layer, part) for name, layer in self.layers.items() for part in (DOWN, UP)}


def whole(adapters: Adapters) -> Adapters:
    """Adapters whose values are divided among the ranks, put together; all ranks must call it together."""
    return replace(adapters, layers={name: layer.whole() for name, layer in adapters.layers.items()})


def restore(adapters: Adapters | None, trained: Mapping[str, Tensor], path: str) -> None:
    """Gives adapters their values in a checkpoint at `path`; raises InputError if it has other ones, or none."""
    own = {} if adapters is None else adapters.parameters()
    _, state = split(trained)
    wrong = sorted(own.keys() ^ state.keys()) or [name for name in own if own[name].shape != state[name].shape]
    if wrong:
        raise InputError("lora_other_adapter", path=path, name=wrong[0])
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a checkpoint without those of adapters, and those of adapters."""
    ours = {name: tensor for name, tensor in state.items() if name.endswith((f".{DOWN}", f".{UP}"))}
    return {name: tensor for name, tensor in state.items() if name not in ours}, ours


def adapters_of(model: nn.Module) -> dict[nn.Parameter, Adapter]:
    """The adapter of each weight that has one."""
    return {layer.weight: layer.adapter for layer in model.modules() if isinstance(layer, AdaptedLayer)}


def prepare_learning(model: Any, config: RunConfig, parts: Parts) -> tuple[Frozen, Adapters | None]:
    """Lets learn what the settings say: all but what `freeze` names, or with a rank adapters alone; raises InputError.

    `parts` are those that the model's family names. The parts that `freeze` names get no adapters.
    """
    if not config.lora_rank:
        return freeze(model, config.freeze, parts), None
    total = sum(parameter.numel() for parameter in model.parameters())
    adapters = attach(model, config, parts)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Frozen(total, trained, tuple(_notices(adapters, total, trained))), adapters


def attach(model: Any, config: RunConfig, parts: Parts) -> Adapters:
    """Freezes a model and gives the layers that the settings name their adapters; raises InputError."""
    wanted, places = _chosen(model, config, parts), _places(model)
    scale = scale_of(config.lora_rank, config.lora_alpha, config.lora_scaling)
    model.requires_grad_(False)
    layers: dict[str, AdaptedLayer] = {}
    for name, layer in wanted.items():
        kind = _class_for(layer)
        assert kind is not None
        layers[name] = kind(layer, _drawn(name, config, layer.weight, transposed=kind.transposed), scale)
        for parent, attribute in places[id(layer)]:
            setattr(parent, attribute, layers[name])
    return Adapters(layers, config.lora_rank, config.lora_alpha, config.lora_scaling)


def _places(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Where each module is, by its identity: one that several layers share has several places."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for parent in model.modules():
        for attribute, child in parent.named_children():
            found.setdefault(id(child), []).append((parent, attribute))
    return found


def _drawn(name: str, config: RunConfig, weight: Tensor, *, transposed: bool) -> Tensor:
    """A for a layer, (rank, in): uniform, as `kaiming_uniform_` with a = √5; the same on every rank and machine."""
    width = weight.shape[0 if transposed else 1]
    found = torch.empty(config.lora_rank, width, device=weight.device if weight.is_meta else "cpu")
    if weight.is_meta:
        return found
    digest = hashlib.sha256(f"{config.seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    bound = width**-0.5
    return found.uniform_(-bound, bound, generator=generator).to(weight.device)


def linear_layers(model: Any) -> dict[str, Any]:
    """The layers that can have an adapter, by name: every linear one but the head.

    A layer whose weight is used elsewhere too has none, since merging would change both.
    """
    uses = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if _class_for(module) is not None and module is not head and uses[id(module.weight)] == 1
    }


def _chosen(model: Any, config: RunConfig, parts: Parts) -> dict[str, Any]:
    """The layers that get an adapter."""
    layers = linear_layers(model)
    part_of = {id(parameter): part for part, found in parts.items() for parameter in found}
    frozen = {id(parameter) for parameter in parameters_of(model, config.freeze, parts)}
    named = {name: part_of.get(id(layer.weight), "") for name, layer in layers.items()}
    return {name: layers[name] for name in adapted(named, config, lambda name: id(layers[name].weight) in frozen)}


def _notices(adapters: Adapters, total: int, trained: int) -> Iterator[Message]:
    """What a person should know of the adapters."""
    names = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in adapters.layers))
    counts = {"trained": short_count(trained), "total": short_count(total)}
    yield Message.of("lora", rank=adapters.rank, layers=len(adapters.layers), names=names, **counts)
    large = [name for name, layer in adapters.layers.items() if min(layer.weight.shape) <= adapters.rank]
    if large:
        least = min(min(adapters.layers[name].weight.shape) for name in large)
        yield Message.of("lora_rank_large", rank=adapters.rank, name=large[0], layers=len(large), least=least)
