"""A state dict as `torch.save` writes it, a zip archive of one pickle and the tensors' bytes, written a few bytes at
a time: torch itself would hold all of it in memory.

The pickle names each tensor with the storage that holds its bytes; identical tensors share a storage.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch._utils import _rebuild_tensor_v2

from engine.contract.durable import sync
from engine.contract.exports import MARK
from engine.training.tensorfile import Stored

STORAGES = {
    torch.float64: torch.DoubleStorage, torch.float32: torch.FloatStorage, torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage, torch.int64: torch.LongStorage, torch.int32: torch.IntStorage,
    torch.int16: torch.ShortStorage, torch.int8: torch.CharStorage, torch.uint8: torch.ByteStorage,
    torch.bool: torch.BoolStorage,
}  # fmt: skip
FORMAT, VERSION = 2, b"3\n"  # versions of the pickle and of the archive
ALIGNED = 64  # bytes: torch can map a storage that begins at a multiple of this
FIXED_HEADER, LONG_HEADER, PADDING_HEAD = 30, 20, 4  # bytes before a part of a zip archive, without its name


class _Entry:
    """A tensor of the state dict, in the storage with that number."""

    def __init__(self, tensor: Stored, storage: int) -> None:
        self.tensor, self.storage = tensor, storage


class _Storage(_Entry):
    """The storage of its bytes."""


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        """The way torch identifies a storage: kind, number, device, elements."""
        if not isinstance(obj, _Storage):
            return None
        return "storage", STORAGES[obj.tensor.dtype], str(obj.storage), "cpu", obj.tensor.count

    def reducer_override(self, obj: Any) -> Any:
        """The way torch builds a tensor from a storage: offset, shape, strides, whether it is trained, hooks."""
        if not isinstance(obj, _Entry):
            return NotImplemented
        shape, stride = obj.tensor.shape, _strides(obj.tensor.shape)
        return _rebuild_tensor_v2, (_Storage(obj.tensor, obj.storage), 0, shape, stride, False, OrderedDict())


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for length in reversed(shape[1:]):
        strides.append(strides[-1] * length)
    return tuple(reversed(strides)) if shape else ()


def write_state_dict(path: Path, tensors: Mapping[str, Stored], names: Mapping[str, str]) -> None:
    """Writes `names`, each with its tensor's name in `tensors`, and syncs the file to disk; raises OSError."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names.values()))}
    state = OrderedDict((name, _Entry(tensors[source], numbers[source])) for name, source in names.items())
    pickled = io.BytesIO()
    _Pickler(pickled, FORMAT).dump(state)
    with zipfile.ZipFile(path, "w") as archive:
        for part, data in (("data.pkl", pickled.getvalue()), ("byteorder", b"little")):
            with archive.open(_part(archive, part, len(data)), "w") as file:
                file.write(data)
        for source, number in numbers.items():
            entry = _part(archive, f"data/{number}", tensors[source].size)
            with archive.open(entry, "w") as file:
                tensors[source].copy(file)
        for part, data in (("version", VERSION), (Path(MARK).name, b"")):
            with archive.open(_part(archive, part, len(data)), "w") as file:
                file.write(data)
    sync(path)


def _part(archive: zipfile.ZipFile, name: str, size: int) -> zipfile.ZipInfo:
    """A part of the archive whose content begins at a multiple of ALIGNED bytes."""
    part = zipfile.ZipInfo(f"archive/{name}")
    part.file_size = size
    long = LONG_HEADER if size * 1.05 > zipfile.ZIP64_LIMIT else 0  # as zipfile decides
    begins = archive.start_dir + FIXED_HEADER + len(part.filename.encode()) + long + PADDING_HEAD
    padding = -begins % ALIGNED
    part.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    return part
