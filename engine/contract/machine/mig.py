"""Cards that are divided into instances (NVIDIA's MIG): a process of CUDA sees one instance, and then no whole card.

An instance has a size of memory of its own; temperature and power are the card's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Instance:
    """An instance: the driver's number of its card, its own number there, and how CUDA_VISIBLE_DEVICES may name it."""

    card: int
    number: int
    names: tuple[str, ...]


def divided(nvml: Any, cards: Iterable[int]) -> list[int]:
    """Those of some cards that are divided, even if no instance was made yet."""
    return [card for card in cards if _is_divided(nvml, card)]


def instances(nvml: Any, cards: Iterable[int]) -> Iterator[Instance]:
    """The instances of some cards that this process may use, in the driver's order."""
    for card in divided(nvml, cards):
        parent = nvml.nvmlDeviceGetHandleByIndex(card)
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(parent)):
            try:
                found = nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, number)
                yield Instance(card, number, tuple(_names(nvml, parent, found)))
            except nvml.NVMLError:  # there is none of this number, or it belongs to another container
                continue


def named(entry: str, found: Iterable[Instance]) -> Instance | None:
    """The one instance that an entry of CUDA_VISIBLE_DEVICES names, by its whole name or how it begins."""
    meant = [one for one in found if any(name.startswith(entry) for name in one.names)]
    whole = [one for one in meant if entry in one.names]
    fitting = whole or meant
    return fitting[0] if len(fitting) == 1 else None


def _is_divided(nvml: Any, card: int) -> bool:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(nvml.nvmlDeviceGetHandleByIndex(card))
    except Exception:  # a card, a driver or a binding without such instances, or a lost card
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _names(nvml: Any, parent: Any, found: Any) -> Iterator[str]:
    """The UUID, and the name that drivers before 470 gave: the card's UUID and two numbers."""
    yield str(nvml.nvmlDeviceGetUUID(found))
    try:
        numbers = nvml.nvmlDeviceGetGpuInstanceId(found), nvml.nvmlDeviceGetComputeInstanceId(found)
        yield f"MIG-{nvml.nvmlDeviceGetUUID(parent)}/{numbers[0]}/{numbers[1]}"
    except nvml.NVMLError:  # a container may not ask about the card
        return
