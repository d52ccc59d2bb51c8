"""Checks that every weight of a file is finite, reading it a piece at a time."""

import contextlib
from pathlib import Path

import numpy as np

from engine.contract.durable import read_json, write_json
from engine.contract.messages import InputError
from engine.models.weightfile import ITEM_BYTES, Tensor, tensors_of

CHUNK = 4 << 20  # bytes
RECORD = "finite.json"
EXPONENT = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000, "F64": 0x7FF0000000000000}  # all set: infinity or NaN
MAY_BE_INFINITE = "final_logits_bias"  # -inf for tokens that must never be generated


def require_numbers(paths: list[Path], folder: Path) -> None:
    """Raises InputError naming the first tensor with NaN or infinity; files found sound are recorded in `folder`."""
    noted = read_json(folder / RECORD)
    stamps = {str(path.resolve()): [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}
    for path in paths:
        if noted.get(str(path.resolve())) != stamps[str(path.resolve())]:
            _look_through(path)
    if any(noted.get(place) != stamp for place, stamp in stamps.items()):
        with contextlib.suppress(OSError):  # the check must work in folders that are not writable
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / RECORD, {**noted, **stamps}, durable=False)


def _look_through(path: Path) -> None:
    seen = set[int]()
    with path.open("rb", buffering=0) as file:
        for name, tensor in tensors_of(path).items():
            if tensor.kind not in EXPONENT or not tensor.at or tensor.at in seen or name.endswith(MAY_BE_INFINITE):
                continue
            seen.add(tensor.at)
            size = ITEM_BYTES[tensor.kind]
            word, bits, left = np.dtype(f"<u{size}"), EXPONENT[tensor.kind], tensor.stored * size
            file.seek(tensor.at)
            while left > 0 and (data := file.read(min(CHUNK, left))):
                left -= len(data)
                words = np.frombuffer(data[: len(data) // size * size], word)
                if bool(((words & word.type(bits)) == word.type(bits)).any()):
                    raise InputError("weights_not_numbers", path=str(path), tensor=name)


def same_content(path: Path, one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of a file hold the same bytes."""
    size = one.count * ITEM_BYTES.get(one.kind, 1)
    if (one.kind, one.shape) != (other.kind, other.shape) or not (one.at and other.at):
        return False
    with path.open("rb", buffering=0) as first, path.open("rb", buffering=0) as second:
        first.seek(one.at)
        second.seek(other.at)
        while size > 0 and (data := first.read(min(CHUNK, size))):
            if data != second.read(len(data)):
                return False
            size -= len(data)
    return size <= 0
