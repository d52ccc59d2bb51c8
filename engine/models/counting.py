"""How many parameters a model has, how many of them learn, and how much an optimizer keeps for these; without torch."""

import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from engine.contract.config import RunConfig, names_in
from engine.contract.facts import Sizes
from engine.contract.messages import InputError
from engine.models.weightfile import Tensor

FLOAT = 4  # bytes; what learns is always fp32
Found = TypeVar("Found")
RANGE = re.compile(r"(.+)\.(\d+)-(\d+)")
NUMBERED = re.compile(r"(.+)\.(\d+)")
EVERY = "all"  # as `lora_parts`: every linear layer but the head


def chosen(
    names: str, find: Callable[[str], Sequence[Found]], parts: Iterable[str], *, unknown: str = "freeze_unknown"
) -> list[Found]:
    """What `find` returns for everything that `names` lists; raises InputError `unknown` for what it does not find.

    `layers.0-11` stands for twelve parts; `parts` are those that a message may name instead.
    """
    found: list[Found] = []
    for listed in names_in(names):
        for name in _expanded(listed):
            some = find(name)
            if not some:
                raise InputError(unknown, name=listed, known=shown(parts))
            found.extend(some)
    return found


def _expanded(name: str) -> list[str]:
    """The parts that a range names; a range that runs backwards or further than any model stays one unknown name."""
    found = RANGE.fullmatch(name)
    if not found or len(found[3]) > 4 or not int(found[2]) <= int(found[3]):
        return [name]
    return [f"{found[1]}.{number}" for number in range(int(found[2]), int(found[3]) + 1)]


def is_within(name: str, part: str) -> bool:
    """Whether a name is that of a part, or of something in it: `layers.1.mlp` is in `layers.1`, `layers.10` is not."""
    return name == part or name.startswith(f"{part}.")


def shown(parts: Iterable[str]) -> str:
    """The names of parts for a message, with a range for those that are numbered: `embeddings, layers.0-29, norm`."""
    groups: dict[str, list[int]] = {}
    for part in parts:
        found = NUMBERED.fullmatch(part)
        groups.setdefault(found[1] if found else part, []).extend([int(found[2])] if found else [])
    return ", ".join(_range(name, numbers) for name, numbers in groups.items())


def _range(name: str, numbers: Sequence[int]) -> str:
    if not numbers:
        return name
    first, last = min(numbers), max(numbers)
    return f"{name}.{first}" if first == last else f"{name}.{first}-{last}"


def scale_of(rank: int, alpha: float, scaling: str) -> float:
    """What an adapter's product is multiplied by.

    Rank-stabilized scaling is that of Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA"
    (2023).
    """
    return alpha / (math.sqrt(rank) if scaling == "rank-stabilized" else rank)


def adapted(layers: Mapping[str, str], config: RunConfig, is_frozen: Callable[[str], bool]) -> list[str]:
    """Those of a model's linear layers, each with its part of the model, that get an adapter; raises InputError.

    They are those that `lora_parts` names (by the last part of a layer's name, its beginning, or a part of the model)
    without those that `freeze` does.
    """
    if not config.pretrained_model:
        raise InputError("lora_new_model", rank=config.lora_rank)

    def find(name: str) -> list[str]:
        return [
            layer
            for layer, part in layers.items()
            if f".{layer}".endswith(f".{name}") or is_within(layer, name) or is_within(part, name)
        ]

    known = dict.fromkeys(layer.rpartition(".")[2] for layer in layers)
    every = names_in(config.lora_parts) == [EVERY]
    wanted = set(layers if every else chosen(config.lora_parts, find, known, unknown="lora_parts_unknown"))
    found = [layer for layer in layers if layer in wanted and not is_frozen(layer)]
    if not found:
        raise InputError("lora_nothing", parts=config.lora_parts or "-", freeze=config.freeze or "-")
    return found


def state_bytes(optimizer: str, shape: Sequence[int]) -> int:
    """Bytes of the state of torch's AdamW or Adafactor for a parameter, its number of steps included.

    AdamW keeps two moments of each element; Adafactor one, and of a matrix only its means over rows and over columns.
    """
    elements = math.prod(shape)
    if optimizer == "adamw":
        return FLOAT * (2 * elements + 1)
    if len(shape) < 2:
        return FLOAT * (elements + 1)
    return FLOAT * (math.prod(shape[:-2]) * (shape[-2] + shape[-1]) + 1)


def counted(
    tensors: Mapping[str, Tensor], part_of: Callable[[str], str], is_linear: Callable[[str], bool], config: RunConfig
) -> Sizes:
    """The sizes of a model of these parameters, each listed once; raises InputError for what cannot be frozen.

    `part_of` is the name of the part that a parameter belongs to; any other name stands for the parameters whose names
    begin with it, up to a dot. `is_linear` tells which matrices are those of linear layers, which may have adapters.
    """

    def find(part: str) -> list[str]:
        named = [name for name in tensors if is_within(part_of(name), part)]
        return named or [name for name in tensors if is_within(name, part)]

    frozen = set(chosen(config.freeze, find, map(part_of, tensors)))
    total = sum(tensor.count for tensor in tensors.values())
    trained: list[tuple[int, ...]]
    if config.lora_rank:
        trained = list(_adapters(tensors, frozen, part_of, is_linear, config))
    else:
        trained = [tensor.shape for name, tensor in tensors.items() if name not in frozen]
        if total and not any(map(math.prod, trained)):
            raise InputError("nothing_trainable", freeze=config.freeze)
    state = sum(state_bytes(config.optimizer, shape) for shape in trained)
    return Sizes(parameters=total, trained=sum(map(math.prod, trained)), optimizer_bytes=state)


def _adapters(
    tensors: Mapping[str, Tensor],
    frozen: Container[str],
    part_of: Callable[[str], str],
    is_linear: Callable[[str], bool],
    config: RunConfig,
) -> Iterator[tuple[int, int]]:
    """The shapes of the two factors of each adapter, as `engine.models.lora` attaches them."""
    linear = [name for name, tensor in tensors.items() if len(tensor.shape) == 2 and is_linear(name)]
    weights = {name.removesuffix(".weight"): name for name in linear}
    layers = {layer: part_of(name) for layer, name in weights.items()}
    for layer in adapted(layers, config, lambda layer: weights[layer] in frozen):
        one, other = tensors[weights[layer]].shape
        yield from ((config.lora_rank, other), (one, config.lora_rank))
