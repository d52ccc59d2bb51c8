"""How many parameters a model has, how many of them learn, and how much an optimizer keeps for these; without torch."""

import math
from collections.abc import Callable, Mapping, Sequence

from engine.contract.config import RunConfig
from engine.contract.facts import Sizes
from engine.contract.messages import InputError
from engine.models.weightfile import Tensor

FLOAT = 4  # bytes; what learns is always fp32


def names_in(freeze: str) -> list[str]:
    """The parts that the setting `freeze` lists."""
    return [name for name in (part.strip() for part in freeze.split(",")) if name]


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


def counted(tensors: Mapping[str, Tensor], part_of: Callable[[str], str], config: RunConfig) -> Sizes:
    """The sizes of a model of these parameters, each listed once; raises InputError for what cannot be frozen.

    `part_of` is the name of the part that a parameter belongs to; any other name stands for the parameters whose names
    begin with it.
    """
    frozen, parts = names_in(config.freeze), {part_of(name) for name in tensors}

    def is_frozen(name: str) -> bool:
        return any(part_of(name) == part if part in parts else name.startswith(part) for part in frozen)

    for part in frozen:
        if part not in parts and not any(name.startswith(part) for name in tensors):
            known = ", ".join(dict.fromkeys(name.partition(".")[0] for name in tensors))
            raise InputError("freeze_unknown", name=part, known=known)
    trained = [tensor for name, tensor in tensors.items() if not is_frozen(name)]
    if not any(tensor.count for tensor in trained) and any(tensor.count for tensor in tensors.values()):
        raise InputError("nothing_trainable", freeze=config.freeze)
    return Sizes(
        parameters=sum(tensor.count for tensor in tensors.values()),
        trained=sum(tensor.count for tensor in trained),
        optimizer_bytes=sum(state_bytes(config.optimizer, tensor.shape) for tensor in trained),
    )
