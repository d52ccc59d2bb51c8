"""Safetensors files written and read one tensor at a time: memory never holds a second copy of a model.

The safetensors package turns every tensor into bytes before it writes the first, and maps a whole file to read one.
The format: 8 bytes with the length of a JSON header (little-endian), the header, then the tensors' bytes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import torch
from torch import Tensor

KINDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_TYPES = {name: kind for kind, name in KINDS.items()}
BUFFER = 8 << 20  # bytes read or written at once


class Deferred(Protocol):
    """A tensor that is read or computed only when it is written."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that it is written in."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    def copy(self, target: IO[bytes]) -> None:
        """Writes its bytes to a file; raises OSError."""
        ...


@dataclass(frozen=True)
class Stored:
    """A tensor still in its file, at a position in bytes from the file's start."""

    path: Path
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Size of its content in bytes."""
        return self.count * self.dtype.itemsize

    def copy(self, target: IO[bytes]) -> None:
        """Copies the tensor's bytes to another file, a few at a time; raises OSError."""
        left = self.size
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            while left:
                found = file.read(min(BUFFER, left))
                if not found:
                    raise OSError(f"{self.path} is too short")
                left -= len(found)
                target.write(found)

    def read(self) -> Tensor:
        """The tensor; raises OSError."""
        content = bytearray(self.size)
        with self.path.open("rb") as file:
            file.seek(self.start)
            if file.readinto(content) != self.size:
                raise OSError(f"{self.path} is too short")
        return torch.frombuffer(content, dtype=self.dtype).reshape(self.shape) if content else torch.empty(self.shape)


def write_raw(tensor: Tensor, target: IO[bytes]) -> None:
    """Writes the bytes of a tensor to a file; raises OSError."""
    target.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _bytes_of(tensor: Tensor | Deferred) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def in_order(tensors: Mapping[str, Tensor | Deferred]) -> list[str]:
    """The names of some tensors in the order of a file, in which each is aligned."""
    return sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))


def save_file(tensors: Mapping[str, Tensor | Deferred], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors, including those in other files; raises OSError."""
    order = in_order(tensors)
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        tensor, start = tensors[name], end
        end += _bytes_of(tensor)
        header[name] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb", buffering=BUFFER) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            tensor = tensors[name]
            if isinstance(tensor, Tensor):
                write_raw(tensor, file)
            else:
                tensor.copy(file)


def stored(path: Path) -> dict[str, Stored]:
    """The tensors of a file that `save_file` wrote, without reading them; raises OSError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: Stored(path, 8 + length + entry["data_offsets"][0], _TYPES[entry["dtype"]], tuple(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__"
    }
