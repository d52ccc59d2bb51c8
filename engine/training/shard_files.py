"""The files of a checkpoint whose tensors are divided among the ranks: torch.distributed.checkpoint's safetensors.

Each rank writes and reads its own share, at the same time as the others. There is no pickle and no index: each file's
header says which part of a tensor it holds, and the checkpoint's manifest which files there are.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from engine.contract.untrusted import one_line
from engine.process.gradient_sums import Waiting
from engine.process.heartbeat import RankStatus

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    from engine.training.shard_storage import Reader

T = TypeVar("T")
WEIGHT = "weight"  # before the name of a parameter; else what the optimizer keeps for it
FILE_BYTES = 1 << 29  # of a rank's file, about


def own_files(folder: Path, rank: int) -> list[Path]:
    """The files that a rank wrote into a checkpoint's folder."""
    return sorted(folder.glob(f"shard-{rank + 1:05d}-*.safetensors"))


def write(folder: Path, tensors: Mapping[str, Any], ranks: int, status: RankStatus) -> None:
    """Writes this rank's share of some divided tensors; all ranks call it, and all raise OSError if one failed."""
    from torch.distributed.checkpoint.state_dict_saver import save

    from engine.training.shard_storage import Writer

    writer = Writer(folder, parts_of(tensors, FILE_BYTES * ranks), status.working)
    _together(lambda: save(dict(tensors), storage_writer=writer), status.waiting_for_others)


def read_into(folder: Path, names: Iterable[str], tensors: Mapping[str, Any], status: RankStatus) -> None:
    """Reads this rank's share of some divided tensors from files of a folder; all ranks call it; raises OSError.

    They may have been divided among another number of ranks.
    """
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = _reader(folder, names, status.working)
    _together(lambda: load(dict(tensors), storage_reader=reader), status.waiting_for_others)


def whole(folder: Path, names: Iterable[str], kind: Callable[[str], bool]) -> dict[str, Tensor]:
    """The tensors whose kind is wanted, put together on this rank alone; raises OSError."""
    import torch
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = _reader(folder, names)
    found = {name: torch.empty(one.size, dtype=one.properties.dtype) for name, one in _held(reader, kind).items()}
    _together(lambda: load(dict(found), storage_reader=reader, no_dist=True))
    return {name.partition(":")[2] if kind_of(name) == WEIGHT else name: tensor for name, tensor in found.items()}


def stand_ins(folder: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """A tensor in place of each weight, of its shape and dtype, that takes no memory: all its values are one value."""
    import torch

    held = _held(_reader(folder, names), lambda kind: kind == WEIGHT)
    return {
        name.partition(":")[2]: torch.full((), 0.02, dtype=one.properties.dtype).expand(one.size)
        for name, one in held.items()
    }


def kind_of(name: str) -> str:
    """What a tensor in these files is of its parameter."""
    return name.partition(":")[0]


def parts_of(tensors: Mapping[str, Any], size: int) -> dict[str, int]:
    """The number of the part, counted from 1, that each tensor is in, if parts have about as many bytes."""
    found, reached = {}, 0
    for name, tensor in tensors.items():
        found[name] = 1 + reached // size
        reached += math.prod(tensor.shape) * tensor.dtype.itemsize
    return found


def _held(reader: "Reader", kind: Callable[[str], bool]) -> "dict[str, TensorStorageMetadata]":
    found: dict[str, Any] = reader.read_metadata().state_dict_metadata
    return {name: one for name, one in found.items() if kind(kind_of(name))}


def _reader(folder: Path, names: Iterable[str], working: Waiting = nullcontext) -> "Reader":
    from engine.training.shard_storage import Reader  # torch's distributed checkpoint is loaded only where it is used

    return Reader(folder, names, working)


def _together(work: Callable[[], T], waiting: Waiting = nullcontext) -> T:
    """What `work` returns; torch's error about what went wrong on some rank becomes an OSError."""
    from torch.distributed.checkpoint.api import CheckpointException

    failed: CheckpointException
    with waiting(), _without_warnings():
        try:
            return work()
        except CheckpointException as error:  # all ranks have it: none was left
            failed = error
    raise OSError(one_line(next(iter(failed.failures.values()), (failed,))[0]))


@contextmanager
def _without_warnings() -> Any:
    with warnings.catch_warnings(action="ignore"):  # about versions of the format
        yield
